"""Every kind of syntax that Python 3.11 knows, for the digests that must be equal over versions of Python."""

from __future__ import annotations

import asyncio
import os.path as path
from collections import OrderedDict, defaultdict as dd

NUMBERS = [1, 1_000, 0x10, 1.5, 1e300, 1e999, 2j, 2**70, -0.0, True, None, ...]
TEXTS = ["a" "b", 'it"s', "it's", r"\d", b"\x00\xff", "\udc80", "né", "\N{BULLET}", """long
text"""]


def formatted(name, width=10, *, sign="+"):
    first = f"{name}"
    second = f"{name!r:>{width}} {{}} {name=} " f"{sign:{sign}}" "tail"
    third = f"{name:%Y-%m-%d}{'nested'}{3:}" + f"plain" + f""
    return first, second, third, f"{first + second!s}", f"""{
        name
    } of {width:,}"""


def control(items, /, *args, flag: bool = False, **kwargs) -> list[int]:
    total, (first, *rest) = 0, items
    for index, item in enumerate(items):
        if item > 3 and not flag or item is None:
            continue
        elif index == 5:
            break
        total += item
    else:
        total -= 1
    while (count := len(rest)) > 2:
        rest.pop()
    try:
        assert total, "empty"
    except (ValueError, TypeError) as error:
        raise RuntimeError("no") from error
    finally:
        del first
    return [total, count, *args]


def groups():
    try:
        work()
    except* ValueError as group:
        print(group)


def matching(value):
    match value:
        case {"kind": "a", **others}:
            return others
        case [1, 2, *tail] | (3, *tail):
            return tail
        case str() as text if text:
            return text
        case Point(x=0, y=other) | Point(other):
            return other
        case None | True | -1 | 1.5 | path.sep:
            return 1
        case _:
            return None


class Base(dict, metaclass=type):
    """Docstring."""

    __slots__ = ("x",)
    rate: float = 0.5
    plain = rate * 2

    @property
    def name(self) -> "str | None":
        """Docstring."""
        return self.__class__.__name__

    @staticmethod
    def make(): return Base()

    async def wait(self):
        async with asyncio.Lock() as lock, asyncio.timeout(3):
            async for item in self:
                yield await item
        return_value = [x async for x in self if x]
        await return_value[0]


def comprehensions(rows, limit):
    squares = [x * x for x in rows if x < limit if x]
    pairs = {(x, y): x @ y for x in rows for y in squares}
    unique = {*rows, *squares}
    lazily = (z for z in (w for w in pairs))
    return sorted(unique, key=lambda v, k=limit: (v, k)), [last := z for z in lazily], last


def scopes():
    outer = 1

    def inner(parameter):
        nonlocal outer
        global NUMBERS
        outer += parameter
        NUMBERS = lambda: outer
        return {**locals()}

    class Local:
        outer = outer

        def method(self):
            return outer

    import json as codec
    from os import getcwd, sep as separator

    with open(path.join(getcwd(), separator)) as handle:
        return codec.load(handle), inner, Local, outer[1:2, ::3, ...], outer if inner else not outer


def worker(): yield from (yield); return (yield 1)
