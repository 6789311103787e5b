"""What a dynamic pipeline asks people: the run pauses, and no process waits, until somebody answers."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from cupola import values
from cupola.compiler.annotations import type_text
from cupola.compiler.convert import convert
from cupola.compiler.written import Text
from cupola.engine.history import History
from cupola.engine.resume import Answer
from cupola.errors import ConfigError
from cupola.event import Event, QuestionAnswered, QuestionAsked
from cupola.ids import now


class Paused(BaseException):
    """Unwinds a dynamic pipeline that waits for an answer. It is no failure: `except Exception` lets it by.

    Attributes:
        question: What it waits with.
        error: What is wrong with the answer that was given, if one was.
    """

    def __init__(self, question: str, error: ConfigError | None = None) -> None:
        super().__init__(question)
        self.question = question
        self.error = error


class Questions:
    """The questions of one drive of a run, in the order in which they are asked.

    Args:
        history: What was asked and answered before.
        answer: What somebody answers now, to the first question that has no answer.
        record: Writes an event.
    """

    def __init__(self, history: History, answer: Answer | None, record: Callable[[Event], None]) -> None:
        self._history = history
        self._answer = answer
        self._record = record
        self._count = 0

    def ask(self, question: str, schema: Any, timeout_s: float | None) -> Any:
        """Return the answer to the next question.

        Raises:
            Paused: There is none yet, or it isn't what `schema` wants.
            TimeoutError: It is too late for one.
        """
        number, self._count = self._count, self._count + 1
        known = self._history.answers.get(number)
        if known is not None:
            return self._read(known, question, schema)
        asked = self._history.questions.get(number)
        if asked is None:
            at = now()
            asked = QuestionAsked(at, number, question, type_text(schema), at + timeout_s if timeout_s else 0.0)
            self._record(asked)
        elif asked.expires_at and time.time() > asked.expires_at:
            late = QuestionAnswered(now(), number, b"")
            self._record(late)
            return self._read(late, question, schema)
        if self._answer is None:
            raise Paused(question)
        given, self._answer = self._answer, None
        try:
            value = convert(_spoken(given.value, schema), schema, where=f"the answer to {question!r}")
        except ConfigError as error:
            raise Paused(question, error) from error
        self._record(QuestionAnswered(now(), number, values.encode(value), given.by))
        return value

    def _read(self, known: QuestionAnswered, question: str, schema: Any) -> Any:
        if not known.answer:
            raise TimeoutError(f"nobody answered {question!r} in time")
        return values.decode(known.answer, schema)


_WORDS = {"yes": True, "y": True, "no": False, "n": False}


def _spoken(value: object, schema: Any) -> object:
    """Return an answer with the words that people use for true and false taken for that."""
    if schema is bool and isinstance(value, Text):
        return _WORDS.get(value.text.strip().casefold(), value)
    return value
