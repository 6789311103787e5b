"""What is worth saying of a run, a step, an artifact version: records turned into pages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cupola import values
from cupola.client.mapped import BADLY, Children, in_words
from cupola.client.page import Page, Table
from cupola.entities.artifact import VersionRecord
from cupola.entities.run import Failure, RunRecord, RunStatus, StepRecord, StepStatus
from cupola.ids import now
from cupola.snapshot import StepSpec
from cupola.text import age, count, duration, moment, size

VALUE_LETTERS = 200
"""Letters of a parameter or metadata value that a page shows; JSON has the whole of it."""


def seconds(started_at: float | None, ended_at: float | None) -> float | None:
    """Return how long something took, or has taken until now; None when it hasn't begun."""
    return None if started_at is None else max(0.0, (now() if ended_at is None else ended_at) - started_at)


def took(record: RunRecord | StepRecord) -> str:
    """Return how long a run or step took, as text; empty when it hasn't begun or was cached."""
    if isinstance(record, StepRecord) and record.status is StepStatus.CACHED:
        return ""
    length = seconds(record.started_at, record.ended_at)
    return "" if length is None else duration(length)


def run_title(record: RunRecord) -> str:
    """Return one line on a run."""
    steps = sum(record.steps.values())
    return f"Run {record.name} {record.status} ({count(steps, 'step')}, {took(record)})"


def describe_run(
    record: RunRecord,
    steps: Sequence[StepRecord],
    outputs: Mapping[str, str],
    runs: Mapping[str, str],
    *,
    children: Mapping[int, Children | None],
    failed: str,
) -> Page:
    """Return the page of a run.

    Args:
        record: The run.
        steps: The steps of its graph in order, those that didn't start as pending.
        outputs: What it returned by name, each in few words.
        runs: Names of the runs that cached results come from, by id.
        children: How the children of mapped steps are doing, by position; None for those that have none yet.
        failed: Name of the step that failed the run; empty when none did.
    """
    facts = [
        ("id", record.id),
        ("pipeline", f"{record.pipeline} ({record.source})"),
        ("started", f"{moment(record.started_at)}, {age(now() - record.started_at)}"),
        *([("ended", moment(record.ended_at))] if record.ended_at is not None else []),
        ("snapshot", record.snapshot),
        *([("asks", question)] if (question := question_of(record)) else []),
        *_pairs("param", record.params),
        *([("tags", ", ".join(record.tags))] if record.tags else []),
        *_pairs("metadata", record.metadata),
        *(("output", f"{name} = {text}") for name, text in outputs.items()),
        *(("warning", warning) for warning in record.warnings),
    ]
    rows = tuple(row for step in steps for row in _step_rows(step, runs, children))
    table = Table(("step", "status", "took", "remark"), rows, rights=(2,))
    return Page(
        run_title(record), tuple(facts), (table,) if rows else (), failure_notes(record.failure, failed or "the run")
    )


def _step_rows(
    step: StepRecord, runs: Mapping[str, str], children: Mapping[int, Children | None]
) -> Iterator[tuple[str, ...]]:
    """Yield the row of a step; of a mapped one what its children are, and those that ended badly."""
    if step.position not in children:
        yield step.name, str(step.status), took(step), remark(step, runs)
        return
    found = children[step.position]
    yield step.name, str(step.status), took(step), in_words(found)
    for child in found.badly if found is not None else ():
        yield f"  {child.name}", str(child.status), took(child), remark(child, runs)
    badly = sum(found.counts.get(word, 0) for word in BADLY) if found is not None else 0
    if found is not None and badly > len(found.badly):
        yield f"  and {badly - len(found.badly)} more", "", "", ""


def remark(step: StepRecord, runs: Mapping[str, str]) -> str:
    """Return what a table says of a step besides its status; `runs` has names of runs by id."""
    if step.status is StepStatus.CACHED:
        when = f", {age(now() - step.made_at)}" if step.made_at else ""
        return f"from run {runs.get(step.from_run, step.from_run)}{when}, {duration(step.saved_s)} saved"
    if step.failure is not None:
        return str(step.failure).partition("\n")[0]
    parts = [f"{len(step.attempts)} attempts"] if len(step.attempts) > 1 else []
    if step.uncacheable:
        parts.append(f"not cached: {step.uncacheable}")
    return ", ".join([*parts, *step.warnings])


def describe_step(
    record: StepRecord,
    spec: StepSpec,
    inputs: Mapping[str, str],
    outputs: Mapping[str, VersionRecord],
    runs: Mapping[str, str],
    children: Children | None = None,
) -> Page:
    """Return the page of a step.

    Args:
        record: The step.
        spec: What the snapshot says of it.
        inputs: What it read by parameter name, each in few words.
        outputs: What it put out.
        runs: Names of the runs that a cached result comes from, by id.
        children: How the children of a mapped step are doing.
    """
    facts = [
        ("id", record.id),
        ("function", spec.source),
        ("status", str(record.status)),
        *([("took", took(record))] if took(record) else []),
        *([("children", in_words(children))] if spec.fan is not None and spec.fan.kind != "child" else []),
        *([("remark", said)] if (said := remark(record, runs)) else []),
        *([("used", f"{duration(record.cpu_s)} of processor time, {size(record.peak_bytes)} at most")]
          if record.peak_bytes else []),
        *(("input", f"{name} = {text}") for name, text in inputs.items()),
        *([("tags", ", ".join(record.tags))] if record.tags else []),
        *_pairs("metadata", record.metadata),
    ]  # fmt: skip
    tables = [
        *([outputs_table(outputs.values())] if outputs else []),
        *([_attempts(record)] if len(record.attempts) > 1 else []),
        *([_bad_children(children, runs)] if children is not None and children.badly else []),
    ]
    title = f"Step {record.name} {record.status}"
    return Page(title, tuple(facts), tuple(tables), failure_notes(record.failure, record.name))


def _bad_children(children: Children, runs: Mapping[str, str]) -> Table:
    rows = tuple((child.name, str(child.status), took(child), remark(child, runs)) for child in children.badly)
    return Table(("child", "status", "took", "remark"), rows, rights=(2,))


def outputs_table(versions: Any) -> Table:
    """Return a table of artifact versions."""
    rows = tuple(
        (version.output, version_name(version), version.manifest.type, size(version.manifest.size_bytes))
        for version in versions
    )
    return Table(("output", "artifact", "type", "size"), rows, rights=(3,))


def describe_version(record: VersionRecord, preview: str, producer: str) -> Page:
    """Return the page of an artifact version."""
    manifest = record.manifest
    facts = [
        ("type", manifest.type),
        ("size", size(manifest.size_bytes)),
        ("digest", manifest.digest if manifest.stable else f"{manifest.digest} (not stable)"),
        ("stored by", manifest.materializer),
        ("made", f"{moment(record.created_at)}, {age(now() - record.created_at)}"),
        ("by", producer),
        *([("kind", record.kind)] if record.kind else []),
        *([("tags", ", ".join(record.tags))] if record.tags else []),
        *_pairs("metadata", record.metadata),
    ]
    return Page(f"Artifact {version_name(record)}", tuple(facts), (), (("preview", preview),) if preview else ())


def version_name(record: VersionRecord) -> str:
    """Return what names a version: its number, and until the store has given one, a part of its digest."""
    if record.version:
        return f"{record.artifact}:{record.version}"
    return f"{record.artifact}@{record.manifest.digest.partition(':')[2][:8]}"


def failure_notes(failure: Failure | None, what: str) -> tuple[tuple[str, str], ...]:
    """Return the block of a page that shows why something failed, with the user's own traceback."""
    if failure is None:
        return ()
    return ((f"{what} failed at {failure.where}" if failure.where else f"{what} failed",
             failure.traceback or str(failure)),)  # fmt: skip


def _attempts(record: StepRecord) -> Table:
    rows = tuple(
        (
            str(attempt.number),
            moment(attempt.started_at),
            duration(length) if (length := seconds(attempt.started_at, attempt.ended_at)) is not None else "",
            str(attempt.failure or ""),
        )
        for attempt in record.attempts
    )
    return Table(("attempt", "started", "took", "failure"), rows, rights=(0, 2))


def question_of(record: RunRecord) -> str:
    """Return what a paused run waits with; empty for any other."""
    return record.reason if record.status is RunStatus.PAUSED else ""


def _pairs(label: str, encoded: Mapping[str, bytes]) -> list[tuple[str, str]]:
    return [(label, f"{name} = {short_value(data)}") for name, data in encoded.items()]


def short_value(data: bytes) -> str:
    """Return an encoded value in few words."""
    text = values.preview(values.decode(data))
    return text if len(text) <= VALUE_LETTERS else text[: VALUE_LETTERS - 1] + "…"
