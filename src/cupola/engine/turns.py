"""Turns: a lock that threads get in the order in which they asked for it."""

from __future__ import annotations

import threading


class Turns:
    """Lets one thread at a time in, first come, first served; a plain lock may go to the same thread again and again.

    The thread that is in may enter again.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._next = 0
        self._now = 0
        self._owner = 0
        self._depth = 0

    def __enter__(self) -> None:
        me = threading.get_ident()
        with self._changed:
            if self._owner != me:
                mine, self._next = self._next, self._next + 1
                # A signal that raises while this thread waits must not leave a place that nobody takes.
                try:
                    self._changed.wait_for(lambda: self._now == mine)
                except BaseException:
                    self._changed.wait_for(lambda: self._now == mine)
                    self._pass_on()
                    raise
                self._owner = me
            self._depth += 1

    def __exit__(self, *_error: object) -> None:
        with self._changed:
            self._depth -= 1
            if not self._depth:
                self._owner = 0
                self._pass_on()

    def is_wanted(self) -> bool:
        """Tell whether another thread waits for its turn."""
        return self._next - self._now > 1

    def _pass_on(self) -> None:
        self._now += 1
        self._changed.notify_all()
