"""Inserts many rows with few statements: running one for each row costs more than a small row does."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import cache
from itertools import chain

ROWS = 25
"""Rows of one statement; times the widest table (12 columns) far below the least limit of values (999)."""


def insert_rows(db: sqlite3.Connection, verb: str, table: str, rows: Sequence[tuple[object, ...]]) -> None:
    """Insert rows of one width, in their order, inside a savepoint.

    `verb` is `INSERT OR FAIL`, `INSERT OR IGNORE` or `REPLACE`. A plain `INSERT` would undo a statement that fails half
    way, and copy each page before for that; whoever holds the savepoint undoes it all anyway.
    """
    if not rows:
        return
    width = len(rows[0])
    whole = len(rows) - len(rows) % ROWS
    for start in range(0, whole, ROWS):
        db.execute(_statement(verb, table, width, ROWS), tuple(chain.from_iterable(rows[start : start + ROWS])))
    if whole < len(rows):
        db.executemany(_statement(verb, table, width, 1), rows[whole:])


@cache
def _statement(verb: str, table: str, width: int, rows: int) -> str:
    marks = f"({', '.join('?' * width)})"
    return f"{verb} INTO {table} VALUES {', '.join([marks] * rows)}"
