"""The adapters of the store's port: SQLite on one machine.

What writes is loaded by the first write, what answers a question by the first question: a list needs neither.
"""

from __future__ import annotations

from cupola.late import TYPE_CHECKING, late_modules

if TYPE_CHECKING:
    from cupola.stores import changes, ledger, questions, references, tail

__all__ = ["changes", "ledger", "questions", "references", "tail"]
__getattr__ = late_modules(__name__, *__all__)
