"""Answering: what a paused run waits for, and going on with it."""

from __future__ import annotations

from cupola.client import describe
from cupola.client.again import Ended, resume
from cupola.client.reading import RunReader
from cupola.engine.resume import Answer
from cupola.entities.run import RunStatus
from cupola.errors import Conflict
from cupola.ids import user_name
from cupola.text import storable_text


def question_of(reader: RunReader) -> str:
    """Return what a run asks.

    Raises:
        Conflict: It doesn't wait for an answer.
    """
    record = reader.record()
    if record.status is not RunStatus.PAUSED:
        raise Conflict(f"run {record.name} is {record.status}: it doesn't wait for an answer")
    return describe.question_of(record)


def answer(
    reader: RunReader,
    value: object,
    *,
    with_current_code: bool = False,
    quiet: bool = False,
    workers: int | None = None,
) -> Ended:
    """Answer the question of a paused run, and go on with it in this process.

    Args:
        reader: Of the run.
        value: The answer, or a text that stands for it.
        with_current_code: Whether code that was edited since may run.
        quiet: Whether nothing is shown while it runs.
        workers: How many worker processes it may have; 0 for none, None when nobody says.

    Raises:
        Conflict: It doesn't wait for an answer, or somebody else just answered.
        CodeChanged: The code of the pipeline was edited since.
    """
    question_of(reader)
    given = Answer(value, storable_text(user_name()))
    return resume(reader, with_current_code=with_current_code, quiet=quiet, workers=workers, answer=given)
