"""Which steps of a run wait for which, which can start now, and which never will.

Only order lives here: what a step is and how it went is the driver's. Steps may be added while the run goes on.
"""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heappop, heappush

from cupola.snapshot import FromStep, Gather, Source, StepSpec

WAITING, STARTED, DONE, BLOCKED = 0, 1, 2, 3


class Graph:
    """The steps of one run by position.

    Attributes:
        steps: What the snapshot, or what was added to it, says of each step.
    """

    def __init__(self, steps: Iterable[StepSpec]) -> None:
        self.steps: list[StepSpec] = []
        self._state = bytearray()
        self._unmet: list[int] = []
        self._readers: list[int] = []
        self._waiting: dict[int, list[int]] = {}
        self._causes: dict[int, int] = {}
        self._ready: list[int] = []
        for spec in steps:
            self.add(spec)

    def add(self, spec: StepSpec) -> int:
        """Add a step that stands after all that it needs; return its position."""
        position = len(self.steps)
        self.steps.append(spec)
        self._state.append(WAITING)
        self._readers.append(0)
        unmet = 0
        for source in read_steps(spec):
            self._readers[source] += 1
            unmet += self._wait(position, source)
        for source in spec.after:
            unmet += self._wait(position, source)
        self._unmet.append(unmet)
        if not unmet:
            heappush(self._ready, position)
        return position

    def _wait(self, position: int, source: int) -> int:
        if self._state[source] == DONE:
            return 0
        self._waiting.setdefault(source, []).append(position)
        return 1

    def take_ready(self) -> int | None:
        """Return the first step that can start now, which is then the caller's, or None."""
        while self._ready:
            position = heappop(self._ready)
            if self._state[position] == WAITING:
                self._state[position] = STARTED
                return position
        return None

    def count_ready(self) -> int:
        """Return how many steps can start now."""
        return len(self._ready)

    def finish(self, position: int) -> None:
        """Note that a step's outputs exist: what waited for it may be ready."""
        self._state[position] = DONE
        for waiting in self._waiting.pop(position, ()):
            self._unmet[waiting] -= 1
            if not self._unmet[waiting]:
                heappush(self._ready, waiting)

    def block(self, position: int) -> None:
        """Note that a step ended without outputs: what needs it, directly or not, never starts."""
        self._state[position] = BLOCKED
        pending = [position]
        while pending:
            for waiting in self._waiting.pop(pending.pop(), ()):
                if self._state[waiting] == WAITING:
                    self._state[waiting] = BLOCKED
                    self._causes[waiting] = position
                    pending.append(waiting)

    def never_started(self) -> dict[int, int | None]:
        """Return the steps that did not start, each with the one that it needed and that ended without outputs."""
        return {
            position: self._causes.get(position)
            for position, state in enumerate(self._state)
            if state == WAITING or position in self._causes
        }

    def release(self, position: int) -> list[int]:
        """Note that a step is over; return the steps whose outputs no other one of the graph will read."""
        unread: list[int] = []
        for source in read_steps(self.steps[position]):
            self._readers[source] -= 1
            if not self._readers[source]:
                unread.append(source)
        return unread

    def is_read(self, position: int) -> bool:
        """Tell whether a step that isn't over reads an output of this one."""
        return self._readers[position] > 0


def read_steps(spec: StepSpec) -> list[int]:
    """Return the steps whose outputs a step reads, each once."""
    found: dict[int, None] = {}
    for source in spec.inputs.values():
        if isinstance(source, FromStep):
            found[source.step] = None
        elif isinstance(source, Gather):
            found.update(dict.fromkeys(_inside(source)))
    return list(found)


def _inside(source: Source) -> list[int]:
    if isinstance(source, FromStep):
        return [source.step]
    if isinstance(source, Gather):
        return [step for item in source.items for step in _inside(item)]
    return []
