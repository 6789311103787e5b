"""What a run was made from: commit, changes, source tree, interpreter, libraries; gathered while its steps run."""

from __future__ import annotations

from cupola.late import TYPE_CHECKING, late_modules

if TYPE_CHECKING:
    from cupola.engine.provenance import background, checkout, gather

__all__ = ["background", "checkout", "gather"]
__getattr__ = late_modules(__name__, *__all__)
