"""Ctrl-C and SIGTERM while a run is driven: the running step is stopped, the record is finished, nothing else is hurt.

A signal raises only inside a step (or hook); while the driver does its bookkeeping, or waits for workers, it is only
noted, and ends the wait.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

from cupola.engine.processes import descendants, end_tree
from cupola.failures import Terminated
from cupola.runlock import asked_to_cancel

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_NAMED = 5
LOOK_EVERY_S = 0.1
"""How often a driver looks whether another process asked its run to stop, in seconds."""


class Interrupts:
    """What signals asked for since the run began.

    Attributes:
        signal: Name of the first signal, empty while there was none.
        reason: Who or what wanted the run to stop; empty while nobody did.
        count: How many signals came.
        are_taken: Whether signals are taken over, so that SIGTERM stops the run.
    """

    def __init__(self, folder: Path) -> None:
        self.signal = ""
        self.reason = ""
        self.count = 0
        self.are_taken = False
        self._folder = folder
        self._look_at = 0.0
        self._running = ""
        self._handlers: dict[int, Any] = {}
        self._wake: tuple[int, int] | None = None
        self._children_before = descendants(os.getpid())

    def install(self) -> None:
        """Take over the signals, where that can be done and nobody asked to ignore them."""
        if threading.current_thread() is not threading.main_thread():
            return
        if not _active and not _registered:
            _registered.append(True)
            os.register_at_fork(before=_hold, after_in_parent=_go_on, after_in_child=_leave_to_child)
        _active.append(self)
        self.are_taken = True
        for number in _SIGNALS:
            before = signal.getsignal(number)
            if before is not None and before is not signal.SIG_IGN:
                self._handlers[number] = before
                signal.signal(number, self._handle)

    def restore(self) -> None:
        """Give the signals back to whom they belonged."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}
        if self in _active:
            _active.remove(self)
        if self._wake is not None:
            wake, self._wake = self._wake, None
            for end in wake:
                os.close(end)

    def look(self) -> None:
        """Take note when another process asked the run to stop; looks at most every tenth of a second."""
        now = time.monotonic()
        if now < self._look_at or self.signal:
            return
        self._look_at = now + LOOK_EVERY_S
        self.reason = asked_to_cancel(self._folder)
        if self.reason:
            self.signal = "SIGTERM"

    def note_stop(self, name: str) -> None:
        """Take note that the run is to stop as if by a signal, unless it is to stop already."""
        self.signal = self.signal or name
        self.reason = self.reason or self.signal

    def is_stopped(self) -> bool:
        """Tell whether the run is to stop, by a signal or by another process's wish."""
        self.look()
        return bool(self.signal)

    def wake_files(self) -> tuple[int, ...]:
        """Return what can be read once a signal came, for who waits; nothing where signals aren't taken over."""
        if self._wake is None and self._handlers:
            self._wake = os.pipe()
            for end in self._wake:
                os.set_blocking(end, False)
        return self._wake[:1] if self._wake is not None else ()

    def clear_wake(self) -> None:
        """Take out of `wake_files` what is in there."""
        if self._wake is not None:
            with suppress(BlockingIOError):
                os.read(self._wake[0], 512)

    def sleep(self, seconds: float) -> None:
        """Wait, but no longer than until a signal comes."""
        poll = select.poll()
        for file in self.wake_files():
            poll.register(file, select.POLLIN)
        poll.poll(seconds * 1000)
        self.clear_wake()

    def exception(self) -> BaseException:
        """Return what stands for the signal in the record of a step that it stopped."""
        return _exception_for(self.signal or "SIGTERM")

    def say_stopping(self, names: Sequence[str]) -> None:
        """Tell people which steps are being stopped."""
        shown = ", ".join(f"step {name}" for name in names[:_NAMED])
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        again = "; press Ctrl-C again to stop without clean-up" if self.signal == "SIGINT" else ""
        _say(f"{self.signal}: stopping {shown}{more}{again}")

    @contextmanager
    def stopping(self, what: str) -> Generator[None]:
        """Let signals raise inside: `what` is stopped by them."""
        self._running = what
        try:
            yield
        finally:
            self._running = ""

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        first = not self.signal
        self._note(number)
        if self._wake is not None:
            with suppress(BlockingIOError):
                os.write(self._wake[1], b"!")
        if not self._running:
            return
        if first:
            again = "; press Ctrl-C again to stop without clean-up" if number == signal.SIGINT else ""
            _say(f"{self.signal}: stopping {self._running}{again}")
        raise _exception_for(signal.Signals(number).name)

    def _note(self, number: int) -> None:
        self.count += 1
        if not self.signal:
            self.signal = signal.Signals(number).name
            self.reason = asked_to_cancel(self._folder) or self.signal
        # The run around this one, whose step started it, is asked to stop as well.
        outer = getattr(self._handlers.get(number), "__self__", None)
        if isinstance(outer, Interrupts):
            outer._note(number)

    def end_children(self) -> None:
        """End the processes that steps of this run started and left behind: SIGTERM, some time, SIGKILL."""
        left = descendants(os.getpid()) - self._children_before
        for pid in list(spared):
            left -= {pid, *descendants(pid)}
        end_tree(left)


spared: set[int] = set()
"""Processes that runs of this process have started for themselves, and end themselves with all below."""
_active: list[Interrupts] = []
_registered: list[bool] = []
_masks: dict[int, Any] = {}
"""Which signals were blocked before a fork, by the thread that forks."""


def _hold() -> None:
    # Python forgets in a new child what signals came to it; they wait until it has its own handlers.
    if _active:
        _masks[threading.get_ident()] = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)


def _go_on() -> None:
    before = _masks.pop(threading.get_ident(), None)
    if before is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _leave_to_child() -> None:
    """Let signals do in a forked child what they would do there without the run."""
    for interrupts in reversed(list(_active)):
        interrupts.restore()
    _go_on()


def _exception_for(name: str) -> BaseException:
    return KeyboardInterrupt() if name == "SIGINT" else Terminated(name)


def _say(text: str) -> None:
    # A signal may arrive inside a write to the same stream, which then refuses to be entered again.
    with suppress(RuntimeError, OSError, ValueError, AttributeError):
        sys.stderr.write(f"\n{text}\n")
        sys.stderr.flush()
