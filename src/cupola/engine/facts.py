"""What a run is made from, recorded while it runs: begun with its first step, and looked for now and then."""

from __future__ import annotations

import math
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
"""How often is looked whether the facts are known, in seconds."""


class FactFinder:
    """Finds out and records what one run is made from; used by the driver's thread only."""

    def __init__(self, site: Site, snapshot: Snapshot, recorder: Recorder) -> None:
        self._site = site
        self._snapshot = snapshot
        self._recorder = recorder
        self._gathering: Gathering | None = None
        self._look_at = math.inf
        self._is_done = False

    def begin(self) -> Gathering:
        """Begin, once for the run, to find out; git works while the first step does."""
        if self._gathering is None:
            self._gathering = provenance.gather.start_gathering(
                self._site.root, self._site.blobs, program=program_file(), snapshot=self._snapshot
            )
            self._look_at = time.monotonic() + LOOK_EVERY_S
        return self._gathering

    def look(self) -> None:
        """Record the facts as soon as they are known, so that a run whose driver dies has them too."""
        if self._look_at > time.monotonic():
            return
        self._look_at = time.monotonic() + LOOK_EVERY_S
        facts = self.begin().poll()
        if facts is not None:
            self._record(facts)

    def finish(self, is_stopped: Callable[[], bool]) -> None:
        """Record the facts at the end of the run, sooner when it is to stop; what isn't known by then is unknown."""
        if not self._is_done:
            self._record(self.begin().wait(is_stopped))

    def _record(self, facts: Facts) -> None:
        self._recorder.record(RunFacts(now(), facts.facts, facts.blobs))
        self._is_done, self._look_at = True, math.inf
