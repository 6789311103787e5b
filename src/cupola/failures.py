"""From a live exception to its record, and back to a traceback that shows the user's frames only."""

from __future__ import annotations

import os
import sys
import types
from contextlib import suppress
from pathlib import Path

from cupola.entities.run import Failure
from cupola.text import storable_text

LONGEST_MESSAGE = 10_000
LONGEST_TRACEBACK = 100_000
"""What is kept of an exception's text, in letters; its middle is left out beyond that."""
_OWN_FOLDER = os.path.dirname(os.path.abspath(__file__)) + os.sep


class Terminated(BaseException):
    """The process was asked to end (SIGTERM, SIGHUP) while a step was running."""


def is_failure(error: BaseException) -> bool:
    """Tell whether what was raised means that the user's code failed, not that a signal stopped it."""
    return not isinstance(error, (KeyboardInterrupt, Terminated))


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
    return Failure(
        type=storable_text(name),
        message=_cut(storable_text(message), LONGEST_MESSAGE),
        traceback=_cut(storable_text(text), LONGEST_TRACEBACK),
        where=storable_text(_where(error, root)),
    )


def _cut(text: str, longest: int) -> str:
    if len(text) <= longest:
        return text
    half = longest // 2
    return f"{text[:half]}\n… {len(text) - longest} letters left out …\n{text[-half:]}"


def end_forked_child(error: BaseException | None) -> None:
    """End this process, a forked child whose code came back into Cupola's frames: the run is its parent's.

    Args:
        error: What the child raised, which is shown as Python shows it; None when it returned.
    """
    status: object = 0
    if isinstance(error, SystemExit):
        status = error.code
    elif error is not None:
        status = 1
    # Its streams may be closed or broken; nothing may keep it from ending here.
    with suppress(Exception):
        if error is not None and not isinstance(error, SystemExit):
            print_failure(f"a forked child ({os.getpid()}) failed", error)
        elif status is not None and not isinstance(status, int):
            sys.stderr.write(f"{status}\n")
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    os._exit(status & 0xFF if isinstance(status, int) else int(status is not None))


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
