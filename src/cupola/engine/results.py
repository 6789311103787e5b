"""From what became of a step to the event that says so."""

from __future__ import annotations

from typing import Any

import msgspec

from cupola.context import Recorded
from cupola.engine.cache import Inputs
from cupola.engine.flights import Flight
from cupola.entities.run import Failure, StepStatus
from cupola.event import StepCached, StepFailed, StepFinished, Usage
from cupola.failures import describe_failure
from cupola.ids import now
from cupola.store import CacheEntry
from cupola.worker import Outcome, Task


class Place(msgspec.Struct, frozen=True):
    """Where an attempt runs: the number of its worker, 0 for the driver's own process, and where its log stands."""

    worker: int
    log: int


class Landed(msgspec.Struct, frozen=True):
    """An attempt that is over.

    Attributes:
        position: Its step.
        outcome: What became of it.
        log_end: Where its output ends in the log of its worker.
        worker: Number of its worker; 0 for the driver's own process.
        told: Parts of the driver's log that hooks of a step in a worker printed.
        next: The attempt of the same lot that its worker goes on with, or None.
        left: Those of the lot that its worker never began, since it ended.
    """

    position: int
    outcome: Outcome
    log_end: int
    worker: int
    told: tuple[tuple[int, int], ...] = ()
    next: Task | None = None
    left: tuple[Task, ...] = ()


def cached_event(position: int, inputs: Inputs, entry: CacheEntry) -> StepCached:
    """Return the event of a step for which an earlier result stands."""
    return StepCached(
        now(), position, entry.run, entry.step, inputs.digests, inputs.key, entry.duration_s, entry.made_at
    )


def finished_event(flight: Flight, landed: Landed, changed: str) -> StepFinished:
    """Return the event of a step that went well.

    Args:
        flight: The step.
        landed: Its last attempt.
        changed: What to say of a file that changed while the step read it, else empty.
    """
    outcome = landed.outcome
    task, inputs, recorded = flight.task, flight.inputs, outcome.recorded
    uncacheable = inputs.reason or changed
    if changed:
        recorded.warnings.append(f"{changed}: its result is not used again")
    if not uncacheable and any(not record.manifest.stable for record in outcome.outputs):
        uncacheable = "an output has no stable digest"
    if flight.verified is not None and (differs := different_outputs(flight.verified, outcome)):
        recorded.warnings.append(
            f"verify: run again, its outputs {', '.join(differs)} differ from those of run {flight.verified.run}; "
            "the step isn't deterministic"
        )
    may_write = task.options.cache_write
    expires_s = task.options.cache_expires_s
    ended = now()
    return StepFinished(
        at=ended,
        step=task.position,
        attempt=task.attempt,
        outputs=outcome.outputs,
        inputs=inputs.digests,
        log=landed.log_end,
        usage=outcome.usage,
        inputs_key=inputs.key if may_write and not uncacheable else "",
        uncacheable=uncacheable if may_write else "",
        expires_at=ended + expires_s if expires_s is not None else 0.0,
        used=tuple(recorded.used),
        warnings=tuple(recorded.warnings),
        told=landed.told,
        **_side_effects(recorded),
    )


def failed_event(flight: Flight, landed: Landed) -> StepFailed:
    """Return the event of a step whose last attempt failed or was stopped."""
    outcome = landed.outcome
    assert outcome.failure is not None
    return StepFailed(
        at=now(),
        step=flight.task.position,
        failure=outcome.failure,
        attempt=flight.task.attempt,
        status=outcome.status,
        inputs=flight.inputs.digests,
        log=landed.log_end,
        usage=outcome.usage,
        saved=outcome.outputs,
        warnings=tuple(outcome.recorded.warnings),
        told=landed.told,
        **_side_effects(outcome.recorded),
    )


_NOTHING = Recorded()


def _side_effects(recorded: Recorded) -> dict[str, Any]:
    """Return what a step recorded besides its outputs, as the fields that its events have for it."""
    if recorded == _NOTHING:
        return {}
    return {
        "metadata": recorded.metadata,
        "run_metadata": recorded.run_metadata,
        "metrics": tuple(recorded.metrics),
        "tags": tuple(recorded.tags),
        "run_tags": tuple(recorded.run_tags),
        "removed_tags": tuple(recorded.removed_tags),
        "removed_run_tags": tuple(recorded.removed_run_tags),
    }


def different_outputs(entry: CacheEntry, outcome: Outcome) -> list[str]:
    """Return the names of outputs whose digest differs from that of an earlier result."""
    before = {version.output: version.manifest.digest for version in entry.outputs if not version.saved}
    return [
        record.name
        for record in outcome.outputs
        if not record.saved and before.get(record.name) != record.manifest.digest
    ]


def failed_outcome(error: BaseException, failure: Failure) -> Outcome:
    """Return the outcome of a step that failed before its function was called."""
    return Outcome(status=StepStatus.FAILED, recorded=Recorded(), usage=Usage(), failure=failure, error=error)


def stopped_outcome(error: BaseException) -> Outcome:
    """Return the outcome of a step that a signal ended outside of its own code."""
    return Outcome(
        status=StepStatus.CANCELLED,
        recorded=Recorded(),
        usage=Usage(),
        failure=describe_failure(error, None),
        error=error,
    )
