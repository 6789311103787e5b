"""The driver: the loop that runs one snapshot, and the one writer of that run's events.

It goes through the steps in order; for each it reuses an earlier result, runs the step through the worker, or skips it.
Each event is in the journal before anything depends on it. One thread, the caller's, does it all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from cupola.compiler.compile import Compiled
from cupola.context import PipelineInfo, Recorded, RunInfo
from cupola.engine.cache import CacheLookup, Inputs, read_inputs
from cupola.engine.interrupts import Interrupts
from cupola.engine.recorder import Recorder
from cupola.engine.reporter import StepReporter
from cupola.engine.site import Site, open_services
from cupola.entities.artifact import Manifest
from cupola.entities.run import Failure, RunStatus, StepStatus
from cupola.event import (
    RunFinished,
    RunMoved,
    StepCached,
    StepFailed,
    StepFinished,
    StepRetrying,
    StepsSkipped,
    StepStarted,
    Usage,
)
from cupola.failures import describe_failure
from cupola.ids import now
from cupola.middleware.attempt import Hook, Moment
from cupola.middleware.surroundings import keep_surroundings
from cupola.snapshot import FromStep, Gather, Snapshot, Source, StepSpec
from cupola.store import CacheEntry
from cupola.worker import Outcome, Services, Task, run_task


class Log(Protocol):
    """Where output goes while the run lasts; `position` flushes and says where it ends now, in bytes."""

    def position(self) -> int:
        """Return the size of the log after all that was written is in it."""
        ...

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a person should know of the log, such as that its disk was full."""
        ...


class Verdict(msgspec.Struct, frozen=True):
    """How a run ended: its status, the exception of the step that failed it, and that step's position (-1: none)."""

    status: RunStatus
    error: BaseException | None = None
    failed_step: int = -1
    signal: str = ""


class Desk(msgspec.Struct, frozen=True, kw_only=True):
    """What a driver works with.

    Attributes:
        recorder: Takes the events.
        log: Where output goes.
        reporter: Shows the run while it lasts.
        interrupts: What signals asked for.
        is_alone: Whether no other thread of the process drives a run.
        tell_step_hook: Calls a hook of the user's with the `StepRun` for a moment.
    """

    recorder: Recorder
    log: Log
    reporter: StepReporter
    interrupts: Interrupts
    is_alone: bool
    tell_step_hook: Callable[[Hook, Moment], None]


class Driver:
    """Drives one run; made by `launch`, used once."""

    def __init__(self, compiled: Compiled, site: Site, desk: Desk, run: RunInfo) -> None:
        self._compiled = compiled
        self._snapshot: Snapshot = compiled.snapshot
        self._site = site
        self._recorder = desk.recorder
        self._log = desk.log
        self._reporter = desk.reporter
        self._interrupts = desk.interrupts
        self._manifests: dict[tuple[int, str], Manifest] = {}
        self._shared: dict[tuple[int, str], Any] = {}
        self._not_done: dict[int, int] = {}
        self._consumers_left = count_consumers(self._snapshot)
        self._failed: tuple[int, Outcome] | None = None
        self._services = Services(
            run=run,
            pipeline=PipelineInfo(self._snapshot.pipeline, self._snapshot.source),
            root=site.root,
            blobs=site.blobs,
            artifacts=open_services(site, desk.recorder.project),
            tell_hook=desk.tell_step_hook,
            report=self._retrying,
            put_back=keep_surroundings() if desk.is_alone else _leave,
            is_captured=desk.is_alone,
        )
        self._cache = CacheLookup(site.store, self._snapshot, site.blobs)

    def drive(self) -> Verdict:
        """Run all steps; record how the run ended."""
        never: dict[int, list[int]] = {}
        for position, spec in enumerate(self._snapshot.steps):
            cause = self._reason_to_skip(spec)
            if cause is not None:
                self._not_done[position] = cause
                never.setdefault(cause, []).append(position)
            else:
                self._step(position, spec)
        for cause, positions in never.items():
            self._recorder.record(StepsSkipped(now(), tuple(positions), cause))
            for position in positions:
                self._reporter.step_finished(self._snapshot.steps[position].name, StepStatus.SKIPPED, 0.0)
        return self._finish()

    def _finish(self) -> Verdict:
        failed_step, outcome = self._failed or (-1, None)
        if self._interrupts.signal:
            status = RunStatus.CANCELLED
        else:
            status = RunStatus.FAILED if outcome else RunStatus.COMPLETED
        failure = outcome.failure if outcome else None
        self._recorder.record(
            RunFinished(now(), status, failure, failed_step, self._log.warnings, self._log.position())
        )
        return Verdict(status, outcome.error if outcome else None, failed_step, self._interrupts.signal)

    def _reason_to_skip(self, spec: StepSpec) -> int | None:
        """Return the step because of which this one never starts (-1: the run was stopped), or None."""
        if self._interrupts.signal:
            return -1
        if self._failed and self._snapshot.on_error != "continue":
            return self._failed[0]
        for needed in needed_steps(spec):
            if needed in self._not_done:
                return self._not_done[needed]
        return None

    def _step(self, position: int, spec: StepSpec) -> None:
        options = self._snapshot.options[spec.options]
        live = self._compiled.steps[position]
        inputs = read_inputs(spec, options, live.files, self._manifests, self._site.root)
        entry, note = self._cache.find(spec, options, inputs)
        if entry is not None and not _is_verified(options.cache_verify):
            self._reuse(position, spec, inputs, entry)
        else:
            task = Task(
                position=position,
                spec=spec,
                options=options,
                live=live,
                manifests=self._manifests,
                shared=self._shared,
            )
            self._run(task, inputs, note, entry)
        self._forget_read(spec)

    def _reuse(self, position: int, spec: StepSpec, inputs: Inputs, entry: CacheEntry) -> None:
        event = StepCached(
            now(), position, entry.run, entry.step, inputs.digests, inputs.key, entry.duration_s, entry.made_at
        )
        self._recorder.record(event)
        for version in entry.outputs:
            if not version.saved:
                self._keep(position, version.output, version.manifest)
        self._reporter.step_finished(spec.name, StepStatus.CACHED, entry.duration_s)

    def _run(self, task: Task, inputs: Inputs, note: str, verified: CacheEntry | None) -> None:
        name = task.spec.name
        started = now()
        self._recorder.record(StepStarted(started, task.position, 1, self._log.position()))
        self._reporter.step_started(name, 1)
        try:
            with self._interrupts.stopping(f"step {name}"):
                outcome = run_task(task, self._services)
        except BaseException as error:
            # A signal may arrive in the few instructions around the step, where the worker no longer catches it.
            if not self._interrupts.signal:
                raise
            outcome = interrupted(error)
        if self._interrupts.signal and outcome.status is StepStatus.FAILED:
            # The step turned the signal into an exception of its own, as a run that it started does.
            outcome.status = StepStatus.CANCELLED
        if outcome.status is StepStatus.CANCELLED:
            self._interrupts.signal = self._interrupts.signal or "SIGINT"
            self._interrupts.end_children()
            self._recorder.record(RunMoved(now(), RunStatus.CANCELLING, self._interrupts.signal))
        if note:
            outcome.recorded.warnings.append(note)
        if outcome.status is StepStatus.COMPLETED:
            self._finished(task, inputs, outcome, verified)
        else:
            self._ended_badly(task, inputs, outcome)
        detail = f"{outcome.failure.type}: {outcome.failure.message}" if outcome.failure else ""
        self._reporter.step_finished(name, outcome.status, now() - started, detail)
        for warning in outcome.recorded.warnings:
            self._reporter.warn(f"{name}: {warning}")

    def _finished(self, task: Task, inputs: Inputs, outcome: Outcome, verified: CacheEntry | None) -> None:
        uncacheable = inputs.reason
        if changed := self._changed_file(task, inputs):
            uncacheable = uncacheable or changed
            outcome.recorded.warnings.append(f"{changed}: its result is not used again")
        if not uncacheable and any(not record.manifest.stable for record in outcome.outputs):
            uncacheable = "an output has no stable digest"
        if verified is not None and (differs := different_outputs(verified, outcome)):
            outcome.recorded.warnings.append(
                f"verify: run again, its outputs {', '.join(differs)} differ from those of run {verified.run}; "
                "the step isn't deterministic"
            )
        usable = task.options.cache_write and not uncacheable
        expires_s = task.options.cache_expires_s
        ended = now()
        recorded = outcome.recorded
        self._recorder.record(
            StepFinished(
                at=ended,
                step=task.position,
                attempt=outcome.attempts,
                outputs=outcome.outputs,
                inputs=inputs.digests,
                log=self._log.position(),
                usage=outcome.usage,
                inputs_key=inputs.key if usable else "",
                uncacheable=uncacheable if task.options.cache_write else "",
                expires_at=ended + expires_s if expires_s is not None else 0.0,
                used=tuple(recorded.used),
                warnings=tuple(recorded.warnings),
                **side_effects(outcome),
            )
        )
        for record in outcome.outputs:
            if not record.saved:
                self._keep(task.position, record.name, record.manifest)
        for output, value in outcome.objects.items():
            if self._consumers_left.get((task.position, output)):
                self._shared[task.position, output] = value

    def _ended_badly(self, task: Task, inputs: Inputs, outcome: Outcome) -> None:
        assert outcome.failure is not None
        self._recorder.record(
            StepFailed(
                at=now(),
                step=task.position,
                failure=outcome.failure,
                attempt=outcome.attempts,
                status=outcome.status,
                inputs=inputs.digests,
                log=self._log.position(),
                usage=outcome.usage,
                saved=outcome.outputs,
                warnings=tuple(outcome.recorded.warnings),
                **side_effects(outcome),
            )
        )
        self._not_done[task.position] = task.position
        if self._failed is None and outcome.status is StepStatus.FAILED:
            self._failed = task.position, outcome

    def _retrying(self, position: int, attempt: int, failure: Failure, delay_s: float) -> bool:
        if self._interrupts.signal:
            return False
        with self._interrupts.noting():
            end = self._log.position()
            self._recorder.record(StepRetrying(now(), position, attempt, failure, delay_s, end))
            self._reporter.step_retrying(self._snapshot.steps[position].name, attempt, failure, delay_s)
            # The next attempt begins when the delay is over; what is written meanwhile belongs to it.
            self._recorder.record(StepStarted(now() + delay_s, position, attempt + 1, end))
        return True

    def _changed_file(self, task: Task, inputs: Inputs) -> str:
        """Return what to say when a file that the step read changed since it was digested."""
        if not task.live.files and not task.options.cache_files:
            return ""
        after = read_inputs(task.spec, task.options, task.live.files, self._manifests, self._site.root)
        changed = [label for label, text in inputs.digests.items() if after.digests.get(label) != text]
        return f"{', '.join(changed)} changed while the step ran" if changed else ""

    def _keep(self, position: int, output: str, manifest: Manifest) -> None:
        # What nobody in this run reads any more is not kept, so that memory doesn't grow with the number of steps.
        if self._consumers_left.get((position, output)):
            self._manifests[position, output] = manifest

    def _forget_read(self, spec: StepSpec) -> None:
        for source in spec.inputs.values():
            for key in read_outputs(source):
                left = self._consumers_left[key] = self._consumers_left[key] - 1
                if not left:
                    self._manifests.pop(key, None)
                    self._shared.pop(key, None)


def _is_verified(share: float) -> bool:
    """Decide whether a step that is cached runs nevertheless, as so great a share of them is to."""
    if not share:
        return False
    import random  # here, since it is heavy and seldom needed

    return random.random() < share


def _leave() -> None:
    """Put nothing back: what is there may belong to a step of another thread."""


_NOTHING = Recorded()


def side_effects(outcome: Outcome) -> dict[str, Any]:
    """Return what a step recorded besides its outputs, as the fields that its events have for it."""
    recorded = outcome.recorded
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


def interrupted(error: BaseException) -> Outcome:
    """Return the outcome of a step that a signal ended outside of its own code."""
    return Outcome(
        status=StepStatus.CANCELLED,
        attempts=1,
        recorded=Recorded(),
        usage=Usage(),
        failure=describe_failure(error, None),
        error=error,
    )


def read_outputs(source: Source) -> list[tuple[int, str]]:
    """Return the outputs inside an input, by step and name."""
    if isinstance(source, FromStep):
        return [(source.step, source.output)]
    if isinstance(source, Gather):
        return [key for item in source.items for key in read_outputs(item)]
    return []


def needed_steps(spec: StepSpec) -> set[int]:
    """Return the positions of all steps that must be done before this one."""
    needed = set(spec.after)
    for source in spec.inputs.values():
        needed.update(step for step, _output in read_outputs(source))
    return needed


def count_consumers(snapshot: Snapshot) -> dict[tuple[int, str], int]:
    """Return how often each output is read by later steps."""
    counts: dict[tuple[int, str], int] = {}
    for spec in snapshot.steps:
        for source in spec.inputs.values():
            for key in read_outputs(source):
                counts[key] = counts.get(key, 0) + 1
    return counts
