"""What a single word means: as a type that was asked for, or by YAML 1.2's core schema where none was."""

from __future__ import annotations

import datetime
import decimal
import re
import uuid
from collections.abc import Callable
from typing import Any

import msgspec

# As texts, which `re` compiles when they are first needed: all at once take 2 ms of each start.
_INT = r"[-+]?[0-9]+(_[0-9]+)*|[-+]?0x[0-9a-fA-F]+|[-+]?0o[0-7]+|[-+]?0b[01]+"
_FLOAT = r"[-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9]*)?)([eE][-+]?[0-9]+)?"
_ENDLESS = r"(?i)([-+]?)\.?(inf|infinity)"
_NAN = r"(?i)\.?nan"
_CORE_INT = r"[-+]?[0-9]+|0x[0-9a-fA-F]+|0o[0-7]+"
_CORE_FLOAT = r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"
_CORE_ENDLESS = r"([-+]?)\.(inf|Inf|INF)"
_NULL = ("null", "Null", "NULL", "~")
_DURATION = r"(?i)([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*(ms|s|sec|min|m|h|d|w)\s*"
_SECONDS = {"ms": 0.001, "s": 1, "sec": 1, "min": 60, "m": 60, "h": 3600, "d": 86400, "w": 604800}


class Reader(msgspec.Struct, frozen=True):
    """How a type is read from text.

    Attributes:
        read: Returns the value, or raises ValueError.
        hint: How to write one, with an example.
        from_code: Whether a string in code stands for one as well.
    """

    read: Callable[[str], Any]
    hint: str
    from_code: bool = True


def core_meaning(text: str, *, empty: bool = True) -> Any:
    """Return what an unquoted scalar means in YAML 1.2's core schema: null, bool, int, float or text."""
    if is_null(text, empty=empty):
        return None
    if text in ("true", "True", "TRUE", "false", "False", "FALSE"):
        return text[0] in "tT"
    if re.fullmatch(_CORE_INT, text):
        return _int(text)
    if re.fullmatch(_CORE_FLOAT, text):
        return float(text)
    if found := re.fullmatch(_CORE_ENDLESS, text):
        return float(found[1] + "inf")
    return float("nan") if text in (".nan", ".NaN", ".NAN") else text


def is_null(text: str, *, empty: bool = True) -> bool:
    """Tell whether a word means nothing."""
    return text in _NULL or (empty and not text)


def has_leading_zero(text: str) -> bool:
    """Tell whether a number has a zero that would be lost, as post codes and identifiers have."""
    digits = text.lstrip("+-")
    return len(digits) > 1 and digits[0] == "0" and digits[1].isdigit()


def reader_for(cls: type) -> Reader | None:
    """Return how a type is read from text, or None when it can't be."""
    reader = _READERS.get(cls)
    if reader is None and cls.__module__ == "fractions" and cls.__name__ == "Fraction":
        return Reader(cls, "write a fraction, such as 1/3")
    if reader is None and cls.__module__ == "zoneinfo" and cls.__name__ == "ZoneInfo":
        return Reader(cls, "write the name of a time zone, such as Europe/Zurich")
    return reader


def _int(text: str) -> int:
    if not re.fullmatch(_INT, text):
        raise ValueError(text)
    digits = text.lstrip("+-").lower()
    base = {"0x": 16, "0o": 8, "0b": 2}.get(digits[:2], 10)
    return int(text, base)


def _float(text: str) -> float:
    if re.fullmatch(_FLOAT, text):
        return float(text)
    if found := re.fullmatch(_ENDLESS, text):
        return float(found[1] + "inf")
    if re.fullmatch(_NAN, text):
        return float("nan")
    raise ValueError(text)


def _bool(text: str) -> bool:
    word = text.casefold()
    if word not in ("true", "false"):
        raise ValueError(text)
    return word == "true"


def _timedelta(text: str) -> datetime.timedelta:
    word = text.strip()
    sign = -1 if word.startswith("-") else 1
    rest = word.lstrip("+-")
    if re.fullmatch(r"[0-9]+(\.[0-9]*)?|\.[0-9]+", rest):
        return sign * datetime.timedelta(seconds=float(rest))
    seconds, at = 0.0, 0
    for found in re.finditer(_DURATION, rest):
        if found.start() != at:
            raise ValueError(text)
        seconds += float(found[1]) * _SECONDS[found[2].lower()]
        at = found.end()
    if at != len(rest) or not rest:
        raise ValueError(text)
    return sign * datetime.timedelta(seconds=seconds)


def _decimal(text: str) -> decimal.Decimal:
    try:
        return decimal.Decimal(text)
    except decimal.InvalidOperation as error:
        raise ValueError(text) from error


def _none(text: str) -> None:
    if not is_null(text):
        raise ValueError(text)


_READERS: dict[type, Reader] = {
    str: Reader(str, "", from_code=False),
    bool: Reader(_bool, "write true or false", from_code=False),
    int: Reader(_int, "write a whole number, such as 3", from_code=False),
    float: Reader(_float, "write a number, such as 0.5", from_code=False),
    complex: Reader(complex, "write a complex number, such as 1+2j", from_code=False),
    type(None): Reader(_none, "write null", from_code=False),
    datetime.date: Reader(datetime.date.fromisoformat, "write a date, such as 2026-11-25"),
    datetime.datetime: Reader(datetime.datetime.fromisoformat, "write a date and time, such as 2026-11-25T08:30+01:00"),
    datetime.time: Reader(datetime.time.fromisoformat, "write a time, such as 08:30"),
    datetime.timedelta: Reader(_timedelta, "write a duration, such as 30s, 10m, 2h or 1d"),
    uuid.UUID: Reader(uuid.UUID, "write a UUID, such as 12345678-1234-5678-1234-567812345678"),
    decimal.Decimal: Reader(_decimal, "write a decimal number, such as 1.10"),
}
