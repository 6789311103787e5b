"""What steps, pipelines and outputs may be called: any text that people can read and that records can tell apart."""

from __future__ import annotations

import functools

_JOINERS = str.maketrans("", "", "\u200c\u200d")
"""Letters that can't be seen but that scripts and emoji need."""


def name_problem(name: object, longest: int, refused: str = "") -> str:
    """Return why something can't be a name, for an error; empty if it can.

    Args:
        name: What is to be a name.
        longest: How many letters it may have.
        refused: Letters that have a meaning of their own in names of this kind.
    """
    return _problem(name, longest, refused) if isinstance(name, str) else f"it is of type {type(name).__name__}"


@functools.lru_cache(maxsize=1024)
def _problem(name: str, longest: int, refused: str) -> str:
    if not name:
        return "it is empty"
    if len(name) > longest:
        return f"it has {len(name)} letters, more than {longest}"
    if not name.translate(_JOINERS).isprintable():
        return "it has letters that can't be shown"
    if name != name.strip():
        return "it begins or ends with a blank"
    for letter in refused:
        if letter in name:
            return f"it has {letter!r} in it"
    return ""
