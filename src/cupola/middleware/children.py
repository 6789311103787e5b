"""What captures do when this process starts others: nothing that is buffered is overtaken or written twice.

Neither kind of hook can be taken away again, so each is registered once, and only in a process that needs it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Protocol

# What Python announces before it starts a child that inherits the descriptors.
_EVENTS = frozenset({"subprocess.Popen", "os.system", "os.posix_spawn", "os.exec", "os.forkpty", "pty.spawn"})
_registered: set[str] = set()


class Parent(Protocol):
    """A capture, as far as children concern it."""

    def settle(self) -> int:
        """Write out what was printed before."""
        ...

    def before_fork(self) -> None:
        """Leave nothing in buffers and no thread."""
        ...

    def after_fork(self) -> None:
        """Go on in the parent."""
        ...

    def in_child(self) -> None:
        """Be a plain writer in the child."""
        ...


def survive_forks(captures: Sequence[Parent]) -> None:
    """Tell the captures that are on at the time of each fork."""
    if "forks" in _registered:
        return
    _registered.add("forks")

    def before() -> None:
        for capture in captures:
            capture.before_fork()

    def in_parent() -> None:
        for capture in captures:
            capture.after_fork()

    def in_child() -> None:
        for capture in captures:
            capture.in_child()

    os.register_at_fork(before=before, after_in_parent=in_parent, after_in_child=in_child)


def flush_before(captures: Sequence[Parent]) -> None:
    """Write out what is buffered before each child that starts from now on.

    For streams that are buffered by blocks. An audit hook costs 0.1 µs an event for good, so it is for processes that
    print very much.
    """
    if "children" in _registered:
        return
    _registered.add("children")

    def settle(event: str, _arguments: object) -> None:
        if event in _EVENTS:
            for capture in captures:
                capture.settle()

    sys.addaudithook(settle)
