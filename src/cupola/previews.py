"""Values for people and for JSON: a short text, a strict JSON view, and the name of a type.

Views lose what JSON can't say and are never read back; the record of a value is its encoding.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any, cast

from cupola import codes, records
from cupola.records import Record, Unstorable

MAX_PREVIEW = 2000
_MAX_LEVELS = 100
_SLICED = (list, tuple, str, bytes, bytearray)


def type_name(value: object) -> str:
    """Return the name of a value's type as records name it: `int`, `datetime.date`, `flows.train:Config`."""
    cls = type(value)
    if cls is Record:
        return cast(Record, value).__class_name__
    if records.kind_of(cls):
        try:
            return records.class_name(cls)
        except Unstorable:
            return cls.__qualname__
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


def preview(value: object, limit: int = MAX_PREVIEW) -> str:
    """Return the value as a text of at most so many letters; never fails, whatever its `__repr__` does."""
    text = _cut_repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _cut_repr(value: Any) -> str:
    """Represent at most what a preview can show, so that a list of millions isn't written out whole."""
    try:
        if type(value) in _SLICED and len(value) > MAX_PREVIEW:
            return repr(value[:MAX_PREVIEW])[:-1] + "…"
        return repr(value)
    except RecursionError:
        return f"<{type_name(value)}, nested too deeply to show>"
    except Exception as error:  # a `__repr__` of the user's may raise anything
        return f"<{type_name(value)}, whose repr failed: {type(error).__name__}>"


def to_json(value: object) -> Any:
    """Return a view of a value that every JSON parser reads.

    NaN and infinities become `"NaN"`, `"Infinity"`, `"-Infinity"`, bytes base64, keys text, sets sorted lists, data
    classes objects, and all else its text.
    """
    return _json(value, 0)


def _json(value: Any, level: int) -> Any:
    if value is None or value is True or value is False:
        return value
    if level > _MAX_LEVELS:
        return "…"
    if isinstance(value, enum.Enum):
        return _json(value.value, level + 1) if not isinstance(value, enum.Flag) else str(value.name or value.value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return _json_float(float(value))
    if isinstance(value, str):
        return str(value).encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, (bytes, bytearray)):
        import base64

        return base64.b64encode(value).decode("ascii")
    return _json_container(value, level + 1)


def _json_float(value: float) -> float | str:
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "Infinity" if value > 0 else "-Infinity"
    return value


def _json_container(value: Any, level: int) -> Any:
    if isinstance(value, Record):
        return {name: _json(value[name], level) for name in value}
    if records.kind_of(cast(Any, type(value))):
        try:
            fields = records.parts_of(value)[1]
        except Unstorable:
            return preview(value)
        return {name: _json(item, level) for name, item in fields.items()}
    if isinstance(value, Mapping):
        items = cast("Mapping[Any, Any]", value).items()
        return {_json_key(key): _json(item, level) for key, item in items}
    if isinstance(value, (set, frozenset)):
        members = [_json(item, level) for item in cast("set[Any]", value)]
        return sorted(members, key=repr)
    if isinstance(value, (list, tuple)) or type(value).__name__ == "deque":
        return [_json(item, level) for item in cast("list[Any]", value)]
    if codes.code_for(value) is codes.SCALAR:
        return _json(value.item(), level) if value.dtype.kind in "biuf" else str(value)
    if hasattr(value, "isoformat"):
        return value.isoformat()
    code = codes.code_for(value)
    return str(value) if code is not None else preview(value)


def _json_key(key: object) -> str:
    if isinstance(key, str) and not isinstance(key, enum.Enum):
        return key.encode("utf-8", "backslashreplace").decode("utf-8")
    if key is None or isinstance(key, bool):
        return {None: "null", True: "true", False: "false"}[key]
    shown = _json(key, 0)
    return shown if isinstance(shown, str) else preview(key)
