"""What a check of the store wants to know of its database."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import msgspec

from cupola.stores import records
from cupola.stores.database import Database
from cupola.stores.rows import decode_counts

CHUNK = 500
"""Versions that are read at a time."""

_ORPHANS = {
    "runs of no pipeline": "SELECT count(*) FROM run WHERE pipeline NOT IN (SELECT key FROM pipeline)",
    "steps of no run": "SELECT count(*) FROM step WHERE run NOT IN (SELECT number FROM run)",
    "versions of no step": (
        "SELECT count(*) FROM version WHERE NOT EXISTS"
        " (SELECT 1 FROM step WHERE step.run = version.run AND step.position = version.step)"
    ),
    "versions of no artifact": "SELECT count(*) FROM version WHERE artifact NOT IN (SELECT key FROM artifact)",
    "children of no run": "SELECT count(*) FROM expansion WHERE run NOT IN (SELECT number FROM run)",
    "tags of no run": "SELECT count(*) FROM tag WHERE run NOT IN (SELECT number FROM run)",
    "metadata of no run": "SELECT count(*) FROM metadata WHERE run NOT IN (SELECT number FROM run)",
    "inputs of no run": "SELECT count(*) FROM input WHERE run NOT IN (SELECT number FROM run)",
}


class Head(msgspec.Struct, frozen=True):
    """What the database has of a run.

    Attributes:
        seq: How far it has the run's journal.
        digest: The chained digest up to there.
        sealed: Whether that is its end.
        status: The state of the run.
        steps: Number of steps by status word.
    """

    seq: int
    digest: bytes
    sealed: bool
    status: str
    steps: dict[str, int]


def check_integrity(database: Database) -> list[str]:
    """Return what SQLite finds wrong with its file."""
    try:
        rows = database.reading().execute("PRAGMA integrity_check").fetchall()
    except sqlite3.DatabaseError as error:
        return [str(error)]
    return [row[0] for row in rows if row[0] != "ok"]


def count_orphans(database: Database) -> dict[str, int]:
    """Return how many rows belong to nothing, by what they are."""
    db = database.reading()
    return {what: db.execute(sql).fetchone()[0] for what, sql in _ORPHANS.items()}


def list_dead_letters(database: Database) -> list[tuple[str, int, str]]:
    """Return `(run, sequence number, reason)` of what could not be applied."""
    return database.reading().execute("SELECT run, seq, reason FROM dead_letter ORDER BY run, seq").fetchall()


def list_heads(database: Database) -> dict[str, Head]:
    """Return how far the database knows each run."""
    rows = database.reading().execute("SELECT id, head, digest, sealed, status, counts FROM run ORDER BY number")
    return {row[0]: Head(row[1], row[2], bool(row[3]), row[4], decode_counts(row[5])) for row in rows}


def list_blobs(database: Database) -> Iterator[tuple[str, list[str]]]:
    """Yield name and blobs of each version, those that are inline with none."""
    db = database.reading()
    sql = f"SELECT {records.VERSION_COLUMNS} FROM version JOIN run ON run.number = version.run"
    sql += " JOIN step ON step.run = version.run AND step.position = version.step"
    rows = db.execute(f"{sql} JOIN artifact ON key = artifact ORDER BY version.run, version.step")
    while some := rows.fetchmany(CHUNK):
        for version in records.read_versions(db, some):
            # A link's target stands where the others have a blob; an empty folder has none.
            blobs = [file.blob for file in version.manifest.files if file.kind in "fx"]
            yield f"{version.artifact}:{version.number}", blobs
