"""Reads the log of a run: what its steps printed, as bytes in the order written; a step's output is a range of them.

It is given as text and as lines with time, level and stream, with progress bars folded, whole or as it grows. However
long a log is, little of it is in memory.
"""

from __future__ import annotations

import functools
import os
import re
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from cupola import journal
from cupola.lognotes import NoteReader, log_path

STREAMS = (None, "stdout", "stderr")
Range = tuple[int, int | None]
"""Start and end in bytes of a part of a log; None stands for all that follows."""

_BLOCK = 256 * 1024
# Lines longer than this are given in pieces, and a longer log is text with its middle left out: both bound memory.
_LINE_LIMIT = 1024 * 1024
_HEAD, _TAIL = 1024 * 1024, 3 * 1024 * 1024
_LEVELS = {10: "DEBUG", 20: "INFO", 30: "WARNING", 40: "ERROR", 50: "CRITICAL"}
# A beat is due every 100 ms; code that holds the interpreter delays it, but what is written shows nevertheless.
_POLL_S, _PATIENCE_S = 0.1, 0.3


class Line(str):
    """One line of a log, without its end; of a progress bar, its last state.

    Attributes:
        time: Seconds since 1970, exact for `logging`, else to 100 ms.
        level: `DEBUG` to `CRITICAL`, or `LEVEL 25`, for what came through `logging`, else None.
        stream: `stdout` or `stderr`; None for what C code or a child process wrote.
    """

    __slots__ = ("level", "stream", "time")

    time: float
    level: str | None
    stream: str | None

    @property
    def text(self) -> str:
        """The line as plain text."""
        return str(self)


class Log(str):
    """The log of a run or step: text that can be iterated as lines.

    As text it is whole up to 4 MiB; of a longer one it is the beginning and the end, and says so between them. Lines,
    `in` and `count` always see all of it, and read it piece by piece.

    Example:
        >>> [line.level for line in run.logs() if "converged" in line]  # doctest: +SKIP
        ['INFO']
    """

    __slots__ = ("_folder", "_is_cut", "_ranges")

    _folder: Path
    _ranges: tuple[tuple[int, int], ...]
    _is_cut: bool

    def __new__(cls, text: str, folder: Path, ranges: tuple[tuple[int, int], ...], *, is_cut: bool) -> Log:
        """Make one from its text and where its lines are; for `read_log`."""
        log = super().__new__(cls, text)
        log._folder, log._ranges, log._is_cut = folder, ranges, is_cut
        return log

    def __iter__(self) -> Iterator[Line]:
        """Yield the lines, as `lines` does."""
        return self.lines()

    def lines(self) -> Iterator[Line]:
        """Yield the lines with time, level and stream."""
        return read_lines(self._folder, self._ranges)

    def tail(self, count: int) -> list[Line]:
        """Return the last lines, reading no more of a long log than they need."""
        total = sum(end - start for start, end in self._ranges)
        window = _BLOCK
        while count > 0:
            # A window may begin inside a line, so one more than wanted proves the wanted ones whole.
            part = _part(self._ranges, max(0, total - window), total)
            lines = deque(read_lines(self._folder, part), count + 1)
            if len(lines) > count or window >= total:
                return list(lines)[-count:]
            window *= 4
        return []

    def __contains__(self, text: object) -> bool:
        if isinstance(text, str) and self._is_cut:
            return any(text in line.text for line in self.lines())
        return isinstance(text, str) and super().__contains__(text)

    def count(self, text: str, *bounds: int) -> int:  # type: ignore[override] — str's own bounds may also be None
        """Count how often a text occurs."""
        if self._is_cut and not bounds:
            return sum(line.text.count(text) for line in self.lines())
        return super().count(text, *bounds)


def read_log(folder: Path, ranges: Sequence[Range] | None = None) -> Log:
    """Read what a run printed as of now, or the parts of it that belong to a step.

    Args:
        folder: The run's folder; if the run was sealed meanwhile, it is found where it has gone.
        ranges: Parts to read, in order; all when left out.
    """
    size = _size(folder)
    wanted = [(0, None)] if ranges is None else ranges
    fixed = tuple((start, size if end is None else min(end, size)) for start, end in wanted)
    fixed = tuple((start, end) for start, end in fixed if start < end)
    total = sum(end - start for start, end in fixed)
    is_cut = total > _HEAD + _TAIL
    if is_cut:
        left_out = (total - _HEAD - _TAIL) / 1e6
        head = _read_text(folder, _part(fixed, 0, _HEAD))
        tail = _read_text(folder, _part(fixed, total - _TAIL, total))
        text = f"{head}\n[{left_out:.1f} MB are left out here: iterate over the lines for all of it]\n{tail}"
    else:
        text = _read_text(folder, fixed)
    return Log(text, folder, fixed, is_cut=is_cut)


def _read_text(folder: Path, ranges: Sequence[Range]) -> str:
    """Return lines as one text, without what is known of them: a `Line` each takes much more memory."""
    text = bytearray()
    for _at, data in _read_pieces(_present(folder), ranges):
        text += data
        text += b"\n"
    return text[:-1].decode("utf-8", "backslashreplace")


def read_lines(folder: Path, ranges: Iterable[Range]) -> Iterator[Line]:
    """Yield the lines of some parts of a log, a block in memory at a time."""
    folder = _present(folder)
    if log_path(folder).exists():
        with NoteReader(folder) as notes:
            for at, data in _read_pieces(folder, ranges):
                yield _line(notes, at, data)


def _read_pieces(folder: Path, ranges: Iterable[Range]) -> Iterator[tuple[int, bytes]]:
    try:
        log = log_path(folder).open("rb", buffering=0)
    except FileNotFoundError:
        return
    with log:
        size = os.fstat(log.fileno()).st_size
        for start, end in ranges:
            lines = _Lines(start)
            for block in _blocks(log, start, size if end is None else min(end, size)):
                yield from lines.feed(block)
            yield from lines.rest()


def follow_log(folder: Path, ranges: Callable[[], Sequence[Range]], is_over: Callable[[], bool]) -> Iterator[Line]:
    """Yield lines as they are written, from the start of the first range until the run or step is over.

    Args:
        folder: The run's folder, which may be sealed and moved meanwhile.
        ranges: Tells which parts to show, as known now: more may come, and the last one may have no end yet.
        is_over: Tells whether nothing will come any more.
    """
    while not log_path(_present(folder)).exists():
        if is_over():
            return
        time.sleep(_POLL_S)
    folder = _present(folder)
    with open(log_path(folder), "rb", buffering=0) as log, NoteReader(folder) as notes:
        yield from _Follower(log, notes).follow(ranges, is_over)


def _line(notes: NoteReader, at: int, data: bytes) -> Line:
    line = Line(data.decode("utf-8", "backslashreplace"))
    line.time, stream, level = notes.find(at)
    line.stream = STREAMS[stream]
    line.level = (_LEVELS.get(level) or f"LEVEL {level}") if level else None
    return line


class _Follower:
    """Where a reader that follows a log is."""

    def __init__(self, log: BinaryIO, notes: NoteReader) -> None:
        self._log = log
        self._notes = notes
        self._part = 0
        self._lines: _Lines | None = None
        self._settled = 0
        self._size, self._grown_at = 0, 0.0

    def follow(self, ranges: Callable[[], Sequence[Range]], is_over: Callable[[], bool]) -> Iterator[Line]:
        while True:
            over = is_over()
            parts = ranges()
            upto = self._settled_end(over)
            while self._part < len(parts):
                start, end = parts[self._part]
                self._lines = self._lines or _Lines(start)
                yield from self._read(self._lines, upto if end is None else min(end, upto))
                if not over and (end is None or self._lines.end < end):
                    break
                yield from self._finish(self._lines)
            if over:
                return
            time.sleep(_POLL_S)

    def _settled_end(self, over: bool) -> int:
        size = os.fstat(self._log.fileno()).st_size
        if size != self._size:
            self._size, self._grown_at = size, time.monotonic()
        self._settled = max(self._settled, self._notes.last_beat())
        if over or time.monotonic() - self._grown_at > _PATIENCE_S:
            self._settled = size
        return self._settled

    def _read(self, lines: _Lines, end: int) -> Iterator[Line]:
        for block in _blocks(self._log, lines.end, end):
            for at, data in lines.feed(block):
                yield _line(self._notes, at, data)

    def _finish(self, lines: _Lines) -> Iterator[Line]:
        for at, data in lines.rest():
            yield _line(self._notes, at, data)
        self._part += 1
        self._lines = None


class _Lines:
    """Cuts blocks into lines, folding each to what stands after its last carriage return."""

    def __init__(self, start: int) -> None:
        self.end = start
        self._pending = b""

    def feed(self, block: bytes) -> Iterator[tuple[int, bytes]]:
        at = self.end - len(self._pending)
        self.end += len(block)
        *whole, rest = (self._pending + block).split(b"\n") if self._pending else block.split(b"\n")
        for piece in whole:
            yield _fold(at, piece) if b"\r" in piece else (at, piece)
            at += len(piece) + 1
        cut = _last_state(rest)
        at, rest = at + cut, rest[cut:]
        if len(rest) > _LINE_LIMIT:
            cut = _letter_border(rest)
            yield at, rest[:cut]
            rest = rest[cut:]
        self._pending = rest

    def rest(self) -> Iterator[tuple[int, bytes]]:
        if self._pending:
            yield _fold(self.end - len(self._pending), self._pending)
        self._pending = b""


def _fold(at: int, line: bytes) -> tuple[int, bytes]:
    cut = _last_state(line)
    return at + cut, line[cut:].rstrip(b"\r")


def _last_state(line: bytes) -> int:
    return line.rstrip(b"\r").rfind(b"\r") + 1


def _letter_border(data: bytes) -> int:
    """Return a place at the end of UTF-8 text that is between two letters, if it is UTF-8."""
    for back in range(1, 5):
        if data[-back] & 0xC0 != 0x80:
            return len(data) - back
    return len(data)


def strip_controls(line: str, *, colour: bool) -> str:
    """Return a line without control characters and escape sequences, for display; colours stay if wanted."""
    if line.isprintable():
        return line
    shown = _controls().sub(lambda found: (found["colour"] or "") if colour else "", line)
    # A colour that a line leaves on must not run into what is printed after it.
    return shown + "\x1b[0m" if "\x1b[" in shown and not shown.endswith(("\x1b[0m", "\x1b[m")) else shown


@functools.cache
def _controls() -> re.Pattern[str]:
    return re.compile(
        r"(?P<colour>\x1b\[[0-9;:]*m)"
        r"|(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
        r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f]).*?(?:\x07|\x1b\\|\x9c|$)"
        r"|\x1b[ -/]*[0-~]"
        r"|[\x00-\x08\x0b-\x1f\x7f-\x9f]"
    )


def _part(ranges: Sequence[tuple[int, int]], first: int, last: int) -> list[Range]:
    """Return where the bytes `first` to `last` of some ranges, counted over all of them, are."""
    parts: list[Range] = []
    passed = 0
    for start, end in ranges:
        low, high = max(start, start + first - passed), min(end, start + last - passed)
        if low < high:
            parts.append((low, high))
        passed += end - start
    return parts


def _blocks(log: BinaryIO, start: int, end: int) -> Iterator[bytes]:
    while start < end:
        block = os.pread(log.fileno(), min(_BLOCK, end - start), start)
        if not block:
            return
        start += len(block)
        yield block


def _size(folder: Path) -> int:
    try:
        return os.stat(log_path(_present(folder))).st_size
    except FileNotFoundError:
        return 0


def _present(folder: Path) -> Path:
    """Return a run's folder, or where it has gone when the run was sealed."""
    if not folder.exists() and folder.parent.name == "runs":
        return journal.finished_folder(folder.parent.parent, folder.name)
    return folder
