"""`File` and `Folder` as outputs: stored by content, so that the source may go; loaded as private copies."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import msgspec

from cupola import digest
from cupola.artifacts.blobs import Blobs
from cupola.artifacts.folder_form import describe_files
from cupola.artifacts.port import StorageForm, describe, only_file
from cupola.artifacts.trees import copy_blob, file_digest, restore_tree, store_tree, tree_digest, walk_tree
from cupola.artifacts.views import private_folder
from cupola.entities.artifact import Manifest, StoredFile
from cupola.errors import Damaged, MaterializerError
from cupola.files import File, Folder
from cupola.journal import cannot_write

_PREVIEW_BYTES = 1000
_TEXT_CONTROLS = b"\n\r\t"


class _Named(msgspec.Struct, frozen=True, array_like=True):
    name: str
    executable: bool = False


_pack = msgspec.msgpack.Encoder().encode


class FileForm(StorageForm):
    """One file: its content as a blob, its name beside it. The name doesn't count."""

    id = "file"

    def store(self, value: File, blobs: Blobs, path: str) -> Manifest:
        place = _existing(value, path)
        if type(value) is not File or place.is_dir():
            raise MaterializerError(
                f"{path} is {value!r}, which is a folder or no plain `File`", where=str(place), fix="return a `Folder`"
            )
        try:
            executable = bool(place.stat().st_mode & stat.S_IXUSR)
            blob, size = blobs.put_file(place)
        except OSError as error:
            raise _unreadable(path, place, error) from error
        identity = digest.value(self.id, self.format, b"x" if executable else b"", blob.encode())
        entry = StoredFile("", blob, size, "x" if executable else "f")
        spec = _pack(_Named(_safe_name(value.name), executable))
        return Manifest(self.id, self.format, "File", identity, size, files=(entry,), spec=spec)

    def load(self, manifest: Manifest, blobs: Blobs, as_type: Any) -> File:
        entry = only_file(manifest)
        name = stored_name(manifest)
        blobs.open(entry.blob)

        def fetch() -> str:
            target = private_folder(blobs.home) / name
            try:
                copy_blob(blobs, entry.blob, target, executable=entry.kind == "x")
            except OSError as error:
                raise cannot_write(target, error) from error
            return str(target)

        return File.stored(name, fetch)

    def metadata(self, value: File, manifest: Manifest) -> dict[str, Any]:
        return {"name": stored_name(manifest), "size_bytes": manifest.size_bytes}

    def preview(self, manifest: Manifest, blobs: Blobs) -> str:
        with blobs.open(only_file(manifest).blob).open("rb") as file:
            start = file.read(_PREVIEW_BYTES)
        head = f"{stored_name(manifest)}: {describe(manifest)}"
        return f"{head}\n{start.decode('utf-8', 'replace')}" if _looks_like_text(start) else head


class FolderForm(StorageForm):
    """A folder: relative paths, content, executable bits, empty folders, and links that stay inside."""

    id = "folder"

    def store(self, value: Folder, blobs: Blobs, path: str) -> Manifest:
        place = _existing(value, path)
        if not place.is_dir():
            raise MaterializerError(f"{path} is {value!r}, which is no folder", where=str(place), fix="return a `File`")
        try:
            files = store_tree(place, blobs)
        except OSError as error:
            raise _unreadable(path, place, error) from error
        size = sum(file.size_bytes for file in files)
        identity = digest.value(self.id, self.format, b"", tree_digest(files).encode())
        spec = _pack(_Named(_safe_name(value.name)))
        return Manifest(self.id, self.format, "Folder", identity, size, files=files, spec=spec)

    def load(self, manifest: Manifest, blobs: Blobs, as_type: Any) -> Folder:
        name = stored_name(manifest)
        for file in manifest.files:
            if file.kind in "fx":
                blobs.open(file.blob)

        def fetch() -> str:
            target = private_folder(blobs.home) / name
            restore_tree(manifest.files, blobs, target)
            return str(target)

        return Folder.stored(name, fetch)

    def metadata(self, value: Folder, manifest: Manifest) -> dict[str, Any]:
        count = sum(file.kind in "fx" for file in manifest.files)
        return {"name": stored_name(manifest), "files": count, "size_bytes": manifest.size_bytes}

    def preview(self, manifest: Manifest, blobs: Blobs) -> str:
        return describe_files(manifest)


def content_digest(path: str | os.PathLike[str]) -> str:
    """Return the digest of the content of a file or folder, whatever its name; remembered until it changes.

    Raises:
        MaterializerError: A folder holds what can't be stored.
        OSError: It is missing or can't be read.
    """
    place = os.path.abspath(path)
    if os.path.isdir(place):
        entries = [
            StoredFile(name, os.readlink(full) if kind == "l" else "" if kind == "d" else _known_digest(full), 0, kind)
            for name, kind, full in walk_tree(Path(place))
        ]
        return tree_digest(entries)
    return _known_digest(place)


_digests: dict[str, tuple[tuple[int, ...], str]] = {}


def _known_digest(path: str) -> str:
    found = os.stat(path)
    seal = (found.st_ino, found.st_dev, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
    known = _digests.get(path)
    if known is not None and known[0] == seal:
        return known[1]
    name = file_digest(path)
    _digests[path] = (seal, name)
    return name


def _existing(value: File, path: str) -> Path:
    place = value.path
    if not place.exists():
        raise MaterializerError(
            f"{path} is {value!r}, which doesn't exist",
            where=str(place),
            fix="write it before you return it; a relative path starts at the source root",
        )
    return place


def _unreadable(path: str, place: Path, error: OSError) -> MaterializerError:
    return MaterializerError(f"{path} can't be read: {error.strerror or error}", where=error.filename or str(place))


def stored_name(manifest: Manifest) -> str:
    """Return the name that a stored file or folder had, as one part of a path.

    Raises:
        Damaged: The record has another form.
    """
    try:
        return _safe_name(msgspec.msgpack.decode(manifest.spec, type=_Named).name)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Damaged(f"the record of a {manifest.type} can't be read: {error}") from error


def _safe_name(name: str) -> str:
    """Return a name that is one part of a path, whatever a record says."""
    last = name.replace("\0", "_").rsplit("/", 1)[-1].encode("utf-8", "replace").decode()
    return last if last not in ("", ".", "..") else "file"


def _looks_like_text(start: bytes) -> bool:
    return bool(start) and not any(byte < 32 and byte not in _TEXT_CONTROLS for byte in start)


FILE = FileForm()
FOLDER = FolderForm()
