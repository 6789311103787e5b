"""Calls the user's hooks of a step: at its start, and once at its end, after the last attempt.

A hook that fails is logged in the step's log and changes nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cupola.entities.run import Failure, StepStatus
from cupola.failures import is_failure, print_failure
from cupola.middleware.attempt import Attempt, Hook, Moment, Proceed


def applies(attempt: Attempt) -> bool:
    """Tell whether the step has hooks."""
    return bool(attempt.hooks)


def wrap(proceed: Proceed) -> Proceed:
    """Return `proceed` with the hooks around it."""

    def run(attempt: Attempt) -> Any:
        if attempt.tries == 1:
            _call("on_start", attempt, StepStatus.RUNNING, None)
        try:
            result = proceed(attempt)
        except BaseException as error:
            if attempt.again_after_s is not None:
                raise
            failure = attempt.failure_of(error)
            status = StepStatus.FAILED if is_failure(error) else StepStatus.CANCELLED
            if status is StepStatus.FAILED:
                _call("on_failure", attempt, status, failure)
            _call("on_end", attempt, status, failure)
            raise
        _call("on_success", attempt, StepStatus.COMPLETED, None)
        _call("on_end", attempt, StepStatus.COMPLETED, None)
        return result

    return run


def call_hook(event: str, hook: Hook, tell_hook: Callable[[Hook, Moment], None], moment: Moment) -> None:
    """Call one hook; what goes wrong in it is printed, and changes nothing else.

    Raises:
        BaseException: What a signal raised meanwhile.
    """
    try:
        tell_hook(hook, moment)
    except BaseException as error:  # a hook is the user's code: whatever it raises must not change the step's result
        if not is_failure(error):
            raise
        print_failure(f"hook {event} of step {moment.name!r} failed; the step's own result stands", error)


def _call(event: str, attempt: Attempt, status: StepStatus, failure: Failure | None) -> None:
    hook = attempt.hooks.get(event)
    if hook is not None:
        step = attempt.context.step
        moment = Moment(step.position, step.name, status, attempt.number, failure)
        call_hook(event, hook, attempt.tell_hook, moment)
