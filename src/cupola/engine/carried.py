"""Exceptions of the user's from a worker to the driver: the object where it can be pickled, with its traceback.

Python pickles neither tracebacks nor causes, so they travel beside it as places in files, and are built anew. What
can't be pickled, or not be read back, is stood in for by a `StepError` with the same text.
"""

from __future__ import annotations

import types
from typing import Any, cast

import msgspec

from cupola.entities.run import Failure
from cupola.failures import strip_own_frames

_CHAIN = 20
"""How many exceptions are carried of a chain of causes, which may be a circle."""
_FRAMES = 100


class StepError(Exception):
    """Stands for an exception of another process that couldn't be brought here."""


class _Carried(msgspec.Struct, array_like=True):
    """One exception: its pickle, the places of its traceback, what it was raised from."""

    pickled: bytes
    text: str
    frames: list[tuple[str, int, str]]
    cause: _Carried | None = None
    context: _Carried | None = None
    is_context_hidden: bool = False


def pack(error: BaseException) -> bytes:
    """Return an exception as bytes; Cupola's own frames are taken out of it."""
    strip_own_frames(error)
    return msgspec.msgpack.encode(_carry(error, [_CHAIN]))


def unpack(data: bytes, failure: Failure | None) -> BaseException:
    """Return the exception of `pack`, or what stands for it when its class can't be had here."""
    if not data:
        return StepError(str(failure))
    return _rebuild(msgspec.msgpack.decode(data, type=_Carried))


def _carry(error: BaseException, left: list[int]) -> _Carried:
    left[0] -= 1
    frames: list[tuple[str, int, str]] = []
    step = error.__traceback__
    while step is not None:
        code = step.tb_frame.f_code
        frames.append((code.co_filename, step.tb_lineno, code.co_name))
        step = step.tb_next
    if len(frames) > _FRAMES:
        frames = frames[: _FRAMES // 2] + frames[-_FRAMES // 2 :]
    cause, context = error.__cause__, error.__context__
    return _Carried(
        pickled=_pickle(error),
        text=_text(error),
        frames=frames,
        cause=_carry(cause, left) if cause is not None and left[0] > 0 else None,
        context=_carry(context, left) if context is not None and context is not cause and left[0] > 0 else None,
        is_context_hidden=error.__suppress_context__,
    )


def _pickle(error: BaseException) -> bytes:
    import pickle  # here, since few steps fail

    try:
        return pickle.dumps(error)
    except Exception:  # the user's class and what it holds may refuse in any way
        return b""


def _text(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:  # its own __str__ is the user's code
        return type(error).__name__


def _rebuild(carried: _Carried) -> BaseException:
    import pickle

    error: Any = None
    if carried.pickled:
        try:
            error = pickle.loads(carried.pickled)
        except BaseException:  # the user's class may fail in any way when it is made from its pickle
            error = None
    if not isinstance(error, BaseException):
        error = StepError(carried.text)
    if carried.context is not None:
        error.__context__ = _rebuild(carried.context)
    if carried.cause is not None:
        error.__cause__ = _rebuild(carried.cause)
    error.__suppress_context__ = carried.is_context_hidden
    error.__traceback__ = _traceback(carried.frames)
    return error


def _traceback(frames: list[tuple[str, int, str]]) -> types.TracebackType | None:
    """Return a traceback that shows the given places, innermost last."""
    built: types.TracebackType | None = None
    for file, line, name in reversed(frames):
        built = types.TracebackType(built, _frame(file, name), -1, max(line, 1))
    return built


def _frame(file: str, name: str) -> types.FrameType:
    """Return a frame of a function with this name in this file; it has run already."""
    code = compile("import sys\nframe = sys._getframe()", file, "exec").replace(co_name=name)
    names: dict[str, Any] = {"__name__": name, "__file__": file}
    exec(code, names)
    return cast("types.FrameType", names.pop("frame"))
