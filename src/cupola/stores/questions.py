"""Answers to the named questions: one function each, over statements of `queries.sql`."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from cupola import ids
from cupola.digest import checksum
from cupola.entities.artifact import OutputRecord, VersionRecord
from cupola.entities.run import StepRecord
from cupola.event import MapExpanded, StepFinished, decode_event
from cupola.snapshot import split_child_name
from cupola.store import (
    CacheEntry,
    ConsumersOf,
    CountChildren,
    ExpansionsOf,
    FindCached,
    FindCachedExactly,
    ListInputs,
    OutputsOf,
    Question,
    SnapshotOf,
    StepBefore,
    StepsOf,
)
from cupola.stores import records
from cupola.stores.expansions import child_position, read_expansions
from cupola.stores.ledger import Ledger
from cupola.stores.rows import StepDetail, decode_step_detail, read_history

T = TypeVar("T")
CHUNK = 500
LISTED = 50_000
"""How many inputs keys of one base key are listed; a list as long takes some milliseconds."""


def read_queries(path: Path) -> dict[str, str]:
    """Return the statements of a file by name."""
    parts = re.split(r"^-- name: (\w+)\n", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


QUERIES = read_queries(Path(__file__).with_name("queries.sql"))


def needs_live_runs(question: Question[Any]) -> bool:
    """Tell whether an answer must know what live runs did in the last moments; a cache look-up need not."""
    return not isinstance(question, FindCached | FindCachedExactly | ListInputs | SnapshotOf)


def answer(ledger: Ledger, question: Question[T]) -> T:
    """Answer a question."""
    return _ANSWERS[type(question)](ledger, question)


def _find_cached(ledger: Ledger, question: FindCached) -> dict[tuple[str, str], CacheEntry]:
    db = ledger.database.reading()
    now = ids.now()
    entries: dict[tuple[str, str], CacheEntry] = {}
    for start in range(0, len(question.base_keys), CHUNK):
        keys = {key: checksum(key) for key in question.base_keys[start : start + CHUNK]}
        rows = db.execute(_FIND_CACHED, {"keys": msgspec.json.encode(keys).decode(), "now": now})
        for entry in _entries(rows):
            entries[entry.base_key, entry.inputs_key] = entry
    return entries


def _find_cached_exactly(ledger: Ledger, question: FindCachedExactly) -> CacheEntry | None:
    given = {
        "base_key": question.base_key,
        "bucket": checksum(question.base_key),
        "inputs_key": question.inputs_key,
        "inputs_bucket": checksum(question.inputs_key),
        "now": ids.now(),
    }
    return next(_entries(ledger.database.reading().execute(_FIND_CACHED_EXACTLY, given)), None)


def _list_inputs(ledger: Ledger, question: ListInputs) -> frozenset[int] | None:
    rows = ledger.database.reading().execute(_LIST_INPUTS, (checksum(question.base_key), LISTED + 1)).fetchall()
    return frozenset(number for (number,) in rows) if len(rows) <= LISTED else None


def _entries(rows: Iterable[records.Row]) -> Iterator[CacheEntry]:
    """Yield an entry for each step, whose rows follow each other, one for each output."""
    for (base_key, inputs_key, position, started_at, ended_at, expires_at), group in groupby(rows, key=_STEP_PART):
        # By place: a sorter in the statement would cost more than the rest of it.
        made = sorted((row[6:] for row in group), key=_PLACE)
        detail = decode_step_detail(made[0][0])
        outputs = _outputs_in(detail)
        if made[-1][3] is not None and made[-1][3] >= len(outputs):
            # It began anew in a resumed run, after what it had made before.
            outputs = read_history(detail).outputs
        # A look-up needs the values only; tags and metadata stay with the version in the run that made it. A step
        # without outputs has one row without a version.
        versions = tuple([records.read_version(row[1:], outputs) for row in made if row[1] is not None])
        duration = ended_at - started_at
        yield CacheEntry(base_key, inputs_key, made[0][4], position, ended_at, duration, expires_at, versions)


def _outputs_in(detail: StepDetail) -> tuple[OutputRecord, ...]:
    """Return what a step with a result made: its last event has it, so that the others needn't be read."""
    for data in reversed(detail.events):
        event = decode_event(data)
        if isinstance(event, StepFinished):
            return event.outputs
    return ()


_STEP_PART = itemgetter(slice(6))
_PLACE = itemgetter(3)
_FIND_CACHED = QUERIES["find_cached"].replace("{columns}", records.VERSION_COLUMNS)
_FIND_CACHED_EXACTLY = QUERIES["find_cached_exactly"].replace("{columns}", records.VERSION_COLUMNS)
_LIST_INPUTS = "SELECT inputs_bucket FROM step INDEXED BY step_cache_exactly WHERE cache_bucket = ? LIMIT ?"
_STEPS = (
    f"SELECT {records.STEP_COLUMNS} FROM run CROSS JOIN pipeline ON pipeline.key = run.pipeline"
    " CROSS JOIN step ON step.run = run.number"
    " WHERE run.id = ? AND step.position >= ? AND step.position < ? ORDER BY step.position"
)
_OUTPUTS = (
    f"SELECT {records.VERSION_COLUMNS} FROM version JOIN run ON run.number = version.run"
    " JOIN artifact ON artifact.key = version.artifact WHERE version.run = ?"
)
_OUTPUTS_OF_STEP = f"{_OUTPUTS} AND version.step = ? ORDER BY version.position"


def _steps_of(ledger: Ledger, question: StepsOf) -> tuple[StepRecord, ...]:
    db = ledger.database.reading()
    rows = db.execute(_STEPS, (question.run, question.first, question.below)).fetchall()
    return tuple(records.read_steps(db, rows, run=rows[0][0])) if rows else ()


def _expansions_of(ledger: Ledger, question: ExpansionsOf) -> tuple[MapExpanded, ...]:
    db = ledger.database.reading()
    row = db.execute("SELECT number FROM run WHERE id = ?", (question.run,)).fetchone()
    return tuple(read_expansions(db, row[0])) if row is not None else ()


def _count_children(ledger: Ledger, question: CountChildren) -> dict[int, dict[str, int]]:
    counts: dict[int, dict[str, int]] = {}
    for step, status, number in ledger.database.reading().execute(QUERIES["count_children"], (question.run,)):
        counts.setdefault(step, {})[status] = number
    return counts


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
    given = {"pipeline": question.pipeline, "before": question.before}
    for number, snapshot in db.execute(QUERIES["runs_before"], given).fetchall():
        # The snapshot says where the step stands, so that no run's steps need to be walked.
        position = _position_of(ledger, db, number, snapshot, question.name)
        row = db.execute(QUERIES["step_at"].replace("{columns}", records.STEP_COLUMNS), (number, position)).fetchone()
        if row and row[5] in ("completed", "cached"):
            return records.read_steps(db, [row])[0]
    return None


def _position_of(ledger: Ledger, db: sqlite3.Connection, run: int, snapshot: str, name: str) -> int:
    positions = ledger.positions_in(snapshot)
    if not positions:  # of a dynamic run only the steps themselves say what they are called
        row = db.execute("SELECT position FROM step WHERE run = ? AND name = ?", (run, name)).fetchone()
        return row[0] if row is not None else -1
    child = split_child_name(name)
    if child is None:
        return positions.get(name, -1)
    return child_position(db, run, positions.get(child[0], -1), child[1])


def _consumers_of(ledger: Ledger, question: ConsumersOf) -> tuple[StepRecord, ...]:
    db = ledger.database.reading()
    sql = QUERIES["consumers_of"].replace("{columns}", records.STEP_COLUMNS)
    rows = db.execute(sql, {"bucket": checksum(question.digest)}).fetchall()
    # Others may share the bucket, and a version that a step loaded by itself is no input of it.
    return tuple(records.read_steps(db, rows))


def _snapshot_of(ledger: Ledger, question: SnapshotOf) -> bytes:
    return ledger.snapshot_bytes(question.snapshot)


_ANSWERS: dict[type[Question[Any]], Callable[[Ledger, Any], Any]] = {
    FindCached: _find_cached,
    FindCachedExactly: _find_cached_exactly,
    ListInputs: _list_inputs,
    StepsOf: _steps_of,
    CountChildren: _count_children,
    ExpansionsOf: _expansions_of,
    OutputsOf: _outputs_of,
    SnapshotOf: _snapshot_of,
    StepBefore: _step_before,
    ConsumersOf: _consumers_of,
}
