"""The graph of a recorded run as it happened: of a dynamic one, with the steps that its pipeline called."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from cupola.entities.artifact import Manifest
from cupola.entities.run import RunRecord, StepRecord
from cupola.snapshot import Addition, Snapshot, decode_addition, decode_returned, decode_snapshot, in_order
from cupola.store import OWNER, SnapshotOf, StepsOf, Store


class Graph(msgspec.Struct, frozen=True):
    """The graph of a run.

    Attributes:
        snapshot: Its steps and tables.
        places: `file:line` of each code part.
        items: Items of lists that were stored one by one for calls, by the step that made the list and the name under
            which they are read.
        additions: What was added, by position; nothing in a static run.
    """

    snapshot: Snapshot
    places: tuple[str, ...]
    items: dict[tuple[int, str], Manifest] = {}
    additions: dict[int, Addition] = {}


def read_graph(store: Store, run: RunRecord) -> Graph:
    """Read the graph of a run from the store; of one that goes on, as it is by now."""
    snapshot = decode_snapshot(store.ask(SnapshotOf(run.snapshot), who=OWNER))
    if not snapshot.dynamic:
        return Graph(snapshot, run.places)
    return grow(snapshot, run, store.ask(StepsOf(run.id), who=OWNER))


def grow(snapshot: Snapshot, run: RunRecord, steps: Iterable[StepRecord]) -> Graph:
    """Return the graph of a dynamic run, given the records of its steps."""
    additions = {step.position: decode_addition(step.addition) for step in steps}
    ordered = [additions[position] for position in sorted(additions)]
    grown = msgspec.structs.replace(
        snapshot,
        steps=tuple([addition.spec for addition in ordered]),
        parts=in_order({place: part for addition in ordered for place, part in addition.parts.items()}),
        options=in_order({place: found for addition in ordered for place, found in addition.options.items()}),
        outputs=decode_returned(run.returned) if run.returned else (),
    )
    places = in_order({place: text for addition in ordered for place, text in addition.places.items()})
    items = {(step, name): item for addition in ordered for step, name, item in addition.items}
    return Graph(grown, places, items, additions)
