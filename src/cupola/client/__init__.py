"""What people and programs ask of the record: the client, and runs, steps and artifacts as views of it.

A run hands out a view of itself, which loads what shows it (pages, graphs, files, explanations) when that is asked for.
"""

from __future__ import annotations

from cupola.late import TYPE_CHECKING, late_modules

if TYPE_CHECKING:
    from cupola.client import (
        again,
        answer,
        cancel,
        chaos,
        code,
        configuration,
        debug,
        describe,
        draw,
        lineage,
        page,
        plain,
        reproduce,
        stored,
    )

__all__ = [
    "again",
    "answer",
    "cancel",
    "chaos",
    "code",
    "configuration",
    "debug",
    "describe",
    "draw",
    "lineage",
    "page",
    "plain",
    "reproduce",
    "stored",
]
__getattr__ = late_modules(__name__, *__all__)
