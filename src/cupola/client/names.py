"""Mappings by name that answer a wrong name with the nearest right one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeVar

from cupola.errors import NotFound
from cupola.suggest import nearest
from cupola.text import printable

T = TypeVar("T")


class NoSuchName(NotFound, KeyError):
    """A mapping has no such name; a `KeyError` as well, so that `in` and `get` work as always."""


class Named(Mapping[str, T]):
    """A read-only mapping in a fixed order whose values are made when they are asked for.

    Args:
        noun: What the names are names of, for the error.
        names: The names, in order.
        make: Returns the value of a name.
        where: Where the names are, for the error.
    """

    def __init__(self, noun: str, names: Iterable[str], make: Callable[[str], T], *, where: str = "") -> None:
        self._noun = noun
        self._names = dict.fromkeys(names)
        self._make = make
        self._where = where

    def __getitem__(self, name: str) -> T:
        if name not in self._names:
            raise NoSuchName(
                f"there is no {self._noun} {name!r}", where=self._where, fix=suggest(str(name), self._names, self._noun)
            )
        return self._make(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __repr__(self) -> str:
        return "{" + ", ".join(f"{name!r}: {self._make(name)!r}" for name in self._names) + "}"


def suggest(name: str, known: Iterable[str], noun: str) -> str:
    """Return a sentence that names the nearest known name, or some of those that there are."""
    names = list(known)
    if not names:
        return f"there is no {noun} at all"
    close = nearest(name, names)
    listed = ", ".join(printable(known_name) for known_name in names[:12]) + (", …" if len(names) > 12 else "")
    return f"did you mean {close!r}?" if close else f"there are: {listed}"
