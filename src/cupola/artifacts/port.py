"""The port of materializers: how a value of some type becomes stored bytes and a value again.

`Materializer` is what authors of plugins write: it saves to a folder and loads from one. `StorageForm` is what the
store of artifacts calls; `PieceForm` is the one for values that are one piece of bytes and a small description, which
need no folder and, when small, no file.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import msgspec

from cupola import digest
from cupola.artifacts.blobs import BUFFERED_BYTES, Blobs, Buffer
from cupola.entities.artifact import INLINE_BYTES, Manifest, StoredFile
from cupola.errors import Damaged, MaterializerError

T = TypeVar("T")


class Materializer(ABC, Generic[T]):
    """Saves values of some types to a folder and loads them again. Found by entry point, or registered.

    Attributes:
        id: Name that manifests carry, unique among all materializers; never changed once values are stored.
        types: The classes whose values it takes; subclasses count unless another materializer knows them better.
        stable: Whether equal values always give equal files; False leaves them out of every promise about digests.
        format: Number of the layout of the files; raise it when `load` has to tell old ones from new ones.

    Example:
        >>> class TextMaterializer(Materializer[Note]):
        ...     id = "note"
        ...     types = (Note,)
        ...     def save(self, value, folder):
        ...         (folder / "note.txt").write_text(value.text)
        ...     def load(self, folder, type):
        ...         return Note((folder / "note.txt").read_text())
    """

    id: ClassVar[str]
    types: ClassVar[tuple[type, ...]]
    stable: ClassVar[bool] = True
    format: ClassVar[int] = 1

    @abstractmethod
    def save(self, value: T, folder: Path) -> None:
        """Write the value into an empty folder."""

    @abstractmethod
    def load(self, folder: Path, type: type[T] | None) -> T:  # noqa: A002 — the name is part of the port
        """Return the value that a folder holds; `type` is what the reader's annotation asks for.

        The folder is a private copy that stays until the process ends.
        """

    def preview(self, value: T) -> str:
        """Return a short text for people. Called when the value is stored, never when it is read."""
        return ""

    def metadata(self, value: T) -> dict[str, Any]:
        """Return facts about the value for people, such as its size. Must be cheap."""
        return {}


class Sink(Protocol):
    """Where the bytes of a value go."""

    def write(self, data: Buffer, /) -> int:
        """Take bytes; return their number."""
        ...


class Piece(msgspec.Struct, frozen=True):
    """The stored bytes of a value: themselves when they are few, or a blob that was verified."""

    inline: bytes | None
    file: Path | None

    def read(self) -> bytes:
        """Return all bytes."""
        if self.inline is not None:
            return self.inline
        assert self.file is not None
        return self.file.read_bytes()

    def map(self) -> Any:
        """Return a writable buffer of the bytes; writing to it changes private memory pages only."""
        if self.inline is not None:
            return bytearray(self.inline)
        assert self.file is not None
        import mmap

        with open(self.file, "rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)


class StorageForm(ABC):
    """How the store of artifacts sees a materializer.

    Attributes:
        id: Name that manifests carry.
        format: Number of what is written now.
    """

    id: str
    format: int = 1
    stable: bool = True

    @abstractmethod
    def store(self, value: Any, blobs: Blobs, path: str) -> Manifest:
        """Store a value. `path` says in errors where it comes from, such as `train.model`."""

    @abstractmethod
    def load(self, manifest: Manifest, blobs: Blobs, as_type: Any) -> Any:
        """Return a value of its own that equals the stored one."""

    def metadata(self, value: Any, manifest: Manifest) -> dict[str, Any]:
        """Return facts about a value for people; cheap."""
        return {}

    def preview(self, manifest: Manifest, blobs: Blobs) -> str:
        """Return a short text for people from what is stored; runs no code of the user's."""
        return describe(manifest)


class PieceForm(StorageForm):
    """A materializer whose values are one piece of bytes and a small description."""

    @abstractmethod
    def write(self, value: Any, sink: Sink, path: str) -> bytes:
        """Write the bytes of a value; return what describes them (`Manifest.spec`)."""

    @abstractmethod
    def read(self, piece: Piece, spec: bytes, as_type: Any) -> Any:
        """Return the value from its bytes and their description."""

    def type_text(self, value: Any) -> str:
        """Return the value's type for people."""
        return name_of_type(value)

    def store(self, value: Any, blobs: Blobs, path: str) -> Manifest:
        with blobs.writer() as writer:
            spec = self.write(value, writer, path)
            held = writer.take_held()
            if held is not None and len(held) <= INLINE_BYTES:
                return self._manifest(self.type_text(value), spec, held)
            name, size = writer.finish()
        content = digest.value(self.id, self.format, spec, name.encode())
        files = (StoredFile("", name, size),)
        return Manifest(self.id, self.format, self.type_text(value), content, size, None, files, self.stable, spec)

    def _manifest(self, type_text: str, spec: bytes, inline: bytes) -> Manifest:
        content = digest.value(self.id, self.format, spec, inline_content(inline))
        return Manifest(self.id, self.format, type_text, content, len(inline), inline, (), self.stable, spec)

    def load(self, manifest: Manifest, blobs: Blobs, as_type: Any) -> Any:
        return self.read(open_piece(manifest, blobs), manifest.spec, as_type)

    def preview(self, manifest: Manifest, blobs: Blobs) -> str:
        return self.show(open_piece(manifest, blobs), manifest)

    def show(self, piece: Piece, manifest: Manifest) -> str:
        """Return a short text for people from the stored bytes."""
        return describe(manifest)


def inline_content(data: bytes) -> bytes:
    """Return what stands for inline bytes in a digest: told apart from the name of a blob."""
    return b"inline:" + data


def open_piece(manifest: Manifest, blobs: Blobs) -> Piece:
    """Return the bytes of a value that is one piece.

    Raises:
        Damaged: Its blob is missing or damaged, or the record has another form.
    """
    if manifest.inline is not None:
        return Piece(manifest.inline, None)
    file = only_file(manifest)
    if file.size_bytes <= BUFFERED_BYTES:  # less than mapping it would cost
        return Piece(blobs.read(file.blob), None)
    return Piece(None, blobs.open(file.blob))


def only_file(manifest: Manifest) -> StoredFile:
    """Return the one file of a value that is one file.

    Raises:
        Damaged: The record has another form.
    """
    if len(manifest.files) != 1:
        raise Damaged(
            f"the record of a {manifest.type} names {len(manifest.files)} files instead of one",
            fix="`cupola doctor store` checks the records",
        )
    return manifest.files[0]


def check_format(manifest: Manifest, known: int) -> None:
    """Raise `MaterializerError` if a value was stored in a newer format than this one."""
    if manifest.format > known:
        raise MaterializerError(
            f"this {manifest.type} was stored in format {manifest.format} of {manifest.materializer!r}, "
            f"and this version of Cupola reads up to {known}",
            fix="upgrade Cupola with `pip install -U cupola`",
        )


def describe(manifest: Manifest) -> str:
    """Return what a stored value is and how large, for people."""
    return f"{manifest.type}, {manifest.size_bytes:,} bytes"


def name_of_type(value: object) -> str:
    """Return the class of a value as `public_name` gives it."""
    return public_name(type(value))


def public_name(kind: type) -> str:
    """Return a class as `library.module.Name` without the library's private modules; builtins without a module."""
    module = ".".join(part for part in kind.__module__.split(".") if not part.startswith("_"))
    return kind.__qualname__ if module in ("builtins", "") else f"{module}.{kind.__qualname__}"
