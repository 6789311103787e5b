"""Asking people: a dynamic pipeline that waits for an answer frees every process until somebody gives one."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, TypeVar, overload

from cupola.compiler.callsite import caller_place
from cupola.compiler.options import duration_s
from cupola.context import pipeline_context
from cupola.errors import CompileError, ConfigError

T = TypeVar("T")


@overload
def wait(question: str, schema: type[T], timeout: float | str | timedelta | None = None) -> T: ...
@overload
def wait(question: str, schema: None = None, timeout: float | str | timedelta | None = None) -> str: ...
def wait(question: str, schema: Any = None, timeout: float | str | timedelta | None = None) -> Any:
    """Ask a person, in the function of a dynamic pipeline; the run pauses until `cupola answer` goes on with it.

    No process waits meanwhile: steps that run are finished, and the function is left by an exception that `except
    Exception` doesn't catch. When there is an answer, the function runs again from its beginning, as in each resumed
    run, and `wait` returns it.

    Args:
        question: What people are asked.
        schema: Type of the answer, as of a parameter; a text when left out.
        timeout: How long an answer is taken, in seconds or as `"2h"`; without end when left out.

    Raises:
        TimeoutError: The run was resumed later than that, and nobody had answered.
        CompileError: It was called somewhere else.
        ConfigError: The question or the timeout makes no sense.
    """
    context = pipeline_context()
    if context is None:
        raise CompileError(
            "wait(…) was called outside of the function of a dynamic pipeline",
            where=caller_place(),
            fix="mark the pipeline @pipeline(dynamic=True), and ask in its function, not in a step",
        )
    if not isinstance(question, str) or not question.strip():  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigError(f"wait(…) got no question but {question!r}", where=caller_place(), fix="pass a text")
    timeout_s = None if timeout is None else duration_s(timeout, "timeout", f"wait(…) at {caller_place()}")
    return context.ask(question, str if schema is None else schema, timeout_s)
