"""Stored values as files that other programs open: JSON, `.npy`, Arrow or Parquet; all else as it is stored.

The ending of the path decides where there is a choice: `.json` or `.msgpack`, `.arrow` or `.parquet`.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any, cast

import msgspec

from cupola import values
from cupola.artifacts.blobs import Blobs
from cupola.artifacts.materializer import load_value
from cupola.artifacts.materializers.containers import decode_with_names, read_stored
from cupola.artifacts.materializers.files import stored_name
from cupola.artifacts.port import open_piece
from cupola.artifacts.trees import copy_blob, restore_tree
from cupola.entities.artifact import Manifest
from cupola.errors import MaterializerError

_SUFFIXES = {"bytes": ".bin", "pickle": ".pickle", "numpy": ".npy", "pandas": ".arrow", "arrow": ".arrow"}
_JSON_KINDS = frozenset({type(None), bool, int, float, str, list, dict})


def natural_suffix(manifest: Manifest, blobs: Blobs) -> str:
    """Return the ending of the file that a value is best written to, such as `.npy`; empty for folders and the like.

    Raises:
        Damaged: What is stored is missing or damaged.
    """
    match manifest.materializer:
        case "value":
            return ".json" if _is_json(values.decode(open_piece(manifest, blobs).read())) else ".msgpack"
        case "file":
            return os.path.splitext(stored_name(manifest))[1]
        case other:
            return _SUFFIXES.get(other, "")


def write_export(manifest: Manifest, blobs: Blobs, target: Path, suffix: str) -> None:
    """Write a value to a path that doesn't exist yet: a file, or a folder for values of several files.

    Args:
        manifest: How the value is stored.
        blobs: Where its bytes are.
        target: Where to write.
        suffix: The ending of the file that is asked for, which decides where there is a choice.

    Raises:
        Damaged: What is stored is missing or damaged.
        MaterializerError: It can't be written in the form that is asked for.
        OSError: The path can't be written.
    """
    match manifest.materializer:
        case "value":
            target.write_bytes(_plain_bytes(open_piece(manifest, blobs).read(), suffix))
        case "numpy":
            _write_array(load_value(manifest, blobs), target)
        case "pandas" | "arrow" if suffix == ".parquet" or manifest.materializer == "pandas":
            _write_table(manifest, blobs, target, suffix)
        case "container":
            _write_container(manifest, blobs, target)
        case _:
            _write_as_stored(manifest, blobs, target)


def _write_as_stored(manifest: Manifest, blobs: Blobs, target: Path) -> None:
    if manifest.inline is not None:
        target.write_bytes(manifest.inline)
    elif len(manifest.files) == 1 and not manifest.files[0].path:
        only = manifest.files[0]
        copy_blob(blobs, only.blob, target, executable=only.kind == "x")
    else:
        restore_tree(manifest.files, blobs, target)


def _plain_bytes(data: bytes, suffix: str) -> bytes:
    """Return JSON for what JSON can say, or where it is asked for; else the bytes that are stored."""
    if suffix == ".msgpack":
        return data
    value = values.decode(data)
    return _json_text(values.to_json(value)) if suffix == ".json" or _is_json(value) else data


def _json_text(view: Any) -> bytes:
    return msgspec.json.format(msgspec.json.encode(view), indent=2) + b"\n"


def _is_json(value: Any) -> bool:
    """Tell whether JSON keeps a value exactly."""
    kind = cast("type[object]", type(value))
    if kind not in _JSON_KINDS:
        return False
    if kind is float:
        return value - value == 0
    if kind is int:
        return -(2**63) <= value < 2**64
    if kind is str:
        return not any("\ud800" <= letter <= "\udfff" for letter in value) if not value.isascii() else True
    if kind is list:
        return all(map(_is_json, value))
    if kind is dict:
        return all(type(key) is str and _is_json(key) and _is_json(item) for key, item in value.items())
    return True


def _write_array(array: Any, target: Path) -> None:
    import numpy as np

    with target.open("wb") as file:
        np.save(file, array, allow_pickle=False)


def _write_table(manifest: Manifest, blobs: Blobs, target: Path, suffix: str) -> None:
    """Write a table as pandas writes them, so that it finds its index again; as stored where Arrow can't say it."""
    import pyarrow
    import pyarrow.parquet

    arrow: Any = pyarrow
    parquet: Any = pyarrow.parquet
    try:
        table = _as_table(load_value(manifest, blobs))
        if suffix == ".parquet":
            parquet.write_table(table, target)
            return
        with arrow.ipc.new_file(os.fspath(target), table.schema) as writer:
            writer.write_table(table)
    except (arrow.ArrowException, TypeError, ValueError) as error:
        if suffix == ".parquet":
            raise MaterializerError(
                f"this {manifest.type} can't be written as Parquet: {error}",
                fix="name a path that ends in `.arrow`, which takes all tables",
            ) from error
        target.unlink(missing_ok=True)
        _write_as_stored(manifest, blobs, target)


def _as_table(value: Any) -> Any:
    import pandas
    import pyarrow

    arrow: Any = pyarrow
    if isinstance(value, arrow.RecordBatch):
        return arrow.Table.from_batches([value])
    if isinstance(value, arrow.Table):
        return value
    if isinstance(value, pandas.Index):
        frame: Any = value.to_frame(index=False)
    else:
        frame = value.to_frame() if isinstance(value, pandas.Series) else value
    return arrow.Table.from_pandas(frame)


def _write_container(manifest: Manifest, blobs: Blobs, target: Path) -> None:
    """Write a folder: the value as JSON, for looking at, and each part that stands in it as a file of its own."""
    stored = read_stored(manifest, blobs)
    target.mkdir()
    try:
        names: list[str] = []
        for place, part in enumerate(stored.parts):
            suffix = natural_suffix(part.manifest, blobs)
            names.append(f"{place}{suffix}")
            write_export(part.manifest, blobs, target / names[-1], suffix)
        (target / "value.json").write_bytes(_json_text(values.to_json(decode_with_names(stored, names))))
    except BaseException:
        shutil.rmtree(target, ignore_errors=True)
        raise
