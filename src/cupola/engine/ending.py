"""The end of a drive: which steps never started, and how the run ended or that it waits for a person."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from cupola.engine.desk import Desk, Verdict
from cupola.engine.facts import FactFinder
from cupola.engine.graph import Graph
from cupola.entities.run import RunStatus, StepStatus
from cupola.event import RunFinished, RunMoved, StepsSkipped
from cupola.ids import now
from cupola.text import storable_text
from cupola.worker import Outcome

if TYPE_CHECKING:
    from cupola.engine.questions import Paused


class Ending:
    """Ends the drive of one run; used by the driver's thread only."""

    def __init__(self, desk: Desk, facts: FactFinder, graph: Graph) -> None:
        self._desk = desk
        self._facts = facts
        self._graph = graph

    def skip(self, over: Collection[int], cause_of: Callable[[int | None], int]) -> None:
        """Record which steps never started.

        Args:
            over: Those that were over before this drive, and are recorded as what became of them.
            cause_of: Returns the step that is the cause, -1 for none, given the one that a step needed in vain.
        """
        never: dict[int, list[int]] = {}
        for position, needed in self._graph.never_started().items():
            if position not in over:
                never.setdefault(cause_of(needed), []).append(position)
                self._desk.reporter.step_finished(self._graph.steps[position].name, StepStatus.SKIPPED, 0.0)
        for cause, positions in never.items():
            self._desk.recorder.record(StepsSkipped(now(), tuple(positions), cause))

    def pause(self, paused: Paused) -> Verdict:
        """Record that the run waits for a person."""
        self._facts.finish(self._desk.interrupts.is_stopped)
        self._desk.recorder.record(RunMoved(now(), RunStatus.PAUSED, storable_text(paused.question)))
        self._record(RunStatus.PAUSED, None, -1)
        return Verdict(RunStatus.PAUSED, paused.error)

    def finish(self, failed: tuple[int, Outcome] | None) -> Verdict:
        """Record how the run ended, given the step that failed it and how."""
        interrupts = self._desk.interrupts
        self._facts.finish(interrupts.is_stopped)
        failed_step, outcome = failed or (-1, None)
        ended = RunStatus.FAILED if outcome else RunStatus.COMPLETED
        status = RunStatus.CANCELLED if interrupts.signal else ended
        self._record(status, outcome, failed_step)
        error = outcome.error if outcome else None
        return Verdict(status, error, failed_step, interrupts.signal, interrupts.reason)

    def _record(self, status: RunStatus, outcome: Outcome | None, failed_step: int) -> None:
        log, failure = self._desk.log, outcome.failure if outcome else None
        self._desk.recorder.record(RunFinished(now(), status, failure, failed_step, log.warnings, log.position()))
