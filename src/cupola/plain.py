"""Plain data: None, bool, int, float, str, bytes, and lists and dicts of these, all of exactly these types.

Nearly all values are. The proof and the packing are loops in C; what can't be packed as it is is left to `values.py`.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any, cast

import msgspec

MAX_DEPTH = 100
"""How deep containers may stand in each other; writing needs six frames of Python's thousand for each."""

SCALARS = frozenset({type(None), bool, int, float, str, bytes})
_CONTAINERS = frozenset({list, dict})
_PLAIN = SCALARS | _CONTAINERS
# A float64 that is a NaN other than the canonical one; bytes of a text may look like it, which only costs time.
_ODD_NAN = rb"(?s)\xcb(?!\x7f[\xf0\xf8]\0{6}|\xff\xf0\0{6})[\x7f\xff][\xf0-\xff]"

_pack = msgspec.msgpack.Encoder().encode


def pack_plain(value: Any) -> bytes | None:
    """Return the canonical bytes of a value that is plain throughout, else None."""
    if type(value) in SCALARS:
        return _try_pack(value) if value == value else None
    proof = _prove_plain(value)
    if proof is _Proof.NONE:
        return None
    return _try_pack(value) if proof is _Proof.PLAIN else _without_odd_nan(_try_pack(value))


def pack_scalars(items: list[Any]) -> bytes | None:
    """Return the canonical bytes of a list of which all items are scalars, or None if one can't be packed as it is."""
    return _without_odd_nan(_try_pack(items))


def is_flat(value: Any) -> bool:
    """Tell of a plain value whether it is a dict or list of scalars, of which a shallow copy shares nothing mutable."""
    if type(value) is dict:
        return _CONTAINERS.isdisjoint(map(type, cast("dict[Any, Any]", value).values()))
    return type(value) is list and _CONTAINERS.isdisjoint(map(type, cast("list[Any]", value)))


class _Proof(enum.Enum):
    """What is known of a value before it is packed."""

    NONE = 0
    PLAIN = 1
    PLAIN_WITH_NAN = 2
    """All types are plain, but a NaN may be inside, of which msgpack would keep the payload."""


def _try_pack(value: Any) -> bytes | None:
    """Pack what is proved plain; None for what a type doesn't tell: big integers and surrogates."""
    try:
        return _pack(value)
    except (OverflowError, UnicodeEncodeError, RecursionError):
        return None


def _without_odd_nan(data: bytes | None) -> bytes | None:
    return None if data is None or re.search(_ODD_NAN, data) else data


_values_of = cast("Callable[[dict[Any, Any]], Iterable[Any]]", cast(Any, dict).values)


def _prove_plain(value: Any) -> _Proof:
    """Prove, level by level with loops in C, that everything inside has exactly a type that msgpack keeps."""
    kind = cast("type[Any]", type(value))
    if kind is not list and kind is not dict:
        return _Proof.NONE
    lists: list[list[Any]] = [value] if kind is list else []
    dicts: list[dict[Any, Any]] = [value] if kind is dict else []
    proof = _Proof.PLAIN
    for _ in range(MAX_DEPTH):
        if dicts:
            found = set(map(type, _joined(dicts)))
            if not found <= SCALARS:
                return _Proof.NONE
            if float in found:
                proof = _Proof.PLAIN_WITH_NAN
        items = _joined([*lists, *map(_values_of, dicts)])
        found = set(map(type, items))
        if not found <= _PLAIN:
            return _Proof.NONE
        if float in found and _may_hold_nan(items, len(found)):
            proof = _Proof.PLAIN_WITH_NAN
        lists = _distinct([item for item in items if type(item) is list]) if list in found else []
        dicts = _distinct([item for item in items if type(item) is dict]) if dict in found else []
        if not lists and not dicts:
            return proof
    return _Proof.NONE


def _joined(containers: list[Any]) -> Any:
    return containers[0] if len(containers) == 1 else list(chain.from_iterable(containers))


def _may_hold_nan(items: Any, kinds: int) -> bool:
    """Whether the sum of the floats is a NaN, as it is if one of them is one."""
    total = sum(items if kinds == 1 else [item for item in items if type(item) is float])
    return total != total


def _distinct(containers: list[Any]) -> list[Any]:
    """Drop repetitions of one object, or levels of shared or cyclic lists would grow without bound."""
    return list({id(item): item for item in containers}.values()) if len(containers) > 1000 else containers
