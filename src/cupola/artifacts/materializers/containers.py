"""Values with arrays, tables, estimators or files inside: each such part is stored by its own form, beside the value.

What is stored is a msgpack array: the value as `values` encodes it, where an extension holds the digest of each part,
and the parts in the order of their digests, as `[what the digest leaves out, manifest]`. In the record it is inline
when small, else the first blob; the blobs of the parts follow, each path led by the part's place. The identity covers
the parts' digests, never their places.
"""

from __future__ import annotations

from typing import Any, cast

import msgspec

from cupola import classes, digest, records, values
from cupola.artifacts.blobs import Blobs
from cupola.artifacts.port import PieceForm, StorageForm, check_format, describe
from cupola.artifacts.registry import form_by_id, form_for, installed_form_for
from cupola.entities.artifact import INLINE_BYTES, Manifest, StoredFile
from cupola.errors import ConfigError, CupolaError, Damaged, MaterializerError

# Forms of what values keep in themselves; and those that may run code or stand for a whole, which no record brings in.
_NO_PARTS = frozenset({"value", "bytes", "pickle", "container"})
_SHOWN_PARTS = 5


class Part(msgspec.Struct, frozen=True, array_like=True):
    """A part that is stored by a form of its own.

    Attributes:
        note: What tells it apart from others of its digest, such as the name of a file.
        manifest: How it is stored.
    """

    note: bytes
    manifest: Manifest


class Stored(msgspec.Struct, frozen=True, array_like=True):
    """What is stored of a value with such parts.

    Attributes:
        value: Its encoding.
        parts: What its references lead to.
    """

    value: bytes
    parts: list[Part]


_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(Stored).decode


class PartWriter:
    """Stores the parts of one value while it is encoded.

    Args:
        blobs: Where their bytes go.
    """

    __slots__ = ("_blobs", "_last", "found")

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._last: object = None
        self.found: dict[tuple[str, bytes], Manifest] = {}

    def take(self, value: object) -> list[Any] | None:
        """Store a part and return its reference; None for what the encoding of values keeps, or nobody does."""
        kind = cast("type[Any]", type(value))
        form = form_for(kind)
        if form is None and not records.kind_of(kind):
            form = installed_form_for(kind)
        if form is None or form.id in _NO_PARTS:
            return None
        manifest = form.store(value, self._blobs, records.PLACE)
        # The digest of a piece covers its description; that of a file leaves out its name, which the whole keeps.
        key = (manifest.digest, b"" if isinstance(form, PieceForm) else manifest.spec)
        self.found[key] = manifest
        self._last = value
        return [*key]

    def finish(self, value: object, data: bytes) -> Manifest:
        """Store the encoded value and return the manifest of the whole; that of the part if the value is one itself."""
        if self._last is value:
            return next(iter(self.found.values()))
        parts = [Part(note, manifest) for (_, note), manifest in sorted(self.found.items(), key=lambda item: item[0])]
        packed = _pack(Stored(data, parts))
        files = [
            msgspec.structs.replace(file, path=f"{place}/{file.path}" if file.path else str(place))
            for place, part in enumerate(parts)
            for file in part.manifest.files
        ]
        size = len(packed) + sum(file.size_bytes for file in files)
        is_small = len(packed) <= INLINE_BYTES
        if not is_small:
            files.insert(0, StoredFile("value", *self._blobs.put_bytes(packed)))
        counts: dict[str, int] = {}
        for part in parts:
            counts[part.manifest.type] = counts.get(part.manifest.type, 0) + 1
        return Manifest(
            CONTAINER.id,
            CONTAINER.format,
            values.type_name(value),
            digest.value(CONTAINER.id, CONTAINER.format, b"", data),
            size,
            packed if is_small else None,
            tuple(files),
            all(part.manifest.stable for part in parts),
            values.encode(dict(sorted(counts.items()))),
        )


class ContainerForm(StorageForm):
    """Containers and data classes with parts that have a form of their own."""

    id = "container"

    def store(self, value: Any, blobs: Blobs, path: str) -> Manifest:
        writer = PartWriter(blobs)
        return writer.finish(value, values.encode(value, path=path, leaf=writer.take))

    def load(self, manifest: Manifest, blobs: Blobs, as_type: Any) -> Any:
        stored = read_stored(manifest, blobs)
        parts = {(part.manifest.digest, part.note): part.manifest for part in stored.parts}

        def load_part(name: str, note: bytes) -> Any:
            return _load_part(parts[name, note], blobs, as_type)

        return values.decode(stored.value, as_type, load_part)

    def metadata(self, value: Any, manifest: Manifest) -> dict[str, Any]:
        return {"parts": values.decode(manifest.spec), "size_bytes": manifest.size_bytes}

    def preview(self, manifest: Manifest, blobs: Blobs) -> str:
        stored = read_stored(manifest, blobs)
        lines = [values.preview(decode_with_names(stored, [describe(part.manifest) for part in stored.parts]))]
        lines += [_preview_part(part.manifest, blobs) for part in stored.parts[:_SHOWN_PARTS]]
        if len(stored.parts) > _SHOWN_PARTS:
            lines.append(f"… and {len(stored.parts) - _SHOWN_PARTS} more")
        return "\n\n".join(lines)


def read_stored(manifest: Manifest, blobs: Blobs) -> Stored:
    """Return the encoded value and its parts.

    Raises:
        Damaged: They are missing or not what was written.
    """
    if manifest.inline is None and not manifest.files:
        raise Damaged(f"the record of a {manifest.type} names no file", fix="`cupola doctor store` checks the records")
    data = manifest.inline if manifest.inline is not None else blobs.read(manifest.files[0].blob)
    try:
        return _unpack(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Damaged(f"the record of a {manifest.type} can't be read: {error}") from error


def decode_with_names(stored: Stored, names: list[str]) -> object:
    """Return the value with a name in the place of each part, which `repr` and JSON show."""
    shown = {(part.manifest.digest, part.note): name for part, name in zip(stored.parts, names, strict=True)}

    def show_part(name: str, note: bytes) -> _Named:
        return _Named(shown[name, note])

    return values.decode(stored.value, None, show_part)


class _Named:
    """Stands for a part where a value is only shown."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return f"<{self._name}>"


def _load_part(manifest: Manifest, blobs: Blobs, annotation: Any) -> Any:
    form = form_by_id(_allowed(manifest))
    check_format(manifest, form.format)
    wanted = {kind for kind in classes.named_in(annotation) if form_for(kind) is form}
    try:
        return form.load(manifest, blobs, wanted.pop() if len(wanted) == 1 else None)
    except CupolaError:
        raise
    except Exception as error:  # a materializer of a plugin may raise anything, which isn't damage of the whole
        raise MaterializerError(
            f"a part of type {manifest.type} can't be loaded by {manifest.materializer!r}: "
            f"{type(error).__name__}: {error}",
            fix="repair the materializer, or load the value where its library is as it was",
        ) from error


def _preview_part(manifest: Manifest, blobs: Blobs) -> str:
    try:
        return form_by_id(_allowed(manifest)).preview(manifest, blobs)
    except (MaterializerError, ConfigError):
        return describe(manifest)


def _allowed(manifest: Manifest) -> str:
    if manifest.materializer in _NO_PARTS:
        raise Damaged(
            f"a stored value has a part of kind {manifest.materializer!r}, which no value is written with",
            fix="it wasn't written by this version of Cupola: find out who changed the store",
        )
    return manifest.materializer


CONTAINER = ContainerForm()
