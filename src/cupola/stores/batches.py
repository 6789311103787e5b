"""Writes what a batch adds up to: one statement per table."""

from __future__ import annotations

from cupola import journal
from cupola.digest import checksum
from cupola.event import StepCached, StepFinished
from cupola.stores.drafts import Batch, StepDraft
from cupola.stores.inserts import insert_rows
from cupola.stores.metadata import typed
from cupola.stores.rows import StepDetail, encode
from cupola.stores.versions import Given, given_by, write_versions

_USED = (
    "SELECT version.digest FROM version JOIN run ON run.number = version.run"
    " WHERE run.id = ? AND version.step = ? AND version.position = ?"
)


def write_batch(batch: Batch, epoch: int, head: int, digest: bytes, size_bytes: int) -> None:
    """Write the drafts of a batch, and how far the run's journal is now known.

    Args:
        batch: What to write.
        epoch: Epoch of the journal that the events stand in.
        head: Sequence number of the last event.
        digest: Chained digest up to it.
        size_bytes: Length of the events as they stand in the journal.
    """
    if batch.versions:
        known: dict[tuple[int, int], Given] = given_by(batch.sealed) if batch.sealed else {}
        run = batch.run
        for draft, reason in write_versions(batch.db, run.number, run.project, batch.versions, known):
            batch.steps[draft.step].warnings += (reason,)
    _write_inputs(batch)
    _write_steps(batch)
    _write_tags(batch)
    _write_metadata(batch)
    insert_rows(batch.db, "REPLACE", "dead_letter", [(batch.run.id, seq, reason) for seq, reason in batch.dead])
    _write_run(batch, epoch, head, digest, size_bytes)


def _write_steps(batch: Batch) -> None:
    # A step that is not open is new: one that finished already makes the whole batch fail, and then itself a dead
    # letter.
    run = batch.run.number
    new: list[tuple[object, ...]] = []
    open_before: list[tuple[object, ...]] = []
    for position, step in batch.steps.items():
        (open_before if step.is_stored else new).append(_step_row(run, position, step))
    insert_rows(batch.db, "INSERT OR FAIL", "step", new)
    insert_rows(batch.db, "REPLACE", "step", open_before)


def _step_row(run: int, position: int, step: StepDraft) -> tuple[object, ...]:
    outcome, inputs_key, expires_at, cache_bucket, inputs_bucket = step.outcome, "", 0.0, None, None
    if isinstance(outcome, StepFinished):
        inputs_key, expires_at = outcome.inputs_key, outcome.expires_at
        if inputs_key and step.base_key and not outcome.uncacheable:
            cache_bucket, inputs_bucket = checksum(step.base_key), checksum(inputs_key)
    elif isinstance(outcome, StepCached):
        inputs_key = outcome.inputs_key
    detail = encode(StepDetail(step.source, step.events, step.loaded, step.warnings))
    return (
        run, position, step.name, step.status, step.started_at, step.ended_at, step.base_key, inputs_key, expires_at,
        cache_bucket, inputs_bucket, detail,
    )  # fmt: skip


def _write_inputs(batch: Batch) -> None:
    run = batch.run.number
    for step, *version in batch.used:
        found = batch.db.execute(_USED, version).fetchone()
        if found:
            batch.steps[step].loaded += found
    # What a cached step would have read was read by the step that it stands for.
    rows = [
        (checksum(digest), run, position)
        for position, step in batch.steps.items()
        if step.outcome and not isinstance(step.outcome, StepCached)
        for digest in (*step.outcome.inputs.values(), *step.loaded)
    ]
    insert_rows(batch.db, "INSERT OR IGNORE", "input", rows)


def _write_tags(batch: Batch) -> None:
    run = batch.run.number
    added = [(kind, run, step, at, name) for (kind, step, at, name), present in batch.tags.items() if present]
    removed = [(kind, run, step, at, name) for (kind, step, at, name), present in batch.tags.items() if not present]
    insert_rows(batch.db, "INSERT OR IGNORE", "tag", added)
    if removed:
        batch.db.executemany(
            "DELETE FROM tag WHERE kind = ? AND run = ? AND step = ? AND position = ? AND name = ?", removed
        )


def _write_metadata(batch: Batch) -> None:
    if batch.metadata:
        run = batch.run.number
        rows = [
            (kind, run, step, at, key, *typed(value), value) for (kind, step, at, key), value in batch.metadata.items()
        ]
        insert_rows(batch.db, "REPLACE", "metadata", rows)


def _write_run(batch: Batch, epoch: int, head: int, digest: bytes, size_bytes: int) -> None:
    run, counts = batch.run, batch.run.counts
    for step in batch.steps.values():
        counts[step.before] = counts.get(step.before, 0) - 1
        counts[step.status] = counts.get(step.status, 0) + 1
    begin = run.journal_bytes if epoch == run.epoch and run.journal_bytes else journal.HEADER_BYTES
    batch.db.execute(
        "UPDATE run SET status = ?, ended_at = ?, epoch = ?, head = ?, digest = ?, journal_bytes = ?, sealed = ?,"
        " counts = ?, detail = ? WHERE number = ?",
        (
            run.status, run.ended_at, epoch, head, digest, begin + size_bytes, run.sealed,
            encode({word: number for word, number in counts.items() if number}), encode(run.detail), run.number,
        ),
    )  # fmt: skip
