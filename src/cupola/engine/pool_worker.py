"""A worker process of the pool: it runs one attempt after the other, as its driver orders, until the link ends.

The nursery forks it. What it prints goes into a log of its own in the run's folder; it writes no events. One thread,
the main one, does it all, so that timeouts and SIGTERM reach the step.
"""

from __future__ import annotations

import atexit
import gc
import os
import signal
import sys
from _thread import get_ident
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec

from cupola.artifacts.blobs import Blobs
from cupola.compiler.source import enter_project, set_program
from cupola.compiler.stepcompile import LiveStep
from cupola.context import Recorded
from cupola.crashes import report_crashes
from cupola.engine import carried
from cupola.engine.concurrency import enter_worker
from cupola.engine.recipes import follow_recipe
from cupola.engine.results import stopped_outcome
from cupola.engine.site import artifact_access
from cupola.engine.wire import (
    LINK_LOST,
    Begun,
    Done,
    Order,
    Recipe,
    Setup,
    ToWorker,
    Unlike,
    cut_frames,
    decoder,
    frame,
    write_all,
)
from cupola.entities.artifact import VersionRecord
from cupola.entities.run import StepStatus
from cupola.event import Usage
from cupola.failures import Terminated, describe_failure
from cupola.files import set_source_root
from cupola.middleware.attempt import Hook, Moment
from cupola.middleware.capture import Capture, start_capture
from cupola.middleware.echo import DescriptorSink
from cupola.middleware.limits import StepTimeout
from cupola.middleware.surroundings import keep_surroundings
from cupola.store import OWNER, Store
from cupola.worker import Outcome, Services, Task, run_task

_IDLE, _STEP, _BUSY = range(3)
_READ_BYTES = 64 * 1024
_NOTHING = Recorded()


class _Leave(BaseException):
    """SIGTERM came while nothing was going on."""


def serve(setup: Setup, number: int, link: int, env: Mapping[str, str]) -> None:
    """Do what the driver orders through a link, and return when there is no more."""
    os.environ.update(env)
    _enter(setup)
    worker = _Worker(setup, number, link)
    with suppress(_Leave):
        worker.run()
    # What libraries of the user's have registered gets its turn; threads that a step left are not waited for.
    with suppress(BaseException):
        atexit._run_exitfuncs()  # pyright: ignore[reportPrivateUsage] — what `multiprocessing` calls in its children
    with suppress(BaseException):
        worker.capture.stop()


def _enter(setup: Setup) -> None:
    """Make this process what the driver's was when the run began."""
    enter_worker()
    if setup.path:
        sys.path[:] = setup.path
    sys.argv[:] = setup.argv
    set_source_root(setup.root)
    if setup.program:
        set_program(setup.program, Path(setup.program_root))
        enter_project()


class _Worker:
    """What a worker has: the steps it knows, its log, and the link to its driver."""

    def __init__(self, setup: Setup, number: int, link: int) -> None:
        self._link = link
        self._link_file = os.fstat(link)
        self._process = os.getpid()
        self._state = _BUSY
        self._is_leaving = False
        self._is_spent = False
        self._blobs = Blobs(Path(setup.home), sync=setup.sync)
        self._recipes: dict[int, Recipe] = {}
        self._steps: dict[int, LiveStep] = {}
        self._masks: dict[int, Any] = {}
        os.register_at_fork(before=self._hold, after_in_parent=self._release, after_in_child=self._be_child)
        self.capture: Capture = start_capture(Path(setup.folder), DescriptorSink(None, None), worker=number)
        report_crashes()
        self._peaks = _open_peaks()
        # Before the surroundings are kept, which are put back after each step.
        signal.signal(signal.SIGTERM, self.terminate)
        signal.signal(signal.SIGINT, self.interrupt)
        self._services = Services(
            run=setup.run,
            pipeline=setup.pipeline,
            root=Path(setup.root),
            blobs=self._blobs,
            artifacts=artifact_access(Path(setup.home), self._blobs, _LateStore(Path(setup.home)).find),
            tell_hook=_no_hook,
            put_back=keep_surroundings(),
            is_captured=True,
        )
        self._log_end = self.capture.position()

    def terminate(self, _number: int, _frame: FrameType | None) -> None:
        """Stop the step that runs, or leave when none does."""
        self._is_leaving = True
        if self._state == _STEP:
            raise Terminated("SIGTERM")
        if self._state == _IDLE:
            self._state = _BUSY
            raise _Leave

    def interrupt(self, _number: int, _frame: FrameType | None) -> None:
        """Stop the step that runs, as the terminal's Ctrl-C would: a step or a library sent it."""
        if self._state == _STEP:
            raise KeyboardInterrupt

    def run(self) -> None:
        """Take orders until there are no more."""
        read = decoder(ToWorker)
        buffer = bytearray()
        gc.enable()
        while True:
            for data in cut_frames(buffer):
                if self._is_spent:
                    continue  # the driver is about to end this process: what it was sent ahead goes to another one
                message = read.decode(data)
                if isinstance(message, Recipe):
                    self._recipes[message.key] = message
                    self._steps.pop(message.key, None)
                else:
                    self._obey(message)
            self._state = _IDLE
            if self._is_leaving:
                return
            data = os.read(self._link, _READ_BYTES)
            self._state = _BUSY
            if not data:
                return
            buffer += data

    def _obey(self, order: Order) -> None:
        try:
            self._state = _STEP
            live = self._find_step(order.recipe)
            self._state = _BUSY
        except BaseException as error:  # importing the user's module runs code of theirs, which may raise anything
            self._state = _BUSY
            self._answer(order, _failed(error, self._services.root))
            return
        if live is None:
            return
        if order.env:
            options = msgspec.structs.replace(order.options, env={**order.options.env, **order.env})
        else:
            options = order.options
        if order.files:
            live = msgspec.structs.replace(live, files=order.files)
        task = Task(
            position=order.position,
            spec=order.spec,
            options=options,
            live=live,
            attempt=order.attempt,
            tries=order.tries,
            manifests={(step, output): manifest for step, output, manifest in order.manifests},
            shared={},
        )
        if options.timeout_s is not None:
            self._send(Begun(order.position))
        if self._peaks >= 0:
            os.pwrite(self._peaks, b"5", 0)
        try:
            self._state = _STEP
            outcome = run_task(task, self._services)
            self._state = _BUSY
        except BaseException as error:  # a signal in the few instructions around the step
            self._state = _BUSY
            outcome = stopped_outcome(error)
        self._answer(order, outcome)

    def _find_step(self, key: int) -> LiveStep | None:
        """Return a step by its recipe; None when its code is not what was compiled, which the driver is told."""
        known = self._steps.get(key)
        if known is not None:
            return known
        found = follow_recipe(self._recipes[key], self._blobs)
        if isinstance(found, tuple):
            self._send(Unlike(key, found))
            return None
        self._steps[key] = found
        return found

    def _answer(self, order: Order, outcome: Outcome) -> None:
        try:
            end = self.capture.position()
            if end != self._log_end:
                # Who shows the output in a terminal wants to know which stream it was, before how the step went.
                self.capture.write_notes()
                self._log_end = end
        except OSError:
            os._exit(LINK_LOST)
        error = outcome.error
        self._is_spent = isinstance(error, StepTimeout) or outcome.status is StepStatus.CANCELLED
        self._send(
            Done(
                position=order.position,
                status=outcome.status,
                outputs=outcome.outputs,
                recorded=None if outcome.recorded == _NOTHING else outcome.recorded,
                usage=outcome.usage,
                failure=outcome.failure,
                error=b"" if error is None else carried.pack(error),
                again_after_s=outcome.again_after_s,
                log_end=end,
                is_timeout=isinstance(error, StepTimeout),
            )
        )

    def _send(self, message: msgspec.Struct) -> None:
        data = frame(message)
        try:
            now = os.fstat(self._link)
            if (now.st_ino, now.st_dev) != (self._link_file.st_ino, self._link_file.st_dev):
                raise OSError
            write_all(self._link, data)
        except OSError:
            # The step closed all descriptors, or the driver is gone: nobody can be told.
            os._exit(LINK_LOST)

    def _hold(self) -> None:
        """Let signals wait until a new child has handlers of its own: Python forgets what comes to it before that."""
        self._masks[get_ident()] = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT))

    def _release(self) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self._masks.pop(get_ident()))

    def _be_child(self) -> None:
        """Be a forked child of a step: signals do what they would do without the run, and the link is the parent's."""
        for number, handler in ((signal.SIGTERM, signal.SIG_DFL), (signal.SIGINT, signal.default_int_handler)):
            if getattr(signal.getsignal(number), "__self__", None) is self:
                signal.signal(number, handler)
        with suppress(OSError):
            os.close(self._link)
        self._release()


class _LateStore:
    """Finds artifact versions by name; few steps ask, so the store is opened by the first that does."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._store: Store | None = None

    def find(self, name: str, version: str) -> VersionRecord:
        """Return a version; what this run has recorded by now is known."""
        if self._store is None:
            from cupola.stores.sql import open_store

            blobs = Blobs(self._home)
            self._store = open_store(self._home, read_blob=lambda digest: blobs.open(digest).read_bytes())
        return self._store.get("version", f"{name}:{version or 'latest'}", who=OWNER)


def _failed(error: BaseException, root: Path) -> Outcome:
    """Return the outcome of a step whose function couldn't be had."""
    if isinstance(error, (Terminated, KeyboardInterrupt)):
        return stopped_outcome(error)
    failure = describe_failure(error, root)
    return Outcome(status=StepStatus.FAILED, recorded=Recorded(), usage=Usage(), failure=failure, error=error)


def _no_hook(_hook: Hook, _moment: Moment) -> None:
    """Do nothing: hooks are called in the driver."""


def _open_peaks() -> int:
    """Return a descriptor which, written a 5, makes the kernel measure the peak of memory anew; -1 where it can't."""
    try:
        return os.open("/proc/self/clear_refs", os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return -1


def run_forked(setup: Setup, number: int, link: int, env: Mapping[str, str]) -> Any:
    """Be a worker and end this process; for the nursery's forked child."""
    code = 1
    try:
        serve(setup, number, link, env)
        code = 0
    except BaseException as error:
        import traceback

        os.write(2, "".join(traceback.format_exception(error)).encode())
    finally:
        os._exit(code)
