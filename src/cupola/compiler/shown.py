"""What people may see of a value that code holds: what is needed to tell two apart, never what may be a secret.

The text is part of a snapshot, so it is equal over processes: no addresses, no `__repr__` of the user's.
"""

from __future__ import annotations

import ast
import copyreg
import enum
import functools
import sys
from collections.abc import Collection
from contextlib import suppress
from pathlib import PurePath
from types import BuiltinFunctionType, FunctionType, MemberDescriptorType, MethodType
from typing import Any, cast

from cupola.compiler.libraries import PROJECT, origin_of
from cupola.compiler.objects import Content, instance_attributes, own_name
from cupola.compiler.source import module_file

LONGEST_TEXT = 200
_MOST_ITEMS = 20
_DEEPEST = 3
_SECRETIVE = ("secret", "password", "passwd", "token", "credential", "apikey", "api_key", "private")
_NUMBERS = (int, float, complex, bool, type(None), range)
# Modules of Python whose values are their own texts, and those whose values are made of a few arguments.
_SHORT = frozenset({"datetime", "decimal", "fractions"})
_BELOW = "__wrapped__"
_OF_ARGUMENTS = frozenset({"re", "operator"})


def shown(content: Content, name: str, value: Any, texts: Collection[str] | None) -> str:
    """Return what people may see of a value, at most `LONGEST_TEXT` characters.

    Args:
        content: What was read of it.
        name: The name that holds the value.
        value: The value.
        texts: The texts that stand in the source where the value is made at run time, since others aren't shown; None
            when the value stands there as it is.
    """
    if is_secret(name):
        return f"<{type(value).__name__}>"
    if content.plain and texts is None and not any(word in content.text.lower() for word in _SECRETIVE):
        text = content.text
    else:
        text = _Summary(texts if content.plain else texts or ()).of(value)
    return text if len(text) <= LONGEST_TEXT else text[: LONGEST_TEXT - 1] + "…"


def is_secret(name: str) -> bool:
    """Whether a name says that what it holds is nobody's business."""
    lower = name.lower()
    return any(word in lower for word in _SECRETIVE) or lower.endswith(("key", "_pwd"))


def texts_in(node: ast.AST) -> set[str]:
    """Return the texts that stand in a statement."""
    found = {each.value for each in ast.walk(node) if isinstance(each, ast.Constant) and isinstance(each.value, str)}
    return found | {each.arg for each in ast.walk(node) if isinstance(each, ast.keyword) and each.arg}


class _Summary:
    def __init__(self, texts: Collection[str] | None) -> None:
        self.texts = texts
        self.depth = 0

    def of(self, value: Any) -> str:
        kind = cast("type[Any]", type(value))
        if kind in _NUMBERS or (kind.__module__ in _SHORT and getattr(value, "tzinfo", None) is None):
            return repr(value)
        if isinstance(value, enum.Enum):
            return f"{kind.__qualname__}.{value.name}"
        if kind is str and (self.texts is None or value in self.texts):
            return repr(value)
        if isinstance(value, (FunctionType, BuiltinFunctionType, type)):
            return f"{own_name(value, value.__module__ or '')}:{value.__qualname__}"
        text = ""
        if self.depth < _DEEPEST:
            self.depth += 1
            text = self.inside(value, kind)
            self.depth -= 1
        return text or f"<{kind.__name__}>"

    def inside(self, value: Any, kind: type[Any]) -> str:
        if isinstance(value, MethodType):
            return f"{self.of(value.__func__)} of {self.of(value.__self__)}"
        if isinstance(value, functools.partial):
            part = cast("functools.partial[Any]", value)
            arguments = [*self.items([part.func, *part.args]), *self.named(part.keywords)]
            return f"partial({', '.join(arguments)})"
        if kind is dict:
            return "{" + ", ".join(self.pairs(value)) + "}"
        if kind is list:
            return f"[{', '.join(self.items(value))}]"
        if kind is tuple:
            return f"({', '.join(self.items(value))}{',' if len(value) == 1 else ''})"
        if kind is set or kind is frozenset:
            return f"{kind.__name__}({{{', '.join(sorted(self.items(value)))}}})"
        return self.object(value, kind)

    def object(self, value: Any, kind: type[Any]) -> str:
        held = _attributes(value, kind)
        if _BELOW in held:
            return f"{kind.__qualname__} of {self.of(held[_BELOW])}"
        if isinstance(value, PurePath):
            return f"{kind.__name__}({self.of(str(value))})"
        if kind.__module__ in _OF_ARGUMENTS:
            reduce = cast("Any", copyreg.dispatch_table).get(kind, kind.__reduce__)
            return f"{kind.__name__}({', '.join(self.items(reduce(value)[1]))})"
        shown = {name: each for name, each in held.items() if not name.startswith("__")}
        return f"{kind.__qualname__}({', '.join(self.named(shown))})" if shown else ""

    def items(self, values: Collection[Any]) -> list[str]:
        return [self.of(value) for value in values] if len(values) <= _MOST_ITEMS else [f"{len(values)} items"]

    def pairs(self, values: dict[Any, Any]) -> list[str]:
        if len(values) > _MOST_ITEMS:
            return [f"{len(values)} items"]
        return [f"{self.of(key)}: {self.under(key, value)}" for key, value in values.items()]

    def named(self, values: dict[str, Any]) -> list[str]:
        return [f"{name}={self.under(name, value)}" for name, value in list(values.items())[:_MOST_ITEMS]]

    def under(self, name: Any, value: Any) -> str:
        """Summarize what stands under a name, unless that is a secret's."""
        return f"<{type(value).__name__}>" if isinstance(name, str) and is_secret(name) else self.of(value)


def _attributes(value: Any, kind: type[Any]) -> dict[str, Any]:
    """Return the attributes of an object; of a library's the public ones only, since others are how it works."""
    if issubclass(kind, tuple):
        return dict(zip(getattr(value, "_fields", ()), cast("tuple[Any]", value), strict=False))
    held = dict(instance_attributes(value))
    for base in kind.__mro__:
        for name, slot in vars(base).items():
            if isinstance(slot, MemberDescriptorType):
                with suppress(AttributeError):
                    held[name] = slot.__get__(value)
    own = origin_of(module_file(sys.modules.get(kind.__module__)), kind.__module__).kind == PROJECT
    return {name: each for name, each in held.items() if own or name[0] != "_" or name == _BELOW}
