"""The steps of a recorded run with the children that its mapped steps got, each made when it is asked for."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence

from cupola.engine.fan import Columns, child_spec, spread_columns
from cupola.entities.artifact import Manifest
from cupola.event import MapExpanded
from cupola.snapshot import Snapshot, StepSpec, child_name, split_child_name


class Expanded:
    """The steps of a run: those of its snapshot, then the children of mapped ones.

    Attributes:
        children: Positions of the children of each mapped step that has them.
    """

    def __init__(self, snapshot: Snapshot, expansions: Sequence[MapExpanded] = ()) -> None:
        self._snapshot = snapshot
        self._by_step = {event.step: event for event in expansions}
        self._expansions = sorted(self._by_step.values(), key=lambda event: (event.first, event.count))
        self._positions = {spec.name: position for position, spec in enumerate(snapshot.steps)}
        self._columns: dict[int, Columns] = {}
        self.children: Mapping[int, range] = {
            event.step: range(event.first, event.first + event.count) for event in self._expansions
        }

    def __len__(self) -> int:
        return len(self._snapshot.steps) + sum(map(len, self.children.values()))

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

    def item(self, position: int, output: str) -> Manifest | None:
        """Return an item that a mapped step keeps for its children, by the name that they read it under, or None."""
        event = self._by_step.get(position)
        child = split_child_name(output)
        items = event.items.get(child[0], ()) if event is not None and child is not None else ()
        return items[child[1]] if child is not None and child[1] < len(items) else None
