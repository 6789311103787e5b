"""How a value that doesn't fit its type is told: value, key, type, place, and how to write one."""

from __future__ import annotations

from typing import Any

from cupola.compiler.annotations import type_text
from cupola.compiler.written import Fields, Text, is_list, is_written
from cupola.errors import ConfigError


class Unfit(Exception):
    """A value, or a part of it, isn't what a type wants.

    Attributes:
        value: The value.
        wanted: The type.
        hint: How to write one.
        key: Dotted path of the part that it is.
        reason: What is wrong, when it is something else than the type.
    """

    def __init__(self, value: object, wanted: Any, hint: str = "", key: str = "", reason: str = "") -> None:
        super().__init__()
        self.value = value
        self.wanted = wanted
        self.hint = hint
        self.key = key
        self.reason = reason


def refuse(unfit: Unfit, where: str, whole: object) -> ConfigError:
    """Return the error to raise.

    Args:
        unfit: What didn't fit.
        where: What the value is for.
        whole: The whole value that it is a part of, which may know its place better.
    """
    place = _place(unfit.value) or _place(whole)
    name = where + (f", field {unfit.key!r}" if unfit.key else "")
    what = unfit.reason or f"must be {type_text(unfit.wanted)}, not {_shown(unfit.value)}"
    return ConfigError(f"{name} {what}", where=place, fix=unfit.hint)


def _shown(value: object) -> str:
    if isinstance(value, Text):
        return repr(value.text)
    if isinstance(value, Fields):
        return f"a mapping with {', '.join(repr(key.text) for key, _ in value.items) or 'nothing in it'}"
    if is_list(value) and is_written(value):
        return f"a list ({', '.join(map(_shown, value[:3]))}{', …' if len(value) > 3 else ''})"
    text = repr(value)
    return f"{text if len(text) <= 80 else text[:79] + '…'} ({type_text(type(value))})"


def _place(value: object) -> str:
    if isinstance(value, (Text, Fields)):
        return value.place
    if is_list(value) and value:
        return _place(value[0])
    return ""
