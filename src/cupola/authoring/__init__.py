"""The decorators: the topmost layer of the library, so that calling a pipeline may run it.

What compiles, runs and stores is loaded by the first call that needs it: a module that only defines steps need not pay
for it. Asking for them puts the source root on `sys.path`, where a program that is started in a folder below it needs
that for its own imports.
"""

from __future__ import annotations

from cupola.compiler.source import enter_project
from cupola.late import TYPE_CHECKING, late_modules

if TYPE_CHECKING:
    from cupola.authoring import calls

__all__ = ["calls"]
__getattr__ = late_modules(__name__, *__all__)

enter_project()
