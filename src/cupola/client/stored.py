"""What lies behind an artifact version: loading it, looking at it, copying it out."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec

from cupola import values
from cupola.artifacts.blobs import read_chunks
from cupola.artifacts.materializer import load_value, preview_value
from cupola.client.connect import Connection
from cupola.entities.artifact import Manifest, StoredFile, VersionRecord
from cupola.errors import Conflict, CupolaError, Damaged
from cupola.journal import cannot_write
from cupola.text import printable


def load_version(connection: Connection, record: VersionRecord, as_type: Any, *, allow_pickle: bool) -> Any:
    """Return the value of a version; see `ArtifactVersion.load`."""
    return load_value(record.manifest, connection.blobs, as_type, allow_pickle=allow_pickle)


def preview_version(connection: Connection, record: VersionRecord) -> str:
    """Return a short text about a value; what can't be read is said in the text, since a page shows more than it."""
    try:
        return preview_value(record.manifest, connection.blobs)
    except CupolaError as error:
        return f"no preview: {error.what}"


def download_version(connection: Connection, record: VersionRecord, path: Path) -> Path:
    """Copy what is stored to a path that doesn't exist yet; nothing is left there when it fails.

    Raises:
        Conflict: Something is there already.
        Damaged: What is stored is missing or damaged.
        Unreachable: The path can't be written.
    """
    if path.exists() or path.is_symlink():
        raise Conflict(f"{printable(str(path))} exists already", fix="name another path, or remove it first")
    import shutil  # brings compression along, which no run needs

    manifest = record.manifest
    part = path.with_name(f".{path.name[:100]}.{os.getpid()}.part")
    try:
        if manifest.inline is not None:
            part.write_bytes(_useful_bytes(manifest.inline, manifest))
        elif manifest.materializer == "value":
            stored = connection.blobs.open(manifest.files[0].blob)
            part.write_bytes(_useful_bytes(stored.read_bytes(), manifest))
        elif len(manifest.files) == 1 and manifest.files[0].path == "":
            _copy(connection, manifest.files[0], part)
        else:
            part.mkdir()
            for file in manifest.files:
                _place(connection, file, part)
        os.rename(part, path)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        if part.is_dir():
            shutil.rmtree(part)
        else:
            part.unlink(missing_ok=True)
    return path


def _useful_bytes(data: bytes, manifest: Manifest) -> bytes:
    """Return what is worth having in a file: plain values as JSON, all else as it is stored."""
    if manifest.materializer != "value":
        return data
    return msgspec.json.format(msgspec.json.encode(values.to_json(values.decode(data))), indent=2) + b"\n"


def _place(connection: Connection, file: StoredFile, folder: Path) -> None:
    """Put one file of a stored folder where it belongs, never outside of it."""
    names = file.path.split("/")
    if file.path.startswith("/") or ".." in names or "\0" in file.path:
        raise Damaged(f"a stored folder names {printable(file.path)!r}, which is outside of it")
    target = folder.joinpath(*names)
    # A link that an earlier entry made must not lead out of the folder.
    if not target.parent.resolve().is_relative_to(folder.resolve()):
        raise Damaged(f"a stored folder names {printable(file.path)!r}, which a link leads outside of it")
    target.parent.mkdir(parents=True, exist_ok=True)
    if file.kind == "d":
        target.mkdir(exist_ok=True)
    elif file.kind == "l":
        inside = os.path.normpath(os.path.join(os.path.dirname(file.path), file.blob))
        if os.path.isabs(file.blob) or inside.split("/")[0] == "..":
            raise Damaged(f"a stored folder has a link {printable(file.path)!r} that leads outside of it")
        target.symlink_to(file.blob)
    else:
        _copy(connection, file, target)


def _copy(connection: Connection, file: StoredFile, target: Path) -> None:
    # What lies among the blobs is read-only and shared; the copy is the user's own.
    with open(target, "xb") as copy:
        copy.writelines(read_chunks(connection.blobs.open(file.blob)))
    target.chmod(0o755 if file.kind == "x" else 0o644)


SUFFIXES = {"value": ".json", "pickle": ".pickle"}
"""Endings of what is downloaded, by materializer; others are named as the artifact is."""


def default_file_name(record: VersionRecord) -> str:
    """Return a name for a download that is one plain file name: the last part of the artifact's name."""
    last = record.artifact.rpartition("/")[2] or "artifact"
    plain = "".join(letter if letter.isalnum() or letter in "._-" else "_" for letter in last).lstrip(".") or "artifact"
    return plain[:100] + SUFFIXES.get(record.manifest.materializer, "")
