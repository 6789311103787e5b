"""A step called as the plain function that it is: what it records then goes nowhere, so that it can be tested."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from types import CoroutineType
from typing import Any, cast

from cupola.compiler.trace import Trace, conducted_trace, current_trace
from cupola.context import current_step

_plain: ContextVar[bool] = ContextVar("cupola_plain_call", default=False)


def open_trace() -> Trace | None:
    """Return the pipeline that a call made here is a part of, or None for a plain call."""
    trace = current_trace()
    if trace is None and current_step() is None:
        return conducted_trace()
    return trace


def call_plainly(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call a step's function; what it awaits, if it is asynchronous, belongs to the call."""
    token = _plain.set(True)
    try:
        result = function(*args, **kwargs)
    finally:
        _plain.reset(token)
    return _await(cast("Coroutine[Any, Any, Any]", result)) if isinstance(result, CoroutineType) else result


def is_plain_call() -> bool:
    """Tell whether a step's function runs now without any run around it."""
    return _plain.get() and current_step() is None


async def _await(coroutine: Coroutine[Any, Any, Any]) -> Any:
    token = _plain.set(True)
    try:
        return await coroutine
    finally:
        _plain.reset(token)
