"""What a run is made from, while it is driven: gathered beside its steps, and recorded as soon as it is known.

So a run whose driver dies has it too.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from cupola.compiler.source import program_file
from cupola.engine import provenance
from cupola.engine.recorder import Recorder
from cupola.engine.site import Site
from cupola.event import RunFacts
from cupola.ids import now
from cupola.snapshot import Snapshot

if TYPE_CHECKING:
    from cupola.engine.provenance.facts import Facts
    from cupola.engine.provenance.gather import Gathering

LOOK_EVERY_S = 0.05
"""How often is looked whether all is known, in seconds."""


class FactsOfRun:
    """Gathers and records the facts of one run; used by the driver's thread only."""

    def __init__(self, site: Site, snapshot: Snapshot, recorder: Recorder) -> None:
        self._site = site
        self._snapshot = snapshot
        self._recorder = recorder
        self._gathering: Gathering | None = None
        self._is_recorded = False
        self._look_at = 0.0

    def begin(self) -> Gathering:
        """Begin, once for the run; git works while the first step does."""
        if self._gathering is None:
            self._gathering = provenance.gather.start_gathering(
                self._site.root, self._site.blobs, program=program_file(), snapshot=self._snapshot
            )
            self._look_at = time.monotonic() + LOOK_EVERY_S
        return self._gathering

    def look(self) -> None:
        """Record what is known, if it is all and wasn't recorded before; looks no more often than it is worth."""
        if self._is_recorded or time.monotonic() < self._look_at:
            return
        self._look_at = time.monotonic() + LOOK_EVERY_S
        self._record(self.begin().poll())

    def finish(self, is_stopped: Callable[[], bool]) -> None:
        """Wait for all of it at the end of the run, for a shorter time where that is to stop."""
        if not self._is_recorded:
            self._record(self.begin().wait(is_stopped))

    def _record(self, found: Facts | None) -> None:
        if found is not None:
            self._recorder.record(RunFacts(now(), found.facts, found.blobs))
            self._is_recorded = True
