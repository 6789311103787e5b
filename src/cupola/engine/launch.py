"""Launching: everything around a run that is done once for it.

Makes its folder, takes its lock, opens its journal, redirects output into its log, hands over to the driver, and seals
the run when it is over.
"""

from __future__ import annotations

import os
import sys
import time
from _thread import allocate_lock, get_ident
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

import msgspec

from cupola import artifacts, engine
from cupola.compiler.compile import Compiled
from cupola.context import RunInfo
from cupola.crashes import report_crashes
from cupola.engine.concurrency import read_workers
from cupola.engine.desk import Desk, Verdict
from cupola.engine.driver import Driver
from cupola.engine.interrupts import Interrupts
from cupola.engine.later import refuse_later_options
from cupola.engine.recorder import Recorder
from cupola.engine.reporter import InOrder, Reporter, Silent
from cupola.engine.resume import Given, Reached, Resumption, read_reached
from cupola.engine.sealing import seal
from cupola.engine.shared_output import SharedOutput
from cupola.engine.site import Site
from cupola.entities.artifact import INLINE_BYTES
from cupola.entities.run import RunRecord, RunStatus
from cupola.errors import Conflict, Unreachable
from cupola.event import RunResumed, RunStarted
from cupola.failures import is_failure, print_failure
from cupola.ids import new_id, now, user_name
from cupola.journal import CHECKPOINTS, JournalWriter, cannot_write, live_folder, run_folder
from cupola.middleware.attempt import Hook, Moment
from cupola.middleware.capture import Capture, start_capture
from cupola.middleware.terminal import secure_descriptors
from cupola.runlock import Holder, RunLock, forget_cancel, is_alive, lock_run, read_holder, reopen, take_over
from cupola.snapshot import Snapshot
from cupola.store import OWNER, Condition, Query
from cupola.text import storable_text
from cupola.version import VERSION

HOLDER_WAIT_S = 1.0
"""How long to wait for a run that is taken and that no living driver has written itself into, in seconds."""


class Audience(msgspec.Struct, frozen=True, kw_only=True):
    """Who is told of a run besides its record: what turns ids into the views that hooks get.

    Attributes:
        tell_step_hook: Calls a hook with the `StepRun` for a moment of a step of a run.
        tell_run_hook: Calls a hook with the `Run`.
    """

    tell_step_hook: Callable[[str, Hook, Moment], None]
    tell_run_hook: Callable[[str, Hook], None]


class Launched(msgspec.Struct, frozen=True, kw_only=True):
    """A run that is over: its id and how it ended."""

    run: str
    verdict: Verdict


_driving: list[int] = []
"""The threads of this process that drive runs, once for each run; guarded by `_entering`."""
_entering = allocate_lock()


def _enter_process(stack: ExitStack) -> bool:
    """Note that this thread drives a run; tell whether no other thread does, so that the process's state is its own."""
    thread = get_ident()
    with _entering:
        is_alone = all(other == thread for other in _driving)
        _driving.append(thread)
    stack.callback(_driving.remove, thread)
    return is_alone


def launch_run(
    compiled: Compiled,
    site: Site,
    audience: Audience,
    facts: Mapping[str, str],
    reporter: Reporter,
    given: Given = Given(),  # noqa: B008 — immutable
    workers: int | None = None,
) -> Launched:
    """Run a snapshot to its end in this process.

    Args:
        compiled: What to run.
        site: Where.
        audience: Who is told.
        facts: What else is true around the run, such as the program's file.
        reporter: Shows the run; it is closed at the end.
        given: What it takes over from an earlier run.
        workers: How many worker processes it may have at once; 0 for none, None where nobody says.

    Raises:
        ConfigError: A step asks for what this version can't do.
        Unreachable: The store can't be written.
    """
    refuse_later_options(compiled.snapshot)
    workers = read_workers(workers, compiled.snapshot)
    run = new_id()
    started = _run_started(compiled, site, run, facts)
    info = RunInfo(run, started.name, site.project, started.params)
    moved = _other_source(compiled.snapshot, site)
    with ExitStack() as stack:
        stage = Stage(stack, site, info, audience, reporter)
        stage.workers = workers
        stage.take(lambda takes_signals: _make_folder(live_folder(site.home, run), takes_signals))
        if given.checkpoints_of:
            artifacts.checkpoints.take_over(run_folder(site.home, given.checkpoints_of), live_folder(site.home, run))
        desk = stage.begin(1, 0, started, compiled.snapshot)
        if moved:
            reporter.warn(moved)
        verdict = _drive(compiled, site, stage, desk, given)
    return Launched(run=run, verdict=verdict)


def resume_run(
    rebind: Callable[[Reached], tuple[Compiled, RunResumed]],
    site: Site,
    audience: Audience,
    reporter: Reporter,
    run: RunRecord,
    how: Resumption,
) -> Launched:
    """Go on with a run where it stopped, in this process.

    Args:
        rebind: Returns what to run, given what was reached, and the event that says so.
        site: Where.
        audience: Who is told.
        reporter: Shows the run; it is closed at the end.
        run: The run.
        how: What else counts.

    Raises:
        Conflict: A living driver has the run.
        Damaged: Its journal can't be read.
    """
    info = RunInfo(run.id, run.name, site.project, run.params)
    with ExitStack() as stack:
        stage = Stage(stack, site, info, audience, reporter)
        if how.by_force:
            take_over(live_folder(site.home, run.id))
        # Asked before it is taken: who wrote itself into it last may have completed the run a moment ago.
        holder = read_holder(run_folder(site.home, run.id))
        stage.take(lambda takes_signals: _reopen(site.home, run, takes_signals))
        reached = read_reached(live_folder(site.home, run.id), site.store, site.blobs)
        if reached.is_complete:
            # Its folder goes back to where it was with the next reader, which finds nothing left to settle.
            raise _completed_meanwhile(run, holder)
        compiled, resumed = rebind(reached)
        refuse_later_options(compiled.snapshot)
        stage.workers = read_workers(how.workers, compiled.snapshot)
        desk = stage.begin(reached.epoch + 1, reached.head, resumed, compiled.snapshot)
        verdict = _drive(compiled, site, stage, desk, _given(reached, how))
    return Launched(run=run.id, verdict=verdict)


def _given(reached: Reached, how: Resumption) -> Given:
    return Given(
        done=reached.done,
        attempts=reached.attempts,
        over=reached.over,
        crashed=reached.crashed,
        expansions=reached.expansions,
        past=reached.past,
        answer=how.answer,
    )


def _reopen(home: Path, run: RunRecord, takes_signals: bool) -> RunLock:
    """Take the lock of a run that has begun; wait for a reader that only settles it, and refuse if it is driven."""
    deadline = time.monotonic() + HOLDER_WAIT_S
    while (lock := reopen(home, run.id, takes_signals=takes_signals)) is None:
        holder = read_holder(run_folder(home, run.id))
        is_driven = holder is not None and is_alive(holder)
        # A driver that has just taken it writes itself into it in the next moment; until then it names a dead one.
        if is_driven or time.monotonic() > deadline:
            raise _driven(run, holder if is_driven else None)
        time.sleep(0.005)
    return lock


def _driven(run: RunRecord, holder: Holder | None) -> Conflict:
    who = f"process {holder.pid} on {holder.host}" if holder else "another process"
    return Conflict(
        f"run {run.name} is being driven by {who}",
        fix=f"let it go on, or stop it: cupola cancel {run.name}; if it is stuck, --take-over takes the run from it, "
        "and --fork makes a new run of what has finished",
    )


def _completed_meanwhile(run: RunRecord, holder: Holder | None) -> Conflict:
    who = f" by process {holder.pid} on {holder.host}" if holder else ""
    return Conflict(f"run {run.name} was completed meanwhile{who}: there is nothing to resume")


class Stage:
    """What surrounds the drive of one run: signals, lock, journal, captured output; all given back with its stack."""

    def __init__(self, stack: ExitStack, site: Site, run: RunInfo, audience: Audience, reporter: Reporter) -> None:
        secure_descriptors()
        self.run = run
        self.audience = audience
        self.workers: int | None = None
        self._stack = stack
        self._site = site
        self._folder = live_folder(site.home, run.id)
        self._reporter = reporter
        self._began = now()
        self._lock: RunLock | None = None
        self._recorder: Recorder | None = None
        self._capture: Capture | SharedOutput | None = None
        stack.callback(reporter.close)
        self._is_alone = _enter_process(stack)
        # First of all, so that a signal from here on ends the run by its record instead of leaving it lost.
        self._interrupts = Interrupts(self._folder)
        stack.callback(self._interrupts.restore)
        self._interrupts.install()

    def take(self, lock: Callable[[bool], RunLock]) -> None:
        """Take the run's lock, by what is told whether signals stop the run."""
        self._lock = lock(self._interrupts.are_taken)
        self._stack.callback(self._lock.release)

    def begin(self, epoch: int, head: int, first: RunStarted | RunResumed, snapshot: Snapshot) -> Desk:
        """Begin a journal, of an epoch and after an event, by its first event; return what the driver works with."""
        assert self._lock is not None
        journal = JournalWriter(self._folder, epoch, head, sync=self._site.sync)
        self._stack.callback(journal.close)
        self._recorder = Recorder(self.run.id, journal, self._lock, self._site.store)
        self._recorder.record(first)
        forget_cancel(self._folder)
        self._capture = start_capture(self._folder, self._reporter.sink()) if self._is_alone else SharedOutput()
        self._stack.callback(self._capture.stop)
        if self._is_alone:
            self._stack.callback(report_crashes())
        self._reporter.run_started(self.run.name, self.run.id, snapshot.pipeline, len(snapshot.steps))
        shows_nothing = isinstance(self._reporter, Silent)
        return Desk(
            folder=self._folder,
            recorder=self._recorder,
            log=self._capture,
            reporter=self._reporter if shows_nothing else InOrder(self._reporter, self._capture.when_shown),
            interrupts=self._interrupts,
            is_alone=self._is_alone,
            tell_step_hook=lambda hook, moment: self.audience.tell_step_hook(self.run.id, hook, moment),
            workers=self.workers,
        )

    def end(self, verdict: Verdict) -> None:
        """Stop capturing, say how the run ended, and seal it."""
        assert self._capture is not None
        assert self._recorder is not None
        self._capture.stop()
        self._reporter.run_finished(verdict.status, now() - self._began)
        # Asked here, so that a run whose steps made none need not import what knows them.
        if verdict.status is RunStatus.COMPLETED and (self._folder / CHECKPOINTS).exists():
            artifacts.checkpoints.forget_all(self._folder)
        seal(self.run.id, self._recorder, self._site.store, self._site.home)


def _drive(compiled: Compiled, site: Site, stage: Stage, desk: Desk, given: Given) -> Verdict:
    _tell("on_start", compiled, desk, stage.audience, stage.run.id)
    driver = Driver(compiled, site, desk, stage.run, given)
    if compiled.program is None:
        verdict = driver.drive()
    else:
        verdict = engine.dynamic.drive_dynamically(driver, compiled.program, given, desk, stage.run, site)
    desk.recorder.project()
    for event in _ends(verdict.status) if verdict.status.is_final else ():
        _tell(event, compiled, desk, stage.audience, stage.run.id)
    stage.end(verdict)
    return verdict


def _other_source(snapshot: Snapshot, site: Site) -> str:
    """Return what to say when the newest run of a pipeline of this name came from another source file, else empty."""
    query = Query((Condition("pipeline", "eq", snapshot.pipeline), Condition("project", "eq", site.project)), limit=1)
    for before in site.store.find("run", query, who=OWNER).items:
        root = before.facts.get("root", "")
        earlier, module = before.source.partition(":")[0], snapshot.source.partition(":")[0]
        if (root, earlier) != (storable_text(str(site.root)), module):
            here, there = _module_path(site.root, module), _module_path(root, earlier)
            return f"pipeline {snapshot.pipeline!r} of {here} has the name of one of {there}: name=… tells them apart"
    return ""


def _module_path(root: Path | str, module: str) -> str:
    return os.path.join(root, *module.split(".")) + ".py"


def _make_folder(folder: Path, takes_signals: bool) -> RunLock:
    try:
        os.makedirs(folder)
    except OSError as error:
        raise cannot_write(folder, error) from error
    lock = lock_run(folder, takes_signals=takes_signals)
    if lock is None:
        raise Unreachable("a new run's folder was taken by another process", where=str(folder), fix="start it again")
    return lock


def _run_started(compiled: Compiled, site: Site, run: str, facts: Mapping[str, str]) -> RunStarted:
    inline = len(compiled.data) <= INLINE_BYTES
    blob = "" if inline else site.blobs.put_bytes(compiled.data)[0]
    user = storable_text(user_name())
    return RunStarted(
        at=now(),
        run=run,
        name=f"{compiled.snapshot.pipeline}-{run[-6:]}",
        pipeline=compiled.snapshot.pipeline,
        source=compiled.snapshot.source,
        snapshot=compiled.id,
        snapshot_bytes=compiled.data if inline else b"",
        snapshot_blob=blob,
        project=site.project,
        params=compiled.snapshot.params,
        tags=compiled.snapshot.tags,
        facts={
            "host": os.uname().nodename,
            "pid": str(os.getpid()),
            "user": user,
            "root": storable_text(str(site.root)),
            "python": sys.version.split()[0],
            "cupola": VERSION,
            **{name: storable_text(text) for name, text in facts.items()},
        },
        origins=dict(compiled.origins),
        places=tuple(map(storable_text, compiled.places)),
    )


def _ends(status: RunStatus) -> tuple[str, ...]:
    first = {RunStatus.COMPLETED: "on_success", RunStatus.FAILED: "on_failure"}.get(status)
    return (first, "on_end") if first else ("on_end",)


def _tell(event: str, compiled: Compiled, desk: Desk, audience: Audience, run: str) -> None:
    hook = compiled.hooks.get(event)
    if hook is None:
        return
    desk.recorder.project()
    try:
        with desk.interrupts.stopping(f"hook {event}"):
            audience.tell_run_hook(run, hook)
    except BaseException as error:  # a hook is the user's code: whatever it raises must not change the run's own result
        if is_failure(error):
            print_failure(f"hook {event} of the run failed; the run's own result stands", error)
        else:  # the run has ended already or will see the signal itself
            sys.stderr.write(f"hook {event} of the run was stopped\n")
