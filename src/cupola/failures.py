"""From a live exception to its record, and back to a traceback that shows the user's frames only."""

from __future__ import annotations

import os
import sys
import types
from pathlib import Path

from cupola.entities.run import Failure

_OWN_FOLDER = os.path.dirname(os.path.abspath(__file__)) + os.sep


def is_own_frame(file: str) -> bool:
    """Tell whether a source file belongs to Cupola itself."""
    return file.startswith(_OWN_FOLDER)


def without_own_frames(traceback: types.TracebackType | None) -> types.TracebackType | None:
    """Return a traceback without Cupola's frames; all of them when there are no others."""
    kept: list[types.TracebackType] = []
    step = traceback
    while step is not None:
        if not is_own_frame(step.tb_frame.f_code.co_filename):
            kept.append(step)
        step = step.tb_next
    rebuilt: types.TracebackType | None = None
    for part in reversed(kept):
        rebuilt = types.TracebackType(rebuilt, part.tb_frame, part.tb_lasti, part.tb_lineno)
    return rebuilt


def strip_own_frames(error: BaseException) -> None:
    """Take Cupola's frames out of an exception and of all that it was raised from, in place."""
    seen: set[int] = set()
    pending: list[BaseException | None] = [error]
    while pending:
        current = pending.pop()
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        current.__traceback__ = without_own_frames(current.__traceback__)
        pending += [current.__cause__, current.__context__]
        if isinstance(current, BaseExceptionGroup):
            pending += current.exceptions  # pyright: ignore[reportUnknownMemberType] — groups of anything


def describe_failure(error: BaseException, root: Path | None) -> Failure:
    """Return the record of an exception; Cupola's own frames are taken out of it.

    Args:
        error: The exception, as it was caught.
        root: Source root, which file names in `where` are relative to.
    """
    import traceback

    strip_own_frames(error)
    cls = type(error)
    name = cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"
    try:
        message = str(error)
    except Exception as nested:  # an exception's own __str__ is the user's code and may fail
        message = f"<its text can't be had: {type(nested).__name__}>"
    try:
        text = "".join(traceback.format_exception(error))
    except Exception as nested:  # the same: formatting calls the user's __str__ and __repr__
        text = f"{name}: {message}\n<its traceback can't be had: {type(nested).__name__}>\n"
    return Failure(type=name, message=message, traceback=text, where=_where(error, root))


def print_failure(headline: str, error: BaseException) -> None:
    """Print what went wrong in code of the user's that can't change a result, with the user's frames only."""
    import traceback

    strip_own_frames(error)
    sys.stderr.write(headline + "\n" + "".join(traceback.format_exception(error)))


def _where(error: BaseException, root: Path | None) -> str:
    step = error.__traceback__
    if step is None:
        return ""
    while step.tb_next is not None:
        step = step.tb_next
    code = step.tb_frame.f_code
    file = code.co_filename
    if root is not None and file.startswith(str(root) + os.sep):
        file = file[len(str(root)) + 1 :]
    return f"{file}:{step.tb_lineno} in {code.co_name}"
