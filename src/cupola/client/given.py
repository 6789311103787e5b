"""What a step read or a pipeline returned where it isn't one artifact: constants, and collections of outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

from cupola import values
from cupola.artifacts.blobs import Blobs
from cupola.artifacts.materializer import load_value, preview_value
from cupola.entities.artifact import Manifest
from cupola.snapshot import Collect, FromStep, Gather, Literal, Source


class Loadable(Protocol):
    """A value of a run: an `ArtifactVersion`, a `Constant` or a `Collection`."""

    def load(self) -> Any:
        """Return the value."""
        ...

    def preview(self) -> Any:
        """Return a short description of the value."""
        ...


class Constant:
    """A value that was known when the pipeline was compiled; it stands in the snapshot."""

    __slots__ = ("_data",)

    def __init__(self, data: bytes) -> None:
        self._data = data

    def load(self) -> Any:
        """Return the value."""
        return values.decode(self._data)

    def preview(self) -> str:
        """Return the value as text, cut when long."""
        return values.preview(self.load())

    def __repr__(self) -> str:
        return f"<Constant {self.preview()}>"


class Item:
    """An item that a mapped step was spread over, taken from the list that another step made."""

    __slots__ = ("_blobs", "_manifest")

    def __init__(self, manifest: Manifest, blobs: Blobs) -> None:
        self._manifest = manifest
        self._blobs = blobs

    def load(self) -> Any:
        """Return the value."""
        return load_value(self._manifest, self._blobs)

    def preview(self) -> str:
        """Return a short text for people."""
        return preview_value(self._manifest, self._blobs)

    def __repr__(self) -> str:
        return f"<Item {self.preview()}>"


class Collection:
    """A list, tuple or dict with outputs inside."""

    __slots__ = ("_keys", "_kind", "parts")

    def __init__(self, kind: str, parts: tuple[Loadable, ...], keys: tuple[bytes, ...]) -> None:
        self._kind = kind
        self._keys = keys
        self.parts = parts

    def load(self) -> Any:
        """Return the collection with its parts loaded, in the kind that it was given as."""
        loaded = [part.load() for part in self.parts]
        if self._kind == "dict":
            return dict(zip(map(values.decode, self._keys), loaded, strict=True))
        return tuple(loaded) if self._kind == "tuple" else loaded

    def preview(self) -> str:
        """Return a line for each part."""
        return "\n".join(str(part.preview()) for part in self.parts)

    def __iter__(self) -> Iterator[Loadable]:
        return iter(self.parts)

    def __len__(self) -> int:
        return len(self.parts)

    def __repr__(self) -> str:
        return f"<{self._kind} of {len(self.parts)} values>"


def resolve(source: Source, version_of: Callable[[int, str], Loadable]) -> Loadable:
    """Return what a wiring stands for.

    Args:
        source: The wiring, as the snapshot has it.
        version_of: Returns the artifact version of a step's output, by its position and the output's name.
    """
    if isinstance(source, Literal):
        return Constant(source.value)
    if isinstance(source, FromStep):
        return version_of(source.step, source.output)
    if isinstance(source, Collect):
        raise AssertionError(f"what collects step {source.step} had to be settled before")
    return Collection(source.kind, tuple(resolve(item, version_of) for item in source.items), source.keys)


def sources_in(source: Source) -> Iterator[FromStep]:
    """Yield each output of a step inside a wiring, in order."""
    if isinstance(source, FromStep):
        yield source
    elif isinstance(source, Gather):
        for item in source.items:
            yield from sources_in(item)
