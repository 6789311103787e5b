"""Materializers for values that need no library: plain values, bytes, files and folders."""

from __future__ import annotations

from cupola.late import TYPE_CHECKING, late_modules

if TYPE_CHECKING:
    from cupola.artifacts.materializers import containers, files

__all__ = ["containers", "files"]
__getattr__ = late_modules(__name__, *__all__)
