"""A store with very many runs, made from one that has a run: its rows again and again, under other ids."""

from __future__ import annotations

import sqlite3
from pathlib import Path

_NUMBERS = "WITH RECURSIVE numbers(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM numbers WHERE i < :count)"


def multiply_runs(home: Path, count: int) -> None:
    """Add so many copies of the newest run and its steps to the database of a store that nobody uses meanwhile."""
    (database,) = home.glob("*.db")
    with sqlite3.connect(database) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        newest, pipeline_runs = connection.execute("SELECT max(number), count(*) FROM run").fetchone()
        # In another second each, so that orders by time are as unequal as in life.
        changed = {
            "number": f"{newest} + i",
            "id": "printf('%012x7%019x', i, i)",
            "name": "name || '-' || i",
            "started_at": "started_at - :count + i",
            "ended_at": "ended_at - :count + i",
        }
        _copy(connection, "run", changed, f"number = {newest}", count)
        _copy(connection, "step", {"run": "run + i"}, f"run = {newest}", count)
        connection.execute("UPDATE pipeline SET runs = ?", (pipeline_runs + count,))
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def _copy(connection: sqlite3.Connection, table: str, changed: dict[str, str], which: str, count: int) -> None:
    columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
    values = ", ".join(changed.get(column, column) for column in columns)
    connection.execute(
        f"INSERT INTO {table} ({', '.join(columns)}) {_NUMBERS} "
        f"SELECT {values} FROM numbers, (SELECT * FROM {table} WHERE {which})",
        {"count": count},
    )
