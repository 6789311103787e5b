"""Where in the user's source a call stands: noted cheaply for each call of a step, told as `file:line` in an error."""

from __future__ import annotations

import sys
from types import CodeType

import msgspec

from cupola.failures import is_own_frame


class CallSite(msgspec.Struct, frozen=True, gc=False):
    """A call as the interpreter knows it; its text is `file:line`.

    A line is looked up in a table of the whole function, so that it costs more than the call where there are many.

    Attributes:
        code: The code that calls; None where all frames are Cupola's own.
        instruction: The byte offset of the call in it.
    """

    code: CodeType | None
    instruction: int

    def __str__(self) -> str:
        if self.code is None:
            return ""
        for start, end, line in self.code.co_lines():
            if start <= self.instruction < end:
                return f"{self.code.co_filename}:{line}"
        return self.code.co_filename


def call_site() -> CallSite:
    """Return where the innermost frame that is not Cupola's own calls; the caller is Cupola's own."""
    frame = sys._getframe(2)  # pyright: ignore[reportPrivateUsage] — `inspect` costs 17 ms for the same
    while frame is not None:
        if not is_own_frame(frame.f_code.co_filename):
            return CallSite(frame.f_code, frame.f_lasti)
        frame = frame.f_back
    return CallSite(None, 0)


def caller_place() -> str:
    """Return `file:line` of the innermost frame that is not Cupola's own."""
    return str(call_site())
