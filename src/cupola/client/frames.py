"""Where in a running function the debugger opens, and what runs there: pdb, told which frames are the user's."""

from __future__ import annotations

import bdb
import os
import pdb  # noqa: T100 — opening a debugger is what this is for
import sys
import traceback
from collections.abc import Callable, Mapping
from types import CodeType, FrameType, TracebackType
from typing import Any

from cupola.failures import strip_own_frames

NOTHING = object()
"""What a statement gives that is no expression."""


class Debugger(pdb.Pdb):
    """Python's own debugger, which doesn't stop in Cupola's code; Ctrl-C stops the step it runs."""

    def __init__(self) -> None:
        super().__init__(skip=["cupola", "cupola.*"])


def open_after(error: BaseException, root: str) -> None:
    """Show an exception and open the debugger at the frame of the project that raised, or that called what did.

    Frames of libraries below it can be reached with `down`.
    """
    strip_own_frames(error)
    traceback.print_exception(error)
    debugger = Debugger()
    debugger.reset()
    steps = _steps_up(error.__traceback__, root)
    if steps:
        debugger.cmdqueue.append(f"up {steps}")
    debugger.interaction(None, error.__traceback__)


def open_at_start(function: Callable[..., Any], call: Callable[[], Any]) -> BaseException | None:
    """Call something and open the debugger where it enters a function; return what it raised after that.

    Args:
        function: The function, with whatever the user's decorators put around it.
        call: Calls it.
    """
    debugger, target = Debugger(), _innermost(function).__code__

    def watch(frame: FrameType, event: str, _argument: Any) -> Any:
        if event != "call" or frame.f_code is not target:
            return None
        sys.settrace(None)
        debugger.set_trace(frame)
        return debugger.trace_dispatch

    sys.settrace(watch)
    try:
        call()
    except bdb.BdbQuit:
        return None
    except BaseException as error:  # the user's code, stepped through: its exception is what the user looks for
        return error
    finally:
        sys.settrace(None)
    print("the step has returned")
    return None


def evaluate_at(frame: FrameType, expression: str) -> Any:
    """Run an expression or statement in a frame that raised; return what it gives, or `NOTHING`."""
    # One mapping for both, or comprehensions in the expression would not see the frame's own variables.
    return _run(expression, {**frame.f_globals, **frame.f_locals})


def evaluate_lazily(function: Callable[..., Any], loaders: Mapping[str, Callable[[], Any]], expression: str) -> Any:
    """Run an expression or statement as if at the start of a function; only the inputs that it names are loaded."""
    inner = _innermost(function)
    names = _names(_compiled(expression)[0])
    inputs = {name: load() for name, load in loaders.items() if name in names}
    cells = zip(inner.__code__.co_freevars, inner.__closure__ or (), strict=False)
    return _run(expression, {**inner.__globals__, **{name: cell.cell_contents for name, cell in cells}, **inputs})


def deepest_of_project(step: TracebackType | None, root: str) -> FrameType:
    """Return the last frame of a traceback whose file is below a folder; the last one of all when none is."""
    frames = _frames(step)
    return next((frame for frame in reversed(frames) if _is_below(frame, root)), frames[-1])


def show_result(value: object) -> None:
    """Print what an expression gave, as Python's prompt does, None too."""
    print(repr(value), flush=True)


def _run(expression: str, scope: dict[str, Any]) -> Any:
    code, is_expression = _compiled(expression)
    if is_expression:
        return eval(code, scope)
    exec(code, scope)
    return NOTHING


def _compiled(expression: str) -> tuple[CodeType, bool]:
    try:
        return compile(expression.strip(), "<--exec>", "eval"), True
    except SyntaxError:
        return compile(expression, "<--exec>", "exec"), False


def _names(code: CodeType) -> set[str]:
    """Return all names that some code reads, also inside its lambdas and comprehensions."""
    inner = (constant for constant in code.co_consts if isinstance(constant, CodeType))
    return {*code.co_names, *code.co_varnames, *(name for part in inner for name in _names(part))}


def _innermost(function: Callable[..., Any]) -> Any:
    """Return the function that the user wrote, below decorators that keep it as `functools.wraps` does."""
    seen: list[Any] = []
    current: Any = function
    while hasattr(current, "__wrapped__") and current not in seen:
        seen.append(current)
        current = current.__wrapped__
    return current


def _steps_up(step: TracebackType | None, root: str) -> int:
    frames = _frames(step)
    return len(frames) - 1 - frames.index(deepest_of_project(step, root))


def _frames(step: TracebackType | None) -> list[FrameType]:
    frames: list[FrameType] = []
    while step is not None:
        frames.append(step.tb_frame)
        step = step.tb_next
    return frames


def _is_below(frame: FrameType, root: str) -> bool:
    path = os.path.realpath(frame.f_code.co_filename)
    return path.startswith(os.path.realpath(root) + os.sep) and "site-packages" not in path
