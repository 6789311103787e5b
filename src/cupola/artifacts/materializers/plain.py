"""Materializers for values that are bytes already: plain values by their own encoding, bytes as they are, pickles."""

from __future__ import annotations

from typing import Any, cast

from cupola import digest, values
from cupola.artifacts import materializers
from cupola.artifacts.blobs import Blobs
from cupola.artifacts.port import (
    Piece,
    PieceForm,
    Sink,
    StorageForm,
    inline_content,
    only_file,
    open_piece,
    public_name,
)
from cupola.entities.artifact import INLINE_BYTES, Manifest, StoredFile
from cupola.errors import MaterializerError

_COPIED_ITEMS = 4096
_ITEM_BYTES = 64  # what a small object takes in memory, roughly


class ValueForm(StorageForm):
    """Plain values and data classes, by `values.encode`. Nearly all outputs: so it takes the short way.

    A value that turns out to have arrays or the like inside is stored as a container, with their own forms.
    """

    id = "value"

    def store(self, value: Any, blobs: Blobs, path: str) -> Manifest:
        packed = values.pack_plain(value)
        if packed is not None:
            data, is_flat = packed
            manifest = self._manifest(type(value).__name__, data, blobs)
            if is_flat and manifest.files and len(value) <= _COPIED_ITEMS:
                # In the place of its bytes: copying costs a twentieth of decoding.
                blobs.recent.keep(manifest.files[0].blob, value.copy(), _ITEM_BYTES * len(value))
            return manifest
        parts = materializers.containers.PartWriter(blobs)
        data = values.encode_rich(value, path=path, leaf=parts.take)
        if parts.found:
            return parts.finish(value, data)
        return self._manifest(values.type_name(value), data, blobs)

    def _manifest(self, type_text: str, data: bytes, blobs: Blobs) -> Manifest:
        if len(data) <= INLINE_BYTES:
            identity = digest.value(self.id, self.format, b"", inline_content(data))
            return Manifest(self.id, self.format, type_text, identity, len(data), data)
        blob, size = blobs.put_bytes(data)
        identity = digest.value(self.id, self.format, b"", blob.encode())
        return Manifest(self.id, self.format, type_text, identity, size, None, (StoredFile("", blob, size),))

    def load(self, manifest: Manifest, blobs: Blobs, as_type: Any) -> Any:
        if manifest.inline is not None:
            return values.decode(manifest.inline, as_type)
        recent = blobs.recent.get(only_file(manifest).blob)
        if type(recent) is dict or type(recent) is list:
            return cast("dict[Any, Any]", recent).copy()
        return values.decode(open_piece(manifest, blobs).read(), as_type)

    def preview(self, manifest: Manifest, blobs: Blobs) -> str:
        return values.preview(self.load(manifest, blobs, None))


class BytesForm(PieceForm):
    """Bytes and bytearrays, as they are."""

    id = "bytes"

    def write(self, value: bytes | bytearray, sink: Sink, path: str) -> bytes:
        if type(value) not in (bytes, bytearray):
            raise MaterializerError(f"{path} is a {public_name(type(value))}, a subclass of bytes, which can't be kept")
        sink.write(value)
        return type(value).__name__.encode()

    def read(self, piece: Piece, spec: bytes, as_type: Any) -> bytes | bytearray:
        return bytearray(piece.read()) if spec == b"bytearray" else piece.read()

    def show(self, piece: Piece, manifest: Manifest) -> str:
        return values.preview(piece.read())


class PickleForm(PieceForm):
    """Anything that pickles, where the output says so. Whoever loads it must allow it, since it may run any code."""

    id = "pickle"
    stable = False

    def write(self, value: Any, sink: Sink, path: str) -> bytes:
        import pickle

        try:
            # Buffers of arrays go straight to the sink instead of being copied into one text.
            pickle.dump(value, _PickleFile(sink), protocol=5)
        except Exception as error:  # a value's own `__reduce__` may raise anything
            raise MaterializerError(f"{path} can't be pickled: {error}") from error
        return b""

    def read(self, piece: Piece, spec: bytes, as_type: Any) -> Any:
        import pickle

        try:
            return pickle.loads(piece.read())
        except Exception as error:  # unpickling runs code of the value's classes, which may raise anything
            raise MaterializerError(
                f"the pickle can't be loaded: {type(error).__name__}: {error}",
                fix="load it where the modules that made it can be imported",
            ) from error


class _PickleFile:
    def __init__(self, sink: Sink) -> None:
        self.write = sink.write


VALUE = ValueForm()
BYTES = BytesForm()
PICKLE = PickleForm()
