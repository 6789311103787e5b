"""The archive of a source tree: a blob that lists its files, and a blob for each of them.

A file that didn't change is stored once however many runs use it. The list holds paths, kinds and digests and nothing
of times, owners or order, so equal trees have equal archives. What was hashed once is known by what `stat` says of it.
"""

# No `annotations` from `__future__`: msgspec would compile each one when a decoder is made, in each run.

import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from cupola import digest
from cupola.artifacts.blobs import Blobs
from cupola.artifacts.trees import restore_tree, tree_digest
from cupola.engine.provenance.tree import Found, LeftOut, Tree
from cupola.entities.artifact import StoredFile
from cupola.errors import CupolaError, Damaged
from cupola.text import count, size

FORMAT = 1
RACY_NS = 2_000_000_000
"""A file that changed so shortly before it was hashed may change again without a new time of change."""
_MOST_KNOWN = 200
"""How many source roots the home remembers digests of."""
_WORTH_KNOWING = 32
"""Trees of up to so many files are read sooner than what is remembered of them."""


class Archive(msgspec.Struct, frozen=True, array_like=True):
    """What the blob of an archive lists: the files of a tree, sorted by path, and what was left out of it."""

    files: tuple[StoredFile, ...]
    left_out: tuple[LeftOut, ...] = ()
    format: int = FORMAT

    @property
    def digest(self) -> str:
        """The digest of the tree: of what is kept."""
        return tree_digest(self.files)


class Known(msgspec.Struct, frozen=True, array_like=True):
    """What is remembered of a source root: its newest archive, and the digest of each file as it was then."""

    source: str = ""
    archive: str = ""
    files: dict[str, tuple[tuple[int, int, int, int], str]] = {}
    left_out: tuple[LeftOut, ...] = ()
    format: int = FORMAT


class Stored(msgspec.Struct, frozen=True):
    """An archive that is stored: digest of the tree, blob of the list, and what it holds in few words."""

    source: str
    archive: str
    summary: str


_encoder = msgspec.msgpack.Encoder()


def store_archive(tree: Tree, blobs: Blobs, known: Known, go_on: Callable[[], bool] = lambda: True) -> Stored:
    """Store what a tree holds; what is known already isn't read again.

    Args:
        tree: The tree.
        blobs: Where to.
        known: What `read_known` returned for its root.
        go_on: Asked now and then; when it says no, what was hashed so far is remembered for the next time.

    Raises:
        Unreachable: The store can't be written.
        InterruptedError: `go_on` said no.
    """
    summary = _summary(tree)
    if _is_known(tree, known) and blobs.exists(known.archive):
        return Stored(known.source, known.archive, summary)
    files: list[StoredFile] = []
    learned: dict[str, tuple[tuple[int, int, int, int], str]] = {}
    left_out = list(tree.left_out)
    for position, found in enumerate(tree.files):
        if position % 64 == 0 and not go_on():
            write_known(blobs.home, tree.root, Known(files={**known.files, **learned}))
            raise InterruptedError
        try:
            stored = _store_file(tree.root, found, blobs, known)
        except OSError as error:  # it went away or was closed to us since the tree was read
            left_out.append(LeftOut(found.path, f"unreadable: {error.strerror}"))
            continue
        files.append(stored)
        if max(found.signature[1:3]) < time.time_ns() - RACY_NS:
            learned[found.path] = found.signature, stored.blob
    archive = Archive(tuple(files), tuple(sorted(left_out, key=lambda entry: entry.path)))
    name, _size = blobs.put_bytes(_encoder.encode(archive))
    if len(files) > _WORTH_KNOWING:
        write_known(blobs.home, tree.root, Known(archive.digest, name, learned, archive.left_out))
    return Stored(archive.digest, name, summary)


def read_archive(blobs: Blobs, name: str) -> Archive:
    """Read the list of an archive.

    Raises:
        Damaged: The blob is missing, damaged, or no archive of a known format.
    """
    data = blobs.open(name).read_bytes()
    try:
        found = msgspec.msgpack.decode(data, type=Archive)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Damaged(f"blob {name} is no source archive: {error}", fix="`cupola doctor store` checks them") from error
    if found.format != FORMAT:
        raise CupolaError(f"the source archive {name} has format {found.format}", fix="a newer Cupola wrote it")
    return found


def restore_archive(archive: Archive, blobs: Blobs, target: Path) -> None:
    """Write the files of an archive into a new folder.

    Raises:
        Damaged: A file's blob is missing or damaged.
        Unreachable: The folder can't be written.
    """
    restore_tree(archive.files, blobs, target)


def changed_files(tree: Tree, known: Known) -> Sequence[Found]:
    """Return the files of a tree that would have to be read."""
    return [
        found for found in tree.files if found.kind != "l" and known.files.get(found.path, ("",))[0] != found.signature
    ]


def read_known(home: Path, root: str) -> Known:
    """Return what the home remembers of a source root; nothing when that is unreadable or of another format."""
    try:
        found = msgspec.msgpack.decode(_place(home, root).read_bytes(), type=Known)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return Known()
    return found if found.format == FORMAT else Known()


def write_known(home: Path, root: str, known: Known) -> None:
    """Remember what is known of a source root. What can't be written is found out again the next time."""
    place = _place(home, root)
    temporary = place.with_name(f"{place.name}-{os.uname().nodename.replace('/', '_')[:40]}-{os.getpid()}")
    with suppress(OSError):
        if not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            _forget_oldest(place.parent)
        temporary.write_bytes(_encoder.encode(known))
        os.replace(temporary, place)


def _place(home: Path, root: str) -> Path:
    return home / "sources" / digest.blob(os.fsencode(os.path.realpath(root))).partition(":")[2]


def _forget_oldest(folder: Path) -> None:
    entries = sorted(folder.iterdir(), key=lambda entry: entry.stat().st_mtime)
    for entry in entries[: max(0, len(entries) - _MOST_KNOWN + 1)]:
        entry.unlink()


def _is_known(tree: Tree, known: Known) -> bool:
    return (
        bool(known.archive)
        and known.left_out == tree.left_out
        and len(known.files) == len(tree.files)
        and all(known.files.get(found.path, ("",))[0] == found.signature for found in tree.files)
    )


def _store_file(root: str, found: Found, blobs: Blobs, known: Known) -> StoredFile:
    path = os.path.join(root, found.path)
    if found.kind == "l":
        return StoredFile(found.path, os.readlink(path), 0, "l")
    signature, name = known.files.get(found.path, (None, ""))
    if signature == found.signature and blobs.exists(name):
        return StoredFile(found.path, name, found.size_bytes, found.kind)
    name, size_bytes = blobs.put_file(path)
    return StoredFile(found.path, name, size_bytes, found.kind)


def _summary(tree: Tree) -> str:
    said = f"{count(len(tree.files), 'file')}, {size(sum(found.size_bytes for found in tree.files))}"
    if not tree.left_out:
        return said
    reasons = sorted({entry.why.partition(":")[0] for entry in tree.left_out})
    return f"{said}; {len(tree.left_out)} left out ({', '.join(reasons)})"
