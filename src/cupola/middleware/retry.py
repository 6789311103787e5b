"""Tries a failed step again, as often and as late as its `Retry` says."""

from __future__ import annotations

import time
from typing import Any

from cupola.context import Recorded
from cupola.middleware.attempt import Attempt, Proceed
from cupola.snapshot import StepOptions


def applies(attempt: Attempt) -> bool:
    """Tell whether the step may be tried more than once."""
    return attempt.options.attempts > 1


def wrap(proceed: Proceed) -> Proceed:
    """Return `proceed` with further attempts after a failure."""

    def run(attempt: Attempt) -> Any:
        while True:
            try:
                return proceed(attempt)
            except Exception as error:
                if attempt.number >= attempt.options.attempts or not _is_worth_it(error, attempt.retry_on):
                    raise
                import random  # here, since it is heavy and seldom needed

                delay_s = delay_after(attempt.number, attempt.options, random.random())
                if not attempt.report(attempt.number, attempt.failure_of(error), delay_s):
                    raise
            time.sleep(delay_s)
            attempt.number += 1
            attempt.context.attempt = attempt.number
            # What the failed attempt recorded goes with it; only the last one's travels with the result.
            attempt.context.recorded = Recorded()

    return run


def delay_after(attempt: int, options: StepOptions, chance: float) -> float:
    """Return the seconds to wait after an attempt.

    Args:
        attempt: Number of the attempt that failed, from 1.
        options: The retry policy.
        chance: A random number from 0 to 1 for the jitter.
    """
    # The exponent is bounded so that a long series can't overflow before `max_delay` cuts it.
    grown = options.delay * options.backoff ** min(attempt - 1, 64)
    return min(options.max_delay, grown) * (1 + options.jitter * chance)


def _is_worth_it(error: Exception, on: tuple[type[BaseException] | str, ...]) -> bool:
    if not on:
        return True
    names = {f"{cls.__module__}.{cls.__qualname__}" for cls in type(error).__mro__}
    names |= {cls.__qualname__ for cls in type(error).__mro__}
    return any(cls in names if isinstance(cls, str) else isinstance(error, cls) for cls in on)
