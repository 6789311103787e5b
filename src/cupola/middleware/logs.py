"""Keeps what a step does to standard streams and descriptors inside the step."""

from __future__ import annotations

from typing import Any

from cupola.middleware.attempt import Attempt, Proceed
from cupola.middleware.capture import active_capture


def applies(attempt: Attempt) -> bool:
    """Tell whether this process captures what the step prints."""
    return attempt.is_captured and active_capture() is not None


def wrap(proceed: Proceed) -> Proceed:
    """Return `proceed` with streams and descriptors put back in place after it."""

    def run(attempt: Attempt) -> Any:
        capture = active_capture()
        if capture is None:
            return proceed(attempt)
        try:
            return proceed(attempt)
        finally:
            capture.end_step()

    return run
