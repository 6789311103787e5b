"""The live view of a run in a terminal."""

from __future__ import annotations

from cupola.engine.reporter import Plain


class Live(Plain):
    """Placeholder until the view that redraws is written: the plain lines."""
