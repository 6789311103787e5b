"""Metadata as typed rows, so that `accuracy > 0.9` is a condition of the database on numbers and not on text."""

from __future__ import annotations

import math

from cupola import values

_INT64 = range(-(2**63), 2**63)


def typed(encoded: bytes) -> tuple[str, float | int | None, str | None]:
    """Return type word, number and text of a metadata value; what is neither number nor text has only a type."""
    value = values.decode(encoded)
    # bool first: it is an int to isinstance.
    if isinstance(value, bool):
        return "bool", int(value), str(value).lower()
    if isinstance(value, int):
        return "int", value if value in _INT64 else _as_float(value), str(value)
    if isinstance(value, float):
        # SQLite has no NaN: it would be stored as NULL.
        return "float", None if math.isnan(value) else value, repr(value)
    if isinstance(value, str):
        return "str", None, value
    if value is None:
        return "none", None, None
    return type(value).__name__, None, None


def _as_float(value: int) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.copysign(math.inf, value)
