"""The files by which drivers that share a store tell each other what their steps have and wait for.

Each driver has a file of its own, which counts while it holds an `flock` on it: the kernel takes that away when the
driver dies, however it dies, so a death in the middle of anything leaves nothing that counts. Nobody writes another's
file. Whoever decides by what all of them say holds the lock of the folder for some microseconds.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Generator, Iterable
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import msgspec

from cupola import journal, runlock
from cupola.engine.shares import Share
from cupola.errors import Damaged
from cupola.ids import new_id

_LOCK_S = 1.0
"""How long to wait for the folder's lock; who holds it longer was stopped in these microseconds."""
_ENDING = ".holder"
_READS = 3
_FEW_BYTES = 4096


class Book(msgspec.Struct, frozen=True, array_like=True):
    """What the file of a driver says: its process, and the shares of its steps."""

    pid: int
    started: str
    host: str
    shares: tuple[Share, ...]


class Holders:
    """The files of all drivers of a store, seen from one of them. Nothing is made before the first use."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = -1
        self._file = -1
        self._name = ""
        self._written = b""
        self._process = (0, "", "")
        self._others: dict[str, _Other] = {}

    @contextmanager
    def alone(self) -> Generator[bool]:
        """Hold the folder's lock; yield whether it could be had.

        Raises:
            Unreachable: The folder can't be written.
        """
        if self._lock < 0:
            self._lock = _open(self._folder, "lock")
            _keep_from_children(self)
        deadline = time.monotonic() + _LOCK_S
        has_lock = _try_lock(self._lock)
        while not has_lock and time.monotonic() < deadline:
            time.sleep(0.0003)
            has_lock = _try_lock(self._lock)
        try:
            yield has_lock
        finally:
            if self._lock >= 0:
                fcntl.flock(self._lock, fcntl.LOCK_UN)

    def next_number(self, known: Iterable[Share]) -> int:
        """Return a number above all that were ever given; the lock's file remembers the last. Hold the lock."""
        last = int.from_bytes(os.pread(self._lock, 8, 0), "big")
        number = max(last, *(share.number for share in known), 0) + 1
        os.pwrite(self._lock, number.to_bytes(8, "big"), 0)
        return number

    def read_others(self) -> list[Share]:
        """Return what all other living drivers say, and remove what dead ones left. Hold the lock.

        Raises:
            Damaged: The file of a living driver can't be read.
        """
        try:
            names = {name for name in os.listdir(self._folder) if name.endswith(_ENDING)} - {self._name}
        except OSError as error:
            raise journal.cannot_write(self._folder, error) from error
        for name in self._others.keys() - names:
            os.close(self._others.pop(name).file)
        shares: list[Share] = []
        for name in names:
            if name not in self._others:
                with suppress(FileNotFoundError):  # it was given back just now
                    path = self._folder / name
                    self._others[name] = _Other(os.open(path, os.O_RDONLY | os.O_CLOEXEC), path)
            other = self._others.get(name)
            if other is not None and _is_held(other.file):
                shares += other.read().shares
            elif other is not None:
                with suppress(OSError):  # it is another user's, in a folder where only the owner may remove it
                    os.unlink(self._folder / name)
        return shares

    def write(self, shares: Iterable[Share]) -> None:
        """Say what the steps of this driver have and wait for. Hold the lock, if it is more than before.

        Raises:
            Unreachable: The file can't be written; it says what it said before.
        """
        if self._file < 0:
            name = new_id() + _ENDING
            self._file, self._name = _open(self._folder, name), name
            fcntl.flock(self._file, fcntl.LOCK_EX)
            pid = os.getpid()
            self._process = pid, runlock.process_start(pid), os.uname().nodename
        book = Book(*self._process, tuple(shares))
        # The frame says where it ends, so what an earlier, longer one left behind it doesn't matter.
        data = journal.frame(msgspec.msgpack.encode(book))
        try:
            if os.pwrite(self._file, data, 0) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            with suppress(OSError):
                os.pwrite(self._file, self._written, 0)
            raise journal.cannot_write(self._folder / self._name, error) from error
        self._written = data

    def close(self) -> None:
        """Take this driver's file away: nothing of it counts any more."""
        if self._name:
            with suppress(OSError):
                os.unlink(self._folder / self._name)
        self.forget()

    def forget(self) -> None:
        """Close all files; in a forked child what the parent has stays the parent's."""
        for file in (self._lock, self._file, *(other.file for other in self._others.values())):
            if file >= 0:
                os.close(file)
        self._lock = self._file = -1
        self._name, self._written, self._others = "", b"", {}
        _with_files.pop(id(self), None)


def read_books(folder: Path) -> list[Book]:
    """Return what all living drivers say. Nothing is locked for long, and nothing is written."""
    try:
        names = [name for name in os.listdir(folder) if name.endswith(_ENDING)]
    except OSError:
        return []
    books: list[Book] = []
    for name in names:
        with suppress(OSError, Damaged), open(folder / name, "rb") as file:
            if _is_held(file.fileno()):
                books.append(_Other(file.fileno(), folder / name).read())
    return books


class _Other:
    """The file of another driver, and what it said last, so that it is decoded only when it says something new."""

    def __init__(self, file: int, path: Path) -> None:
        self.file = file
        self._path = path
        self._data = b""
        self._book = Book(0, "", "", ())

    def read(self) -> Book:
        """Return what it says now."""
        for _attempt in range(_READS):
            data = os.pread(self.file, _FEW_BYTES, 0)
            if len(data) == _FEW_BYTES:
                data = os.pread(self.file, os.fstat(self.file).st_size, 0)
            if data == self._data:
                return self._book
            for event, _end in journal.frames(data, 0):
                self._data, self._book = data, _decoder().decode(event)
                return self._book
        raise Damaged(
            "what another driver's steps have of the host can't be read",
            where=str(self._path),
            fix=f"end the process that holds it: `fuser {self._path}` names it",
        )


def _is_held(file: int) -> bool:
    """Tell whether the driver whose file it is lives."""
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(file, fcntl.LOCK_UN)
    return False


def _try_lock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _open(folder: Path, name: str) -> int:
    path = folder / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise journal.cannot_write(path, error) from error


@cache
def _decoder() -> msgspec.msgpack.Decoder[Book]:
    return msgspec.msgpack.Decoder(Book)


_with_files: dict[int, Holders] = {}
"""Those with open files: forked children close them, or one that outlives its parent would go on holding."""
_registered: list[bool] = []


def _keep_from_children(holders: Holders) -> None:
    _with_files[id(holders)] = holders
    if not _registered:
        _registered.append(True)
        os.register_at_fork(after_in_child=_forget_all)


def _forget_all() -> None:
    for holders in list(_with_files.values()):
        holders.forget()
