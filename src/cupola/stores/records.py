"""From rows to records: what the store hands out."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from cupola.entities.artifact import ArtifactRecord, OutputRecord, VersionRecord
from cupola.entities.run import PipelineRecord, RunRecord, RunStatus, StepRecord, StepStatus
from cupola.errors import Damaged
from cupola.event import StepCached, StepFailed, StepFinished
from cupola.stores.rows import Outcome, decode_counts, decode_run_detail, decode_step_detail, read_history

RUN_COLUMNS = (
    "run.number, run.id, run.name, pipeline.name, pipeline.project, run.status, run.snapshot, run.started_at,"
    " run.ended_at, run.counts, run.head, run.epoch, run.detail"
)
STEP_COLUMNS = (
    "step.run, step.position, run.id, step.name, pipeline.name, step.status, step.started_at, step.ended_at,"
    " step.base_key, step.inputs_key, step.detail"
)
VERSION_COLUMNS = (
    "version.run, version.step, version.position, run.id, artifact.name, version.number, version.label,"
    " artifact.project, version.created_at"
)
ARTIFACT_COLUMNS = "artifact.key, artifact.name, artifact.project, artifact.created_at"
PIPELINE_COLUMNS = "pipeline.key, pipeline.name, pipeline.project, pipeline.source, pipeline.created_at, pipeline.runs"

decode_places = msgspec.msgpack.Decoder(tuple[str, ...]).decode
Row = tuple[Any, ...]
Key = tuple[int, int, int]


def read(db: sqlite3.Connection, kind: str, rows: Sequence[Row]) -> Sequence[Any]:
    """Return the records of rows of a kind's columns; what else a row holds at its end is left alone."""
    return _READERS[kind](db, rows)


def with_places(db: sqlite3.Connection, run: RunRecord) -> RunRecord:
    """Return a run with the places of its code parts, which lists leave out."""
    row = db.execute("SELECT places FROM place WHERE run = ?", (run.number,)).fetchone()
    return msgspec.structs.replace(run, places=decode_places(row[0])) if row else run


def read_runs(db: sqlite3.Connection, rows: Sequence[Row]) -> list[RunRecord]:
    """Return the records of rows of `RUN_COLUMNS`, without `places`."""
    keys = [(row[0], -1, -1) for row in rows]
    tags, metadata = read_tags(db, "run", keys), read_metadata(db, "run", keys)
    records: list[RunRecord] = []
    for row, key in zip(rows, keys, strict=True):
        detail = decode_run_detail(row[12])
        records.append(
            RunRecord(
                number=row[0], id=row[1], name=row[2], pipeline=row[3], project=row[4], source=detail.source,
                status=RunStatus(row[5]), snapshot=row[6], params=detail.params, facts=detail.facts,
                origins=detail.origins, tags=tags.get(key, ()), metadata=metadata.get(key, {}), started_at=row[7],
                ended_at=row[8], failure=detail.failure, failed_step=detail.failed_step, steps=decode_counts(row[9]),
                head=row[10], epoch=row[11], warnings=detail.warnings, blobs=detail.blobs, reason=detail.reason,
                returned=detail.returned,
            )
        )  # fmt: skip
    return records


def read_steps(db: sqlite3.Connection, rows: Sequence[Row], *, run: int | None = None) -> list[StepRecord]:
    """Return the records of rows of `STEP_COLUMNS`; `run` is given when they are all of one run's steps."""
    keys = [(row[0], row[1], -1) for row in rows]
    tags, metadata = read_tags(db, "step", keys, run), read_metadata(db, "step", keys, run)
    records: list[StepRecord] = []
    for row, key in zip(rows, keys, strict=True):
        detail = decode_step_detail(row[10])
        history = read_history(detail)
        told = _told(history.outcome)
        records.append(
            StepRecord(
                id=f"{row[2]}.{row[1]}", run=row[2], position=row[1], name=row[3], source=detail.source,
                pipeline=row[4], status=StepStatus(row[5]), attempts=history.attempts, started_at=row[6],
                ended_at=row[7], inputs=history.inputs, metadata=metadata.get(key, {}), tags=tags.get(key, ()),
                base_key=row[8], inputs_key=row[9], addition=history.addition,
                warnings=(*told.pop("warnings", ()), *detail.warnings), **told,
            )
        )  # fmt: skip
    return records


def _told(outcome: Outcome | None) -> dict[str, Any]:
    """Return the fields of a step's record that only its last event says."""
    match outcome:
        case StepCached():
            return {
                "from_run": outcome.from_run,
                "from_step": outcome.from_step,
                "saved_s": outcome.saved_s,
                "made_at": outcome.made_at,
            }
        case StepFinished() | StepFailed():
            return {
                "metrics": outcome.metrics,
                "warnings": outcome.warnings,
                "cpu_s": outcome.usage.cpu_s,
                "peak_bytes": outcome.usage.peak_bytes,
                "failure": outcome.failure if isinstance(outcome, StepFailed) else None,
                "uncacheable": outcome.uncacheable if isinstance(outcome, StepFinished) else "",
            }
        case None:
            return {}


def read_versions(db: sqlite3.Connection, rows: Sequence[Row], *, run: int | None = None) -> list[VersionRecord]:
    """Return the records of rows of `VERSION_COLUMNS`; `run` is given when they are all of one run's versions."""
    keys = [(row[0], row[1], row[2]) for row in rows]
    tags, metadata = read_tags(db, "version", keys, run), read_metadata(db, "version", keys, run)
    outputs = {step: _outputs_of(db, step) for step in dict.fromkeys([(row[0], row[1]) for row in rows])}
    return [
        read_version(row, outputs[row[0], row[1]], tags.get(key, ()), metadata.get(key, {}))
        for row, key in zip(rows, keys, strict=True)
    ]


def _outputs_of(db: sqlite3.Connection, step: tuple[int, int]) -> tuple[OutputRecord, ...]:
    """Return what a step made: its events have it, and a listing would read those of a step once for each version."""
    row = db.execute("SELECT detail FROM step WHERE run = ? AND position = ?", step).fetchone()
    if row is None:
        raise Damaged(
            f"the step that made version {step[0]}.{step[1]} is gone", fix="run `cupola doctor store --rebuild`"
        )
    return read_history(decode_step_detail(row[0])).outputs


def read_version(
    row: Row, outputs: Sequence[OutputRecord], tags: tuple[str, ...] = (), metadata: dict[str, bytes] | None = None
) -> VersionRecord:
    """Return the record of one row of `VERSION_COLUMNS`; `outputs` are all that its step made."""
    position: int = row[2]
    output = outputs[position]
    return VersionRecord(
        id=f"{row[3]}.{row[1]}.{row[2]}", artifact=row[4], version=row[6] or str(row[5]), project=row[7], run=row[3],
        step=row[1], position=position, output=output.name, metadata=metadata or {}, tags=tags,
        created_at=row[8], saved=output.saved, kind=output.kind, number=row[5], manifest=output.manifest,
    )  # fmt: skip


def read_artifacts(db: sqlite3.Connection, rows: Sequence[Row]) -> list[ArtifactRecord]:
    """Return the records of rows of `ARTIFACT_COLUMNS`."""
    records: list[ArtifactRecord] = []
    for row in rows:
        key, name, project, created_at = row[:4]
        versions, latest = db.execute("SELECT count(*), max(number) FROM version WHERE artifact = ?", (key,)).fetchone()
        label = db.execute("SELECT label FROM version WHERE artifact = ? AND number = ?", (key, latest)).fetchone()
        word = (label[0] or str(latest)) if label else ""
        records.append(
            ArtifactRecord(id=name, name=name, project=project, created_at=created_at, versions=versions, latest=word)
        )
    return records


def read_pipelines(db: sqlite3.Connection, rows: Sequence[Row]) -> list[PipelineRecord]:
    """Return the records of rows of `PIPELINE_COLUMNS`."""
    records: list[PipelineRecord] = []
    for row in rows:
        key, name, project, source, created_at, runs = row[:6]
        last = db.execute("SELECT id FROM run WHERE number = (SELECT max(number) FROM run WHERE pipeline = ?)", (key,))
        found = last.fetchone()
        records.append(
            PipelineRecord(
                id=name, name=name, project=project, source=source, created_at=created_at,
                last_run=found[0] if found else "", runs=runs,
            )
        )  # fmt: skip
    return records


def read_tags(
    db: sqlite3.Connection, kind: str, keys: Iterable[Key], run: int | None = None
) -> dict[Key, tuple[str, ...]]:
    """Return the tags of each owner that has some, sorted; of all of a run's when `run` is given."""
    found: dict[Key, list[str]] = {}
    for row in _owned(db, "tag", "name", kind, keys, run):
        found.setdefault((row[0], row[1], row[2]), []).append(row[3])
    return {key: tuple(names) for key, names in found.items()}


def read_metadata(
    db: sqlite3.Connection, kind: str, keys: Iterable[Key], run: int | None = None
) -> dict[Key, dict[str, bytes]]:
    """Return the metadata of each owner that has some, encoded; of all of a run's when `run` is given."""
    found: dict[Key, dict[str, bytes]] = {}
    for row in _owned(db, "metadata", "key, value", kind, keys, run):
        found.setdefault((row[0], row[1], row[2]), {})[row[3]] = row[4]
    return found


def _owned(
    db: sqlite3.Connection, table: str, columns: str, kind: str, keys: Iterable[Key], run: int | None
) -> Iterable[Row]:
    select = f"SELECT run, step, position, {columns} FROM {table} WHERE kind = ? AND run = ?"
    if run is not None:
        yield from db.execute(select, (kind, run))
        return
    for key in keys:
        yield from db.execute(f"{select} AND step = ? AND position = ?", (kind, *key))


_READERS: dict[str, Callable[[sqlite3.Connection, Sequence[Row]], Sequence[Any]]] = {
    "run": read_runs,
    "step": read_steps,
    "version": read_versions,
    "artifact": read_artifacts,
    "pipeline": read_pipelines,
}
