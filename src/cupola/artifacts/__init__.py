"""Stored values: typed values to manifests and content-addressed blobs, and back."""

from __future__ import annotations

from cupola.late import TYPE_CHECKING, late_modules

if TYPE_CHECKING:
    from cupola.artifacts import blobs, checkpoints, folder_form

__all__ = ["blobs", "checkpoints", "folder_form"]
__getattr__ = late_modules(__name__, *__all__)
