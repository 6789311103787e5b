"""The content of an object that code reads, as text: what is in it, by its exact types, and which code hangs on it.

Plain values are written as Python would; other objects as what their pickle protocol takes them apart into, without
pickling. Functions, classes and modules in them are named and handed back: their code counts by itself. It is no
encoding of values (`values.py`): it never has to be read back, and takes objects that no artifact may hold.
"""

from __future__ import annotations

import copyreg
import enum
import functools
import os
import pathlib
import struct
import sys
from collections.abc import Callable
from types import BuiltinFunctionType, FunctionType, MappingProxyType, MethodType, ModuleType
from typing import Any, cast

import msgspec

from cupola import digest
from cupola.compiler.source import canonical_module, program_file
from cupola.records import PROGRAM

# Of what can't change a result, whatever is in it.
NO_CONTENT = frozenset({"<logger>", "<cupola>"})
_LONGEST_INLINE = 1000
_SIMPLE = (int, float, complex, bool, type(None), type(...), type(NotImplemented))


class Unhashable(Exception):
    """An object whose content can't be read; the text says why."""


class Content(msgspec.Struct, frozen=True):
    """The content of an object.

    Attributes:
        text: All of it.
        code: Functions, classes and modules in it, in the order found.
        inner: The same of what objects of others have inside.
        plain: Whether it is data only, which people can read and compare.
    """

    text: str
    code: tuple[Any, ...]
    inner: tuple[Any, ...]
    plain: bool


def read_content(value: Any, root: os.PathLike[str]) -> Content:
    """Read the content of an object; paths below the root count relative to it.

    Raises:
        Unhashable: Something in it can't be read, such as a lock, an open file or a connection.
    """
    reader = _Reader(os.fspath(root))
    try:
        text = reader.read(value)
    except Unhashable:
        raise
    except RecursionError:
        raise Unhashable("it is nested too deeply") from None
    except Exception as error:  # objects of others may raise anything while they are taken apart
        raise Unhashable(f"{error or type(error).__name__}") from None
    return Content(text, tuple(reader.code), tuple(reader.inner), reader.plain)


class _Reader:
    def __init__(self, root: str) -> None:
        self.root = root
        self.code: list[Any] = []
        self.inner: list[Any] = []
        self.depth = 0
        self.plain = True
        self.known: dict[int, tuple[Any, str]] = {}
        self.open: dict[int, int] = {}

    def read(self, value: Any) -> str:
        kind = cast("type[Any]", type(value))
        if kind in _SIMPLE:
            return repr(value)
        if kind is str:
            return self.string(value)
        if kind in (bytes, bytearray):
            return _shortened(kind.__name__, repr(value), bytes(value))
        known = self.known.get(id(value))
        if known is not None:
            return known[1]
        if id(value) in self.open:
            return f"<cycle {len(self.open) - self.open[id(value)]}>"
        self.open[id(value)] = len(self.open)
        text = self.container(value, kind)
        if text is None:
            text = self.special(value, kind)
        if text is None:
            self.plain = False
            text = self.taken_apart(value, kind)
        del self.open[id(value)]
        self.known[id(value)] = value, text
        return text

    def string(self, value: str) -> str:
        if value in PROGRAM and program_file():
            value = canonical_module({"__name__": value, "__file__": program_file()})
        return _shortened("str", repr(self.portable(value)), value.encode("utf-8", "surrogatepass"))

    def portable(self, path: str) -> str:
        if path == self.root or path.startswith(self.root + os.sep):
            return "<root>" + path[len(self.root) :]
        return path

    def container(self, value: Any, kind: type[Any]) -> str | None:
        if kind is list:
            return "[" + ", ".join(map(self.read, value)) + "]"
        if kind is tuple:
            return "(" + ", ".join(map(self.read, value)) + (",)" if len(value) == 1 else ")")
        if kind is dict:
            return "{" + ", ".join(f"{self.read(key)}: {self.read(item)}" for key, item in value.items()) + "}"
        if kind is set or kind is frozenset:
            return f"{kind.__name__}({{" + ", ".join(sorted(map(self.read, value))) + "})"
        return None

    def special(self, value: Any, kind: type[Any]) -> str | None:
        if isinstance(value, pathlib.PurePath):
            return f"{kind.__name__}({self.portable(str(value))!r})"
        if isinstance(value, enum.Enum):
            self.code.append(kind)
            return f"{kind.__qualname__}.{value.name}={self.read(value.value)}"
        if (
            isinstance(value, (FunctionType, type))
            or hasattr(kind, "__wrapped__")
            or "__wrapped__" in instance_attributes(value)
        ):
            return self.named(value)
        if isinstance(value, MethodType):
            return f"{self.named(value.__func__)} of {self.read(value.__self__)}"
        if isinstance(value, functools.partial):
            part = cast("functools.partial[Any]", value)
            return f"partial({self.read(part.func)}, {self.read(part.args)}, {self.read(part.keywords)})"
        if isinstance(value, ModuleType):
            return self.named(value)
        if isinstance(value, MappingProxyType):
            return f"mappingproxy({self.read(dict(cast('MappingProxyType[Any, Any]', value)))})"
        if isinstance(value, struct.Struct):
            return f"Struct({value.format!r})"
        if isinstance(value, (property, staticmethod, classmethod)):
            held = cast("Any", value)
            below = [getattr(held, name, None) for name in ("fget", "fset", "fdel", "__func__")]
            return f"{kind.__name__}({', '.join(self.read(each) for each in below if each is not None)})"
        return self.tool(value, kind)

    def tool(self, value: Any, kind: type[Any]) -> str | None:
        """Read what can't change a result, whatever is in it: loggers, and Cupola's own objects but steps."""
        if kind.__module__.partition(".")[0] == "logging":
            return "<logger>"
        if kind.__module__.partition(".")[0] != "cupola" or isinstance(value, msgspec.Struct):
            return None
        if isinstance(value, os.PathLike):
            raise Unhashable("files count by their content as inputs only; pass it to the step as a parameter")
        function = getattr(value, "fn", None)
        return "<cupola>" if function is None else self.named(function)

    def named(self, value: Any) -> str:
        self.plain = False
        (self.inner if self.depth else self.code).append(value)
        module = getattr(value, "__module__", None) or ""
        name = getattr(value, "__qualname__", None) or getattr(value, "__name__", "")
        return f"<{type(value).__name__} {own_name(value, module)}:{name}>"

    def taken_apart(self, value: Any, kind: type[Any]) -> str:
        if isinstance(value, BuiltinFunctionType) and (
            value.__self__ is None or isinstance(value.__self__, ModuleType)
        ):
            return f"<builtin {value.__module__}:{value.__qualname__}>"
        dispatch = cast("dict[type[Any], Callable[[Any], Any]]", copyreg.dispatch_table)
        reduced = dispatch[kind](value) if kind in dispatch else value.__reduce_ex__(4)
        if isinstance(reduced, str):
            return f"<global {own_name(value, kind.__module__)}:{reduced}>"
        make, arguments, state, items, pairs = (*reduced, None, None, None)[:5]
        parts = [self.read(kind)]
        self.depth += 1
        parts += [self.read(make), self.read(arguments)]
        parts += ["state", self.read(state)] if state is not None else []
        parts += ["items", *(self.read(item) for item in items)] if items is not None else []
        parts += ["pairs", *(self.read(pair) for pair in pairs)] if pairs is not None else []
        self.depth -= 1
        return "(" + " ".join(parts) + ")"


def own_name(value: Any, module: str) -> str:
    """Return the name that a function's or class's module has in records."""
    namespace = getattr(value, "__globals__", None)
    names = cast("dict[str, Any]", namespace) if isinstance(namespace, dict) else {}
    if not names:
        found = sys.modules.get(module)
        names = vars(found) if isinstance(found, ModuleType) else {}
    return canonical_module(names) if isinstance(names.get("__file__"), str) else module


def instance_attributes(value: Any) -> dict[str, Any]:
    """Return an object's own attributes without asking the object; empty if it has none."""
    try:
        found = object.__getattribute__(value, "__dict__")
    except AttributeError:
        return {}
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


def _shortened(kind: str, text: str, data: bytes) -> str:
    return text if len(data) <= _LONGEST_INLINE else f"<{kind} of {len(data)} bytes, {digest.blob(data)}>"
