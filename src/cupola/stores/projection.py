"""From events to rows: one function per event.

A batch of events of one run is applied to drafts in memory, then written with one statement per table, inside the
transaction of whoever calls. An event that can't be applied becomes a dead letter and never blocks the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import msgspec
from msgspec import Raw

from cupola.entities.artifact import OutputRecord
from cupola.entities.run import Failure
from cupola.errors import CupolaError
from cupola.event import (
    Event,
    FailureSeen,
    MapExpanded,
    PipelineReturned,
    QuestionAnswered,
    QuestionAsked,
    RunFacts,
    RunFinished,
    RunLost,
    RunMoved,
    RunResumed,
    RunSealed,
    RunStarted,
    StepAdded,
    StepCached,
    StepFailed,
    StepFinished,
    StepRetrying,
    StepsSkipped,
    StepStarted,
    ValueRecorded,
    decode_event,
    encode_event,
)
from cupola.snapshot import child_name, decode_addition
from cupola.stores.drafts import (
    CACHED,
    COMPLETED,
    LOST,
    PENDING,
    RETRYING,
    RUNNING,
    SKIPPED,
    Batch,
    StepDraft,
    stored_step,
)
from cupola.stores.expansions import find_expansion, load_expansions, write_expansion
from cupola.stores.rows import (
    RUN_LEVEL,
    StepNames,
    encode,
)
from cupola.stores.versions import VersionDraft

StepEvent = StepStarted | StepRetrying | StepCached | StepFinished | StepFailed
_OF_STEP = frozenset({StepStarted, StepRetrying, StepCached, StepFinished, StepFailed})


def apply_events(batch: Batch, first_seq: int, events: Sequence[bytes], decoded: Sequence[Event] = ()) -> None:
    """Apply encoded events to the drafts of a batch; `decoded` are the same as objects, where the caller has them."""
    for at, data in enumerate(events):
        try:
            event = decoded[at] if decoded else decode_event(data)
        except msgspec.DecodeError as error:
            batch.dead.append((first_seq + at, f"not an event that this Cupola knows: {error}"))
            continue
        kind = type(event)
        if batch.run.sealed and kind is not RunResumed:
            batch.dead.append((first_seq + at, f"{kind.__name__} after the run was sealed"))
        elif kind in _OF_STEP:
            _apply_to_step(batch, cast("StepEvent", event), data)
        elif kind in _OF_RUN:
            _OF_RUN[kind](batch, event)
        elif kind is StepAdded:
            _apply_added(batch, cast("StepAdded", event), data)
        else:
            batch.dead.append((first_seq + at, f"the store has no place for a {kind.__name__}"))


def _apply_to_step(batch: Batch, event: StepEvent, data: bytes) -> None:
    step = batch.steps.get(event.step)
    if step is None:
        step = batch.steps[event.step] = _new_step(batch, event.step)
    step.events.append(Raw(data))
    if step.started_at is None:
        step.started_at = event.at
    match event:
        case StepStarted():
            step.status = RUNNING
        case StepRetrying():
            step.status = RETRYING
        case StepCached():
            step.status, step.ended_at, step.outcome = CACHED, event.at, event
        case StepFinished():
            step.status, step.ended_at, step.outcome = COMPLETED, event.at, event
            _record(batch, event, event.outputs)
            for run, number, position in event.used:
                batch.used.append((event.step, run, number, position))
        case StepFailed():
            step.status, step.ended_at, step.outcome = event.status.value, event.at, event
            _record(batch, event, event.saved)


def _apply_added(batch: Batch, event: StepAdded, data: bytes) -> None:
    spec = decode_addition(event.addition).spec
    step = batch.steps.get(event.step)
    if step is None:
        _names(batch)
        step = batch.steps[event.step] = StepDraft(spec.name, spec.source, spec.base_key, [])
        batch.run.counts[PENDING] = batch.run.counts.get(PENDING, 0) + 1
    else:
        step.name, step.source, step.base_key = spec.name, spec.source, spec.base_key
    step.events.append(Raw(data))


def _apply_started(batch: Batch, event: RunStarted) -> None:
    # The row is there already: `start_run` wrote it, since everything else needs its number.
    _names(batch)
    _tag(batch, "run", *RUN_LEVEL, event.tags)


def _apply_moved(batch: Batch, event: RunMoved) -> None:
    batch.run.status = event.status.value
    batch.run.detail.reason = event.reason


def _apply_facts(batch: Batch, event: RunFacts) -> None:
    detail = batch.run.detail
    detail.facts = {**detail.facts, **event.facts}
    detail.blobs = {**detail.blobs, **event.blobs}


def _apply_returned(batch: Batch, event: PipelineReturned) -> None:
    batch.run.detail.returned = event.outputs


def _ignore(_batch: Batch, _event: Event) -> None:
    """Do nothing: only a resumed driver reads it, from the journal."""


def _apply_resumed(batch: Batch, event: RunResumed) -> None:
    """Let what isn't finished begin anew; what it did before stays in its row."""
    run = batch.run
    run.sealed, run.status, run.ended_at = False, RUNNING, None
    run.detail.failure, run.detail.failed_step, run.detail.reason = None, -1, ""
    run.detail.facts = {**run.detail.facts, **event.facts}
    if event.snapshot:
        batch.db.execute(
            "INSERT OR IGNORE INTO snapshot (id, bytes, blob) VALUES (?, ?, ?)",
            (event.snapshot, event.snapshot_bytes, event.snapshot_blob),
        )
        batch.db.execute("UPDATE run SET snapshot = ? WHERE number = ?", (event.snapshot, run.number))
        batch.db.execute("REPLACE INTO place (run, places) VALUES (?, ?)", (run.number, encode(event.places)))
        run.snapshot, batch.names = event.snapshot, None
    rows = batch.db.execute(
        "SELECT position, name, status, base_key, started_at, detail FROM step WHERE run = ?", (run.number,)
    ).fetchall()
    for row in rows:
        is_open = row[2] not in (COMPLETED, CACHED) or row[0] in event.again
        is_open = is_open and row[0] not in event.stands
        if is_open and row[0] not in batch.steps:
            batch.steps[row[0]] = stored_step(*row[1:])
    again = frozenset(event.again)
    done = {row[0] for row in rows if row[2] == COMPLETED} | {
        position for position, step in batch.steps.items() if step.status == COMPLETED
    }
    # Children that failed, and that a finished mapped step left out, stay as they are.
    over = [item for item in load_expansions(batch.db, run.number) if item.step in done - again]
    for position, step in batch.steps.items():
        is_over = find_expansion(over, position) is not None and position not in again
        is_open = (step.status not in (COMPLETED, CACHED) and not is_over) or position in again
        if is_open and position not in event.stands:
            step.status, step.ended_at, step.outcome = PENDING, None, None


def _apply_skipped(batch: Batch, event: StepsSkipped) -> None:
    for position in event.steps:
        step = batch.steps.get(position) or _new_step(batch, position)
        step.status = SKIPPED
        batch.steps[position] = step


def _apply_expanded(batch: Batch, event: MapExpanded) -> None:
    _names(batch)
    counts = batch.run.counts
    counts["pending"] = counts.get("pending", 0) + event.count
    write_expansion(batch.db, batch.run.number, event, encode_event(event))
    batch.expansions = None


def _apply_run_finished(batch: Batch, event: RunFinished) -> None:
    run = batch.run
    run.status = event.status.value
    run.ended_at = event.at if event.status.is_final else None  # one that waits for a person goes on some day
    run.detail.failure, run.detail.failed_step = event.failure, event.failed_step
    run.detail.warnings += event.warnings


def _apply_lost(batch: Batch, event: RunLost) -> None:
    run = batch.run
    run.status, run.ended_at = LOST, event.at
    run.detail.reason = event.reason
    run.detail.failure = Failure("Lost", event.reason, signal=event.signal)
    for step in batch.steps.values():
        if step.status in (RUNNING, RETRYING):
            step.status = LOST
            step.ended_at = event.at


def _apply_sealed(batch: Batch, event: RunSealed) -> None:
    batch.run.sealed = True
    if event.number != batch.run.number:
        batch.dead.append((batch.run.head + 1, f"sealed as run {event.number}, but is run {batch.run.number} here"))


_OF_RUN: dict[type[Event], Callable[[Batch, Any], None]] = {
    RunStarted: _apply_started,
    RunMoved: _apply_moved,
    RunFacts: _apply_facts,
    RunResumed: _apply_resumed,
    StepsSkipped: _apply_skipped,
    MapExpanded: _apply_expanded,
    RunFinished: _apply_run_finished,
    RunLost: _apply_lost,
    RunSealed: _apply_sealed,
    PipelineReturned: _apply_returned,
    ValueRecorded: _ignore,
    FailureSeen: _ignore,
    QuestionAsked: _ignore,
    QuestionAnswered: _ignore,
}


def _names(batch: Batch) -> StepNames:
    if batch.names is None:
        try:
            batch.names = batch.find_names(batch.run.snapshot)
        except CupolaError as error:
            batch.dead.append((batch.run.head + 1, str(error)))
            batch.names = StepNames((), (), ())
        if not batch.run.counts:
            batch.run.counts["pending"] = len(batch.names.names)
    return batch.names


def _new_step(batch: Batch, position: int) -> StepDraft:
    known = batch.names or _names(batch)
    if position < len(known.names):
        return StepDraft(known.names[position], known.sources[position], known.base_keys[position], [])
    if batch.expansions is None:
        batch.expansions = load_expansions(batch.db, batch.run.number)
    expansion = find_expansion(batch.expansions, position)
    if expansion is None or expansion.step >= len(known.names):
        return StepDraft(f"#{position}", "", "", [])
    step = expansion.step
    name = child_name(known.names[step], position - expansion.first)
    return StepDraft(name, known.sources[step], known.base_keys[step], [])


def _record(batch: Batch, event: StepFinished | StepFailed, outputs: tuple[OutputRecord, ...]) -> None:
    """Take over what a finished and a failed step have in common."""
    number = event.step
    for position, output in enumerate(outputs, batch.steps[number].made):
        batch.versions.append(VersionDraft(number, position, output, event.at))
        if output.tags:
            _tag(batch, "version", number, position, output.tags)
        if output.metadata:
            _describe(batch, "version", number, position, output.metadata)
    if event.metadata:
        _describe(batch, "step", number, -1, event.metadata)
    if event.run_metadata:
        _describe(batch, "run", *RUN_LEVEL, event.run_metadata)
    if event.tags or event.removed_tags:
        _tag(batch, "step", number, -1, event.tags)
        _tag(batch, "step", number, -1, event.removed_tags, present=False)
    if event.run_tags or event.removed_run_tags:
        _tag(batch, "run", *RUN_LEVEL, event.run_tags)
        _tag(batch, "run", *RUN_LEVEL, event.removed_run_tags, present=False)


def _describe(batch: Batch, kind: str, step: int, position: int, metadata: dict[str, bytes]) -> None:
    for key, value in metadata.items():
        batch.metadata[kind, step, position, key] = value


def _tag(batch: Batch, kind: str, step: int, position: int, names: tuple[str, ...], *, present: bool = True) -> None:
    for name in names:
        batch.tags[kind, step, position, name] = present
