"""What `sys.stdout` and `sys.stderr` are during a run: text written at C speed into the run's log, with notes of it.

A flush of Python's buffer is one `write` and one note (where, when, which stream, which level). Any thread may write;
notes wait in a queue that only the echo empties.
"""

from __future__ import annotations

import codecs
import errno
import io
import os
import sys
import time
from _thread import get_ident
from collections import deque
from collections.abc import Callable
from typing import Any, TextIO

import msgspec

from cupola.lognotes import STDERR, STDOUT, Note

# A buffer as large as this makes printing 100 MB as fast as into a plain file.
BUFFER_BYTES = 64 * 1024
# After so many writes in one beat a stream is buffered by blocks instead of lines.
BULK_WRITES = 2000


class Mark(msgspec.Struct):
    """A log record that a thread is handing to its handlers: its level and time, and whether that printed anything."""

    level: int
    at: float
    printed: bool = False


class Notes:
    """Notes that wait for the next beat, the records that threads are busy with, and the writes not yet noted.

    There is no lock: a signal handler may print while the thread it interrupted is in here. Appending to and taking
    from a deque are atomic, and what overlaps is dropped by the reader.
    """

    def __init__(self) -> None:
        self.marks: dict[int, Mark] = {}
        self.busy: set[int] = set()
        self.active = True
        self._waiting: deque[Note] = deque()
        self._end = 0

    def add(self, start: int, end: int, at: float, stream: int, level: int) -> None:
        """Say what a range of the log is. What can't be right, since its bytes went elsewhere, is ignored."""
        if self.active and self._end <= start < end < 1 << 40:
            self._end = end
            self._waiting.append((start, end, at, stream, level))

    def take(self) -> list[Note]:
        """Return the notes so far and forget them."""
        waiting = self._waiting
        return [waiting.popleft() for _ in range(len(waiting))]


class LogStream(io.RawIOBase):
    """The lowest layer of a standard stream: bytes go to its descriptor, which is the log, or to the log directly.

    Attributes:
        log: Descriptor of the log.
        writes: Writes since the last beat; `size` their bytes.
        is_retired: Whether the run is over.
        failure: Why text could not be written, once it couldn't.
    """

    mode = "wb"

    def __init__(
        self, stream: int, target: int, log: int, notes: Notes, mirror: TextIO | None, wake: Callable[[], None]
    ) -> None:
        self.name = "<stderr>" if stream == STDERR else "<stdout>"
        self.writes = 0
        self.size = 0
        self.failure: OSError | None = None
        self.tied: io.TextIOWrapper | None = None
        self._stream = stream
        self._target = target
        self.log = log
        self._notes = notes
        self._mirror = mirror
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
        self._wake = wake
        self.is_retired = False

    def retire(self) -> None:
        """Be a plain stream from now on: the run is over, but handlers that a step made may still hold it."""
        self.is_retired = True

    def write(self, data: Any, /) -> int:
        """Write to the log, note it, and show it where the stream stood before if that is no descriptor."""
        if self.is_retired:
            return self._write_plainly(data)
        if self.tied is not None:
            flush(self.tied)
        notes = self._notes
        notes.busy.add(self._stream)
        try:
            written = os.write(self._target, data)
        except OSError as error:
            written = self._write_anyway(data, error)
        # The log's own descriptor shares its position with descriptors 1 and 2, so this is where the write ended;
        # if a step turned them elsewhere it stands still, and the note is ignored.
        end = os.lseek(self.log, 0, os.SEEK_CUR)
        mark = notes.marks.get(get_ident())
        if mark is None:
            notes.add(end - written, end, time.time(), self._stream, 0)
        else:
            mark.printed = True
            notes.add(end - written, end, mark.at, self._stream, mark.level)
        notes.busy.discard(self._stream)
        self.writes += 1
        self.size += written
        if self.writes == BULK_WRITES:
            self._wake()
        if self._mirror is not None:
            self._show(self._decoder.decode(data[:written]), self._mirror)
        return written

    def show_other(self, data: bytes) -> bool:
        """Show what another process printed to this stream; tell whether it shows itself at all."""
        if self._mirror is None:
            return False
        self._show(data.decode("utf-8", "backslashreplace"), self._mirror)
        return True

    def _write_plainly(self, data: Any) -> int:
        now = sys.stderr if self._stream == STDERR else sys.stdout
        raw = getattr(getattr(now, "buffer", None), "raw", None)
        if isinstance(raw, LogStream) and not raw.is_retired:
            # A later run captures: what a handler of an earlier one prints is its output like any other.
            now.flush()
            now.buffer.write(data)
            now.flush()
        elif self._mirror is not None:
            self._show(bytes(data).decode("utf-8", "backslashreplace"), self._mirror)
        elif self._target in (STDOUT, STDERR):
            return os.write(self._target, data)
        return len(data)

    def _write_anyway(self, data: Any, error: OSError) -> int:
        """Take what can't be written: a full disk or a closed descriptor must not fail the step that prints."""
        if error.errno == errno.EBADF:
            try:
                return os.write(self.log, data)
            except OSError as second:
                error = second
        self.failure = error
        return len(data)

    def _show(self, text: str, mirror: TextIO) -> None:
        try:
            mirror.write(text)
            mirror.flush()
        except Exception:  # it is any object that the user or an IDE put there; the log has the text already
            self._mirror = None

    def writable(self) -> bool:
        """Tell that this is for writing."""
        return True

    def fileno(self) -> int:
        """Return the descriptor that the stream stands for, as before the run."""
        if self._mirror is not None:
            return self._mirror.fileno()
        return self._target

    def isatty(self) -> bool:
        """Tell whether this is a terminal: a log is none, unless the stream shows itself in one directly."""
        return self._mirror is not None and self._mirror.isatty()


def open_text(raw: LogStream) -> io.TextIOWrapper:
    """Return the text stream over a raw one: UTF-8 under any locale, and printing never fails for a letter."""
    # A text stream asks at each write whether it is closed: in C if it was made over a plain file, else through three
    # Python attributes, which makes printing a quarter slower. So it is made over one, which is then exchanged.
    buffer = io.BufferedWriter(io.FileIO(raw.log, "w", closefd=False), BUFFER_BYTES)
    text = io.TextIOWrapper(buffer, encoding="utf-8", errors="backslashreplace", newline="\n", line_buffering=True)
    buffer.__init__(raw, BUFFER_BYTES)  # pyright: ignore[reportArgumentType] — it takes any raw stream
    return text


def flush(stream: Any) -> None:
    """Flush a stream that may be closed, missing, or in the middle of a write that a signal interrupted."""
    try:
        stream.flush()
    except (AttributeError, OSError, ValueError, RuntimeError):
        return
