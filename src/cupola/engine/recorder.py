"""Recording: each event into the journal at once, and into the store in batches.

The journal is the record; what the store lacks at any moment, its readers take from the journal themselves.
"""

from __future__ import annotations

import os
import time

from cupola.errors import Unreachable
from cupola.event import Event, encode_event
from cupola.failures import end_forked_child
from cupola.journal import JournalWriter
from cupola.runlock import RunLock, fenced
from cupola.store import Store

PROJECT_EVERY_S = 0.05
"""How far the store may be behind while the driver can run, in seconds."""


class Recorder:
    """The one writer of a run's events; used by the driver's thread only.

    Attributes:
        trouble: What the store said when a batch could not be applied; the journal has it all nevertheless.
    """

    def __init__(self, run: str, journal: JournalWriter, lock: RunLock, store: Store) -> None:
        self._run = run
        self._journal = journal
        self._lock = lock
        self._store = store
        self._process = os.getpid()
        self._pending: list[bytes] = []
        self._decoded: list[Event] = []
        self._projected_at = time.monotonic()
        self.trouble: Unreachable | None = None

    def record(self, event: Event) -> None:
        """Write an event; when this returns it survives the death of the process.

        Raises:
            Fenced: Another driver took the run over meanwhile; the event did not happen.
            Unreachable: The journal can't be written; the event did not happen.
        """
        self._end_in_child()
        if self._lock.is_lost():
            raise fenced(self._journal.folder)
        data = encode_event(event)
        self._journal.append(data)
        self._pending.append(data)
        self._decoded.append(event)
        if time.monotonic() - self._projected_at >= PROJECT_EVERY_S:
            self.project()

    def due_s(self) -> float | None:
        """Return the seconds until the store is to be brought up to date; None when it is."""
        return max(0.0, self._projected_at + PROJECT_EVERY_S - time.monotonic()) if self._pending else None

    def keep_up(self) -> None:
        """Bring the store up to date if that is due, and see that the run is still this driver's; for those who wait.

        Raises:
            Fenced: Another driver took the run over meanwhile.
        """
        if self._lock.is_lost():
            raise fenced(self._journal.folder)
        if self.due_s() == 0.0:
            self.project()

    def project(self) -> None:
        """Bring the store up to date; when it can't be written, its readers will."""
        self._end_in_child()
        self._projected_at = time.monotonic()
        if not self._pending:
            return
        first = self._journal.head - len(self._pending) + 1
        try:
            self._store.append(self._run, self._journal.epoch, first, self._pending, decoded=self._decoded)
        except Unreachable as error:
            self.trouble = error
            return
        self.trouble = None
        self._pending, self._decoded = [], []

    def _end_in_child(self) -> None:
        # A hook forked and the child came back, to write the journal of its parent.
        if os.getpid() != self._process:
            end_forked_child(None)
