"""Puts a run's log in the place of descriptors 1 and 2, and of `sys.stdout` and `sys.stderr`, while the run goes on.

Once per run in a process, never per step: a step is where the log ended before and after it. Streams that are not on
their descriptor (pytest, an IDE, a notebook) are wrapped and show themselves. Only the thread that runs steps calls the
methods; `_beat` runs in the echo's thread.
"""

from __future__ import annotations

import io
import os
import sys
import time
from _thread import get_ident
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from cupola.journal import cannot_write
from cupola.lognotes import RAW, STDERR, STDOUT, Note, encode_notes, log_path, notes_path
from cupola.middleware import children, records, terminal
from cupola.middleware.cstdio import CStdout
from cupola.middleware.echo import BEAT_S, Beat, DescriptorSink, Echo, Sink
from cupola.middleware.streams import BULK_WRITES, LogStream, Mark, Notes, flush, open_text

_BOTH = (STDOUT, STDERR)
# A stream with less than this in a beat is given back its lines.
_CALM_BYTES = 16 * 1024
# What a handler printed for one record is looked for in no more than this.
_RECORD_BYTES = 256 * 1024
# Beyond any log, and within what file systems allow.
_PROBE = 1 << 40
_FORK_PATIENCE_S = 0.2
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC


class _Before(msgspec.Struct):
    """What a stream was before the run.

    Attributes:
        stream: The object.
        descriptor: A duplicate of its descriptor; None if that was closed or isn't taken.
        taken: Whether the log stands in the descriptor's place.
        mirror: The object if it isn't on the descriptor, so that it is written to directly; else None.
    """

    stream: Any
    descriptor: int | None
    taken: bool
    mirror: Any


_stack: list[Capture] = []


def start_capture(folder: Path, sink: Sink | None = None, worker: int = 0) -> Capture:
    """Send all that this process and its children print into the log of a run, until `stop`.

    A run inside a step of another one captures on top of it; what it prints is shown in, and so is part of, the outer
    one's log.

    Args:
        folder: The run's folder.
        sink: Shows what is printed; when left out, it goes where it would have gone without the run.
        worker: Number of the worker whose log it is; 0 for the driver's.

    Raises:
        Unreachable: The log can't be written.
    """
    path = log_path(folder, worker)
    try:
        log = terminal.move_aside(os.open(path, _FLAGS, 0o644))
        reader = terminal.move_aside(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        raise cannot_write(path, error) from error
    capture = Capture(notes_path(folder, worker), log, reader)
    try:
        capture.start(sink)
    except BaseException:
        capture.stop()
        raise
    return capture


def active_capture() -> Capture | None:
    """Return the capture that is on in this process, the innermost one."""
    return _stack[-1] if _stack else None


class Capture:
    """What `start_capture` put in place; `stop` takes it away.

    Attributes:
        marks: Log records that threads are busy with.
    """

    def __init__(self, notes: Path, log: int, reader: int) -> None:
        self._notes_path = notes
        self._notes_file = -1
        self._log = log
        self._reader = reader
        self._notes = Notes()
        self.marks = self._notes.marks
        self._c_stdout = CStdout()
        self._beat_thread = Beat(self._beat)
        self._beaten = os.lseek(reader, 0, os.SEEK_END)
        self._carried: list[Note] = []
        self._shown = self._beaten
        self._actions: deque[tuple[int, Callable[[], None]]] = deque()
        self._judged_at = time.monotonic()
        self._before: dict[int, _Before] = {}
        self._raw: dict[int, LogStream] = {}
        self._text: dict[int, io.TextIOWrapper] = {}
        self._echo: Echo | None = None
        self._sink: Sink = DescriptorSink(None, None)
        self._end = self._beaten
        self._is_open = False
        self._is_child = False
        self._is_lent = False
        self._breakpoint: Any = None

    def start(self, sink: Sink | None) -> None:
        """Put everything in place; for `start_capture`."""
        flush(sys.stdout)
        flush(sys.stderr)
        self._c_stdout.flush()
        self._is_open = True
        for stream, now, usual in ((STDOUT, sys.stdout, sys.__stdout__), (STDERR, sys.stderr, sys.__stderr__)):
            taken = terminal.may_take(stream, now, usual)
            # A closed descriptor has nothing to go back to.
            descriptor = terminal.keep_aside(stream) if taken and terminal.exists(stream) else None
            mirror = None if now is None or (taken and terminal.is_on(now, stream)) else now
            self._before[stream] = _Before(now, descriptor, taken, mirror)
        shown = {RAW} | {stream for stream in _BOTH if self._before[stream].mirror is None}
        out, err = (self._before[stream].descriptor for stream in _BOTH)
        self._sink = sink or _usual_sink(out, err)
        self._echo = Echo(self._reader, self._sink, frozenset(shown), self._beaten)
        self._put_in_place()
        _stack.append(self)
        children.survive_forks(_stack)
        records.attach(self)
        self._breakpoint = sys.breakpointhook
        sys.breakpointhook = terminal.make_breakpoint(self._breakpoint, self.lend_terminal)
        self._beat_thread.start()

    def position(self) -> int:
        """Return where the log ends, with all that was printed until now written to it."""
        if not self._is_open:
            return self._end
        self._flush()
        return os.lseek(self._reader, 0, os.SEEK_END)

    def when_shown(self, action: Callable[[], None]) -> None:
        """Call something once all that was printed until now is shown, such as what reports the end of a step.

        It is called at once if nothing waits to be shown, else by the echo's thread; before `stop` returns at the
        latest. Actions are called in the order in which they were given.
        """
        position = self.position()
        if position <= self._shown and not self._actions:
            action()
        else:
            self._actions.append((position, action))

    def show(self, data: bytes, stream: int) -> None:
        """Show what a worker printed where this process shows what it prints itself; in order with `when_shown`."""
        self.when_shown(lambda: self._show_other(data, stream))

    def _show_other(self, data: bytes, stream: int) -> None:
        mirror = self._raw.get(stream or STDOUT)
        if mirror is None or not mirror.show_other(data):
            self._sink.write(data, stream)

    def write_notes(self) -> None:
        """Write the notes of all that was printed until now, which otherwise takes a tenth of a second."""
        self._beat_thread.now()

    def end_step(self) -> None:
        """Put streams and descriptors back in place if the step closed or changed them."""
        if self._is_lent or not self._is_in_place():
            flush(sys.stdout)
            flush(sys.stderr)
            self._flush()
            self._put_in_place()

    def lend_terminal(self) -> None:
        """Give descriptors and streams back to a debugger until the step ends."""
        self._is_lent = True
        self._flush()
        self._put_back()

    def stop(self) -> int:
        """End the capture: everything is as it was before, and all that was printed is written and shown.

        Calling it again does nothing.

        Returns:
            Where the log ended.
        """
        if not self._is_open:
            return self._end
        if self._is_child:
            return os.lseek(self._reader, 0, os.SEEK_END)
        self._is_open = False
        try:
            records.detach(self)
            if self._breakpoint is not None:
                sys.breakpointhook = self._breakpoint
            self._flush()
            self._put_back()
            for raw in self._raw.values():
                raw.retire()
            if self in _stack:
                _stack.remove(self)
        finally:
            self._beat_thread.stop()
            self._beat()
            self._end = os.lseek(self._reader, 0, os.SEEK_END)
            for descriptor in (self._log, self._reader, self._notes_file):
                terminal.close(descriptor)
            for before in self._before.values():
                terminal.close(-1 if before.descriptor is None else before.descriptor)
        return self._end

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a person should know of this log."""
        failures = {str(raw.failure.strerror) for raw in self._raw.values() if raw.failure is not None}
        return tuple(f"a part of the log could not be written: {reason}" for reason in sorted(failures))

    # What `records` needs.

    def settle(self) -> int:
        """Write out what was printed before, and return where the log ends."""
        if not self._is_open:
            return self._end
        flush(self._text[STDOUT])
        return os.lseek(self._reader, 0, os.SEEK_END)

    def read(self, start: int) -> bytes:
        """Return what was written since a byte, as far as it is of interest for a record."""
        return os.pread(self._reader, _RECORD_BYTES, start) if self._is_open else b""

    def write_record(self, line: str, mark: Mark) -> None:
        """Write a record that no handler printed."""
        self._write(line.encode("utf-8", "backslashreplace") + b"\n", STDERR, mark)

    def note_record(self, start: int, mark: Mark, stream: int) -> None:
        """Note that a record was printed after a byte, past the Python-level streams."""
        self._notes.add(start, os.lseek(self._reader, 0, os.SEEK_END), mark.at, stream, mark.level)

    # What the capture of a run inside a step needs.

    def owns(self, descriptor: int | None) -> bool:
        """Tell whether a descriptor leads into this log."""
        return descriptor is not None and os.path.sameopenfile(descriptor, self._log)

    def write(self, data: bytes, stream: int) -> None:
        """Be the sink of an inner run: its output is part of this log."""
        self._write(data, stream, Mark(0, time.time()))

    def _write(self, data: bytes, stream: int, mark: Mark) -> None:
        if not self._is_open:
            # A thread that a step left behind was handing over a record when the run ended.
            os.write(STDERR, data)
            return
        thread = get_ident()
        self._notes.busy.add(thread)
        try:
            written = os.write(self._log, data)
            end = os.lseek(self._log, 0, os.SEEK_CUR)
            if stream != RAW:
                self._notes.add(end - written, end, mark.at, stream, mark.level)
        except OSError as error:
            self._raw[STDERR].failure = error
        finally:
            self._notes.busy.discard(thread)

    # The streams.

    def _put_in_place(self) -> None:
        self._is_lent = False
        for stream in _BOTH:
            if self._before[stream].taken:
                os.dup2(self._log, stream)
            if stream not in self._text or self._text[stream].closed:
                self._open_stream(stream)
        self._raw[STDERR].tied = self._text[STDOUT]
        sys.stdout, sys.stderr = self._text[STDOUT], self._text[STDERR]

    def _open_stream(self, stream: int) -> None:
        before = self._before[stream]
        target = stream if before.taken and before.mirror is None else self._log
        raw = LogStream(stream, target, self._log, self._notes, before.mirror, self._beat_thread.wake)
        self._raw[stream], self._text[stream] = raw, open_text(raw)

    def _is_in_place(self) -> bool:
        if sys.stdout is not self._text[STDOUT] or sys.stderr is not self._text[STDERR]:
            return False
        if sys.stdout.closed or sys.stderr.closed:
            return False
        # Duplicates share one position, so one that doesn't follow a jump of the log's is no duplicate any more.
        # This takes a microsecond where comparing files takes four; writes append whatever the position is.
        os.lseek(self._log, _PROBE, os.SEEK_SET)
        try:
            return all(os.lseek(n, 0, os.SEEK_CUR) == _PROBE for n in _BOTH if self._before[n].taken)
        except OSError:
            return False

    def _put_back(self) -> None:
        for stream, before in self._before.items():
            if before.taken and before.descriptor is None:
                terminal.close(stream)
            elif before.descriptor is not None:
                os.dup2(before.descriptor, stream)
        if STDOUT in self._before:
            sys.stdout = self._before[STDOUT].stream
        if STDERR in self._before:
            sys.stderr = self._before[STDERR].stream

    def _flush(self) -> None:
        for stream, text in self._text.items():
            flush(text)
            before = self._before[stream]
            if before.taken:
                # Whoever kept the object from before the run still writes through it.
                flush(before.stream)
        self._c_stdout.flush()

    # The echo's thread.

    def _beat(self) -> None:
        self._flush()
        end = os.lseek(self._reader, 0, os.SEEK_END)
        # In this order: a write that is in `end` but not yet noted is still busy when asked.
        is_busy = bool(self._notes.busy)
        notes = self._carried + self._notes.take()
        if is_busy:
            end = max((note[1] for note in notes), default=self._beaten)
        self._carried = [note for note in notes if note[1] > end]
        notes = [note for note in notes if note[1] <= end]
        if end > self._beaten:
            self._write_notes([*notes, (self._beaten, end, time.time(), RAW, 0)])
            self._beaten = end
        self._show(notes, end)
        self._judge_streams()

    def _show(self, notes: list[Note], end: int) -> None:
        if self._echo is None:
            return
        while self._actions and self._actions[0][0] <= end:
            position, action = self._actions[0]
            self._echo.copy(notes, position)
            action()
            # Only now, so that an action given meanwhile doesn't overtake this one.
            self._actions.popleft()
        self._echo.copy(notes, end)
        self._shown = end

    def _write_notes(self, notes: list[Note]) -> None:
        """Write some notes; a full disk costs the notes, and the text is read without them."""
        is_first = self._notes_file < 0
        try:
            if is_first:
                self._notes_file = terminal.move_aside(os.open(self._notes_path, _FLAGS, 0o644))
            data = encode_notes(notes, first=is_first)
            if os.write(self._notes_file, data) != len(data):
                self._notes.active = False
        except OSError:
            self._notes.active = False

    def _judge_streams(self) -> None:
        """Buffer by blocks what prints very much, and by lines again what has calmed down."""
        now = time.monotonic()
        is_due = now - self._judged_at > 0.9 * BEAT_S
        for stream, raw in self._raw.items():
            text = self._text[stream]
            if stream == STDERR or text.closed or self._before[stream].mirror is not None:
                continue
            if text.line_buffering and raw.writes >= BULK_WRITES:
                children.flush_before(_stack)
                text.reconfigure(line_buffering=False)
            elif is_due and not text.line_buffering and raw.size < _CALM_BYTES:
                text.reconfigure(line_buffering=True)
            if is_due:
                raw.writes = raw.size = 0
        if is_due:
            self._judged_at = now

    # Forks.

    def before_fork(self) -> None:
        """Leave nothing in buffers, which the child would write again, and no thread, of which Python warns."""
        self._flush()
        self._beat_thread.pause(_FORK_PATIENCE_S)

    def after_fork(self) -> None:
        """Go on in the parent."""
        if self._is_open:
            self._beat_thread.start()

    def in_child(self) -> None:
        """Be a plain writer in a forked child: what it prints goes to the log, notes and echo are the parent's."""
        self._is_child = True
        self._notes.active = False
        self.marks.clear()


def _usual_sink(stdout: int | None, stderr: int | None) -> Sink:
    outer = active_capture()
    if outer is not None and outer.owns(stdout) and outer.owns(stderr):
        return outer
    return DescriptorSink(stdout, stderr)
