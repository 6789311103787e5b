"""From Python to a snapshot: pure, no step runs and nothing is stored.

What a call asks for is put together by `requests`, which loads with the first call.
"""

from __future__ import annotations

from cupola.late import TYPE_CHECKING, late_modules

if TYPE_CHECKING:
    from cupola.compiler import choices, mapping, objects, requests, shown, yaml_tree

__all__ = ["choices", "mapping", "objects", "requests", "shown", "yaml_tree"]
__getattr__ = late_modules(__name__, *__all__)
