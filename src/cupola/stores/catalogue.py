"""The catalogue's journal: what people changed or deleted, so that a rebuilt database knows it too.

One file for the whole store, appended to under its write lock: a mark (`CPC1`), then frames as in a run's journal. Each
is one write: all its changes hold or none does.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from cupola import journal
from cupola.errors import Damaged
from cupola.stores.files import CATALOGUE

MAGIC = b"CPC1"


class Removed(msgspec.Struct, frozen=True, array_like=True, tag="removed"):
    """What was deleted, by id.

    Attributes:
        runs: Id and number of each run; numbers are never given again.
        steps: Ids of steps.
        versions: Ids of artifact versions.
        last: For artifacts that lost their newest version, `(project, name, number)`: the next number is larger.
    """

    runs: tuple[tuple[str, int], ...] = ()
    steps: tuple[str, ...] = ()
    versions: tuple[str, ...] = ()
    last: tuple[tuple[str, str, int], ...] = ()


class Changed(msgspec.Struct, frozen=True, array_like=True, tag="changed"):
    """Tags and metadata that people changed; fields as in `Update`."""

    kind: str
    id: str
    add_tags: tuple[str, ...] = ()
    remove_tags: tuple[str, ...] = ()
    metadata: dict[str, bytes | None] = {}


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """One write: its key, when, and its changes."""

    key: str
    at: float
    changes: tuple[Removed | Changed, ...]


_encoder = msgspec.msgpack.Encoder(order="deterministic")


def append(home: Path, entry: Entry) -> None:
    """Write one entry at the end; the caller holds the store's write lock.

    Raises:
        Unreachable: The file can't be written; nothing of the entry is left in it.
    """
    path = home / CATALOGUE
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise journal.cannot_write(path, error) from error
    try:
        # What stands behind the last good entry is the rest of a write that was cut off.
        end = good_bytes(path)
        os.ftruncate(file, end)
        data = (b"" if end else MAGIC) + journal.frame(_encoder.encode(entry))
        if os.pwrite(file, data, end) != len(data):
            os.ftruncate(file, end)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError as error:
        raise journal.cannot_write(path, error) from error
    finally:
        os.close(file)


def read(home: Path, start: int = 0) -> Iterator[tuple[Entry, int]]:
    """Yield each entry from a position on, and where it ends.

    Raises:
        Damaged: The file is no catalogue, or an entry is of a format that this Cupola doesn't know.
    """
    path = home / CATALOGUE
    data = _read(path)
    for content, end in journal.frames(data, max(start, len(MAGIC))):
        try:
            yield msgspec.msgpack.decode(content, type=Entry), end
        except msgspec.DecodeError as error:
            raise Damaged(
                f"an entry of the catalogue can't be read: {error}", where=str(path), fix="did a newer Cupola write it?"
            ) from error


def good_bytes(path: Path) -> int:
    """Return where the last complete entry ends; 0 for an empty or missing file."""
    data = _read(path)
    ends = [end for _content, end in journal.frames(data, len(MAGIC))]
    return ends[-1] if ends else len(data[: len(MAGIC)])


def _read(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return b""
    if data and not data.startswith(MAGIC):
        raise Damaged(
            f"the catalogue begins with {data[:4]!r} instead of {MAGIC!r}",
            where=str(path),
            fix="put it back from a copy, or move it away: then tags and deletions made by people are lost",
        )
    return data
