"""Holds a step to its `timeout`, by a timer signal on the main thread; elsewhere it can't, and says so."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType
from typing import Any

from cupola.middleware.attempt import Attempt, Proceed


class StepTimeout(TimeoutError):
    """A step took longer than its timeout."""


def applies(attempt: Attempt) -> bool:
    """Tell whether the step has a timeout."""
    return attempt.options.timeout_s is not None


def wrap(proceed: Proceed) -> Proceed:
    """Return `proceed` with the timer around it."""

    def run(attempt: Attempt) -> Any:
        limit_s = attempt.options.timeout_s or 0.0
        if threading.current_thread() is not threading.main_thread():
            attempt.context.recorded.warnings.append(
                f"timeout={limit_s:g} s could not be held: the pipeline was called outside of the main thread"
            )
            return proceed(attempt)

        def stop(_signal: int, _frame: FrameType | None) -> None:
            raise StepTimeout(f"step {attempt.context.step.name!r} took longer than its timeout of {limit_s:g} s")

        before = signal.signal(signal.SIGALRM, stop)
        started = time.monotonic()
        # A step may swallow the exception; the interval raises it again every second until it ends.
        rest, interval = signal.setitimer(signal.ITIMER_REAL, limit_s, 1.0)
        try:
            return proceed(attempt)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
            if rest:
                # The user's own timer goes on as if ours had never been there.
                signal.setitimer(signal.ITIMER_REAL, max(rest - (time.monotonic() - started), 0.001), interval)

    return run
