"""What is known of the bytes in a run's log besides the bytes: notes, in a file of their own beside it.

A note says when a range was written, by which stream and at which level; a beat, about ten a second while the log
grows, says when all bytes up to there were written. Ends of notes never decrease, so a place is found by bisection.
Who writes them is `middleware/capture.py`; `logfile.py` reads them.
"""

from __future__ import annotations

import os
import struct
from collections import deque
from collections.abc import Iterable
from pathlib import Path

RAW, STDOUT, STDERR = 0, 1, 2
"""Streams: descriptor output of C code and children, and Python's two."""
Note = tuple[int, int, float, int, int]
"""Start, end, time, stream and level of a range; a beat has the stream `RAW`."""

_HEADER = b"CPN1"
_NOTE = struct.Struct("<QQdBxH")


def log_path(folder: Path, worker: int = 0) -> Path:
    """Return where a run's folder has the log of a worker; 0 is the driver's own process."""
    return folder / (f"log.{worker}" if worker else "log")


def notes_path(folder: Path, worker: int = 0) -> Path:
    """Return where a run's folder has the notes of a log."""
    return folder / (f"log.{worker}.notes" if worker else "log.notes")


def log_workers(folder: Path) -> list[int]:
    """Return the workers that have a log in a run's folder, in ascending order; 0 is the driver."""
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    numbers = [name.partition(".")[2] for name in names if name.startswith("log.")]
    return sorted({0 if name == "log" else -1 for name in names} - {-1} | {int(n) for n in numbers if n.isdecimal()})


def encode_notes(notes: Iterable[Note], *, first: bool) -> bytes:
    """Return the bytes of some notes; the first of a file begin with its header.

    Ranges that follow each other directly and say the same are joined: for records within a millisecond, for other
    text within a twentieth of a second.
    """
    joined: list[Note] = []
    for note in notes:
        if joined:
            start, end, at, stream, level = joined[-1]
            close = note[2] - at < (0.001 if level else 0.05)
            if close and end == note[0] and stream == note[3] != RAW and level == note[4]:
                joined[-1] = (start, note[1], at, stream, level)
                continue
        joined.append(note)
    return (_HEADER if first else b"") + b"".join(_NOTE.pack(*note) for note in joined)


class NoteReader:
    """Finds what is known of a byte, for bytes in ascending order; another order works, but slower."""

    def __init__(self, folder: Path, worker: int = 0) -> None:
        self._path = notes_path(folder, worker)
        self._file = -1
        self._next = 0
        self._asked = -1
        self._notes: deque[Note] = deque()
        self._beats: deque[Note] = deque()
        self._is_at_end = False
        self._from = self._until = 0
        self._found = (0.0, RAW, 0)
        self._time = os.stat(log_path(folder, worker)).st_mtime
        self._open()

    def __enter__(self) -> NoteReader:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def find(self, at: int) -> tuple[float, int, int]:
        """Return time, stream and level of a byte."""
        # A note of much output covers thousands of lines.
        if not self._from <= at < self._until:
            self._go_to(at)
            self._found = self._look(at)
        return self._found

    def _look(self, at: int) -> tuple[float, int, int]:
        notes, beats = self._notes, self._beats
        self._from = self._until = at
        if notes and notes[0][0] <= at:
            _start, self._until, self._time, stream, level = notes[0]
            return self._time, stream, level
        if beats and beats[0][0] <= at:
            self._time = beats[0][2]
            self._until = min(beats[0][1], notes[0][0]) if notes else beats[0][1]
        return self._time, RAW, 0

    def last_beat(self) -> int:
        """Look for notes that have come meanwhile, and return the byte up to which all are there."""
        self._is_at_end = False
        self._open()
        for index in range(self._count() - 1, -1, -1):
            note = self._read(index, 1)[0]
            if note[3] == RAW:
                return note[1]
        return 0

    def read_new(self, upto: int) -> tuple[list[Note], int]:
        """Return the notes that were not read so before and end at or before a byte, and up to where all are known."""
        self._open()
        notes: list[Note] = []
        known = 0
        while more := self._read(self._next, 256):
            for note in more:
                if note[1] > upto:
                    return notes, known
                self._next += 1
                notes.append(note)
                known = note[1] if note[3] == RAW else known
        return notes, known

    def _go_to(self, at: int) -> None:
        if at < self._asked or self._asked < 0:
            self._notes.clear()
            self._beats.clear()
            self._next = self._bisect(at)
            self._is_at_end = False
        self._asked = at
        for found in (self._notes, self._beats):
            while found and found[0][1] <= at:
                found.popleft()
        while not self._beats and not self._is_at_end:
            more = self._read(self._next, 256)
            self._is_at_end = not more
            self._next += len(more)
            for note in more:
                if note[1] > at:
                    (self._beats if note[3] == RAW else self._notes).append(note)

    def _bisect(self, at: int) -> int:
        """Return the index of the first note that ends after a byte."""
        low, high = 0, self._count()
        while low < high:
            middle = (low + high) // 2
            if self._read(middle, 1)[0][1] > at:
                high = middle
            else:
                low = middle + 1
        return low

    def _open(self) -> None:
        # The first output of a run makes the file, so a follower may be here before it.
        if self._file < 0 and self._path.exists():
            self._file = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)

    def _count(self) -> int:
        return (os.fstat(self._file).st_size - len(_HEADER)) // _NOTE.size if self._file >= 0 else 0

    def _read(self, index: int, count: int) -> list[Note]:
        if self._file < 0:
            return []
        data = os.pread(self._file, count * _NOTE.size, len(_HEADER) + index * _NOTE.size)
        whole = len(data) // _NOTE.size * _NOTE.size
        return list(_NOTE.iter_unpack(data[:whole]))
