"""Cuts one log file into lines with what is known of each, as of now or as it grows, a block in memory at a time."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from cupola import journal
from cupola.lognotes import NoteReader, log_path

STREAMS = (None, "stdout", "stderr")
Range = tuple[int, int | None]
"""Start and end in bytes of a part of a log file; None stands for all that follows."""

BLOCK_BYTES = 256 * 1024
# Lines longer than this are given in pieces, which bounds memory.
_LINE_LIMIT = 1024 * 1024
_LEVELS = {10: "DEBUG", 20: "INFO", 30: "WARNING", 40: "ERROR", 50: "CRITICAL"}
# A beat is due every 100 ms; code that holds the interpreter delays it, but what is written shows nevertheless.
_PATIENCE_S = 0.3


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


def read_lines(folder: Path, ranges: Iterable[Range], worker: int = 0) -> Iterator[Line]:
    """Yield the lines of some parts of a worker's log."""
    folder = present(folder)
    if log_path(folder, worker).exists():
        with NoteReader(folder, worker) as notes:
            for at, data in read_pieces(folder, ranges, worker):
                yield _line(notes, at, data)


def read_pieces(folder: Path, ranges: Iterable[Range], worker: int = 0) -> Iterator[tuple[int, bytes]]:
    """Yield the lines of some parts of a worker's log as places and bytes, without what is known of them."""
    try:
        log = log_path(folder, worker).open("rb", buffering=0)
    except FileNotFoundError:
        return
    with log:
        size = os.fstat(log.fileno()).st_size
        for start, end in ranges:
            lines = _Lines(start)
            for block in _blocks(log, start, size if end is None else min(end, size)):
                yield from lines.feed(block)
            yield from lines.rest()


def _line(notes: NoteReader, at: int, data: bytes) -> Line:
    line = Line(data.decode("utf-8", "backslashreplace"))
    line.time, stream, level = notes.find(at)
    line.stream = STREAMS[stream]
    line.level = (_LEVELS.get(level) or f"LEVEL {level}") if level else None
    return line


class Follower:
    """Where a reader that follows a worker's log is; the log must exist."""

    def __init__(self, folder: Path, worker: int = 0) -> None:
        self._log = open(log_path(folder, worker), "rb", buffering=0)  # noqa: SIM115 — closed by `close`
        self._notes = NoteReader(folder, worker)
        self._part = 0
        self._lines: _Lines | None = None
        self._settled = 0
        self._size, self._grown_at = 0, 0.0

    def close(self) -> None:
        """Close the files."""
        self._log.close()
        self._notes.close()

    def read(self, parts: Sequence[Range], over: bool) -> Iterator[Line]:
        """Yield what has come of some parts, of which more may come; `over` tells that nothing will any more."""
        upto = self._settled_end(over)
        while self._part < len(parts):
            start, end = parts[self._part]
            self._lines = self._lines or _Lines(start)
            yield from self._read(self._lines, upto if end is None else min(end, upto))
            if not over and (end is None or self._lines.end < end):
                break
            yield from self._finish(self._lines)

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


def _blocks(log: BinaryIO, start: int, end: int) -> Iterator[bytes]:
    while start < end:
        block = os.pread(log.fileno(), min(BLOCK_BYTES, end - start), start)
        if not block:
            return
        start += len(block)
        yield block


def log_size(folder: Path, worker: int = 0) -> int:
    """Return the size of a worker's log in bytes; 0 if it has none."""
    try:
        return os.stat(log_path(present(folder), worker)).st_size
    except FileNotFoundError:
        return 0


def present(folder: Path) -> Path:
    """Return a run's folder, or where it has gone when the run was sealed."""
    if not folder.exists() and folder.parent.name == "runs":
        return journal.finished_folder(folder.parent.parent, folder.name)
    return folder
