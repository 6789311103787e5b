"""Answers to the named questions: one function each, over statements of `queries.sql`."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from cupola import ids
from cupola.entities.artifact import VersionRecord
from cupola.entities.run import StepRecord
from cupola.store import (
    CacheEntry,
    ConsumersOf,
    FindCached,
    FindCachedExactly,
    OutputsOf,
    Question,
    SnapshotOf,
    StepBefore,
    StepsOf,
)
from cupola.stores import records
from cupola.stores.ledger import Ledger
from cupola.stores.rows import bucket

T = TypeVar("T")
CHUNK = 500


def read_queries(path: Path) -> dict[str, str]:
    """Return the statements of a file by name."""
    parts = re.split(r"^-- name: (\w+)\n", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


QUERIES = read_queries(Path(__file__).with_name("queries.sql"))


def needs_live_runs(question: Question[Any]) -> bool:
    """Tell whether an answer must know what live runs did in the last moments; a cache look-up need not."""
    return not isinstance(question, FindCached | FindCachedExactly | SnapshotOf)


def answer(ledger: Ledger, question: Question[T]) -> T:
    """Answer a question."""
    return _ANSWERS[type(question)](ledger, question)


def _find_cached(ledger: Ledger, question: FindCached) -> dict[tuple[str, str], CacheEntry]:
    db = ledger.database.reading()
    now = ids.now()
    entries: dict[tuple[str, str], CacheEntry] = {}
    for start in range(0, len(question.base_keys), CHUNK):
        chunk = question.base_keys[start : start + CHUNK]
        keys = msgspec.json.encode([(bucket(key), key) for key in chunk]).decode()
        rows = db.execute(QUERIES["find_cached"], {"keys": keys, "now": now}).fetchall()
        for entry in _entries(db, rows):
            entries[entry.base_key, entry.inputs_key] = entry
    return entries


def _find_cached_exactly(ledger: Ledger, question: FindCachedExactly) -> CacheEntry | None:
    db = ledger.database.reading()
    given = {
        "base_key": question.base_key,
        "bucket": bucket(question.base_key),
        "inputs_key": question.inputs_key,
        "inputs_bucket": bucket(question.inputs_key),
        "now": ids.now(),
    }
    rows = db.execute(QUERIES["find_cached_exactly"], given).fetchall()
    return _entries(db, rows)[0] if rows else None


def _entries(db: sqlite3.Connection, rows: list[records.Row]) -> list[CacheEntry]:
    entries: list[CacheEntry] = []
    for base_key, inputs_key, run, position, ended_at, started_at, expires_at, number in rows:
        made = db.execute(_OUTPUTS_OF_STEP, (number, position)).fetchall()
        # A look-up needs the values only; tags and metadata stay with the version in the run that made it.
        outputs = tuple([records.read_version(row, (), {}) for row in made])
        duration = ended_at - started_at
        entries.append(CacheEntry(base_key, inputs_key, run, position, ended_at, duration, expires_at, outputs))
    return entries


_STEPS = (
    f"SELECT {records.STEP_COLUMNS} FROM run CROSS JOIN pipeline ON pipeline.key = run.pipeline"
    " CROSS JOIN step ON step.run = run.number WHERE run.id = ? ORDER BY step.position"
)
_OUTPUTS = (
    f"SELECT {records.VERSION_COLUMNS} FROM version JOIN run ON run.number = version.run"
    " JOIN artifact ON artifact.key = version.artifact WHERE version.run = ?"
)
_OUTPUTS_OF_STEP = f"{_OUTPUTS} AND version.step = ? ORDER BY version.position"


def _steps_of(ledger: Ledger, question: StepsOf) -> tuple[StepRecord, ...]:
    db = ledger.database.reading()
    rows = db.execute(_STEPS, (question.run,)).fetchall()
    return tuple(records.read_steps(db, rows, run=rows[0][0])) if rows else ()


def _outputs_of(ledger: Ledger, question: OutputsOf) -> tuple[VersionRecord, ...]:
    db = ledger.database.reading()
    row = db.execute("SELECT number FROM run WHERE id = ?", (question.run,)).fetchone()
    if row is None:
        return ()
    if question.step >= 0:
        rows = db.execute(_OUTPUTS_OF_STEP, (row[0], question.step)).fetchall()
        return tuple(records.read_versions(db, rows))
    rows = db.execute(f"{_OUTPUTS} ORDER BY version.step, version.position", row).fetchall()
    return tuple(records.read_versions(db, rows, run=row[0]))


def _step_before(ledger: Ledger, question: StepBefore) -> StepRecord | None:
    db = ledger.database.reading()
    given = {"pipeline": question.pipeline, "name": question.name, "before": question.before}
    row = db.execute(QUERIES["step_before"].replace("{columns}", records.STEP_COLUMNS), given).fetchone()
    return records.read_steps(db, [row])[0] if row else None


def _consumers_of(ledger: Ledger, question: ConsumersOf) -> tuple[StepRecord, ...]:
    db = ledger.database.reading()
    sql = QUERIES["consumers_of"].replace("{columns}", records.STEP_COLUMNS)
    rows = db.execute(sql, {"bucket": bucket(question.digest)}).fetchall()
    # Others may share the bucket, and a version that a step loaded by itself is no input of it.
    return tuple(records.read_steps(db, rows))


def _snapshot_of(ledger: Ledger, question: SnapshotOf) -> bytes:
    return ledger.snapshot_bytes(question.snapshot)


_ANSWERS: dict[type[Question[Any]], Callable[[Ledger, Any], Any]] = {
    FindCached: _find_cached,
    FindCachedExactly: _find_cached_exactly,
    StepsOf: _steps_of,
    OutputsOf: _outputs_of,
    SnapshotOf: _snapshot_of,
    StepBefore: _step_before,
    ConsumersOf: _consumers_of,
}
