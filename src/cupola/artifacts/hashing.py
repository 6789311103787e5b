"""Hashing beside writing: for large blobs the digest is computed on a second core while the bytes go to the file."""

from __future__ import annotations

import os
from types import TracebackType
from typing import TYPE_CHECKING

from blake3 import blake3

if TYPE_CHECKING:
    from queue import SimpleQueue


class HashingThread:
    """Feeds one hasher from a thread. Each buffer that is given must be waited for before it may change.

    Args:
        hasher: What to feed; nobody else may use it until the thread is stopped.
    """

    def __init__(self, hasher: blake3) -> None:
        # 3 ms that only processes with large blobs need to spend.
        import threading
        from queue import SimpleQueue

        self._hasher = hasher
        self._given: SimpleQueue[memoryview | None] = SimpleQueue()
        self._done: SimpleQueue[bool] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="cupola-hashing", daemon=True)
        self._thread.start()

    def hashing(self, view: memoryview) -> HashingThread:
        """Start to hash a buffer; the `with` statement that this stands in ends when it is hashed."""
        self._given.put(view)
        return self

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._done.get()

    def stop(self) -> None:
        """End the thread; everything that was given is hashed."""
        self._given.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (view := self._given.get()) is not None:
            self._hasher.update(view)
            self._done.put(True)


def has_two_cores() -> bool:
    """Tell whether a second thread could really run at the same time."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return usable > 1
