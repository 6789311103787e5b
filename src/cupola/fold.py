"""What the events of a run add up to: its state and that of its steps, from the journal alone.

The projection keeps the same in the database, event by event; `doctor store` holds the one against the other.
"""

from __future__ import annotations

import msgspec

from cupola.entities.artifact import OutputRecord
from cupola.entities.run import Failure, RunStatus, StepStatus
from cupola.event import (
    Event,
    FailureSeen,
    MapExpanded,
    PipelineReturned,
    QuestionAnswered,
    QuestionAsked,
    RunFacts,
    RunFinished,
    RunLost,
    RunMoved,
    RunResumed,
    RunSealed,
    RunStarted,
    StepAdded,
    StepCached,
    StepFailed,
    StepFinished,
    StepRetrying,
    StepsSkipped,
    StepStarted,
    ValueRecorded,
)


class StepState(msgspec.Struct):
    """What the events so far say of one step."""

    status: StepStatus = StepStatus.PENDING
    attempts: int = 0
    outputs: tuple[OutputRecord, ...] = ()
    failure: Failure | None = None
    from_run: str = ""


class RunState(msgspec.Struct):
    """What the events so far say of a run: `fold` of its journal."""

    started: RunStarted | None = None
    status: RunStatus = RunStatus.QUEUED
    steps: dict[int, StepState] = {}
    children: dict[int, range] = {}
    failure: Failure | None = None
    sealed: bool = False


def fold(state: RunState, event: Event) -> RunState:  # noqa: C901 — one flat case for each event
    """Apply one event to the state of its run, in place, and return that state."""
    match event:
        case RunStarted():
            state.started = event
            state.status = RunStatus.RUNNING
        case RunMoved():
            state.status = event.status
        case StepStarted():
            step = _step(state, event.step)
            step.status, step.attempts = StepStatus.RUNNING, event.attempt
        case StepRetrying():
            step = _step(state, event.step)
            step.status, step.failure = StepStatus.RETRYING, event.failure
        case StepFinished():
            step = _step(state, event.step)
            step.status, step.outputs, step.failure = StepStatus.COMPLETED, event.outputs, None
        case StepCached():
            step = _step(state, event.step)
            step.status, step.from_run = StepStatus.CACHED, event.from_run
        case StepFailed():
            step = _step(state, event.step)
            step.status, step.failure = event.status, event.failure
        case StepsSkipped():
            for number in event.steps:
                _step(state, number).status = StepStatus.SKIPPED
        case RunFinished():
            state.status, state.failure = event.status, event.failure
        case RunLost():
            state.status = RunStatus.LOST
            for step in state.steps.values():
                if step.status in (StepStatus.RUNNING, StepStatus.RETRYING):
                    step.status = StepStatus.LOST
        case RunSealed():
            state.sealed = True
        case RunResumed():
            state.status, state.failure, state.sealed = RunStatus.RUNNING, None, False
            over = _left_out(state, event.again)
            for number, step in state.steps.items():
                is_open = (not step.status.has_outputs and number not in over) or number in event.again
                if is_open and number not in event.stands:
                    step.status, step.outputs = StepStatus.PENDING, ()
        case MapExpanded():
            state.children[event.step] = range(event.first, event.first + event.count)
        case StepAdded():
            _step(state, event.step)
        case RunFacts() | ValueRecorded() | FailureSeen() | PipelineReturned() | QuestionAsked() | QuestionAnswered():
            pass
    return state


def _left_out(state: RunState, again: tuple[int, ...]) -> set[int]:
    """Return the children of mapped steps that are finished, with or without them."""
    finished = [step for step in state.children if _step(state, step).status.has_outputs and step not in again]
    return {child for step in finished for child in state.children[step]}


def _step(state: RunState, number: int) -> StepState:
    return state.steps.setdefault(number, StepState())
