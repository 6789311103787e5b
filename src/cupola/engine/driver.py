"""The driver: the loop that runs one snapshot, and the one writer of that run's events.

It starts each step when all that the step needs is done; for each it reuses an earlier result, runs it through the
worker, or skips it. Each event is in the journal before anything depends on it. One thread, the caller's, does it all.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from cupola import artifacts
from cupola.compiler.compile import Compiled
from cupola.compiler.source import program_file
from cupola.context import PipelineInfo, RunInfo
from cupola.engine import provenance
from cupola.engine.cache import CacheLookup, read_inputs
from cupola.engine.fan import resolve
from cupola.engine.graph import Graph
from cupola.engine.interrupts import Interrupts
from cupola.engine.maps import Maps
from cupola.engine.recorder import Recorder
from cupola.engine.reporter import StepReporter
from cupola.engine.results import Flight, cached_event, failed_event, failed_outcome, finished_event, stopped_outcome
from cupola.engine.resume import Given
from cupola.engine.site import Site, open_services
from cupola.entities.artifact import Manifest
from cupola.entities.run import Failure, RunStatus, StepStatus
from cupola.event import (
    RunFacts,
    RunFinished,
    RunMoved,
    StepFailed,
    StepFinished,
    StepRetrying,
    StepsSkipped,
    StepStarted,
)
from cupola.failures import describe_failure
from cupola.ids import now
from cupola.journal import live_folder
from cupola.middleware.attempt import Hook, Moment
from cupola.middleware.hooks import call_hook
from cupola.middleware.surroundings import keep_surroundings
from cupola.snapshot import Snapshot, StepSpec
from cupola.worker import Outcome, Services, Task, run_task

if TYPE_CHECKING:
    from cupola.engine.provenance.gather import Gathering


FACTS_EVERY_S = 0.05
"""How often is looked whether what the run is made from is known, in seconds."""


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
    """How a run ended.

    Attributes:
        status: Its state.
        error: The exception of the step that failed it.
        failed_step: That step's position; -1 when there is none.
        signal, reason: The signal that stopped it, and who or what wanted that.
    """

    status: RunStatus
    error: BaseException | None = None
    failed_step: int = -1
    signal: str = ""
    reason: str = ""


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

    def __init__(self, compiled: Compiled, site: Site, desk: Desk, run: RunInfo, given: Given) -> None:
        self._compiled = compiled
        self._snapshot: Snapshot = compiled.snapshot
        self._gathering: Gathering | None = None
        self._facts_at = math.inf
        self._site = site
        self._recorder = desk.recorder
        self._log = desk.log
        # What is printed between two steps, by a thread that one left behind, belongs to the next one.
        self._log_end = desk.log.position()
        self._reporter = desk.reporter
        self._interrupts = desk.interrupts
        self._graph = Graph(compiled.snapshot.steps)
        self._manifests: dict[tuple[int, str], Manifest] = {}
        self._shared: dict[tuple[int, str], Any] = {}
        self._delayed: list[tuple[float, int]] = []
        self._flights: dict[int, Flight] = {}
        self._failed: tuple[int, Outcome] | None = None
        self._services = Services(
            run=run,
            pipeline=PipelineInfo(self._snapshot.pipeline, self._snapshot.source),
            root=site.root,
            blobs=site.blobs,
            artifacts=open_services(site, desk.recorder.project),
            tell_hook=desk.tell_step_hook,
            put_back=keep_surroundings() if desk.is_alone else _leave,
            is_captured=desk.is_alone,
        )
        self._cache = CacheLookup(site.store, self._snapshot, site.blobs)
        self._maps = Maps(compiled, self._graph, self._manifests, site.blobs, given)
        self._given = given
        for position, outputs in sorted(given.done.items()):
            self._keep(position, outputs)
            self._maps.end_child(position)
        for position in given.over:
            self._block(position)
        # Those of steps whose driver died when they had just finished.
        self._forget_checkpoints(given.done)

    def drive(self) -> Verdict:
        """Run all steps; record how the run ended."""
        try:
            while self._go_on():
                pass
        except BaseException as error:
            # A signal while a step waits for its next attempt, or in the few instructions around a step.
            if not self._interrupts.signal:
                raise
            for flight in list(self._flights.values()):
                self._take(flight, stopped_outcome(error))
        self._skip_the_rest()
        return self._finish()

    def _go_on(self) -> bool:
        """Do what is next; return whether there was anything."""
        self._interrupts.look()
        if self._delayed and self._delayed[0][0] <= time.monotonic():
            self._attempt(self._flights[heappop(self._delayed)[1]])
            return True
        position = None if self._is_stopping() else self._graph.take_ready()
        if position is not None:
            self._start(position)
        elif self._delayed:
            with self._interrupts.stopping("the wait for the next attempt"):
                time.sleep(max(0.0, self._delayed[0][0] - time.monotonic()))
        else:
            return False
        return True

    def _is_stopping(self) -> bool:
        """Tell whether nothing new is started."""
        return bool(self._interrupts.signal or (self._failed and self._snapshot.on_error != "continue"))

    def _start(self, position: int) -> None:
        """Let an earlier result stand for a step, or run it."""
        spec = self._graph.steps[position]
        if spec.fan is not None and spec.fan.kind != "child":
            self._spread(position, spec)
            return
        spec = resolve(spec, self._graph)
        options = self._snapshot.options[spec.options]
        live = self._maps.live(position)
        inputs = read_inputs(spec, options, live.files, self._manifests, self._site.root)
        entry, note = self._maps.kept(position), ""
        if entry is None and not self._maps.is_forced(position):
            entry, note = self._cache.find(spec, options, inputs)
        if entry is not None and not _is_verified(options.cache_verify):
            self._recorder.record(cached_event(position, inputs, entry))
            self._gather()
            self._keep(position, [(version.output, version.manifest) for version in entry.outputs if not version.saved])
            self._reporter.step_finished(spec.name, StepStatus.CACHED, entry.duration_s)
            self._end_child(position)
            return
        task = Task(
            position=position,
            spec=spec,
            options=options,
            live=live,
            attempt=self._given.attempts.get(position, 0) + 1,
            tries=1,
            manifests=self._manifests,
            shared=self._shared,
        )
        flight = self._flights[position] = Flight(task, inputs, entry, note, now())
        self._attempt(flight)

    def _spread(self, position: int, spec: StepSpec) -> None:
        """Give a mapped step its children."""
        attempt = self._given.attempts.get(position, 0) + 1
        self._recorder.record(StepStarted(now(), position, attempt, self._log_end))
        self._reporter.step_started(spec.name, attempt)
        try:
            expansion = self._maps.begin(position, attempt)
        except Exception as error:  # whatever the value that is spread does when it is loaded and iterated
            failure = describe_failure(error, self._site.root)
            self._failed = self._failed or (position, failed_outcome(error, failure))
            self._recorder.record(StepFailed(now(), position, failure, attempt, log=self._log_end))
            self._reporter.step_finished(spec.name, StepStatus.FAILED, 0.0, str(failure))
            self._tell_failure(Moment(position, spec.name, StepStatus.FAILED, attempt, failure))
            self._block(position)
            return
        if expansion is not None:
            self._recorder.record(expansion)
            self._reporter.steps_added(expansion.count)
        if self._maps.is_over(position):
            self._end_fan(position)

    def _tell_failure(self, moment: Moment) -> None:
        """Call the hooks of a mapped step that never got its children: none of them will."""
        hooks = self._maps.live(moment.position).hooks
        for event in ("on_failure", "on_end"):
            if event in hooks:
                with self._interrupts.stopping(f"hook {event}"):
                    call_hook(event, hooks[event], self._services.tell_hook, moment)

    def _end_child(self, position: int, failure: Failure | None = None) -> None:
        parent = self._maps.end_child(position, failure)
        if parent is not None:
            self._end_fan(parent)

    def _end_fan(self, position: int) -> None:
        """End a mapped step whose children are over."""
        lasted_s = self._maps.lasted_s(position)
        event = self._maps.ending(position, self._log_end, is_cancelled=bool(self._interrupts.signal))
        self._recorder.record(event)
        name = self._graph.steps[position].name
        if isinstance(event, StepFinished):
            self._keep(position, ())
            self._reporter.step_finished(name, StepStatus.COMPLETED, lasted_s)
            for warning in event.warnings:
                self._reporter.warn(f"{name}: {warning}")
        else:
            self._block(position)
            self._reporter.step_finished(name, event.status, lasted_s, event.failure.message)

    def _attempt(self, flight: Flight) -> None:
        task = flight.task
        self._recorder.record(StepStarted(now(), task.position, task.attempt, self._log_end))
        self._gather()
        self._reporter.step_started(task.spec.name, task.attempt)
        try:
            with self._interrupts.stopping(f"step {task.spec.name}"):
                outcome = run_task(task, self._services)
        except BaseException as error:
            # A signal may arrive in the few instructions around the step, where the worker no longer catches it.
            if not self._interrupts.signal:
                raise
            outcome = stopped_outcome(error)
        self._take(flight, outcome)

    def _take(self, flight: Flight, outcome: Outcome) -> None:
        """Record what became of an attempt."""
        task = flight.task
        self._log_end = self._log.position()
        if self._interrupts.signal and outcome.status is StepStatus.FAILED:
            # The step turned the signal into an exception of its own, as a run that it started does.
            outcome.status = StepStatus.CANCELLED
        if outcome.status is StepStatus.FAILED and outcome.again_after_s is not None:
            self._try_again(flight, outcome, outcome.again_after_s)
            return
        if outcome.status is StepStatus.CANCELLED:
            self._interrupts.signal = self._interrupts.signal or "SIGINT"
            self._interrupts.reason = self._interrupts.reason or self._interrupts.signal
            self._interrupts.end_children()
            self._recorder.record(RunMoved(now(), RunStatus.CANCELLING, self._interrupts.reason))
        if flight.note:
            outcome.recorded.warnings.append(flight.note)
        del self._flights[task.position]
        if outcome.status is StepStatus.COMPLETED:
            self._end_well(flight, outcome)
        else:
            self._end_badly(flight, outcome)
        name = task.spec.name
        detail = f"{outcome.failure.type}: {outcome.failure.message}" if outcome.failure else ""
        self._reporter.step_finished(name, outcome.status, now() - flight.started_at, detail)
        for warning in outcome.recorded.warnings:
            self._reporter.warn(f"{name}: {warning}")
        self._end_child(task.position, outcome.failure)
        if 0 < self._facts_at <= time.monotonic():
            self._look_for_facts()

    def _try_again(self, flight: Flight, outcome: Outcome, delay_s: float) -> None:
        task, failure = flight.task, outcome.failure
        assert failure is not None
        self._recorder.record(StepRetrying(now(), task.position, task.attempt, failure, delay_s, self._log_end))
        self._reporter.step_retrying(task.spec.name, task.attempt, failure, delay_s)
        flight.task = msgspec.structs.replace(task, attempt=task.attempt + 1, tries=task.tries + 1)
        heappush(self._delayed, (time.monotonic() + delay_s, task.position))

    def _end_well(self, flight: Flight, outcome: Outcome) -> None:
        position = flight.task.position
        self._recorder.record(finished_event(flight, outcome, self._log_end, self._changed_file(flight)))
        if outcome.recorded.has_checkpoint or flight.task.attempt > 1:
            self._forget_checkpoints((position,))
        self._keep(position, [(record.name, record.manifest) for record in outcome.outputs if not record.saved])
        if self._graph.is_read(position):
            for output, value in outcome.objects.items():
                self._shared[position, output] = value

    def _forget_checkpoints(self, finished: Iterable[int]) -> None:
        folder = live_folder(self._site.home, self._services.run.id)
        artifacts.checkpoints.forget(folder, (self._graph.steps[position].name for position in finished))

    def _end_badly(self, flight: Flight, outcome: Outcome) -> None:
        position = flight.task.position
        self._recorder.record(failed_event(flight, outcome, self._log_end))
        self._block(position)
        is_failure = outcome.status is StepStatus.FAILED and not self._maps.tolerates(position)
        if self._failed is None and is_failure:
            self._failed = position, outcome

    def _block(self, position: int) -> None:
        """Note that a step ended without outputs: what needs it never starts."""
        never = self._graph.block(position)
        self._forget_read(position)
        for child in never:
            self._end_child(child)

    def _changed_file(self, flight: Flight) -> str:
        """Return what to say when a file that the step read changed since it was digested."""
        task, before = flight.task, flight.inputs.digests
        if not task.live.files and not task.options.cache_files:
            return ""
        after = read_inputs(task.spec, task.options, task.live.files, self._manifests, self._site.root)
        changed = [label for label, text in before.items() if after.digests.get(label) != text]
        return f"{', '.join(changed)} changed while the step ran" if changed else ""

    def _keep(self, position: int, outputs: Iterable[tuple[str, Manifest]]) -> None:
        """Note that a step is done; keep its outputs for as long as a step will read them."""
        self._graph.finish(position)
        if self._graph.is_read(position):
            for output, manifest in outputs:
                self._manifests[position, output] = manifest
        self._forget_read(position)

    def _forget_read(self, position: int) -> None:
        # What nobody in this run reads any more is not kept, so that memory doesn't grow with the number of steps.
        for source in self._graph.release(position):
            outputs = [output.name for output in self._graph.steps[source].outputs]
            for output in outputs if source not in self._graph.children else self._maps.items_of(source):
                self._manifests.pop((source, output), None)
                self._shared.pop((source, output), None)

    def _skip_the_rest(self) -> None:
        for position in self._maps.stopped():
            self._maps.abandon(position)
            self._end_fan(position)
        never: dict[int, list[int]] = {}
        over = frozenset(self._given.over)  # they were before this driver, and are recorded as what became of them
        for position, needed in self._graph.never_started().items():
            if position in over:
                continue
            # Of a run that was stopped as a whole, what stopped it is the cause for all.
            if self._interrupts.signal:
                needed = -1
            elif needed is None or self._snapshot.on_error != "continue":
                needed = self._failed[0] if self._failed else -1
            never.setdefault(needed, []).append(position)
            self._reporter.step_finished(self._graph.steps[position].name, StepStatus.SKIPPED, 0.0)
        for cause, positions in never.items():
            self._recorder.record(StepsSkipped(now(), tuple(positions), cause))

    def _gather(self) -> Gathering:
        """Begin, once for the run, to find out what it is made from; git works while the first step does."""
        if self._gathering is None:
            self._gathering = provenance.gather.start_gathering(
                self._site.root, self._site.blobs, program=program_file(), snapshot=self._snapshot
            )
            self._facts_at = time.monotonic() + FACTS_EVERY_S
        return self._gathering

    def _look_for_facts(self) -> None:
        """Record what the run is made from as soon as it is known, so that a run whose driver dies has it too."""
        self._facts_at = time.monotonic() + FACTS_EVERY_S
        facts = self._gather().poll()
        if facts is not None:
            self._recorder.record(RunFacts(now(), facts.facts, facts.blobs))
            self._facts_at = -math.inf

    def _finish(self) -> Verdict:
        gathering = self._gather()
        if self._facts_at > 0:
            facts = gathering.wait(self._interrupts.is_stopped)
            self._recorder.record(RunFacts(now(), facts.facts, facts.blobs))
        failed_step, outcome = self._failed or (-1, None)
        if self._interrupts.signal:
            status = RunStatus.CANCELLED
        else:
            status = RunStatus.FAILED if outcome else RunStatus.COMPLETED
        failure = outcome.failure if outcome else None
        self._recorder.record(
            RunFinished(now(), status, failure, failed_step, self._log.warnings, self._log.position())
        )
        return Verdict(
            status, outcome.error if outcome else None, failed_step, self._interrupts.signal, self._interrupts.reason
        )


def _is_verified(share: float) -> bool:
    """Decide whether a step that is cached runs nevertheless, as so great a share of them is to."""
    if not share:
        return False
    import random  # here, since it is heavy and seldom needed

    return random.random() < share


def _leave() -> None:
    """Put nothing back: what is there may belong to a step of another thread."""
