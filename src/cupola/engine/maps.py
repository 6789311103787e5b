"""The mapped steps of one run while it is driven: who their children are, and how each of them ends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from cupola.artifacts.blobs import Blobs
from cupola.compiler.compile import Compiled
from cupola.compiler.stepcompile import LiveStep
from cupola.engine.fan import (
    Items,
    check_same_items,
    child_files,
    child_specs,
    is_there,
    item_output,
    split_inputs,
    spread_columns,
    taken_children,
    tolerant_fans,
)
from cupola.engine.graph import Graph, read_steps
from cupola.engine.resume import Given
from cupola.entities.artifact import Manifest
from cupola.entities.run import Failure, StepStatus
from cupola.event import MapExpanded, StepFailed, StepFinished
from cupola.ids import now
from cupola.store import CacheEntry


class _Fan(msgspec.Struct):
    """A mapped step that has its children.

    Attributes:
        children: Their positions.
        still: How many are not over.
        failures: How those ended that failed.
        without: How many ended without outputs.
        attempt: Number of the attempt that waits for them; 0 while the step itself has not begun.
        began: When that began, in seconds since 1970.
        lost: Its items, when they are not all there any more and have to be made again before children can run.
    """

    children: range
    still: int
    failures: list[tuple[int, Failure | None]]
    without: int = 0
    attempt: int = 0
    began: float = 0.0
    lost: Items | None = None


class Maps:
    """The mapped steps of one run.

    Attributes:
        manifests: The outputs that steps still read; the items that children read are put among them.
    """

    def __init__(
        self,
        compiled: Compiled,
        graph: Graph,
        manifests: dict[tuple[int, str], Manifest],
        blobs: Blobs,
        given: Given,
    ) -> None:
        self._compiled = compiled
        self._graph = graph
        self.manifests = manifests
        self._blobs = blobs
        self._fans: dict[int, _Fan] = {}
        self._parents: dict[int, int] = {}
        self._added: dict[int, LiveStep] = {}
        self._tolerant = tolerant_fans(compiled.snapshot)
        self._given = given
        for event in given.expansions:
            self._restore(event, is_done=event.step in given.done)

    def _restore(self, event: MapExpanded, *, is_done: bool) -> None:
        """Give a mapped step the children that it had in an earlier drive of the run."""
        manifests = [manifest for items in event.items.values() for manifest in items]
        is_whole = is_done or all(is_there(manifest, self._blobs) for manifest in manifests)
        self._add_children(event.step, event.items, event.taken, is_held=not is_whole)
        if not is_whole:
            self._fans[event.step].lost = event.items

    def live(self, position: int) -> LiveStep:
        """Return what this process has of a step or child."""
        added = self._added.get(position)
        if added is not None:
            return added
        parent = self._parents.get(position)
        if parent is None:
            return self._compiled.steps[position]
        live = self._compiled.steps[parent]
        return child_files(live, self._graph.steps[position]) if live.spreads_files else live

    def kept(self, position: int) -> CacheEntry | None:
        """Return the result of an earlier run that stands for a step or child, as a rerun takes it over."""
        parent = self._parents.get(position)
        if parent is None:
            return self._given.kept.get(position)
        return self._given.kept_children.get(parent, {}).get(position - self._graph.children[parent].start)

    def is_forced(self, position: int) -> bool:
        """Tell whether a step runs although the cache may have a result of it."""
        return self._parents.get(position, position) in self._given.forced

    def know(self, position: int, live: LiveStep) -> None:
        """Take note of what this process has of a step that was added to the run."""
        self._added[position] = live

    def tolerates(self, position: int) -> bool:
        """Tell whether a step is a child whose failure is no end: all who collect it leave failed ones out."""
        return self._parents.get(position) in self._tolerant

    def begin(self, position: int, attempt: int) -> MapExpanded | None:
        """Begin a mapped step; return the event of its children, unless it has them already.

        Raises:
            Exception: A value can't be loaded, spread or stored.
        """
        expansion = None
        if position not in self._fans:
            spec = self._graph.steps[position]
            items = self._split(position)
            taken = taken_children(spec, self._graph)
            children = self._add_children(position, items, taken)
            expansion = MapExpanded(now(), position, children.start, len(children), items, taken)
        fan = self._fans[position]
        if fan.lost is not None:
            self._make_again(position, fan.lost)
            fan.lost = None
        fan.attempt, fan.began = attempt, now()
        return expansion

    def _make_again(self, position: int, lost: Items) -> None:
        """Store items anew whose values are not all there any more, and let the children that wait for them go."""
        spec = self._graph.steps[position]
        items = self._split(position)
        check_same_items(spec, lost, items)
        self._graph.let_go(position)

    def lasted_s(self, position: int) -> float:
        """Return how long a mapped step has waited for its children, in seconds."""
        return now() - self._fans[position].began

    def end_child(self, position: int, failure: Failure | None = None) -> int | None:
        """Note that a step is over; return the mapped step that is over with it, or None."""
        parent = self._parents.get(position)
        if parent is None:
            return None
        fan = self._fans[parent]
        fan.still -= 1
        if not self._graph.is_done(position):
            fan.without += 1
            if failure is not None:
                fan.failures.append((position, failure))
        return parent if self.is_over(parent) else None

    def is_over(self, position: int) -> bool:
        """Tell whether a mapped step has begun and all its children are over."""
        fan = self._fans[position]
        return bool(fan.attempt) and not fan.still

    def ending(self, position: int, log: int, *, is_cancelled: bool) -> StepFinished | StepFailed:
        """Return the event of a mapped step whose children are over.

        Args:
            position: The mapped step.
            log: Where the run's output ends.
            is_cancelled: Whether the run is being stopped.
        """
        fan, name = self._fans.pop(position), self._graph.steps[position].name
        total = len(fan.children)
        if not fan.without or position in self._tolerant:
            left_out = (
                (f"{fan.without} of {total} children failed or never ran, and are left out",) if fan.without else ()
            )
            return StepFinished(now(), position, fan.attempt, log=log, warnings=left_out)
        status = StepStatus.CANCELLED if is_cancelled else StepStatus.FAILED
        if not fan.failures:
            failure = Failure("Incomplete", f"{fan.without} of {total} children of {name} did not run")
            return StepFailed(now(), position, failure, fan.attempt, status, log=log)
        child, first = fan.failures[0]
        message = f"{len(fan.failures)} of {total} children failed, first {self._graph.steps[child].name}: {first}"
        return StepFailed(now(), position, Failure("Incomplete", message), fan.attempt, status, log=log)

    def stopped(self) -> list[int]:
        """Return the mapped steps that have begun and whose children will not all run."""
        return [position for position, fan in self._fans.items() if fan.attempt]

    def abandon(self, position: int) -> None:
        """Note that the children of a mapped step that are not over never will be."""
        fan = self._fans[position]
        fan.without, fan.still = fan.without + fan.still, 0

    def items_of(self, position: int) -> list[str]:
        """Return the names under which a mapped step keeps items for its children."""
        return [output for step, output in self.manifests if step == position]

    def _add_children(
        self, position: int, items: Items, taken: Mapping[str, tuple[int, ...]], *, is_held: bool = False
    ) -> range:
        spec = self._graph.steps[position]
        specs = child_specs(spec, spread_columns(position, spec, items, taken, self._graph.children))
        for name, manifests in items.items():
            for index, manifest in enumerate(manifests):
                self.manifests[position, item_output(name, index)] = manifest
        children = self._graph.expand(position, specs, is_held=is_held)
        self._parents.update(dict.fromkeys(children, position))
        self._fans[position] = _Fan(children, len(children), [])
        return children

    def _split(self, position: int) -> Items:
        """Store the items of the lists that a mapped step is spread over, one by one."""
        parameters = self._compiled.steps[position].annotations
        return split_inputs(
            self._graph.steps[position], self.manifests, self._annotations(position), parameters, self._blobs
        )

    def _annotations(self, position: int) -> dict[tuple[int, str], Any]:
        """Return how the outputs that a step reads are annotated."""
        return {
            (step, declaration.name): declaration.annotation
            for step in read_steps(self._graph.steps[position])[0]
            for declaration in self.live(step).declarations
        }
