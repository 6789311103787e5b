"""Stands in for the log of a run that shares its process with another one, whose log has all output."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress

from cupola.lognotes import STDERR


class SharedOutput:
    """Stands for the log of a run that shares its process with a run in another thread, whose log has all output."""

    warnings = ("another thread of the process drove a run meanwhile: what steps printed is in the log of that run",)

    def position(self) -> int:
        """Return where the log ends: it is empty."""
        return 0

    def when_shown(self, action: Callable[[], None]) -> None:
        """Call something once all that was printed is shown: now."""
        action()

    def show(self, data: bytes, stream: int) -> None:
        """Show what a worker printed where a step in this process would have shown it."""
        target = sys.stderr if stream == STDERR else sys.stdout
        with suppress(OSError, ValueError, AttributeError):
            target.write(data.decode(errors="backslashreplace"))
            target.flush()

    def stop(self) -> None:
        """Do nothing: nothing was begun."""
