"""Content-addressed plain files: bytes go in and a digest comes out, a digest goes in and a verified path comes out.

A blob is written to a temporary file while it is hashed, sealed, made read-only and renamed into place, so that nobody
meets half of one. The seal is the file's own modification time, set to a second that follows from digest and size:
whoever writes to the file later breaks it, and a blob whose seal is broken is hashed again before it is used. One that
isn't what its name says goes to `quarantine/`. The access time tells when a blob was last made or hit.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from cupola import digest
from cupola.artifacts.damage import missing, quarantine
from cupola.artifacts.hashing import HashingThread, has_two_cores
from cupola.artifacts.leftovers import remove_leftovers
from cupola.artifacts.recent import Recent
from cupola.errors import Damaged
from cupola.journal import cannot_write

CHUNK_BYTES = 1 << 21
"""Hashed and written in pieces of this size, while they are in the processor's cache."""
BUFFERED_BYTES = 1 << 18
"""Up to this size bytes are kept: by a writer until it knows whether the blob exists, by the store for who reads it."""
THREADED_BYTES = 1 << 24
"""From this size on a blob is hashed on a second core while it is written."""
RENEW_S = 3600
"""A hit renews a blob whose last use is older than this many seconds."""
_NANOS = 1_000_000_000

Buffer = bytes | bytearray | memoryview


class Blobs:
    """The blob store of one home. Any number of processes may use it at once.

    Args:
        home: Folder of the embedded store; blobs are in its folder `blobs`, damaged ones in `quarantine`.
        sync: Whether a blob and its folder are synced before its digest is returned.

    Attributes:
        recent: What was stored last and is small.
    """

    def __init__(self, home: Path, *, sync: bool = False) -> None:
        self.home = home
        self.sync = sync
        self._folder = str(home / "blobs")
        self._temporary = str(home / "blobs" / "tmp")
        self._owner = 0
        self._prefix = ""
        self._count = itertools.count()
        self.recent = Recent()
        # Files that were hashed and can't be sealed, such as those of another user: what `stat` said of them then.
        self._checked: dict[str, tuple[int, int, int]] = {}

    def put_bytes(self, data: Buffer) -> tuple[str, int]:
        """Store bytes; return digest and size in bytes. An intact blob with these bytes is kept.

        Raises:
            Unreachable: The folder can't be written; nothing is left behind.
        """
        name = digest.blob(data)
        target = self._place_of(name)
        # Nearly all bytes are new; `access` says so at a third of the cost of a `stat` that fails.
        if not (os.access(target, os.F_OK) and self.exists(name)):
            file, path = self.open_temporary()
            try:
                write_all(file, data, path)
                self.seal(file, path, name, len(data))
            except BaseException:
                _discard(path)
                raise
            finally:
                os.close(file)
        if type(data) is bytes and len(data) <= BUFFERED_BYTES:
            self.recent.keep(name, data, len(data))
        return name, len(data)

    def put_file(self, path: str | os.PathLike[str]) -> tuple[str, int]:
        """Store the content of a file; return digest and size in bytes.

        Raises:
            Unreachable: The folder can't be written; nothing is left behind.
            OSError: The file can't be read.
        """
        with self.writer() as writer:
            for chunk in read_chunks(path):
                writer.write(chunk)
            return writer.finish()

    def writer(self) -> BlobWriter:
        """Return a writer for a blob in pieces, to be used in a `with` statement."""
        return BlobWriter(self)

    def exists(self, name: str) -> bool:
        """Tell whether a blob is there and intact; hashes it only when its seal is broken."""
        path = self.path(name)
        try:
            return self._is_intact(name, path)
        except OSError:
            # One that can't be read is as good as none: what made it runs again and says what is wrong.
            return False

    def open(self, name: str) -> Path:
        """Return the path of a blob whose content is what its digest says. Only to be read.

        Raises:
            Damaged: The blob is missing, can't be read, or isn't what it was; the damaged one is moved to `quarantine`.
        """
        return Path(self._open(name))

    def read(self, name: str) -> bytes:
        """Return the content of a blob; of one that this object has just stored, without looking at the disk.

        Raises:
            Damaged: As for `open`.
        """
        data = self.recent.get(name)
        if type(data) is not bytes:
            with open(self._open(name), "rb", buffering=0) as file:
                data = file.readall()
        return data

    def path(self, name: str) -> str:
        """Return where a blob is, or would be; nothing is checked but the form of the digest.

        Raises:
            Damaged: The digest has another form, so a record was changed.
        """
        kind, _, digits = name.partition(":")
        if kind != "blob" or len(digits) != 2 * digest.BYTES or not digits.isalnum() or not digits.isascii():
            raise Damaged(f"{name!r} is not the digest of a blob", fix="`cupola doctor store` checks the records")
        return self._place_of(name)

    def temporary_path(self) -> str:
        """Return a new name for a temporary file on the same file system; told apart over hosts that share it."""
        process = os.getpid()
        if self._owner != process:  # the first one, or the first one after a fork
            self._owner = process
            host = os.uname().nodename.replace("/", "_")[:40]
            self._prefix = f"{self._temporary}/{host}-{process}-{os.urandom(8).hex()}"
            remove_leftovers(self._temporary, host)
        return f"{self._prefix}.{next(self._count)}"

    def open_temporary(self) -> tuple[int, str]:
        """Make a temporary file; return its descriptor, which may write, and its path.

        Raises:
            Unreachable: It can't be made.
        """
        path = self.temporary_path()
        # The file is read-only for everyone from its first moment; this descriptor may write to it all the same.
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            try:
                return os.open(path, flags, 0o444), path
            except FileNotFoundError:
                self.make_folders(self._temporary)
                return os.open(path, flags, 0o444), path
        except OSError as error:
            raise cannot_write(Path(path), error) from error

    def seal(self, file: int, path: str, name: str, size_bytes: int) -> None:
        """Seal a temporary file that holds all bytes of a blob and move it to where the blob belongs.

        Raises:
            Unreachable: It can't be moved; the temporary file is still there.
        """
        target = self._place_of(name)
        try:
            os.utime(file, ns=(time.time_ns(), seal_of(name, size_bytes)))
            if self.sync:
                os.fsync(file)
            try:
                os.rename(path, target)
            except FileNotFoundError:
                self.make_folders(os.path.dirname(target))
                os.rename(path, target)
            if self.sync:
                # Its parent as well, since the folder itself may be new.
                _sync_folder(os.path.dirname(target))
                _sync_folder(self._folder)
        except OSError as error:
            raise cannot_write(Path(target), error) from error

    def make_folders(self, folder: str) -> None:
        """Make a folder below the home.

        Raises:
            Unreachable: It can't be made.
        """
        try:
            try:
                os.mkdir(folder)  # nearly always enough, and `makedirs` looks at each parent first
            except (FileExistsError, FileNotFoundError):
                os.makedirs(folder, exist_ok=True)
        except OSError as error:
            raise cannot_write(Path(folder), error) from error

    def _place_of(self, name: str) -> str:
        return f"{self._folder}/{name[5:7]}/{name[7:]}"

    def _open(self, name: str) -> str:
        path = self.path(name)
        try:
            intact = self._is_intact(name, path)
        except OSError as error:
            raise missing(name, path, error) from error
        if not intact:
            raise quarantine(name, path, self.home)
        return path

    def _is_intact(self, name: str, path: str) -> bool:
        found = os.stat(path)
        if found.st_mtime_ns != seal_of(name, found.st_size):
            return self._checked.get(name) == _signature(found) or self._check(name, path)
        if time.time() - found.st_atime > RENEW_S:
            _renew(path, found.st_mtime_ns)
        return True

    def _check(self, name: str, path: str) -> bool:
        # What `stat` says before the hashing: a write meanwhile makes the next look hash again.
        before = os.stat(path)
        hasher = digest.blob_hasher()
        for chunk in read_chunks(path):
            hasher.update(chunk)
        if digest.blob_of(hasher) != name:
            return False
        self._checked[name] = _signature(before)
        if _signature(os.stat(path)) == _signature(before):
            _renew(path, seal_of(name, before.st_size))
        return True


class BlobWriter:
    """Writes one blob in pieces: `write` any number of times, then `finish`. Without `finish` nothing is left."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._hasher = digest.blob_hasher()
        self._held: list[bytes] = []
        self._file = -1
        self._path = ""
        self._thread: HashingThread | None = None
        self.size_bytes = 0

    def __enter__(self) -> BlobWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._drop()

    def write(self, data: Buffer) -> int:
        """Add bytes; return their number. Large buffers are hashed and written chunk by chunk, without a copy.

        Raises:
            Unreachable: The folder can't be written.
        """
        view = memoryview(data).cast("B")
        self.size_bytes += len(view)
        if self._file < 0 and self.size_bytes <= BUFFERED_BYTES:
            self._held.append(bytes(view))
            return len(view)
        if self._file < 0:
            self._open()
        for start in range(0, len(view), CHUNK_BYTES):
            self._hash_and_write(view[start : start + CHUNK_BYTES])
        return len(view)

    def take_held(self) -> bytes | None:
        """Return everything written so far if none of it has reached a file yet, else None."""
        return None if self._file >= 0 else b"".join(self._held)

    def finish(self) -> tuple[str, int]:
        """Put the blob in its place; return digest and size in bytes.

        Raises:
            Unreachable: The folder can't be written.
        """
        if self._file < 0:
            return self._blobs.put_bytes(b"".join(self._held))
        self._stop_thread()
        name = digest.blob_of(self._hasher)
        if not self._blobs.exists(name):
            self._blobs.seal(self._file, self._path, name, self.size_bytes)
            self._path = ""
        self._drop()
        return name, self.size_bytes

    def _open(self) -> None:
        self._file, self._path = self._blobs.open_temporary()
        for chunk in self._held:
            self._hasher.update(chunk)
            write_all(self._file, chunk, self._path)
        self._held.clear()

    def _hash_and_write(self, chunk: memoryview) -> None:
        if self.size_bytes >= THREADED_BYTES and self._thread is None and has_two_cores():
            self._thread = HashingThread(self._hasher)
        if self._thread is None:
            self._hasher.update(chunk)
            write_all(self._file, chunk, self._path)
        else:
            with self._thread.hashing(chunk):
                write_all(self._file, chunk, self._path)

    def _stop_thread(self) -> None:
        if self._thread is not None:
            self._thread.stop()
            self._thread = None

    def _drop(self) -> None:
        self._stop_thread()
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        if self._path:
            _discard(self._path)
            self._path = ""


def write_all(file: int, data: Buffer, path: str) -> None:
    """Write all bytes to a file; `path` is how it is called in the error.

    Raises:
        Unreachable: They can't be written.
    """
    try:
        written = os.write(file, data)
        while written < len(data):
            written += os.write(file, memoryview(data)[written:])
    except OSError as error:
        raise cannot_write(Path(path), error) from error


def read_chunks(path: str | os.PathLike[str]) -> Iterator[memoryview]:
    """Yield the content of a file in pieces of one buffer, which is filled anew each time."""
    with open(path, "rb", buffering=0) as file:
        buffer = memoryview(bytearray(min(CHUNK_BYTES, max(os.fstat(file.fileno()).st_size, 4096))))
        while count := file.readinto(buffer):
            yield buffer[:count]


def seal_of(name: str, size_bytes: int) -> int:
    """Return the modification time, in nanoseconds, that a blob of this digest and size has while nobody writes to it.

    Whole seconds between 2001 and 2018, which all file systems keep; no write of today ends on one.
    """
    return (1_000_000_000 + (int(name[-16:], 16) + size_bytes) % (1 << 29)) * _NANOS


def _signature(found: os.stat_result) -> tuple[int, int, int]:
    return found.st_ino, found.st_size, found.st_mtime_ns


def _renew(path: str, seal: int) -> None:
    try:
        os.utime(path, ns=(time.time_ns(), seal))
    except OSError:
        # A home that may only be read: nothing is renewed there, and what was hashed is remembered for the process.
        return


def _discard(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return  # moved into place already; what failed came after


def _sync_folder(folder: str) -> None:
    file = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
