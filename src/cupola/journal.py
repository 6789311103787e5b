"""The journal of a run: append-only frames in a file, and the lock that says who may append.

A run's folder holds `journal.<epoch>` (one per driver that held the run), `log` (what its steps printed) and `lock`
(held by the driver for as long as it lives; nothing else opens it). It stands in `runs/` until the run is sealed, then
in `finished/`, so that what is live can be listed without looking at what is over.

A journal file is a header (`CPJ1`, epoch, first sequence number), then frames: length, CRC-32, bytes. Each frame is
written by one `write` before anything depends on it. Recovery cuts a bad tail and never anything before it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from cupola import digest
from cupola.errors import CupolaError, Damaged, Fenced, NotFound, Unreachable

FORMAT = b"CPJ1"
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
    """Move the folder of a sealed run from the live to the finished ones."""
    target = finished_folder(home, run)
    try:
        os.rename(live_folder(home, run), target)
    except FileNotFoundError:
        target.parent.mkdir(parents=True, exist_ok=True)
        os.rename(live_folder(home, run), target)


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
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        try:
            self._file = os.open(self._path, flags, 0o644)
        except FileExistsError:
            raise Fenced(f"run {folder.name} already has a driver of epoch {epoch}", where=str(self._path)) from None
        except OSError as error:
            raise cannot_write(self._path, error) from error
        if sync:
            _sync_folder(folder)

    def append(self, event: bytes) -> int:
        """Write one encoded event; return its sequence number.

        Raises:
            Unreachable: The file can't be written; nothing of the event is left in it.
        """
        data = self._unwritten + frame(event)
        try:
            written = os.write(self._file, data)
            if written != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if self._sync:
                os.fdatasync(self._file)
        except OSError as error:
            os.ftruncate(self._file, self._size)
            raise cannot_write(self._path, error) from error
        self._unwritten = b""
        self._size += len(data)
        self.head += 1
        return self.head

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


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


class Holder(msgspec.Struct, frozen=True):
    """Who holds a run's lock.

    Attributes:
        pid: Process id.
        started: When that process started, in clock ticks since boot.
        host: Where it runs.
        takes_signals: Whether SIGTERM stops the run there, and not just the process.
    """

    pid: int
    started: str
    host: str
    takes_signals: bool


class RunLock:
    """The right to write a run's journal, held until `release` or the death of the process.

    It is an `flock`, so the kernel frees it at death whatever the death. Forked children close it, or one that outlives
    its parent would keep the run alive.
    """

    def __init__(self, file: int) -> None:
        self._file = file
        if not _held:
            _close_locks_in_children()
        _held[file] = self

    def is_lost(self) -> bool:
        """Tell whether another driver took the run over by force: it put a lock of its own in the place of this one."""
        return not os.fstat(self._file).st_nlink

    def release(self) -> None:
        """Let others write."""
        if _held.pop(self._file, None) is not None:
            os.close(self._file)


_held: dict[int, RunLock] = {}


def lock_run(folder: Path, *, takes_signals: bool = False) -> RunLock | None:
    """Take a run's lock, or return None when a living process holds it.

    Args:
        folder: The run's folder.
        takes_signals: Whether this process stops the run when it gets SIGTERM.

    Raises:
        Unreachable: The folder can't be written.
    """
    path = folder / "lock"
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise cannot_write(path, error) from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return None
    if not _is_at(path, file):
        # The run was sealed and moved away between the two calls: there is nothing left to hold.
        os.close(file)
        return None
    os.ftruncate(file, 0)
    os.pwrite(
        file, f"{os.getpid()} {process_start(os.getpid())} {os.uname().nodename} {int(takes_signals)}\n".encode(), 0
    )
    return RunLock(file)


def reopen(home: Path, run: str, *, takes_signals: bool = False) -> RunLock | None:
    """Take the lock of a run that has begun, and put its folder back among the live ones; None when it is held.

    Raises:
        NotFound: The run has no folder any more.
    """
    for _attempt in range(3):
        folder = run_folder(home, run)
        lock = lock_run(folder, takes_signals=takes_signals)
        if lock is not None:
            if folder != live_folder(home, run):
                os.makedirs(live_folder(home, run).parent, exist_ok=True)
                os.rename(folder, live_folder(home, run))
            return lock
        if folder.is_dir():
            # Held, unless it was moved between the two looks.
            if folder == run_folder(home, run):
                return None
            continue
    raise NotFound(f"run {run} has no journal any more", where=str(live_folder(home, run)), fix="it can be run anew")


def take_over(folder: Path) -> None:
    """Take a run from a driver that lives but is stuck: it finds itself fenced at its next write."""
    with suppress(FileNotFoundError):
        os.unlink(folder / "lock")


def _is_at(path: Path, file: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(file))
    except FileNotFoundError:
        return False


def read_holder(folder: Path) -> Holder | None:
    """Return who wrote itself into a run's lock last, or None when nobody did."""
    try:
        pid, started, host, takes_signals = (folder / "lock").read_text().split()
    except (OSError, ValueError):
        return None
    return Holder(int(pid), started, host, takes_signals == "1")


def ask_to_cancel(folder: Path, who: str) -> None:
    """Leave word in a live run's folder that somebody wants it to stop; its driver looks for that."""
    try:
        (folder / "cancel").write_text(who, encoding="utf-8")
    except FileNotFoundError:
        pass
    except OSError as error:
        raise cannot_write(folder / "cancel", error) from error


def asked_to_cancel(folder: Path) -> str:
    """Return who wants a run to stop; empty when nobody does."""
    try:
        return (folder / "cancel").read_text(encoding="utf-8")
    except OSError:
        return ""


def forget_cancel(folder: Path) -> None:
    """Take back what `ask_to_cancel` left for an earlier driver."""
    with suppress(FileNotFoundError):
        os.unlink(folder / "cancel")


def fenced(folder: Path) -> Fenced:
    """Return the error of a driver whose run another one has taken over."""
    home, run = folder.parent.parent, folder.name
    # The other one may have finished the run meanwhile.
    winner = read_holder(folder) or read_holder(finished_folder(home, run))
    who = f"process {winner.pid} on {winner.host}" if winner else "another driver"
    return Fenced(
        f"run {run} was taken over by {who}: nothing of this process is recorded any more",
        where=str(folder),
        fix="let that one go on; `cupola ps` shows it",
    )


def process_start(pid: int) -> str:
    """Return when a process started, in a form that tells it from a later one with the same id; `0` if unknown."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The name in parentheses may hold spaces and parentheses itself, so count from its end.
            return file.read().rpartition(b")")[2].split()[19].decode()
    except (OSError, IndexError):
        return "0"


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


def _close_locks_in_children() -> None:
    if not _registered:
        _registered.append(True)
        os.register_at_fork(after_in_child=_forget_locks)


_registered: list[bool] = []


def _forget_locks() -> None:
    for file in list(_held):
        del _held[file]
        os.close(file)


def _sync_folder(folder: Path) -> None:
    file = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
