"""Folders as blobs and back: relative paths, executable bits, empty folders and links, and nothing outside of them."""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from cupola import digest
from cupola.artifacts.blobs import Blobs, read_chunks
from cupola.entities.artifact import StoredFile
from cupola.errors import Damaged, MaterializerError
from cupola.journal import cannot_write


def store_tree(folder: Path, blobs: Blobs) -> tuple[StoredFile, ...]:
    """Store what is in a folder; return its entries sorted by path.

    Raises:
        MaterializerError: It holds a link that leads outside, a socket or the like, or a name that isn't UTF-8.
    """
    entries: list[StoredFile] = []
    for path, kind, full in walk_tree(folder):
        if kind in "fx":
            name, size = blobs.put_file(full)
        else:
            name, size = os.readlink(full) if kind == "l" else "", 0
        entries.append(StoredFile(path, name, size, kind))
    return tuple(entries)


def walk_tree(folder: Path) -> Iterator[tuple[str, str, str]]:
    """Yield `(relative path, kind, full path)` of what is in a folder, sorted by path, with the kinds of `StoredFile`.

    Raises:
        MaterializerError: As for `store_tree`.
    """
    root = os.path.realpath(folder)
    waiting = [("", root)]
    found: list[tuple[str, str, str]] = []
    while waiting:
        prefix, place = waiting.pop()
        with os.scandir(place) as entries:
            listed = list(entries)
        if not listed and prefix:
            found.append((prefix[:-1], "d", place))
        for entry in listed:
            path = prefix + entry.name
            kind = _kind_of(entry, path, root)
            if kind:
                found.append((path, kind, entry.path))
            else:
                waiting.append((path + "/", entry.path))
    return iter(sorted(found))


def _kind_of(entry: os.DirEntry[str], path: str, root: str) -> str:
    """Return the kind of an entry, empty for a folder to look into."""
    try:
        path.encode()
    except UnicodeEncodeError:
        raise MaterializerError(f"the name {path!r} in the folder is not UTF-8", where=root, fix="rename it") from None
    if entry.is_symlink():
        target = os.readlink(entry.path)
        inside = os.path.realpath(entry.path)
        if not stays_inside(path, target) or not (inside == root or inside.startswith(root + os.sep)):
            raise MaterializerError(
                f"the link {path!r} leads outside of the folder, to {target!r}",
                where=root,
                fix="put a copy in its place, or a relative link to something in the folder",
            )
        return "l"
    if entry.is_dir():
        return ""
    if entry.is_file():
        return "x" if entry.stat().st_mode & stat.S_IXUSR else "f"
    raise MaterializerError(f"{path!r} in the folder is no file, folder or link", where=root, fix="take it away")


def stays_inside(path: str, target: str) -> bool:
    """Tell whether a link at a relative path leads to something inside of the folder that the path starts at."""
    if not target or posixpath.isabs(target):
        return False
    # Each step up is checked where it stands: `a/../../b` leaves, although it may come back.
    depth = path.count("/")
    for part in target.split("/"):
        depth += -1 if part == ".." else part not in ("", ".")
        if depth < 0:
            return False
    return True


def restore_tree(files: Sequence[StoredFile], blobs: Blobs, target: Path) -> None:
    """Write the entries of a stored folder into a new folder.

    Args:
        files: What `store_tree` returned.
        blobs: Where the content is.
        target: Folder that doesn't exist yet; its parent does.

    Raises:
        Damaged: A blob is missing or damaged, or an entry would land outside of the target.
        Unreachable: The target can't be written.
    """
    for entry in files:
        _check_path(entry)
    try:
        target.mkdir()
        # Links last, so that nothing is ever written through one.
        for entry in sorted(files, key=lambda entry: entry.kind == "l"):
            place = target / entry.path
            place.parent.mkdir(parents=True, exist_ok=True)
            if entry.kind == "d":
                place.mkdir(exist_ok=True)
            elif entry.kind == "l":
                os.symlink(entry.blob, place)
            else:
                copy_blob(blobs, entry.blob, place, executable=entry.kind == "x")
    except OSError as error:
        import shutil  # here, since it brings three libraries of compression

        shutil.rmtree(target, ignore_errors=True)
        raise cannot_write(target, error) from error


def _check_path(entry: StoredFile) -> None:
    parts = entry.path.split("/")
    is_bad = posixpath.isabs(entry.path) or any(part in ("", ".", "..") for part in parts) or "\0" in entry.path
    if is_bad or (entry.kind == "l" and not stays_inside(entry.path, entry.blob)):
        raise Damaged(
            f"the record of a stored folder has an entry that leads outside of it: {entry.path!r}",
            fix="`cupola doctor store` checks the records",
        )


def copy_blob(blobs: Blobs, name: str, target: Path, *, executable: bool = False) -> None:
    """Copy a blob to a new file of the user's, writable by its owner.

    Raises:
        Damaged: The blob is missing or damaged.
        OSError: The target can't be written.
    """
    # copyfile clones where the file system can, so that even large files cost nothing there.
    import shutil  # here, since it brings three libraries of compression

    shutil.copyfile(blobs.open(name), target)
    target.chmod(0o755 if executable else 0o644)


def tree_digest(files: Sequence[StoredFile]) -> str:
    """Return the digest of a folder's content."""
    return digest.folder((entry.path, entry.kind, entry.blob) for entry in files)


def file_digest(path: str | os.PathLike[str]) -> str:
    """Return the digest that a file's content has as a blob."""
    hasher = digest.blob_hasher()
    for chunk in read_chunks(path):
        hasher.update(chunk)
    return digest.blob_of(hasher)
