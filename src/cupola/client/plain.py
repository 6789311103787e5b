"""Records and views as plain data that every JSON parser reads: what `--json` prints.

Times are text in UTC, lengths are seconds, and NaN and infinity are text. The keys are a contract (docs/cli.md).
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from cupola import values
from cupola.client.describe import question_of, seconds, version_name
from cupola.entities.artifact import ArtifactRecord, VersionRecord
from cupola.entities.run import Failure, PipelineRecord, RunRecord, StepRecord

Plain = dict[str, Any]


def plain_run(record: RunRecord) -> Plain:
    """Return a run, as lists have it."""
    return {
        "id": record.id,
        "name": record.name,
        "pipeline": record.pipeline,
        "project": record.project,
        "status": str(record.status),
        "started_at": plain_time(record.started_at),
        "ended_at": plain_time(record.ended_at),
        "duration_s": seconds(record.started_at, record.ended_at),
        "step_counts": dict(record.steps),
        "tags": list(record.tags),
        "metadata": plain_values(record.metadata),
        "params": plain_values(record.params),
        "snapshot": record.snapshot,
        "source": record.source,
        "error": plain_failure(record.failure),
        "question": question_of(record) or None,
        "warnings": list(record.warnings),
    }


def plain_step(record: StepRecord) -> Plain:
    """Return a step, as lists have it."""
    return {
        "id": record.id,
        "run": record.run,
        "name": record.name,
        "pipeline": record.pipeline,
        "source": record.source,
        "status": str(record.status),
        "started_at": plain_time(record.started_at),
        "ended_at": plain_time(record.ended_at),
        "duration_s": seconds(record.started_at, record.ended_at),
        "attempts": [
            {
                "number": attempt.number,
                "started_at": plain_time(attempt.started_at),
                "ended_at": plain_time(attempt.ended_at),
                "error": plain_failure(attempt.failure),
            }
            for attempt in record.attempts
        ],
        "from_run": record.from_run or None,
        "saved_s": record.saved_s,
        "uncacheable": record.uncacheable or None,
        "tags": list(record.tags),
        "metadata": plain_values(record.metadata),
        "resources": {"cpu_s": record.cpu_s, "peak_bytes": record.peak_bytes},
        "error": plain_failure(record.failure),
        "warnings": list(record.warnings),
    }


def plain_version(record: VersionRecord) -> Plain:
    """Return an artifact version."""
    manifest = record.manifest
    return {
        "id": record.id,
        "ref": version_name(record),
        "name": record.artifact,
        "version": record.version or None,
        "output": record.output,
        "run": record.run,
        "step": record.step,
        "type": manifest.type,
        "kind": record.kind or None,
        "size_bytes": manifest.size_bytes,
        "digest": manifest.digest,
        "materializer": manifest.materializer,
        "created_at": plain_time(record.created_at),
        "tags": list(record.tags),
        "metadata": plain_values(record.metadata),
    }


def plain_artifact(record: ArtifactRecord) -> Plain:
    """Return an artifact."""
    return {
        "id": record.id,
        "name": record.name,
        "project": record.project,
        "versions": record.versions,
        "latest": record.latest,
        "created_at": plain_time(record.created_at),
    }


def plain_pipeline(record: PipelineRecord) -> Plain:
    """Return a pipeline."""
    return {
        "id": record.id,
        "name": record.name,
        "project": record.project,
        "source": record.source,
        "runs": record.runs,
        "last_run": record.last_run or None,
        "created_at": plain_time(record.created_at),
    }


def plain_failure(failure: Failure | None) -> Plain | None:
    """Return why something failed."""
    if failure is None:
        return None
    return {
        "type": failure.type,
        "message": failure.message,
        "where": failure.where or None,
        "signal": failure.signal or None,
        "traceback": failure.traceback or None,
    }


def plain_values(encoded: Mapping[str, bytes]) -> Plain:
    """Return encoded values by name as their JSON views."""
    return {name: values.to_json(values.decode(data)) for name, data in encoded.items()}


def plain_time(at: float | None) -> str | None:
    """Return a time as text in UTC."""
    return None if at is None else datetime.datetime.fromtimestamp(at, datetime.UTC).isoformat()


def json_text(value: Any) -> str:
    """Return data as JSON that every parser reads, with lines and indents."""
    return msgspec.json.format(msgspec.json.encode(values.to_json(value)), indent=2).decode()


def plain_record(kind: str, record: Any) -> Plain:
    """Return a record of a kind, as lists have it."""
    return _BY_KIND[kind](record)


_BY_KIND: dict[str, Callable[[Any], Plain]] = {
    "run": plain_run,
    "step": plain_step,
    "version": plain_version,
    "artifact": plain_artifact,
    "pipeline": plain_pipeline,
}
