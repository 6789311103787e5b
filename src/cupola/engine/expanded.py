"""The steps of a recorded run with the children that its mapped steps got, each made when it is asked for."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence

from cupola.engine.fan import Columns, child_spec, spread_columns
from cupola.entities.artifact import Manifest
from cupola.event import MapExpanded
from cupola.snapshot import (
    Collect,
    FromStep,
    Gather,
    Literal,
    Snapshot,
    Source,
    StepSpec,
    child_name,
    split_child_name,
)


class Expanded:
    """The steps of a run: those of its snapshot, then the children of mapped ones.

    Attributes:
        children: Positions of the children of each mapped step that has them.
    """

    def __init__(self, snapshot: Snapshot, expansions: Sequence[MapExpanded] = ()) -> None:
        self._snapshot = snapshot
        self._by_step: dict[int, MapExpanded] = {}
        self._expansions: list[MapExpanded] = []
        self._positions = {spec.name: position for position, spec in enumerate(snapshot.steps)}
        self._columns: dict[int, Columns] = {}
        self.children: dict[int, range] = {}
        for event in sorted(expansions, key=lambda event: event.first):
            self.add(event)

    def __len__(self) -> int:
        return len(self._snapshot.steps) + sum(map(len, self.children.values()))

    def add(self, event: MapExpanded) -> None:
        """Give a mapped step its children, which stand behind all that are known by now."""
        self._by_step[event.step] = event
        self._expansions.append(event)
        self.children[event.step] = range(event.first, event.first + event.count)

    def has(self, position: int) -> bool:
        """Tell whether a step at this position is among these."""
        return position < len(self._snapshot.steps) or self.parent(position) is not None

    def positions(self) -> Iterator[int]:
        """Yield the positions of all steps in the order of the graph, children behind their mapped step."""
        for position in range(len(self._snapshot.steps)):
            yield position
            yield from self.children.get(position, ())

    def parent(self, position: int) -> int | None:
        """Return the mapped step that a step is a child of, or None."""
        place = bisect_right(self._expansions, position, key=lambda event: event.first) - 1
        if place < 0 or position < len(self._snapshot.steps):
            return None
        event = self._expansions[place]
        return event.step if position < event.first + event.count else None

    def is_mapped(self, position: int) -> bool:
        """Tell whether a step is one that has children, or will have them."""
        return position < len(self._snapshot.steps) and self._snapshot.steps[position].fan is not None

    def name(self, position: int) -> str:
        """Return the invocation name of a step."""
        parent = self.parent(position)
        if parent is None:
            return self._snapshot.steps[position].name
        return child_name(self._snapshot.steps[parent].name, position - self._by_step[parent].first)

    def position(self, name: str) -> int | None:
        """Return the position of a step by its invocation name, or None."""
        known = self._positions.get(name)
        if known is not None:
            return known
        child = split_child_name(name)
        children = self.children.get(self._positions.get(child[0], -1), range(0)) if child else range(0)
        return children[child[1]] if child and child[1] < len(children) else None

    def spec(self, position: int) -> StepSpec:
        """Return what a step is: what the snapshot says of it, or of its mapped step with the child's own items."""
        parent = self.parent(position)
        if parent is None:
            return self._snapshot.steps[position]
        spec, event = self._snapshot.steps[parent], self._by_step[parent]
        if parent not in self._columns:
            self._columns[parent] = spread_columns(parent, spec, event.items, event.taken, self.children)
        return child_spec(spec, self._columns[parent], position - event.first)

    def owner(self, position: int) -> StepSpec:
        """Return what the snapshot says of a step, or of the mapped step that it is a child of."""
        parent = self.parent(position)
        return self._snapshot.steps[position if parent is None else parent]

    def sources(self, position: int) -> list[tuple[str, int]]:
        """Return the steps whose outputs a step reads, each with the label that its digest has among the inputs."""
        spec = self.spec(position)
        return [found for name, source in spec.inputs.items() for found in self._sources(name, source)]

    def _sources(self, label: str, source: Source) -> Iterator[tuple[str, int]]:
        match source:
            case FromStep():
                yield label, self._maker(source, label)
            case Collect():
                # Where failed ones are left out, the numbers of the others are not those of the children.
                children = self.children.get(source.step, ())
                makers = enumerate(children if not source.allow_failures else [source.step] * len(children))
                yield from ((f"{label}[{index}]", maker) for index, maker in makers)
                if not children:
                    yield label, source.step
            case Gather():
                for index, item in enumerate(source.items):
                    yield from self._sources(f"{label}[{index}]", item)
            case Literal():
                return

    def _maker(self, source: FromStep, label: str) -> int:
        """Return the step that made an output; for an item of a mapped step who made the list."""
        child = split_child_name(source.output)
        if child is None or not self.is_mapped(source.step):
            return source.step
        origin = self._snapshot.steps[source.step].inputs.get(label)
        return origin.step if isinstance(origin, FromStep) else source.step

    def item(self, position: int, output: str) -> Manifest | None:
        """Return an item that a mapped step keeps for its children, by the name that they read it under, or None."""
        event = self._by_step.get(position)
        child = split_child_name(output)
        items = event.items.get(child[0], ()) if event is not None and child is not None else ()
        return items[child[1]] if child is not None and child[1] < len(items) else None
