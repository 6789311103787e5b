"""Every hash and key that Cupola makes, in one place.

A digest is text: a prefix that says what was hashed, a colon, and 40 hex digits (160 bits of BLAKE3). Two things of
different kinds never share a digest, and one that turns up in a log or a table can be read back.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable

import msgspec
from blake3 import blake3

BYTES = 20


_pack = msgspec.msgpack.Encoder().encode


def _digest(prefix: str, *parts: object) -> str:
    # MessagePack writes lengths and kinds, so that ("ab", "c") and ("a", "bc") differ; one call hashes all, since most
    # parts are short and a call costs more than they do.
    return f"{prefix}:{blake3(_pack((prefix, parts))).hexdigest(BYTES)}"


def blob(data: bytes | bytearray | memoryview) -> str:
    """Return the digest of plain bytes, which names their file among the blobs."""
    return "blob:" + blake3(data).hexdigest(BYTES)


def blob_hasher() -> blake3:
    """Return a hasher to feed; finish with `blob_of`."""
    return blake3()


def blob_of(hasher: blake3) -> str:
    """Return the digest of what a hasher from `blob_hasher` was fed."""
    return "blob:" + hasher.hexdigest(BYTES)


def value(materializer: str, format_number: int, spec: bytes, content: bytes) -> str:
    """Return the identity of a stored value: its materializer, what describes it, and its content."""
    return _digest("val", materializer, format_number, spec, content)


def snapshot(data: bytes) -> str:
    """Return the id of a snapshot from its bytes."""
    return _digest("snap", data)


def code_part(kind: str, name: str, content: bytes) -> str:
    """Return the digest of one definition, constant or library version."""
    return _digest("code", kind, name, content)


def code(parts: Iterable[str]) -> str:
    """Return the digest of all code that a step reaches, from the digests of its parts in any order."""
    return _digest("codes", sorted(parts))


def base_key(parts: Iterable[bytes]) -> str:
    """Return the part of a step's cache key that is known at compile time."""
    return _digest("base", *parts)


def inputs_key(parts: Iterable[tuple[str, str]]) -> str:
    """Return the part of a step's cache key that its inputs decide, from `(name, digest)` in any order."""
    return _digest("in", sorted(parts))


def wiring(parts: Iterable[bytes]) -> str:
    """Return the digest of the literals inside a list, tuple or dict with outputs, and of where outputs go in it."""
    return _digest("wire", *parts)


def call_key(parts: Iterable[bytes]) -> str:
    """Return the identity of a step call in a dynamic pipeline: who makes it, which step, with what."""
    return _digest("call", *parts)


def checksum(text: str) -> int:
    """Return a number of 32 bits for a digest or key, for indexes and filters; others may share it."""
    return zlib.crc32(text.encode())


def chain(previous: bytes, frame: bytes) -> bytes:
    """Return the chained digest of a journal: of the digest so far and the next frame."""
    return blake3(previous + frame).digest(BYTES)


def folder(entries: Iterable[tuple[str, str, str]]) -> str:
    """Return the digest of a folder from `(path, kind, digest)` of what is in it, in any order."""
    return _digest("dir", *(text.encode(errors="surrogateescape") for entry in sorted(entries) for text in entry))


def variable(text: str | None) -> str:
    """Return the digest of an environment variable or of a file that isn't there (None)."""
    return _digest("env", b"" if text is None else b"=" + text.encode(errors="surrogateescape"))


def checkpoint(step: str) -> str:
    """Return the digest that names where the checkpoints of a step are, from its invocation name."""
    return _digest("step", step.encode(errors="surrogatepass"))


def requirements(parts: Iterable[str]) -> str:
    """Return the digest of what a step asks for in requirements."""
    return _digest("req", *(part.encode(errors="surrogateescape") for part in parts))


def environment(parts: Iterable[bytes]) -> str:
    """Return the digest of what an environment of a step is made from."""
    return _digest("venv", *parts)
