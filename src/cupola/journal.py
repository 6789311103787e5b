"""The journal of a run: append-only frames in a file.

A run's folder holds `journal.<epoch>` (one per driver that held the run), `log` (what its steps printed), `lock` (see
`runlock`), and `checkpoints` while steps have some (see `artifacts.checkpoints`). It stands in `runs/` until the run is
sealed, then in `finished/`, so that what is live can be listed without looking at what is over.

A journal file is a header (`CPJ1`, epoch, first sequence number), then frames: length, CRC-32, bytes. Each frame is
written by one `write` before anything depends on it. Recovery cuts a bad tail and never anything before it.
"""

from __future__ import annotations

import errno
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from cupola import digest
from cupola.errors import CupolaError, Damaged, Fenced, Unreachable

FORMAT = b"CPJ1"
CHECKPOINTS = "checkpoints"
"""Name of the folder with the checkpoints of steps, in a run's folder."""
_HEADER = struct.Struct("<4sIQ")
_FRAME = struct.Struct("<II")
HEADER_BYTES = _HEADER.size
FRAME_BYTES = _FRAME.size
"""What a frame takes besides its event."""


def live_folder(home: Path, run: str) -> Path:
    """Return where a run's folder stands while the run is not sealed."""
    return home / "runs" / run


def finished_folder(home: Path, run: str) -> Path:
    """Return where a run's folder stands once it is sealed; the first digits of an id are its time (4.6 hours)."""
    return home / "finished" / run[:6] / run


def run_folder(home: Path, run: str) -> Path:
    """Return where a run's folder stands now; a run that isn't known is answered as if it were live."""
    finished = finished_folder(home, run)
    return finished if finished.is_dir() else live_folder(home, run)


def live_runs(home: Path) -> list[str]:
    """Return the ids of all runs that are not sealed, oldest first."""
    try:
        return sorted(entry for entry in os.listdir(home / "runs") if len(entry) == 32)
    except FileNotFoundError:
        return []


def archive(home: Path, run: str) -> None:
    """Move the folder of a sealed run from the live to the finished ones.

    Raises:
        Unreachable: It can't be moved; the next reader tries again.
    """
    target = finished_folder(home, run)
    try:
        try:
            os.rename(live_folder(home, run), target)
        except FileNotFoundError:
            target.parent.mkdir(parents=True, exist_ok=True)
            os.rename(live_folder(home, run), target)
    except OSError as error:
        raise cannot_write(target, error) from error


class JournalWriter:
    """The one writer of one epoch of a run's journal; whoever makes it must hold the run's lock.

    Attributes:
        head: Sequence number of the last event written.
        epoch: The epoch of this journal.
        folder: The run's folder.
    """

    def __init__(self, folder: Path, epoch: int, head: int, *, sync: bool = False) -> None:
        self.folder = folder
        self.epoch = epoch
        self.head = head
        self._sync = sync
        self._path = folder / f"journal.{epoch}"
        # Made with its first event in one write, so that no reader ever meets a file without a header.
        self._unwritten = _HEADER.pack(FORMAT, epoch, head + 1)
        self._size = 0
        self._is_broken = False
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        try:
            self._file = os.open(self._path, flags, 0o644)
            if sync:
                _sync_folder(folder)
        except FileExistsError:
            raise Fenced(f"run {folder.name} already has a driver of epoch {epoch}", where=str(self._path)) from None
        except OSError as error:
            raise cannot_write(self._path, error) from error

    def append(self, event: bytes) -> int:
        """Write one encoded event; return its sequence number.

        Raises:
            Unreachable: The file can't be written; nothing of the event is left in it.
        """
        data = self._unwritten + frame(event)
        try:
            if self._is_broken:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            written = os.write(self._file, data)
            if written != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if self._sync:
                os.fdatasync(self._file)
        except OSError as error:
            self._cut_off()
            raise cannot_write(self._path, error) from error
        self._unwritten = b""
        self._size += len(data)
        self.head += 1
        return self.head

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def _cut_off(self) -> None:
        try:
            os.ftruncate(self._file, self._size)
        except OSError:
            # Readers pass over a bad tail, but they would never see what stood behind it.
            self._is_broken = True


class Frame(msgspec.Struct, frozen=True):
    """One event as it stands in a journal: its sequence number, its epoch, its encoded bytes."""

    seq: int
    epoch: int
    event: bytes


class JournalReader:
    """Reads a run's journal, all epochs, from the start to what is complete now; `read` again gives what came since."""

    def __init__(self, folder: Path, *, epoch: int = 0, offset: int = 0, after: int = 0) -> None:
        """Begin at the start, or where frame `after` ends: at `offset` of the journal of `epoch`."""
        self._folder = folder
        self._epoch = epoch
        self._offset = offset
        self._next = after + 1

    def read(self) -> Iterator[Frame]:
        """Yield the frames that were not yielded before.

        An incomplete or damaged last frame of a file ends it for now. A later epoch's file begins where its first
        sequence number says, whatever follows that in the file before.
        """
        known = [epoch for epoch in epochs(self._folder) if epoch >= self._epoch]
        for place, epoch in enumerate(known):
            if epoch > self._epoch:
                self._epoch, self._offset = epoch, 0
            end = min((first_of(self._folder, later) for later in known[place + 1 :]), default=_NEVER)
            yield from self._read_file(end)

    def _read_file(self, before: int) -> Iterator[Frame]:
        try:
            with open(self._folder / f"journal.{self._epoch}", "rb") as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return
        at = 0
        if self._offset == 0:
            if len(data) < _HEADER.size:
                return
            magic, _epoch, first = _HEADER.unpack_from(data)
            if magic != FORMAT:
                raise Damaged(
                    f"a journal begins with {magic!r} instead of {FORMAT!r}",
                    where=str(self._folder / f"journal.{self._epoch}"),
                    fix="run `cupola doctor store`; a newer Cupola may have written it",
                )
            self._next, at = first, _HEADER.size
        for event, end in frames(data, at):
            if self._next >= before:
                return
            self._offset += end - at
            if at == _HEADER.size and self._offset == end - at:
                self._offset += _HEADER.size
            at = end
            yield Frame(self._next, self._epoch, event)
            self._next += 1


_NEVER = 2**63


def first_of(folder: Path, epoch: int) -> int:
    """Return the sequence number of the first event of an epoch's journal; beyond all while it has none."""
    try:
        with open(folder / f"journal.{epoch}", "rb") as file:
            head = file.read(_HEADER.size)
    except FileNotFoundError:
        return _NEVER
    return _HEADER.unpack(head)[2] if len(head) == _HEADER.size else _NEVER


def frame(event: bytes) -> bytes:
    """Return bytes as they stand in a journal: length, checksum, the bytes themselves."""
    return _FRAME.pack(len(event), zlib.crc32(event)) + event


def frames(data: bytes, start: int) -> Iterator[tuple[bytes, int]]:
    """Yield each complete frame's bytes and where it ends, up to the first that is incomplete or damaged."""
    at = start
    while at + _FRAME.size <= len(data):
        length, checksum = _FRAME.unpack_from(data, at)
        end = at + _FRAME.size + length
        event = data[at + _FRAME.size : end]
        if end > len(data) or zlib.crc32(event) != checksum:
            return
        yield event, end
        at = end


def epochs(folder: Path) -> list[int]:
    """Return the epochs that a run's folder has journals of, in order."""
    try:
        names = os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(int(name[8:]) for name in names if name.startswith("journal.") and name[8:].isdigit())


def bad_tail(path: Path) -> int:
    """Return how many bytes at the end of a journal file are no complete frame."""
    data = path.read_bytes()
    if len(data) < _HEADER.size:
        return len(data)
    ends = [end for _event, end in frames(data, _HEADER.size)]
    return len(data) - (ends[-1] if ends else _HEADER.size)


def chained(previous: bytes, events: Sequence[bytes]) -> bytes:
    """Return the chained digest after some more events."""
    for event in events:
        previous = digest.chain(previous, event)
    return previous


def cannot_write(path: Path, error: OSError) -> CupolaError:
    """Turn what the system said about a write into an error that says what to do."""
    reasons = {
        errno.ENOSPC: "the disk is full: free some space",
        errno.EDQUOT: "the quota is used up: free some space",
        errno.EFBIG: "a limit on the size of files was reached: raise `ulimit -f`",
        errno.EROFS: "the file system is read-only: set CUPOLA_HOME to a folder that can be written",
        errno.EACCES: "permission is missing: set CUPOLA_HOME to a folder that you can write",
        errno.EPERM: "permission is missing: set CUPOLA_HOME to a folder that you can write",
    }
    fix = reasons.get(error.errno or 0, "set CUPOLA_HOME to a folder that can be written")
    return Unreachable(f"can't write: {error.strerror or error}", where=str(path), fix=fix)


def _sync_folder(folder: Path) -> None:
    file = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
