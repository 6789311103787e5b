"""Sealing: the last that happens to a run for now, and the end of one that nobody drives."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from cupola.artifacts.blobs import Blobs
from cupola.engine.recorder import Recorder
from cupola.engine.resume import read_reached
from cupola.entities.run import RunRecord, RunStatus
from cupola.errors import Conflict, Unreachable
from cupola.event import RunFinished, RunMoved, RunResumed
from cupola.ids import now
from cupola.journal import JournalWriter, archive, live_folder
from cupola.runlock import reopen
from cupola.store import Store


def seal(run: str, recorder: Recorder, store: Store, home: Path) -> None:
    """Write what the store gave the run, and move its folder to the finished ones.

    When the store can't be written now, its next reader does the same from the journal.
    """
    recorder.project()
    if recorder.trouble is not None:
        raise recorder.trouble
    recorder.record(store.seal(run))
    recorder.project()
    with suppress(Unreachable):
        archive(home, run)


def cancel_paused(run: RunRecord, store: Store, home: Path, who: str) -> None:
    """Cancel a run that waits for an answer, and that nobody drives therefore.

    Raises:
        Conflict: Somebody goes on with it just now.
    """
    lock = reopen(home, run.id)
    if lock is None:
        raise Conflict(f"run {run.name} was just taken up by another process", fix=f"cupola cancel {run.name}")
    folder = live_folder(home, run.id)
    try:
        reached = read_reached(folder, store, Blobs(home))
        journal = JournalWriter(folder, reached.epoch + 1, reached.head)
        try:
            recorder = Recorder(run.id, journal, lock, store)
            recorder.record(RunResumed(now(), stands=tuple(reached.past.failures)))
            recorder.record(RunMoved(now(), RunStatus.CANCELLING, who))
            recorder.record(RunFinished(now(), RunStatus.CANCELLED, None, -1, (), 0))
            seal(run.id, recorder, store, home)
        finally:
            journal.close()
    finally:
        lock.release()
