"""Which steps of a run wait for which, which can start now, and which never will.

Only order lives here: what a step is and how it went is the driver's. Steps may be added while the run goes on, as the
children of a mapped step are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import IntEnum
from heapq import heappop, heappush

from cupola.snapshot import Collect, FromStep, Gather, Literal, Source, StepSpec

WAITING, STARTED, DONE, BLOCKED, HELD = 0, 1, 2, 3, 4


class Moment(IntEnum):
    """What of another step is waited for: that it is done, has its children, or is over whatever became of them."""

    DONE = 0
    EXPANDED = 1
    OVER = 2


_Order = tuple[int, int, int]
"""By which the ready steps are taken: that of the first step of a chain of maps, then the child, then the position."""


class Graph:
    """The steps of one run by position.

    Attributes:
        steps: What the snapshot, or what was added to it, says of each step.
        children: The children of each mapped step that has them.
    """

    def __init__(self, steps: Iterable[StepSpec]) -> None:
        self.steps: list[StepSpec] = []
        self.children: dict[int, range] = {}
        self._state = bytearray()
        self._unmet: list[int] = []
        self._readers: list[int] = []
        self._collectors: dict[int, int] = {}
        self._waiting: dict[tuple[int, Moment] | int, list[int]] = {}
        self._causes: dict[int, int] = {}
        self._anchors: dict[int, int] = {}
        self._orders: list[_Order] = []
        self._ready: list[_Order] = []
        for spec in steps:
            self.add(spec)

    def add(self, spec: StepSpec) -> int:
        """Add a step that stands after all that it needs; return its position."""
        position = len(self.steps)
        # A mapped step gets its children as soon as it can, or what follows on one child would wait for all of them.
        return self._add(spec, (-1 if _is_mapped(spec) else position, 0, position), -1)

    def _add(self, spec: StepSpec, order: _Order, parent: int, *, is_held: bool = False) -> int:
        position = len(self.steps)
        self.steps.append(spec)
        self._orders.append(order)
        self._state.append(WAITING)
        self._readers.append(0)
        unmet = self._wait(position, parent, Moment.EXPANDED) if is_held else 0
        self._count_reads(spec, 1)
        for source, moment in _needs(spec):
            if source != parent:  # which is done when its children are, and keeps items for them before that
                unmet += self._wait(position, source, moment)
        self._unmet.append(unmet)
        if not unmet:
            heappush(self._ready, order)
        return position

    def hold(self, position: int) -> None:
        """Keep a step from starting until it is admitted."""
        self._state[position] = HELD

    def admit(self, position: int) -> None:
        """Let a step start that was held, and whose needs are done."""
        self._state[position] = WAITING
        heappush(self._ready, self._orders[position])

    def expand(self, position: int, children: Sequence[StepSpec], *, is_held: bool = False) -> range:
        """Add the children of a mapped step; return their positions.

        Args:
            position: The mapped step.
            children: What they are.
            is_held: Whether they, and who follows on them, wait for `let_go`.
        """
        first = len(self.steps)
        anchor = self._anchors[position] = self._anchor(position)
        for index, spec in enumerate(children):
            self._add(spec, (anchor, index, first + index), position, is_held=is_held)
        added = self.children[position] = range(first, len(self.steps))
        collectors = self._collectors.get(position, 0)
        for child in added:
            self._readers[child] += collectors
        if not is_held:
            self.let_go(position)
        return added

    def let_go(self, position: int) -> None:
        """Let the children of a mapped step start, and what only waited for it to have children."""
        self._release(position, Moment.EXPANDED)

    def take_ready(self) -> int | None:
        """Return the first step that can start now, which is then the caller's, or None."""
        while self._ready:
            position = heappop(self._ready)[2]
            if self._state[position] == WAITING:
                self._state[position] = STARTED
                return position
        return None

    def take_lot(self, position: int) -> list[int]:
        """Return further children that are ready and go to a worker with one that was taken; they are the caller's."""
        fan, step = self.steps[position].fan, self.steps[position].name.rpartition("[")[0]
        found: list[int] = []
        while self._ready and fan is not None and len(found) + 1 < fan.batch:
            next_one = self._ready[0][2]
            if self.steps[next_one].name.rpartition("[")[0] != step or self._state[next_one] != WAITING:
                break
            heappop(self._ready)
            self._state[next_one] = STARTED
            found.append(next_one)
        return found

    def give_back(self, position: int) -> None:
        """Note that a step that was taken has not started and can still start."""
        self._state[position] = WAITING
        heappush(self._ready, self._orders[position])

    def finish(self, position: int) -> None:
        """Note that a step's outputs exist: what waited for it may be ready."""
        self._state[position] = DONE
        self._release(position, Moment.DONE)
        if self.steps[position].fan is not None:
            self._release(position, Moment.OVER)

    def block(self, position: int) -> list[int]:
        """Note that a step ended without outputs; return the steps that need it, directly or not, and never start."""
        self._state[position] = BLOCKED
        if position in self.children:
            self._release(position, Moment.OVER)
        pending, blocked = [position], list[int]()
        while pending:
            ended = pending.pop()
            for key in (ended, (ended, Moment.EXPANDED), (ended, Moment.OVER)):
                for waiting in self._waiting.pop(key, ()):
                    if self._state[waiting] == WAITING:
                        self._state[waiting] = BLOCKED
                        self._causes[waiting] = position
                        pending.append(waiting)
                        blocked.append(waiting)
        return blocked

    def is_done(self, position: int) -> bool:
        """Tell whether a step's outputs exist."""
        return self._state[position] == DONE

    def is_blocked(self, position: int) -> bool:
        """Tell whether a step ended without outputs, or never starts."""
        return self._state[position] == BLOCKED

    def never_started(self) -> dict[int, int | None]:
        """Return the steps that did not start, each with the one that it needed and that ended without outputs."""
        return {
            position: self._causes.get(position)
            for position, state in enumerate(self._state)
            if state in (WAITING, HELD) or position in self._causes
        }

    def release(self, position: int) -> list[int]:
        """Note that a step is over; return the steps whose outputs no other one of the graph will read."""
        return [source for source in self._count_reads(self.steps[position], -1) if not self._readers[source]]

    def is_read(self, position: int) -> bool:
        """Tell whether a step that isn't over reads an output of this one."""
        return self._readers[position] > 0

    def _count_reads(self, spec: StepSpec, change: int) -> list[int]:
        """Count a step as a reader of others, or no longer; return those others."""
        read, collected = read_steps(spec)
        for source in collected:
            # Whoever collects the children of a step reads each, also those that it will get.
            self._collectors[source] = self._collectors.get(source, 0) + change
            read += self.children.get(source, ())
        for source in read:
            self._readers[source] += change
        return read

    def _wait(self, position: int, source: int, moment: Moment) -> int:
        state = self._state[source]
        if state == DONE or (moment is Moment.EXPANDED and source in self.children):
            return 0
        if moment is Moment.OVER and state == BLOCKED and source in self.children:
            return 0
        # Nearly all wait for a step to be done: its position alone is the key.
        self._waiting.setdefault(source if moment is Moment.DONE else (source, moment), []).append(position)
        return 1

    def _release(self, position: int, moment: Moment) -> None:
        for waiting in self._waiting.pop(position if moment is Moment.DONE else (position, moment), ()):
            self._unmet[waiting] -= 1
            if not self._unmet[waiting]:
                heappush(self._ready, self._orders[waiting])

    def _anchor(self, position: int) -> int:
        """Return the first of a chain of maps: what follows on a child goes before the next child, so less is kept."""
        spec = self.steps[position]
        over = spec.fan.over if spec.fan is not None else ()
        sources = [source for name in over if isinstance(source := spec.inputs[name], Collect)]
        return min((self._anchors.get(source.step, position) for source in sources), default=position)


def read_steps(spec: StepSpec) -> tuple[list[int], list[int]]:
    """Return the steps of which a step reads an output, and those of which it collects the children, each once."""
    read: dict[int, None] = {}
    collected: dict[int, None] = {}
    pending = list(spec.inputs.values())
    while pending:
        source = pending.pop()
        if isinstance(source, FromStep):
            read[source.step] = None
        elif isinstance(source, Gather):
            pending += source.items
        elif isinstance(source, Collect):
            collected[source.step] = None
    return list(read), list(collected)


def _is_mapped(spec: StepSpec) -> bool:
    return spec.fan is not None and spec.fan.kind != "child"


def _needs(spec: StepSpec) -> Iterable[tuple[int, Moment]]:
    """Return what a step waits for, each once."""
    found: dict[tuple[int, Moment], None] = {}
    for name, source in spec.inputs.items():
        if isinstance(source, FromStep):
            found[source.step, Moment.DONE] = None
        elif not isinstance(source, Literal):
            is_spread = _is_mapped(spec) and spec.fan is not None and name in spec.fan.over
            found.update(dict.fromkeys(_inside(source, is_spread=is_spread)))
    for source in spec.after:
        found[source, Moment.DONE] = None
    return found


def _inside(source: Source, *, is_spread: bool) -> list[tuple[int, Moment]]:
    match source:
        case FromStep():
            # A child that reads a single item waits for that one itself.
            return [(source.step, Moment.DONE)]
        case Gather():
            return [need for item in source.items for need in _inside(item, is_spread=False)]
        case Collect():
            if is_spread and not source.allow_failures:
                return [(source.step, Moment.EXPANDED)]
            return [(source.step, Moment.OVER if source.allow_failures else Moment.DONE)]
        case Literal():
            return []
