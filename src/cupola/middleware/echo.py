"""Shows what comes into a run's log where the program would have printed it, from a thread of its own.

The thread beats ten times a second: it flushes, lets the notes be written, and copies new bytes of the log to a sink.
Whoever writes to the log never waits for it.
"""

from __future__ import annotations

import errno
import os
import time
from _thread import LockType, allocate_lock, start_new_thread
from collections.abc import Callable, Iterator
from typing import Protocol

from cupola.lognotes import RAW, STDERR, Note

BEAT_S = 0.1
# Each block takes the interpreter from whoever prints, so there are few.
_BLOCK = 1024 * 1024


class Sink(Protocol):
    """Takes what a run prints, to show it; called by one thread at a time."""

    def write(self, data: bytes, stream: int) -> None:
        """Show some bytes; the stream is `RAW`, `STDOUT` or `STDERR` of `lognotes`."""
        ...


class DescriptorSink:
    """Writes to the descriptors that were the program's own before the run; None shows nothing.

    A reader that has gone (`| head`, a closed terminal) ends the showing, never the run.
    """

    def __init__(self, stdout: int | None, stderr: int | None) -> None:
        self._stdout = stdout
        self._stderr = stderr

    def write(self, data: bytes, stream: int) -> None:
        """Write some bytes to the descriptor of their stream."""
        target = self._stderr if stream == STDERR else self._stdout
        rest = memoryview(data)
        while rest and target is not None:
            try:
                rest = rest[os.write(target, rest) :]
            except BlockingIOError:
                # Somebody made the terminal non-blocking; only this thread waits for it.
                time.sleep(BEAT_S)
            except OSError as error:
                if error.errno == errno.EINTR:
                    continue
                if stream == STDERR:
                    self._stderr = None
                else:
                    self._stdout = None
                return


class Echo:
    """Copies a log to a sink, in order, each byte once.

    Args:
        log: Descriptor to read the log by.
        sink: Where to.
        shown: The streams to copy; others show themselves.
        start: The byte to begin with.
    """

    def __init__(self, log: int, sink: Sink, shown: frozenset[int], start: int) -> None:
        self._log = log
        self._sink = sink
        self._shown = shown
        self._at = start

    def copy(self, notes: list[Note], end: int) -> None:
        """Copy up to a byte; `notes` are those since the last time."""
        for start, stop, stream in parts_of(notes, self._at, end):
            self._at = stop
            if stream in self._shown:
                self._copy(start, stop, stream)

    def _copy(self, start: int, stop: int, stream: int) -> None:
        while start < stop:
            block = os.pread(self._log, min(_BLOCK, stop - start), start)
            if not block:
                return
            start += len(block)
            try:
                self._sink.write(block, stream)
            except Exception:  # any sink may be given; one that fails ends the showing, never the run
                self._shown = frozenset[int]()
                return


def parts_of(notes: list[Note], at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield start, end and stream of what lies between two bytes, in order and without gaps, as few as may be."""
    first, current = at, RAW
    for start, stop, _at, stream, _level in notes:
        if stop <= at or stop > end:
            continue
        for border, following in ((max(at, start), RAW), (stop, stream)):
            if border > at and following != current:
                if first < at:
                    yield first, at, current
                first, current = at, following
            at = max(at, border)
    if current != RAW and at < end:
        yield first, at, current
        first = at
    if first < end:
        yield first, end, current if at == end else RAW


class Beat:
    """A thread that calls a function every tenth of a second until it is stopped.

    It is a bare thread: `threading` doesn't list it, so that a step which counts or joins threads meets only its own.
    """

    def __init__(self, work: Callable[[], None]) -> None:
        self._work = work
        self._working = allocate_lock()
        self._wake = allocate_lock()
        self._ended = allocate_lock()
        self._is_stopping = False
        self._is_running = False

    def start(self) -> None:
        """Start the thread, or keep the one that `pause` has not waited for."""
        self._is_stopping = False
        if self._is_running:
            return
        self._wake, self._ended = allocate_lock(), allocate_lock()
        self._wake.acquire()
        self._ended.acquire()
        self._is_running = True
        start_new_thread(self._run, (self._wake, self._ended))

    def wake(self) -> None:
        """Let the next beat come at once."""
        try:
            self._wake.release()
        except RuntimeError:
            return  # it is awake

    def now(self) -> None:
        """Do the work in the caller's thread, after a beat that goes on."""
        with self._working:
            self._work()

    def stop(self) -> None:
        """Let no beat begin any more, and wait for one that goes on, however long its sink takes.

        The thread itself ends when it is next scheduled: a short run doesn't wait the milliseconds until then.
        """
        self._is_stopping = True
        self.wake()
        self._working.acquire()
        self._working.release()

    def pause(self, timeout_s: float) -> None:
        """End the thread, but wait no longer than told; `start` goes on."""
        if not self._is_running:
            return
        self._is_stopping = True
        self.wake()
        if self._ended.acquire(timeout=timeout_s):
            self._is_running = False

    def _run(self, wake: LockType, ended: LockType) -> None:
        try:
            while not self._is_stopping:
                wake.acquire(timeout=BEAT_S)
                with self._working:
                    if not self._is_stopping:
                        self._work()
        finally:
            ended.release()
