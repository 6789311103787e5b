"""The command line: one small module per command, listed in one table."""

from __future__ import annotations

from cupola.late import TYPE_CHECKING, late_modules

if TYPE_CHECKING:
    from cupola.cli import delete, show

__all__ = ["delete", "show"]
__getattr__ = late_modules(__name__, *__all__)
