"""The children of mapped steps: which positions of a run they stand at, and what they are spread from."""

from __future__ import annotations

import sqlite3
from bisect import bisect_right
from collections.abc import Sequence

import msgspec

from cupola.event import MapExpanded, decode_event


class Expansion(msgspec.Struct, frozen=True, gc=False):
    """The children of one mapped step: positions `first` to `first + count - 1`."""

    step: int
    first: int
    count: int


def write_expansion(db: sqlite3.Connection, run: int, event: MapExpanded, data: bytes) -> None:
    """Write the row of a mapped step's children; `data` is the event, encoded."""
    db.execute("REPLACE INTO expansion VALUES (?, ?, ?, ?, ?)", (run, event.step, event.first, event.count, data))


def load_expansions(db: sqlite3.Connection, run: int) -> list[Expansion]:
    """Return the children of each mapped step of a run that has them, by position."""
    rows = db.execute("SELECT step, first, count FROM expansion WHERE run = ? ORDER BY first, count", (run,))
    return [Expansion(*row) for row in rows]


def read_expansions(db: sqlite3.Connection, run: int) -> list[MapExpanded]:
    """Return the events that gave mapped steps of a run their children, in the order of the children."""
    rows = db.execute("SELECT event FROM expansion WHERE run = ? ORDER BY first, count", (run,))
    events = [decode_event(data) for (data,) in rows]
    return [event for event in events if isinstance(event, MapExpanded)]


def find_expansion(expansions: Sequence[Expansion], position: int) -> Expansion | None:
    """Return the mapped step that a position is a child of, among those of its run, or None."""
    place = bisect_right(expansions, position, key=lambda expansion: expansion.first) - 1
    if place < 0:
        return None
    found = expansions[place]
    return found if position < found.first + found.count else None


def child_position(db: sqlite3.Connection, run: int, step: int, index: int) -> int:
    """Return the position of a child of a mapped step; -1 when there is none."""
    row = db.execute("SELECT first, count FROM expansion WHERE run = ? AND step = ?", (run, step)).fetchone()
    return row[0] + index if row is not None and index < row[1] else -1
