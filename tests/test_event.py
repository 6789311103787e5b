"""Events as bytes: what was written is read, and what is no event is refused by one kind of error."""

from __future__ import annotations

import msgspec
import pytest

from cupola.entities.artifact import Manifest, OutputRecord
from cupola.entities.run import Failure, RunStatus, StepStatus
from cupola.event import (
    RunFinished,
    RunLost,
    RunMoved,
    RunSealed,
    RunStarted,
    StepCached,
    StepFailed,
    StepFinished,
    StepRetrying,
    StepsSkipped,
    StepStarted,
    decode_event,
    encode_event,
)
from cupola.fold import RunState, fold

FAILURE = Failure("ValueError", "no", "Traceback", "a.py:1 in f")
OUTPUT = OutputRecord("output", "p/f/output", Manifest("value", 1, "int", "val:1", 1, b"\x05"))
EVENTS = [
    RunStarted(1.0, "r" * 32, "p-1", "p", "m:p", "snap:1", b"bytes"),
    StepStarted(2.0, 0),
    StepRetrying(3.0, 0, 1, FAILURE, 0.5),
    StepStarted(3.5, 0, 2),
    StepFinished(4.0, 0, 2, (OUTPUT,), {"x": "val:0"}),
    StepCached(5.0, 1, "s" * 32, 0),
    StepStarted(6.0, 2),
    StepFailed(7.0, 2, FAILURE),
    StepsSkipped(8.0, (3, 4), 2),
    RunMoved(8.5, RunStatus.CANCELLING, "SIGINT"),
    RunFinished(9.0, RunStatus.FAILED, FAILURE, 2),
    RunSealed(10.0, 7, ((0, 0, "1"),)),
]


@pytest.mark.feature("CORE-03")
@pytest.mark.parametrize("event", [*EVENTS, RunLost(1.0, "gone", "SIGKILL")], ids=lambda event: type(event).__name__)
def test_an_event_is_read_as_it_was_written(event) -> None:
    assert decode_event(encode_event(event)) == event


@pytest.mark.feature("CORE-03")
@pytest.mark.parametrize(
    "data", [b"", b"\xff", b"\x93\x01\x02\x03", encode_event(EVENTS[0]).replace(b"p-1", b"p\xff1")]
)
def test_what_is_no_event_is_refused_by_one_kind_of_error(data: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_event(data)


@pytest.mark.feature("CORE-03")
def test_the_events_of_a_run_add_up_to_its_state() -> None:
    state = RunState()
    for event in EVENTS:
        state = fold(state, event)
    assert state.status is RunStatus.FAILED
    assert state.sealed
    assert [state.steps[place].status for place in range(5)] == [
        StepStatus.COMPLETED, StepStatus.CACHED, StepStatus.FAILED, StepStatus.SKIPPED, StepStatus.SKIPPED,
    ]  # fmt: skip
    assert state.steps[0].attempts == 2
    assert state.steps[0].outputs == (OUTPUT,)


@pytest.mark.feature("CORE-03")
def test_what_ran_when_the_driver_vanished_is_lost() -> None:
    state = RunState()
    for event in [*EVENTS[:2], RunLost(3.0, "gone")]:
        state = fold(state, event)
    assert state.status is RunStatus.LOST
    assert state.steps[0].status is StepStatus.LOST
