"""What middlewares pass on: one attempt of one step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import msgspec

from cupola.context import StepContext
from cupola.entities.run import Failure, StepStatus
from cupola.snapshot import StepOptions

Hook = Callable[[Any], object]


class Moment(msgspec.Struct, frozen=True):
    """What a hook is told of its step: which it is, its state, how many attempts it had, and how it failed."""

    position: int
    name: str
    status: StepStatus
    attempts: int
    failure: Failure | None = None


class Attempt(msgspec.Struct, kw_only=True):
    """One attempt of one step, seen from the worker.

    Attributes:
        number: Number of the attempt among all of the step, from 1.
        tries: Number of the attempt in this series, which a resumed run begins anew.
        options: The step's options.
        context: What the running step can ask and record.
        hooks: The user's functions by event.
        retry_on: Exception classes that are worth another attempt; empty for all.
        call: Runs the function on its inputs and stores its outputs.
        tell_hook: Calls one hook with a `StepRun` for a moment.
        failure_of: Turns an exception into its record.
        put_back: Puts back what a step changed of the process it shares with its caller.
        is_captured: Whether what the process prints goes into this run's log.
        again_after_s: Seconds after which another attempt is to follow; None when none is. Set by `retry`.
    """

    number: int
    tries: int
    options: StepOptions
    context: StepContext
    hooks: Mapping[str, Hook]
    retry_on: tuple[type[BaseException] | str, ...]
    call: Callable[[], Any]
    tell_hook: Callable[[Hook, Moment], None]
    failure_of: Callable[[BaseException], Failure]
    put_back: Callable[[], None]
    is_captured: bool
    again_after_s: float | None = None


Proceed = Callable[[Attempt], Any]


class Middleware(Protocol):
    """A feature of steps: a module with these two functions."""

    @staticmethod
    def applies(attempt: Attempt) -> bool:
        """Tell whether this step needs the feature."""
        ...

    @staticmethod
    def wrap(proceed: Proceed) -> Proceed:
        """Return what runs an attempt with the feature around `proceed`."""
        ...
