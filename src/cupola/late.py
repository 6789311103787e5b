"""Modules of ours that few processes need: each package lists its own in one place, and they load at first use.

A run of two steps takes less time than loading all that could be said about it. Whoever needs such a module writes
`from cupola import client` on top, as ever, and `client.draw.draw_snapshot(…)` where it is used.
"""

from __future__ import annotations

import gc
from importlib import import_module

# Type checkers take this name for true. The module `typing` would be most of what importing Cupola costs.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType


def load(module: str) -> ModuleType:
    """Import a module and return it, without looking for garbage meanwhile: an import makes none, only many objects."""
    collects = gc.isenabled()
    gc.disable()
    try:
        return import_module(module)
    finally:
        if collects:
            gc.enable()


def late_modules(package: str, *names: str) -> Callable[[str], ModuleType]:
    """Return the `__getattr__` of a package (PEP 562) that imports these modules of it when they are first used."""

    def find(name: str) -> ModuleType:
        if name not in names:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return load(f"{package}.{name}")

    return find
