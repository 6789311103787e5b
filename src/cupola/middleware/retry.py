"""Decides whether a failed attempt is worth another one, and after how long, as the step's `Retry` says.

The next attempt is the driver's to start: whatever waits for it holds no worker meanwhile.
"""

from __future__ import annotations

from typing import Any

from cupola.middleware.attempt import Attempt, Proceed
from cupola.snapshot import StepOptions


def applies(attempt: Attempt) -> bool:
    """Tell whether the step may be tried more than once."""
    return attempt.options.attempts > 1


def wrap(proceed: Proceed) -> Proceed:
    """Return `proceed` with a note, after a failure, of when to try again."""

    def run(attempt: Attempt) -> Any:
        try:
            return proceed(attempt)
        except Exception as error:
            if attempt.tries < attempt.options.attempts and is_worth_it(error, attempt.retry_on):
                attempt.again_after_s = random_delay(attempt.tries, attempt.options)
            raise

    return run


def random_delay(tries: int, options: StepOptions) -> float:
    """Return the seconds to wait after so many attempts, with jitter."""
    import random  # here, since it is heavy and seldom needed

    return delay_after(tries, options, random.random())


def delay_after(tries: int, options: StepOptions, chance: float) -> float:
    """Return the seconds to wait after an attempt.

    Args:
        tries: How many attempts there were in this series, at least 1.
        options: The retry policy.
        chance: A random number from 0 to 1 for the jitter.
    """
    # The exponent is bounded so that a long series can't overflow before `max_delay` cuts it.
    grown = options.delay * options.backoff ** min(tries - 1, 64)
    return min(options.max_delay, grown) * (1 + options.jitter * chance)


def is_worth_it(error: Exception, on: tuple[type[BaseException] | str, ...]) -> bool:
    """Tell whether an exception is one of those that a `Retry` names; if it names none, all are."""
    if not on:
        return True
    names = {f"{cls.__module__}.{cls.__qualname__}" for cls in type(error).__mro__}
    names |= {cls.__qualname__ for cls in type(error).__mro__}
    return any(cls in names if isinstance(cls, str) else isinstance(error, cls) for cls in on)
