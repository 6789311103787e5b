"""What a dynamic pipeline did in earlier drives of its run, for the calls that it makes again.

A call is known again by its content: who makes it, which step, with what, and its number among equal ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from cupola.entities.artifact import Manifest
from cupola.entities.run import Failure
from cupola.event import (
    Event,
    FailureSeen,
    QuestionAnswered,
    QuestionAsked,
    RunFinished,
    RunResumed,
    StepAdded,
    StepFailed,
    ValueRecorded,
)
from cupola.snapshot import Addition, decode_addition


class Past(msgspec.Struct, frozen=True, kw_only=True):
    """What the journal says of a dynamic run.

    Attributes:
        additions: The steps that were added, by position, in the order in which they were.
        failures: How steps failed that the pipeline was told of and went on; it is told the same again.
        values: What it asked for by kind, in order.
        questions, answers: What it asked people, and what they said, by number.
    """

    additions: Mapping[int, Addition] = {}
    failures: Mapping[int, Failure] = {}
    values: Mapping[str, Sequence[bytes]] = {}
    questions: Mapping[int, QuestionAsked] = {}
    answers: Mapping[int, QuestionAnswered] = {}


def read_past(events: Sequence[Event]) -> Past:
    """Add up the events of a dynamic run."""
    additions: dict[int, Addition] = {}
    failures: dict[int, Failure] = {}
    values: dict[str, list[bytes]] = {}
    told: dict[int, Failure] = {}
    questions: dict[int, QuestionAsked] = {}
    answers: dict[int, QuestionAnswered] = {}
    last_told = -1
    for event in events:
        match event:
            case StepAdded():
                additions[event.step] = decode_addition(event.addition)
                last_told = -1  # it went on after all that it was told of
            case StepFailed():
                failures[event.step] = event.failure
            case FailureSeen():
                if event.step in failures:
                    told[event.step] = failures[event.step]
                    last_told = event.step
            case ValueRecorded():
                values.setdefault(event.kind, []).append(event.value)
                last_told = -1
            case QuestionAsked():
                questions[event.number] = event
                last_told = -1
            case QuestionAnswered():
                answers[event.number] = event
            case RunFinished():
                told.pop(event.failed_step, None)
            case RunResumed():
                # What it was told last may have been what was about to end it: that one is tried again.
                told.pop(last_told, None)
                last_told = -1
            case _:
                pass
    told.pop(last_told, None)
    return Past(additions=additions, failures=told, values=values, questions=questions, answers=answers)


class Entry(msgspec.Struct):
    """A recorded call: its position, what it is, what it made if it is done, and how it failed for good if it did."""

    position: int
    addition: Addition
    outputs: Mapping[str, Manifest] | None
    failure: Failure | None


class History:
    """Gives recorded calls to those that are made again, each once.

    Args:
        past: What the journal says.
        done: Outputs of the steps that are finished, by position.
    """

    def __init__(self, past: Past, done: Mapping[int, Sequence[tuple[str, Manifest]]]) -> None:
        self._entries: dict[tuple[str, int], Entry] = {}
        self._counts: dict[str, int] = {}
        self._values = {kind: list(found) for kind, found in past.values.items()}
        for position, addition in past.additions.items():
            made = dict(done[position]) if position in done else None
            failure = past.failures.get(position)
            entry = Entry(position, addition, made, failure)
            self._entries[addition.key, addition.number] = entry
        self.questions, self.answers = past.questions, past.answers
        self.names = {addition.spec.name for addition in past.additions.values()}

    def claim(self, key: str) -> tuple[Entry | None, int]:
        """Return the record of the next call with a key, or None for a new one, and its number among equal ones."""
        number = self._counts.get(key, 0)
        self._counts[key] = number + 1
        return self._entries.pop((key, number), None), number

    def recall(self, kind: str) -> bytes | None:
        """Return what the pipeline got when it asked for a kind of value at this place before."""
        found = self._values.get(kind)
        return found.pop(0) if found else None

    def unclaimed(self) -> list[Entry]:
        """Return the records of calls that were not made again, in the order of the graph."""
        return sorted(self._entries.values(), key=lambda entry: entry.position)
