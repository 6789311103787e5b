"""What lies behind an artifact version: loading it, looking at it, copying it out."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from cupola.artifacts.materializer import load_value, preview_value
from cupola.client.connect import Connection
from cupola.client.exports import natural_suffix, write_export
from cupola.entities.artifact import VersionRecord
from cupola.errors import Conflict, CupolaError
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
    """Write a value to a path that doesn't exist yet, as `exports` does; nothing is left there when it fails.

    Raises:
        Conflict: Something is there already.
        Damaged: What is stored is missing or damaged.
        MaterializerError: It can't be written in the form that the ending of the path asks for.
        Unreachable: The path can't be written.
    """
    if path.exists() or path.is_symlink():
        raise Conflict(f"{printable(str(path))} exists already", fix="name another path, or remove it first")
    part = path.with_name(f".{path.name[:100]}.{os.getpid()}.part")
    try:
        write_export(record.manifest, connection.blobs, part, path.suffix.lower())
        os.rename(part, path)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        if part.is_dir():
            import shutil  # here, since it brings three libraries of compression

            shutil.rmtree(part)
        else:
            part.unlink(missing_ok=True)
    return path


def default_file_name(connection: Connection, record: VersionRecord) -> str:
    """Return a name for a download that is one plain file name: the last part of the artifact's name, and its form."""
    last = record.artifact.rpartition("/")[2] or "artifact"
    plain = "".join(letter if letter.isalnum() or letter in "._-" else "_" for letter in last).lstrip(".") or "artifact"
    suffix = natural_suffix(record.manifest, connection.blobs)
    return plain[:100].removesuffix(suffix) + suffix
