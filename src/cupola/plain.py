"""Plain data: None, bool, int, float, str, bytes, and lists and dicts of these, all of exactly these types.

Nearly all values are. The proof and the packing are loops in C; what can't be packed as it is is left to `values.py`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any, cast

import msgspec

MAX_DEPTH = 100
"""How deep containers may stand in each other; writing needs six frames of Python's thousand for each."""

SCALARS = frozenset({type(None), bool, int, float, str, bytes})
_PLAIN = SCALARS | {list, dict}
# A float64 that is a NaN other than the canonical one; bytes of a text may look like it, which only costs time.
_ODD_NAN = rb"(?s)\xcb(?!\x7f[\xf0\xf8]\0{6}|\xff\xf0\0{6})[\x7f\xff][\xf0-\xff]"

_pack = msgspec.msgpack.Encoder().encode


def pack_plain(value: Any) -> tuple[bytes, bool] | None:
    """Return the canonical bytes of a value that is plain throughout, else None.

    Beside them, whether it is a dict or list of scalars only, of which a shallow copy shares nothing that can change.
    """
    if type(value) in SCALARS:
        data = _try_pack(value) if value == value else None
        return None if data is None else (data, False)
    proof = _prove_plain(value)
    if proof is None:
        return None
    may_hold_nan, is_flat = proof
    data = _try_pack(value)
    if data is None or (may_hold_nan and re.search(_ODD_NAN, data)):
        return None
    return data, is_flat


def pack_scalars(items: list[Any]) -> bytes | None:
    """Return the canonical bytes of a list of which all items are scalars, or None if one can't be packed as it is."""
    data = _try_pack(items)
    return None if data is None or re.search(_ODD_NAN, data) else data


def _try_pack(value: Any) -> bytes | None:
    """Pack what is proved plain; None for what a type doesn't tell: big integers and surrogates."""
    try:
        return _pack(value)
    except (OverflowError, UnicodeEncodeError, RecursionError):
        return None


_values_of = cast("Callable[[dict[Any, Any]], Iterable[Any]]", cast(Any, dict).values)


def _prove_plain(value: Any) -> tuple[bool, bool] | None:
    """Prove, level by level with loops in C, that everything inside has exactly a type that msgpack keeps.

    Returns:
        Whether a NaN may be inside, of which msgpack would keep the payload, and whether no container is; None if it
        isn't proved.
    """
    kind = cast("type[Any]", type(value))
    if kind is not list and kind is not dict:
        return None
    lists: list[list[Any]] = [value] if kind is list else []
    dicts: list[dict[Any, Any]] = [value] if kind is dict else []
    may_hold_nan = False
    for level in range(MAX_DEPTH):
        if dicts:
            found = set(map(type, _joined(dicts)))
            if not found <= SCALARS:
                return None
            if float in found:
                may_hold_nan = True
        items = _joined([*lists, *map(_values_of, dicts)])
        found = set(map(type, items))
        if not found <= _PLAIN:
            return None
        if float in found and _may_hold_nan(items, len(found)):
            may_hold_nan = True
        lists = _distinct([item for item in items if type(item) is list]) if list in found else []
        dicts = _distinct([item for item in items if type(item) is dict]) if dict in found else []
        if not lists and not dicts:
            return may_hold_nan, level == 0
    return None


def _joined(containers: list[Any]) -> Any:
    return containers[0] if len(containers) == 1 else list(chain.from_iterable(containers))


def _may_hold_nan(items: Any, kinds: int) -> bool:
    """Whether the sum of the floats is a NaN, as it is if one of them is one."""
    total = sum(items if kinds == 1 else [item for item in items if type(item) is float])
    return total != total


def _distinct(containers: list[Any]) -> list[Any]:
    """Drop repetitions of one object, or levels of shared or cyclic lists would grow without bound."""
    return list({id(item): item for item in containers}.values()) if len(containers) > 1000 else containers
