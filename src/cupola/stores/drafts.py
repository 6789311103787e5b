"""Drafts: the rows of one run and its steps while a batch of its events is applied in memory."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

import msgspec
from msgspec import Raw

from cupola.entities.run import StepStatus
from cupola.event import RunSealed, RunStarted
from cupola.stores.expansions import Expansion
from cupola.stores.rows import (
    Outcome,
    RunDetail,
    StepNames,
    decode_counts,
    decode_run_detail,
    decode_step_detail,
    encode,
    read_history,
)
from cupola.stores.versions import VersionDraft

PENDING, RUNNING, RETRYING = StepStatus.PENDING.value, StepStatus.RUNNING.value, StepStatus.RETRYING.value
COMPLETED, CACHED, SKIPPED = StepStatus.COMPLETED.value, StepStatus.CACHED.value, StepStatus.SKIPPED.value
LOST = StepStatus.LOST.value


class RunDraft(msgspec.Struct):
    """A run's row while a batch is applied."""

    number: int
    id: str
    project: str
    status: str
    snapshot: str
    started_at: float
    ended_at: float | None
    epoch: int
    head: int
    digest: bytes
    journal_bytes: int
    sealed: bool
    counts: dict[str, int]
    detail: RunDetail


class StepDraft(msgspec.Struct, gc=False):
    """A step's row while a batch is applied. `status` is a plain word: a driver of databases is slow with others.

    Attributes:
        events: All events of the step, encoded.
        before: Status before the batch.
        outcome: How it ended, if it did in this batch.
        made: How much it made before it began anew in a resumed run.
        loaded, warnings: As in `StepDetail`.
        is_stored: Whether its row is there already.
    """

    name: str
    source: str
    base_key: str
    events: list[Raw]
    status: str = PENDING
    before: str = PENDING
    started_at: float | None = None
    ended_at: float | None = None
    outcome: Outcome | None = None
    made: int = 0
    loaded: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    is_stored: bool = False


class Batch(msgspec.Struct):
    """What a batch of events of one run adds up to, before it is written.

    Attributes:
        sealed: What the store gave the run, when that is known already (a rebuild).
        names: What the store knows of the run's snapshot; None until it is looked up by `find_names`.
        expansions: The mapped steps that have their children; None until a child is looked up.
        versions: What steps made, in the order in which they ended.
        tags, removed_tags: `(kind, step, position, name)`.
        metadata: By `(kind, step, position, key)`, encoded.
    """

    db: sqlite3.Connection
    run: RunDraft
    find_names: Callable[[str], StepNames]
    sealed: RunSealed | None = None
    names: StepNames | None = None
    expansions: list[Expansion] | None = None
    steps: dict[int, StepDraft] = {}
    versions: list[VersionDraft] = []
    used: list[tuple[int, str, int, int]] = []
    tags: dict[tuple[str, int, int, str], bool] = {}
    metadata: dict[tuple[str, int, int, str], bytes] = {}
    dead: list[tuple[int, str]] = []


def load_run(db: sqlite3.Connection, run: str) -> RunDraft | None:
    """Return a run's row as a draft, or None when the store doesn't have it."""
    row = db.execute(
        "SELECT r.number, r.id, p.project, r.status, r.snapshot, r.started_at, r.ended_at, r.epoch, r.head, r.digest,"
        " r.journal_bytes, r.sealed, r.counts, r.detail FROM run r JOIN pipeline p ON p.key = r.pipeline"
        " WHERE r.id = ?",
        (run,),
    ).fetchone()
    if row is None:
        return None
    number, identifier, project, status, snapshot, started_at, ended_at, epoch, head, digest, size, sealed = row[:12]
    return RunDraft(
        number, identifier, project, status, snapshot, started_at, ended_at, epoch, head, digest, size, bool(sealed),
        decode_counts(row[12]), decode_run_detail(row[13]),
    )  # fmt: skip


def start_run(db: sqlite3.Connection, event: RunStarted, epoch: int, number: int | None) -> RunDraft:
    """Write the row of a new run, under the number that it had before a rebuild or else the next one."""
    db.execute(
        "INSERT INTO pipeline (project, name, source, created_at, runs) VALUES (?, ?, ?, ?, 1)"
        " ON CONFLICT (name, project) DO UPDATE SET runs = runs + 1, source = excluded.source",
        (event.project, event.pipeline, event.source, event.at),
    )
    db.execute(
        "INSERT OR IGNORE INTO snapshot (id, bytes, blob) VALUES (?, ?, ?)",
        (event.snapshot, event.snapshot_bytes, event.snapshot_blob),
    )
    detail = RunDetail(event.source, event.params, event.facts, event.origins)
    cursor = db.execute(
        "INSERT INTO run (number, id, name, pipeline, status, snapshot, started_at, epoch, head, digest,"
        " journal_bytes, sealed, counts, detail)"
        " SELECT ?, ?, ?, key, 'running', ?, ?, ?, 0, x'', 0, 0, x'80', ? FROM pipeline"
        " WHERE name = ? AND project = ?",
        (number, event.run, event.name, event.snapshot, event.at, epoch, encode(detail), event.pipeline, event.project),
    )
    number = cursor.lastrowid or 0
    if event.places:
        db.execute("INSERT OR REPLACE INTO place (run, places) VALUES (?, ?)", (number, encode(event.places)))
    return RunDraft(
        number, event.run, event.project, RUNNING, event.snapshot, event.at, None, epoch,
        0, b"", 0, False, {}, detail,
    )  # fmt: skip


def load_open_steps(db: sqlite3.Connection, run: RunDraft) -> dict[int, StepDraft]:
    """Return the steps of a run that events may still change: a finished step never runs again.

    One that is pending has a row only when the run was resumed.
    """
    if not run.counts.get("running") and not run.counts.get("retrying") and not run.counts.get("pending"):
        return {}
    rows = db.execute(
        "SELECT position, name, status, base_key, started_at, detail FROM step INDEXED BY step_unusual"
        " WHERE run = ? AND status IN ('running', 'retrying', 'pending') AND status <> 'completed'",
        (run.number,),
    )
    return {row[0]: stored_step(*row[1:]) for row in rows}


def stored_step(name: str, status: str, base_key: str, started_at: float | None, data: bytes) -> StepDraft:
    """Return the draft of a step whose row is there already."""
    detail = decode_step_detail(data)
    return StepDraft(
        name, detail.source, base_key, detail.events, status, status, started_at,
        made=len(read_history(detail).outputs), loaded=detail.loaded,
        warnings=detail.warnings, is_stored=True,
    )  # fmt: skip
