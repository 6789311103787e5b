"""The driver: the loop that runs one snapshot, and the one writer of that run's events.

It starts each step when all that the step needs is done; for each it reuses an earlier result, has it run by
`attempts`, or skips it. Each event is in the journal before anything depends on it. One thread, the caller's, does all
of this, move by move.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from cupola import artifacts
from cupola.compiler.compile import Compiled
from cupola.context import PipelineInfo, RunInfo
from cupola.engine.additions import Additions
from cupola.engine.attempts import Attempts
from cupola.engine.cache import CacheLookup, read_inputs
from cupola.engine.desk import Desk, Verdict
from cupola.engine.ending import Ending
from cupola.engine.facts import FactFinder
from cupola.engine.fan import resolve
from cupola.engine.flights import Flight, Flights, changed_file, is_drawn
from cupola.engine.graph import Graph
from cupola.engine.interrupts import LOOK_EVERY_S
from cupola.engine.maps import Maps
from cupola.engine.processes import GRACE_S
from cupola.engine.results import (
    Landed,
    Place,
    cached_event,
    failed_event,
    failed_outcome,
    finished_event,
    stopped_outcome,
)
from cupola.engine.resume import Given
from cupola.engine.shelf import Shelf
from cupola.engine.site import Site, open_services
from cupola.entities.artifact import Manifest
from cupola.entities.run import Failure, RunStatus, StepStatus
from cupola.event import (
    RunMoved,
    StepFailed,
    StepFinished,
    StepRetrying,
    StepStarted,
)
from cupola.failures import describe_failure
from cupola.ids import now
from cupola.middleware.attempt import Moment
from cupola.middleware.surroundings import keep_surroundings
from cupola.snapshot import Snapshot, StepSpec
from cupola.worker import Outcome, Services, Task

if TYPE_CHECKING:
    from cupola.engine.questions import Paused


class Driver:
    """Drives one run; made by `launch`, used once.

    Attributes:
        additions: Takes the steps that a dynamic pipeline calls.
    """

    def __init__(self, compiled: Compiled, site: Site, desk: Desk, run: RunInfo, given: Given) -> None:
        self._compiled = compiled
        self._snapshot: Snapshot = compiled.snapshot
        self._options = dict(enumerate(compiled.snapshot.options))
        self._site = site
        self._folder = desk.folder
        self._recorder = desk.recorder
        self._facts = FactFinder(site, compiled.snapshot, desk.recorder)
        self._log = desk.log
        self._reporter = desk.reporter
        self._interrupts = desk.interrupts
        self._graph = Graph(compiled.snapshot.steps)
        self._shelf = Shelf(self._graph)
        self._ending = Ending(desk, self._facts, self._graph)
        self._flights = Flights()
        self._failed: tuple[int, Outcome] | None = None
        self._is_cancelling = False
        self._keep_surroundings = keep_surroundings if desk.is_alone else _leave_surroundings
        self._put_back = self._keep_surroundings()
        services = Services(
            run=run,
            pipeline=PipelineInfo(self._snapshot.pipeline, self._snapshot.source),
            root=site.root,
            blobs=site.blobs,
            artifacts=open_services(site, desk.recorder.project),
            tell_hook=desk.tell_step_hook,
            put_back=self._restore_surroundings,
            is_captured=desk.is_alone,
        )
        self._attempts = Attempts(site, desk, services)
        self._cache = CacheLookup(site.store, self._snapshot, site.blobs)
        self._maps = Maps(compiled, self._graph, self._shelf.manifests, site.blobs, given)
        self._given = given
        self.additions = Additions(self._graph, self._maps, desk, self._options, self._shelf.manifests, given)
        self.additions.restore()
        for position, outputs in sorted(given.done.items()):
            self._keep(position, outputs)
            self._maps.end_child(position)
        for position in given.over:
            self._block(position)
        if given.done:
            # Those of steps whose driver died when they had just finished.
            self._forget_checkpoints(given.done)

    def drive(self, paused: Paused | None = None) -> Verdict:
        """Run all steps; record how the run ended, or, where its pipeline waits for an answer, that it paused."""
        try:
            while self.go_on():
                pass
            self._attempts.close()
        except BaseException as error:
            self._attempts.close(0.0)
            # A signal in the few instructions around a step that runs in this process.
            if not self._interrupts.signal:
                raise
            self._withdraw()
            for flight in self._flights.all():
                self._take(flight, self._stopped(flight, error))
        if paused is not None and not self._interrupts.signal:
            return self._ending.pause(paused)
        self._skip_the_rest()
        return self._ending.finish(self._failed)

    def go_on(self, patience_s: float = LOOK_EVERY_S) -> bool:
        """Make one move: start what can start, or wait for what runs, for at most so many seconds.

        An attempt in this process takes as long as it takes. Whoever calls this has to do so again soon: what other
        processes say, and ask for, is heard here.

        Returns:
            Whether anything is left to do.
        """
        self._heed()
        while self._prepare():
            pass
        if self._start_next():
            return True
        if not self._flights:
            return False
        self._wait(patience_s)
        return True

    def fail(self, position: int, outcome: Outcome) -> None:
        """Let a dynamic run fail: by a step, or, for position -1, by the pipeline function itself."""
        self.additions.listener = None
        self._failed = position, outcome

    def _heed(self) -> None:
        """Stop what somebody wants stopped."""
        self._interrupts.look()
        if self._interrupts.signal:
            self._cancel()
            self._attempts.stop(0.0 if self._interrupts.count > 1 else GRACE_S)
        elif self._is_killing():
            self._attempts.stop()
        if self._flights and self._is_stopping():
            self._withdraw()

    def _is_stopping(self) -> bool:
        """Tell whether nothing new is started."""
        return bool(self._interrupts.signal or (self._failed and self._snapshot.on_error != "continue"))

    def _is_killing(self) -> bool:
        """Tell whether what runs is stopped since another step failed."""
        return self._failed is not None and self._snapshot.on_error == "kill"

    def _cancel(self) -> None:
        """Say, once, that the run is being cancelled."""
        if self._is_cancelling:
            return
        self._is_cancelling = True
        self._recorder.record(RunMoved(now(), RunStatus.CANCELLING, self._interrupts.reason))
        if running := self._attempts.running():
            self._interrupts.say_stopping(running)

    def _withdraw(self) -> None:
        """Take back what waits: steps that never started, and all others when they are to stop as well."""
        for position in self._flights.withdraw_new():
            self._graph.give_back(position)
        if self._interrupts.signal or self._is_killing():
            for flight in self._flights.take_waiting():
                self._take(flight, self._stopped(flight, self._interrupts.exception()))

    def _prepare(self) -> bool:
        """Decide what becomes of the next step that is ready, if any may start; tell whether there was one."""
        if self._flights.waiting() > self._attempts.room() or self._is_stopping():
            return False
        position = self._graph.take_ready()
        if position is None:
            return False
        self._start(position)
        for sibling in self._graph.take_lot(position):
            self._start(sibling)
        return True

    def _start_next(self) -> bool:
        """Start the first attempt in the queue; tell whether one could be."""
        flight = self._flights.next()
        is_only = len(self._flights) == 1
        if flight is None or not self._attempts.can_start(flight.task, is_only, flight.is_isolated):
            return False
        self._flights.take_next()
        self._attempt(flight, is_only)
        return True

    def _wait(self, patience_s: float) -> None:
        """Wait until an attempt lands or may start, or something else is due."""
        waits = [patience_s, LOOK_EVERY_S]
        waits += [due_s for due_s in (self._flights.due_s(), self._recorder.due_s()) if due_s is not None]
        for landed in self._attempts.wait(min(waits)):
            self._take(self._flights[landed.position], landed)
            if landed.next is not None:
                self._say_started(landed.next, Place(landed.worker, landed.log_end))
                self._attempts.begin_next(landed.next)
            self._flights.put_back(landed.left)
        self._facts.look()
        self._recorder.keep_up()

    def _start(self, position: int) -> None:
        """Let an earlier result stand for a step, or run it."""
        spec = self._graph.steps[position]
        if spec.fan is not None and spec.fan.kind != "child":
            self._spread(position, spec)
            return
        spec = resolve(spec, self._graph)
        options = self._options[spec.options]
        live = self._maps.live(position)
        inputs = read_inputs(spec, options, live.files, self._shelf.manifests, self._site.root)
        entry, note = self._maps.kept(position) or self.additions.kept.get(position), ""
        if entry is None and not self._maps.is_forced(position) and position not in self.additions.forced:
            entry, note = self._cache.find(spec, options, inputs)
        if entry is not None and not is_drawn(options.cache_verify):
            self._recorder.record(cached_event(position, inputs, entry))
            self._facts.begin()
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
            manifests=self._shelf.manifests,
            shared=self._shelf.objects,
        )
        is_apart = position in self.additions.apart or position in self._given.crashed
        self._flights.add(Flight(task, inputs, entry, [note] if note else [], now(), is_apart))

    def _spread(self, position: int, spec: StepSpec) -> None:
        """Give a mapped step its children."""
        attempt = self._given.attempts.get(position, 0) + 1
        self._recorder.record(StepStarted(now(), position, attempt, self._attempts.log_end))
        self._reporter.step_started(spec.name, attempt)
        try:
            expansion = self._maps.begin(position, attempt)
        except Exception as error:  # whatever the value that is spread does when it is loaded and iterated
            failure = describe_failure(error, self._site.root)
            self._failed = self._failed or (position, failed_outcome(error, failure))
            self._recorder.record(StepFailed(now(), position, failure, attempt, log=self._attempts.log_end))
            self._reporter.step_finished(spec.name, StepStatus.FAILED, 0.0, str(failure))
            # None of the children that it never got will call its hooks.
            moment = Moment(position, spec.name, StepStatus.FAILED, attempt, failure)
            self._attempts.tell_end(self._maps.live(position), moment)
            self._block(position)
            return
        if expansion is not None:
            self._recorder.record(expansion)
            self._reporter.steps_added(expansion.count)
        if self._maps.is_over(position):
            self._end_fan(position)

    def _end_child(self, position: int, failure: Failure | None = None) -> None:
        parent = self._maps.end_child(position, failure)
        if parent is not None:
            self._end_fan(parent)

    def _end_fan(self, position: int) -> None:
        """End a mapped step whose children are over."""
        lasted_s = self._maps.lasted_s(position)
        event = self._maps.ending(position, self._attempts.log_end, is_cancelled=bool(self._interrupts.signal))
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

    def _restore_surroundings(self) -> None:
        self._put_back()

    def _attempt(self, flight: Flight, is_only: bool) -> None:
        task = flight.task
        if self.additions.listener is not None:
            # What the pipeline function printed is no step's, and what it changed of the process stays.
            self._attempts.log_end = self._log.position()
            self._put_back = self._keep_surroundings()
        place, note = self._attempts.place(task, is_only, flight.is_isolated)
        flight.notes += [note] if note else []
        self._say_started(task, place)
        if not place.worker:
            self._facts.begin()  # as long as it lasts, this process is the step's
        landed, ahead = self._attempts.run(task, self._flights.ahead(flight) if place.worker else ())
        self._flights.take_ahead(ahead)
        if landed is not None:
            self._take(flight, landed)
        else:
            self._facts.begin()

    def _say_started(self, task: Task, place: Place) -> None:
        self._recorder.record(StepStarted(now(), task.position, task.attempt, place.log, place.worker))
        self._reporter.step_started(task.spec.name, task.attempt)

    def _stopped(self, flight: Flight, error: BaseException) -> Landed:
        """Return what becomes of a step that is stopped while no attempt of it runs."""
        landed = Landed(flight.task.position, stopped_outcome(error), flight.log_end, flight.worker)
        return self._attempts.end_early(flight.task, landed)

    def _take(self, flight: Flight, landed: Landed) -> None:
        """Record what became of an attempt."""
        task, outcome = flight.task, landed.outcome
        flight.worker, flight.log_end = landed.worker, landed.log_end
        if self._interrupts.signal and outcome.status is StepStatus.FAILED:
            # The step turned the signal into an exception of its own, as a run that it started does.
            outcome.status = StepStatus.CANCELLED
        if outcome.status is StepStatus.FAILED and outcome.again_after_s is not None:
            if not self._is_killing():
                self._try_again(flight, outcome, outcome.again_after_s)
                return
            landed = self._attempts.end_early(task, landed)
        if outcome.status is StepStatus.CANCELLED and not self._is_killing():
            self._interrupts.note_stop("SIGINT")
            self._interrupts.end_children()
            self._cancel()
        outcome.recorded.warnings += flight.notes
        self._flights.end(flight)
        if outcome.status is StepStatus.COMPLETED:
            self._end_well(flight, landed)
        else:
            self._end_badly(flight, landed)
        name = task.spec.name
        detail = f"{outcome.failure.type}: {outcome.failure.message}" if outcome.failure else ""
        self._reporter.step_finished(name, outcome.status, now() - flight.started_at, detail)
        for warning in outcome.recorded.warnings:
            self._reporter.warn(f"{name}: {warning}")
        self._end_child(task.position, outcome.failure)
        self._facts.look()

    def _try_again(self, flight: Flight, outcome: Outcome, delay_s: float) -> None:
        task, failure = flight.task, outcome.failure
        assert failure is not None
        self._recorder.record(StepRetrying(now(), task.position, task.attempt, failure, delay_s, flight.log_end))
        self._reporter.step_retrying(task.spec.name, task.attempt, failure, delay_s)
        flight.is_isolated = flight.is_isolated or bool(failure.signal)
        self._flights.try_again(flight, delay_s)

    def _end_well(self, flight: Flight, landed: Landed) -> None:
        position, outcome = flight.task.position, landed.outcome
        changed = changed_file(flight, self._shelf.manifests, self._site.root)
        self._recorder.record(finished_event(flight, landed, changed))
        if outcome.recorded.has_checkpoint or flight.task.attempt > 1:
            self._forget_checkpoints((position,))
        self._keep(position, [(record.name, record.manifest) for record in outcome.outputs if not record.saved])
        self._shelf.put_objects(position, outcome.objects)

    def _forget_checkpoints(self, finished: Iterable[int]) -> None:
        artifacts.checkpoints.forget(self._folder, (self._graph.steps[position].name for position in finished))

    def _end_badly(self, flight: Flight, landed: Landed) -> None:
        position, outcome = flight.task.position, landed.outcome
        self._recorder.record(failed_event(flight, landed))
        self._block(position)
        is_failure = outcome.status is StepStatus.FAILED and not self._maps.tolerates(position)
        if self.additions.listener is not None:
            assert outcome.failure is not None
            self.additions.listener.step_failed(position, outcome.failure, outcome.error)
        elif self._failed is None and is_failure:
            self._failed = position, outcome

    def _block(self, position: int) -> None:
        """Note that a step ended without outputs: what needs it never starts."""
        never = self._graph.block(position)
        self._forget_read(position)
        for child in never:
            self._end_child(child)

    def _keep(self, position: int, outputs: Iterable[tuple[str, Manifest]]) -> None:
        """Note that a step is done; keep its outputs for as long as a step will read them."""
        self._graph.finish(position)
        made = list(outputs)
        self._shelf.put(position, made)
        self._forget_read(position)
        if self.additions.listener is not None:
            self.additions.listener.step_done(position, made)

    def _forget_read(self, position: int) -> None:
        self._shelf.clear(position, self._names_of)

    def _names_of(self, position: int) -> list[str]:
        """Return the names under which others read what a step has: its outputs, of a mapped one its items."""
        if position in self._graph.children:
            return self._maps.items_of(position)
        return [output.name for output in self._graph.steps[position].outputs]

    def _skip_the_rest(self) -> None:
        for position in self._maps.stopped():
            self._maps.abandon(position)
            self._end_fan(position)
        self._ending.skip(frozenset(self._given.over), self._cause_of)

    def _cause_of(self, needed: int | None) -> int:
        """Return the step for which another one never started, -1 for none, given the one that it needed in vain."""
        # Of a run that was stopped as a whole, what stopped it is the cause for all.
        if self._interrupts.signal:
            return -1
        if needed is None or self._snapshot.on_error != "continue":
            return self._failed[0] if self._failed else -1
        return needed


def _leave_surroundings() -> Callable[[], None]:
    """Put nothing back: what is there may belong to a step of another thread."""
    return lambda: None
