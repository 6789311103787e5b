"""Launching: everything around a run that is done once for it.

Makes its folder, takes its lock, opens its journal, redirects output into its log, hands over to the driver, and seals
the run when it is over.
"""

from __future__ import annotations

import os
import sys
from _thread import allocate_lock, get_ident
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path

import msgspec

from cupola.compiler.compile import Compiled
from cupola.context import RunInfo
from cupola.crashes import report_crashes
from cupola.engine.driver import Desk, Driver, Verdict
from cupola.engine.interrupts import Interrupts
from cupola.engine.recorder import Recorder
from cupola.engine.reporter import InOrder, Reporter, Silent
from cupola.engine.site import Site
from cupola.entities.artifact import INLINE_BYTES
from cupola.entities.run import RunStatus
from cupola.errors import ConfigError, Unreachable
from cupola.event import RunStarted
from cupola.failures import is_failure, print_failure
from cupola.ids import new_id, now
from cupola.journal import JournalWriter, RunLock, archive, cannot_write, live_folder, lock_run
from cupola.middleware.attempt import Hook, Moment
from cupola.middleware.capture import start_capture
from cupola.middleware.terminal import secure_descriptors
from cupola.snapshot import Snapshot
from cupola.store import OWNER, Condition, Query
from cupola.text import storable_text
from cupola.version import VERSION

LATER = ("resources", "image", "secrets", "requirements", "model", "orchestrator")
"""Options of steps that are checked and recorded, and that no part of this version can carry out."""


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


class SharedOutput:
    """Stands for the log of a run that shares its process with a run in another thread, whose log has all output."""

    warnings = ("another thread of the process drove a run meanwhile: what steps printed is in the log of that run",)

    def position(self) -> int:
        """Return where the log ends: it is empty."""
        return 0

    def when_shown(self, action: Callable[[], None]) -> None:
        """Call something once all that was printed is shown: now."""
        action()

    def stop(self) -> None:
        """Do nothing: nothing was begun."""


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
    compiled: Compiled, site: Site, audience: Audience, facts: Mapping[str, str], reporter: Reporter
) -> Launched:
    """Run a snapshot to its end in this process.

    Args:
        compiled: What to run.
        site: Where.
        audience: Who is told.
        facts: What else is true around the run, such as the program's file.
        reporter: Shows the run; it is closed at the end.

    Raises:
        ConfigError: A step asks for what this version can't do.
        Unreachable: The store can't be written.
    """
    refuse_later_options(compiled.snapshot)
    secure_descriptors()
    run = new_id()
    folder = live_folder(site.home, run)
    with ExitStack() as stack:
        stack.callback(reporter.close)
        is_alone = _enter_process(stack)
        # First of all, so that a signal from here on ends the run by its record instead of leaving it lost.
        interrupts = Interrupts()
        stack.callback(interrupts.restore)
        interrupts.install()
        stack.callback(_make_folder(folder).release)
        journal = JournalWriter(folder, 1, 0, sync=site.sync)
        stack.callback(journal.close)
        recorder = Recorder(run, journal, site.store)
        started = _run_started(compiled, site, run, facts)
        moved = _other_source(compiled.snapshot, site)
        recorder.record(started)
        capture = start_capture(folder, reporter.sink()) if is_alone else SharedOutput()
        stack.callback(capture.stop)
        if is_alone:
            stack.callback(report_crashes())
        reporter.run_started(started.name, run, started.pipeline, len(compiled.snapshot.steps))
        if moved:
            reporter.warn(moved)
        desk = Desk(
            recorder=recorder,
            log=capture,
            reporter=reporter if isinstance(reporter, Silent) else InOrder(reporter, capture.when_shown),
            interrupts=interrupts,
            is_alone=is_alone,
            tell_step_hook=lambda hook, moment: audience.tell_step_hook(run, hook, moment),
        )
        verdict = _drive(compiled, site, desk, audience, RunInfo(run, started.name, site.project, started.params))
        capture.stop()
        reporter.run_finished(verdict.status, now() - started.at)
        _seal(run, recorder, site)
    return Launched(run=run, verdict=verdict)


def _drive(compiled: Compiled, site: Site, desk: Desk, audience: Audience, run: RunInfo) -> Verdict:
    _tell("on_start", compiled, desk, audience, run.id)
    verdict = Driver(compiled, site, desk, run).drive()
    desk.recorder.project()
    for event in _ends(verdict.status):
        _tell(event, compiled, desk, audience, run.id)
    return verdict


def refuse_later_options(snapshot: Snapshot) -> None:
    """Raise `ConfigError` when a step asks for what this version checks and records but can't carry out."""
    for spec in snapshot.steps:
        options = snapshot.options[spec.options]
        for name in LATER:
            if getattr(options, name):
                raise ConfigError(
                    f"step {spec.name!r} asks for {name}=…, which this version records but can't carry out",
                    where=spec.source,
                    fix=f"take {name} away to run it here",
                )


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


def _make_folder(folder: Path) -> RunLock:
    try:
        os.makedirs(folder)
    except OSError as error:
        raise cannot_write(folder, error) from error
    lock = lock_run(folder)
    if lock is None:
        raise Unreachable("a new run's folder was taken by another process", where=str(folder), fix="start it again")
    return lock


def _run_started(compiled: Compiled, site: Site, run: str, facts: Mapping[str, str]) -> RunStarted:
    inline = len(compiled.data) <= INLINE_BYTES
    blob = "" if inline else site.blobs.put_bytes(compiled.data)[0]
    user = storable_text(os.environ.get("USER") or os.environ.get("LOGNAME") or str(os.getuid()))
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


def _seal(run: str, recorder: Recorder, site: Site) -> None:
    """Write what the store gave the run, and move its folder to the finished ones.

    When the store can't be written now, its next reader does the same from the journal.
    """
    recorder.project()
    if recorder.trouble is not None:
        raise recorder.trouble
    recorder.record(site.store.seal(run))
    recorder.project()
    with suppress(OSError):
        archive(site.home, run)
