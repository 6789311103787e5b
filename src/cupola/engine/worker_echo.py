"""Shows what workers print where the driver's own process shows what it prints.

Whole lines, each with its step's name when several steps run at once, progress bars folded to their last state.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from cupola.loglines import log_size
from cupola.lognotes import RAW, NoteReader, log_path
from cupola.middleware.echo import Echo
from cupola.text import printable

Show = Callable[[bytes, int], None]
_ALL = frozenset({0, 1, 2})
# A line that doesn't end is shown in pieces of this size.
_LINE_BYTES = 64 * 1024


class WorkerEcho:
    """Copies the logs of the workers of one run as they grow; used by the driver's thread only.

    Args:
        folder: The run's folder.
        show: Takes bytes and their stream.
    """

    def __init__(self, folder: Path, show: Show) -> None:
        self._folder = folder
        self._show = show
        self._copies: dict[int, _Copy] = {}

    def begin(self, worker: int, name: str, at: int, *, is_followed: bool = False) -> None:
        """Note that a step begins in a worker.

        Args:
            worker: Number of the worker.
            name: The step's, which its lines get once it isn't the only one.
            at: Where the worker's log ended.
            is_followed: Whether the worker goes on with another step by itself: what it prints is told apart only when
                the step is over.
        """
        copy = self._copies.get(worker)
        if copy is None:
            copy = self._copies[worker] = _Copy(self._folder, worker, self._show, at)
        copy.prefix = f"[{printable(name)}] ".encode()
        copy.is_named = False
        copy.is_followed = is_followed

    def copy(self, several: bool) -> None:
        """Show what has come, as far as the workers have noted which stream it was."""
        for copy in self._copies.values():
            copy.is_named = copy.is_named or several
            if not copy.is_followed:
                copy.go_on(None)

    def finish(self, worker: int, end: int, several: bool) -> None:
        """Show the rest of what a step printed."""
        copy = self._copies.get(worker)
        if copy is not None:
            copy.is_named = copy.is_named or several
            copy.go_on(end)
            copy.end_lines()

    def close(self) -> None:
        """Show what is left, and close the files."""
        for worker, copy in self._copies.items():
            copy.go_on(log_size(self._folder, worker))
            copy.end_lines()
            copy.close()
        self._copies.clear()


class _Copy:
    """How far the log of one worker is shown; it is the sink of its own echo."""

    def __init__(self, folder: Path, worker: int, show: Show, at: int) -> None:
        self.prefix = b""
        self.is_named = False
        self.is_followed = False
        self._folder = folder
        self._worker = worker
        self._show = show
        self._at = at
        self._file = -1
        self._notes: NoteReader | None = None
        self._echo: Echo | None = None
        self._open_lines: dict[int, bytes] = {}

    def go_on(self, end: int | None) -> None:
        """Copy up to a byte; None stands for as far as the notes tell all."""
        if self._echo is None and not self._open():
            return
        assert self._echo is not None
        assert self._notes is not None
        size = os.fstat(self._file).st_size
        if size <= self._at:
            return
        notes, known = self._notes.read_new(size if end is None else end)
        upto = known if end is None else end
        if upto > self._at:
            self._at = upto
            self._echo.copy([note for note in notes if note[3] != RAW], upto)

    def _open(self) -> bool:
        with suppress(FileNotFoundError):
            self._file = os.open(log_path(self._folder, self._worker), os.O_RDONLY | os.O_CLOEXEC)
            self._notes = NoteReader(self._folder, self._worker)
            self._echo = Echo(self._file, self, _ALL, self._at)
            return True
        return False

    def write(self, data: bytes, stream: int) -> None:
        """Show the whole lines of some bytes, and keep the rest."""
        text = self._open_lines.pop(stream, b"") + data
        *whole, rest = text.split(b"\n")
        if len(rest) > _LINE_BYTES:
            whole.append(rest)
            rest = b""
        if rest:
            self._open_lines[stream] = rest
        if whole:
            prefix = self.prefix if self.is_named else b""
            self._show(b"".join(prefix + _folded(line) + b"\n" for line in whole), stream)

    def end_lines(self) -> None:
        """Show lines without an end."""
        for stream in list(self._open_lines):
            self.write(b"\n", stream)

    def close(self) -> None:
        """Close the files."""
        if self._file >= 0:
            os.close(self._file)
        if self._notes is not None:
            self._notes.close()


def _folded(line: bytes) -> bytes:
    return line.rstrip(b"\r").rpartition(b"\r")[2] if b"\r" in line else line
