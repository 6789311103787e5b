"""The canonical encoding of Python values: equal values give equal bytes in any process, and come back as they were.

Equal means: same type, same bits, same order of dicts; the order of sets and the payload of NaN don't count. Plain data
takes the short way of `plain.py`; all else is written by the table in `codes.py`, objects of data classes taken apart
by `records.py` and made again by `classes.py`. What can't be kept is refused with its path inside the value.
"""

from __future__ import annotations

import datetime
import decimal
import enum
import uuid
from collections.abc import Callable
from typing import Any, NoReturn, cast

import msgspec

from cupola import classes, codes, records
from cupola.errors import CupolaError, Damaged, MaterializerError
from cupola.plain import MAX_DEPTH, SCALARS, pack_plain, pack_scalars
from cupola.previews import preview, to_json, type_name
from cupola.records import Record, Unstorable

__all__ = [
    "MAX_DEPTH",
    "Record",
    "decode",
    "encode",
    "encode_rich",
    "is_immutable",
    "pack_plain",
    "preview",
    "to_json",
    "type_name",
]

Leaf = Callable[[Any], list[Any] | None]
"""Stores a part beside the value and returns what finds it again, or None if it is none; calls it `records.PLACE`."""

_WAYS_OUT = (
    "write a Materializer for its type, return plain data instead, or say pickle explicitly: "
    'Annotated[T, ArtifactConfig(materializer="pickle")]'
)

_pack = msgspec.msgpack.Encoder().encode


def encode(value: object, *, path: str = "value", leaf: Leaf | None = None) -> bytes:
    """Return the canonical bytes of a value.

    Args:
        value: Any nesting of plain data, dates, numbers, paths, enums and objects of data classes.
        path: How the value is called in errors.
        leaf: Asked for each part that has no encoding, or is a file; without it such parts are refused.

    Raises:
        MaterializerError: Something in it can't be kept exactly; the message names its path and type.
    """
    packed = pack_plain(value)
    return encode_rich(value, path=path, leaf=leaf) if packed is None else packed[0]


def encode_rich(value: object, *, path: str = "value", leaf: Leaf | None = None) -> bytes:
    """Return what `encode` returns, for a value that `pack_plain` has refused."""
    try:
        return _Writer(leaf).write(value)
    except Unstorable as error:
        raise MaterializerError(error.told(path), where=error.where, fix=error.fix or _WAYS_OUT) from error.__cause__
    except RecursionError:
        raise MaterializerError(
            f"{path} is nested too deeply for a call stack that is as deep as this one", fix=_WAYS_OUT
        ) from None


def decode(data: bytes, as_type: object = None, leaf: Callable[..., Any] | None = None) -> object:
    """Return the value that `encode` was given.

    Args:
        data: What `encode` returned.
        as_type: The reader's annotation; the classes that it names are used for the objects in the value.
        leaf: Given what `encode`'s `leaf` returned for a part, returns that part.

    Raises:
        MaterializerError: A class doesn't fit the stored fields, or a library is missing.
        Damaged: The bytes are no encoded value, or one of a newer format.
    """
    try:
        return _unpack_plain(data)
    except _Rich:
        pass
    except (msgspec.DecodeError, RecursionError, TypeError, UnicodeDecodeError) as error:
        raise Damaged(f"the bytes of a value can't be read: {error}") from error
    try:
        return _Reader(as_type, leaf).read(data)
    except CupolaError:
        raise
    except Exception as error:  # hostile bytes may give a type's constructor anything
        raise Damaged(f"the bytes of a value can't be read: {type(error).__name__}: {error}") from error


def is_immutable(value: object) -> bool:
    """Tell whether nobody can change the object, so that producer and consumers may share it."""
    kind = type(value)
    if kind in _FROZEN:
        return True
    if kind is list or kind is dict:  # the most frequent outputs, told without asking the table
        return False
    if kind is tuple or kind is frozenset:
        return all(map(is_immutable, cast("tuple[object, ...]", value)))
    if isinstance(value, enum.Enum):
        return is_immutable(value._value_)
    return codes.code_for(value) in codes.IMMUTABLE


_FROZEN = SCALARS | {
    complex, range, type(...), datetime.date, datetime.timedelta, datetime.timezone, uuid.UUID, decimal.Decimal,
}  # fmt: skip


class _Rich(Exception):
    """There is more than plain msgpack in the bytes."""


def _refuse_extension(_code: int, _data: memoryview) -> NoReturn:
    raise _Rich


_unpack_plain = msgspec.msgpack.Decoder(ext_hook=_refuse_extension).decode


class _Writer:
    """Writes one value; holds the containers that are open, to see cycles, and the class names found so far."""

    def __init__(self, leaf: Leaf | None = None) -> None:
        self._leaf = leaf
        self._open: set[int] = set()
        self._names: dict[type, str] = {}

    def write(self, value: Any) -> bytes:
        """Return the bytes of a value, the same for a part as for a whole."""
        kind = cast("type[Any]", type(value))
        if kind in SCALARS:
            return self._scalar(value, kind)
        mark = id(value)
        if mark in self._open:
            raise Unstorable("contains itself")
        if len(self._open) >= MAX_DEPTH:
            raise Unstorable(f"is nested deeper than {MAX_DEPTH} levels")
        self._open.add(mark)
        try:
            return self._container(value, kind)
        finally:
            self._open.discard(mark)

    def _scalar(self, value: Any, kind: type) -> bytes:
        if kind is float:
            return _pack(value if value == value else codes.NAN)
        try:
            return _pack(value)
        except OverflowError:
            return self._extension(codes.BIG_INT, value)
        except UnicodeEncodeError:
            return self._extension(codes.SURROGATES, value)

    def _container(self, value: Any, kind: type) -> bytes:
        if kind is list:
            return self._items(value)
        if kind is dict:
            return self._dict(value)
        if kind is Record:
            return self._record(value)
        code = codes.code_for(value)
        if self._leaf is not None and (code is None or code is codes.FILE):
            stored = self._stored(self._leaf, value)
            if stored is not None:
                return stored
        if code is not None:
            return self._extension(code, value)
        shape = records.kind_of(kind)
        if shape == "enum":
            return self._enum(kind, *records.enum_parts(value))
        if shape:
            kept, fields, state = records.parts_of(value)
            return self._class(codes.OBJECT, kind, kept, fields, *([state] if state else []))
        raise Unstorable(f"is of type {_full_name(kind)}, which has no encoding")

    def _stored(self, leaf: Leaf, value: Any) -> bytes | None:
        try:
            parts = leaf(value)
        except MaterializerError as error:
            raise Unstorable(error.what, error.where, error.fix) from error.__cause__
        return None if parts is None else _extension(codes.STORED, self._plain_items(parts))

    def _items(self, items: list[Any]) -> bytes:
        if SCALARS.issuperset(map(type, items)):
            data = pack_scalars(items)
            if data is not None:
                return data
        parts = [self._inner(item, "[]", i) for i, item in enumerate(items)]
        # Counted afterwards: another thread may have changed the list meanwhile.
        return _head(_ARRAY, len(parts)) + b"".join(parts)

    def _inner(self, item: Any, place: str, key: Any) -> bytes:
        try:
            return self.write(item)
        except Unstorable as error:
            if place:
                error.trail.append(_segment(place, key))
            raise

    def _dict(self, value: dict[Any, Any]) -> bytes:
        parts: list[bytes] = []
        for key, item in list(value.items()):
            parts.append(self._inner(key, "key", key))
            parts.append(self._inner(item, "[]", key))
        return _head(_MAP, len(parts) // 2) + b"".join(parts)

    def _extension(self, code: codes.Code, value: Any) -> bytes:
        parts = code.take(value)
        if code.place != "{}":
            if code.place == "[]":
                return _extension(code.number, self._items(parts))
            return _extension(code.number, self._plain_items(parts))
        members = sorted(self._inner(part, "{}", part) for part in parts)
        return _extension(code.number, _head(_ARRAY, len(members)) + b"".join(members))

    def _plain_items(self, parts: list[Any]) -> bytes:
        return _head(_ARRAY, len(parts)) + b"".join(map(self.write, parts))

    def _enum(self, cls: type, member: str, value: Any) -> bytes:
        try:
            return self._class(codes.ENUM, cls, member, value)
        except Unstorable:
            if not member:
                raise
            # Its name alone says which it is, whatever it stands for.
            return self._class(codes.ENUM, cls, member, None)

    def _class(self, number: int, cls: type, first: str, second: Any, *more: Any) -> bytes:
        name = self._names.get(cls)
        if name is None:
            name = self._names[cls] = records.class_name(cls)
        return self._parts(number, name, first, second, *more)

    def _parts(self, number: int, name: str, first: str, second: Any, *more: Any) -> bytes:
        head = _head(_ARRAY, 3 + len(more)) + _pack(name) + _pack(first)
        body = self._fields(second) if number == codes.OBJECT else self._inner(second, ".value", None)
        return _extension(number, head + body + b"".join([self._dict(state) for state in more]))

    def _fields(self, fields: dict[str, Any]) -> bytes:
        parts = [_head(_MAP, len(fields))]
        for name, item in fields.items():
            parts += (_pack(name), self._inner(item, ".", name))
        return b"".join(parts)

    def _record(self, value: Record) -> bytes:
        name, kind, state = value.__class_name__, value.__kind__, value.__state__
        if kind == "enum":
            return self._parts(codes.ENUM, name, value["name"], value["value"])
        return self._parts(codes.OBJECT, name, kind, value.__fields__, *([state] if state else []))


def _segment(place: str, key: Any) -> str:
    if place == "key":
        return "<key>"
    if place == "{}":
        return "{…}"
    if place == ".":
        return f".{key}"
    if place == ".value":
        return ".value"
    shown = repr(key) if type(key) in SCALARS else f"<{type(key).__name__}>"
    return f"[{shown if len(shown) <= 80 else shown[:79] + '…'}]"


def _full_name(cls: type) -> str:
    module = cls.__module__
    return cls.__qualname__ if module == "builtins" else f"{module}.{cls.__qualname__}"


_ARRAY = (0x90, 15, 0xDC, 0xDD)
_MAP = (0x80, 15, 0xDE, 0xDF)


def _head(kind: tuple[int, int, int, int], length: int) -> bytes:
    """Return how msgpack begins an array or map, in the shortest form."""
    short, most, middle, long = kind
    if length <= most:
        return bytes((short | length,))
    if length <= 0xFFFF:
        return bytes((middle, length >> 8, length & 0xFF))
    return bytes((long,)) + length.to_bytes(4, "big")


def _extension(number: int, data: bytes) -> bytes:
    return _pack(msgspec.msgpack.Ext(number, data))


class _Reader:
    """Reads one value for one reader; holds the classes found so far."""

    def __init__(self, as_type: object, leaf: Callable[..., Any] | None) -> None:
        self._as_type = as_type
        self._leaf = leaf
        self._classes: dict[str, type | None] = {}
        self.read = msgspec.msgpack.Decoder(ext_hook=self._hook).decode

    def _hook(self, number: int, data: memoryview) -> Any:
        parts: list[Any] = self.read(data)
        if number == codes.OBJECT:
            name, kind, fields, *state = parts
            return self._object(name, kind, fields, state[0] if state else {})
        if number == codes.STORED and self._leaf is not None:
            return self._leaf(*parts)
        if number == codes.ENUM:
            name, member, value = parts
            cls = self._class(name)
            if cls is None:
                return Record(name, "enum", {"name": member, "value": value}, {})
            return classes.build_enum(cls, name, member, value)
        code = codes.BY_NUMBER.get(number)
        if code is None:
            raise Damaged(
                f"a value holds something of kind {number}, which this version doesn't know", fix="upgrade Cupola"
            )
        return code.make(*parts)

    def _object(self, name: str, kind: str, fields: dict[str, Any], state: dict[str, Any]) -> Any:
        cls = self._class(name)
        return classes.build(cls, name, kind, fields, state) if cls is not None else Record(name, kind, fields, state)

    def _class(self, name: str) -> type | None:
        if name not in self._classes:
            self._classes[name] = classes.find_class(name, self._as_type)
        return self._classes[name]
