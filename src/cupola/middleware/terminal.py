"""What the process's standard streams are before a run: which descriptors a run may take, and what a debugger needs."""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Callable
from typing import Any

# Descriptors 0 to 2 may be closed; what is opened by a run must not land there.
_FIRST_FREE = 3


def secure_descriptors() -> None:
    """Open the closed ones of descriptors 0 to 2 on nothing, before any file is opened that could land there.

    Else what a step or its children print would be written into the journal or the database.
    """
    for number in range(_FIRST_FREE):
        if not exists(number):
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)


def may_take(number: int, stream: Any, usual: Any) -> bool:
    """Tell whether a run may put its log in the place of a descriptor.

    Args:
        number: The descriptor, 1 or 2.
        stream: What `sys.stdout` or `sys.stderr` is now.
        usual: What it was when Python started (`sys.__stdout__`).
    """
    if type(stream).__module__.startswith("ipykernel") or is_debugged():
        return False
    try:
        there = os.fstat(number)
    except OSError:
        return True
    if stream is None and usual is None:
        # Python started without it: a file that has come there since is somebody's, `secure_descriptors`' is not.
        return there.st_rdev == os.stat(os.devnull).st_rdev
    return is_on(stream, number) or is_on(usual, number)


def is_on(stream: Any, number: int) -> bool:
    """Tell whether a stream and a descriptor are one file; pytest, for one, has them on different numbers."""
    try:
        other = stream.fileno()
        return other == number or os.path.sameopenfile(other, number)
    except Exception:  # any object may stand there, None and closed files too; then it is not on the descriptor
        return False


def is_debugged() -> bool:
    """Tell whether a debugger traces this thread."""
    owner = getattr(sys.gettrace(), "__self__", None)
    debugger = getattr(sys.modules.get("bdb"), "Bdb", None)
    return "pydevd" in sys.modules or (debugger is not None and isinstance(owner, debugger))


def keep_aside(number: int) -> int:
    """Return a duplicate of a descriptor that no child inherits."""
    return fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, _FIRST_FREE)


def move_aside(number: int) -> int:
    """Return the descriptor itself, or one in its stead if it landed where a standard stream belongs."""
    if number >= _FIRST_FREE:
        return number
    moved = keep_aside(number)
    os.close(number)
    return moved


def exists(number: int) -> bool:
    """Tell whether a descriptor is open."""
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def close(number: int) -> None:
    """Close a descriptor that may be closed already."""
    try:
        os.close(number)
    except OSError:
        return


def make_breakpoint(before: Callable[..., Any], release: Callable[[], None]) -> Callable[..., Any]:
    """Return a `sys.breakpointhook` that gives the terminal back before the debugger starts."""

    def stop_here(*args: Any, **options: Any) -> Any:
        release()
        if before is sys.__breakpointhook__ and not os.environ.get("PYTHONBREAKPOINT") and not args and not options:
            import pdb  # noqa: T100 — it is started for a `breakpoint()` of the user's

            # Called through the usual hook it would stop in this function instead of the user's.
            pdb.Pdb().set_trace(sys._getframe(1))  # pyright: ignore[reportPrivateUsage] — the caller's frame
            return None
        return before(*args, **options)

    return stop_here
