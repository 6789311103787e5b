"""What lies behind an artifact version: loading it, looking at it, copying it out."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import msgspec

from cupola import values
from cupola.artifacts.materializer import load_value, preview_value
from cupola.artifacts.trees import copy_blob, restore_tree
from cupola.client.connect import Connection
from cupola.entities.artifact import Manifest, VersionRecord
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
    """Copy what is stored to a path that doesn't exist yet; nothing is left there when it fails.

    Raises:
        Conflict: Something is there already.
        Damaged: What is stored is missing or damaged.
        Unreachable: The path can't be written.
    """
    if path.exists() or path.is_symlink():
        raise Conflict(f"{printable(str(path))} exists already", fix="name another path, or remove it first")
    manifest = record.manifest
    part = path.with_name(f".{path.name[:100]}.{os.getpid()}.part")
    try:
        if manifest.inline is not None:
            part.write_bytes(_useful_bytes(manifest.inline, manifest))
        elif manifest.materializer == "value":
            stored = connection.blobs.open(manifest.files[0].blob)
            part.write_bytes(_useful_bytes(stored.read_bytes(), manifest))
        elif len(manifest.files) == 1 and not manifest.files[0].path:
            only = manifest.files[0]
            copy_blob(connection.blobs, only.blob, part, executable=only.kind == "x")
        else:
            restore_tree(manifest.files, connection.blobs, part)
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


SUFFIXES = {"value": ".json", "pickle": ".pickle"}
"""Endings of what is downloaded, by materializer; others are named as the artifact is."""


def default_file_name(record: VersionRecord) -> str:
    """Return a name for a download that is one plain file name: the last part of the artifact's name."""
    last = record.artifact.rpartition("/")[2] or "artifact"
    plain = "".join(letter if letter.isalnum() or letter in "._-" else "_" for letter in last).lstrip(".") or "artifact"
    return plain[:100] + SUFFIXES.get(record.manifest.materializer, "")
