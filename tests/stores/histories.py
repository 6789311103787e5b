"""Histories of runs for tests of the store: snapshots, events, journals on disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cupola import digest, ids, journal, runlock, values
from cupola.entities.artifact import Manifest, OutputRecord
from cupola.entities.run import RunStatus
from cupola.event import (
    Event,
    RunFinished,
    RunStarted,
    StepFinished,
    StepStarted,
    encode_event,
)
from cupola.snapshot import Snapshot, StepSpec, encode_snapshot, snapshot_id


def base_key(pipeline: str, name: str) -> str:
    return digest.base_key([pipeline.encode(), name.encode()])


def snapshot(names: Sequence[str] = ("load", "fit"), pipeline: str = "training") -> bytes:
    steps = tuple(
        StepSpec(name, f"steps:{name}", (), "", "", {}, (), (), 0, base_key(pipeline, name)) for name in names
    )
    return encode_snapshot(Snapshot(pipeline, "pipelines:training", {}, steps))


def started(run: str, names: Sequence[str] = ("load", "fit"), pipeline: str = "training", **more) -> RunStarted:
    data = snapshot(names, pipeline)
    more.setdefault("name", f"{pipeline}-{run[-6:]}")
    more.setdefault("at", 100.0)
    return RunStarted(
        run=run, pipeline=pipeline, source="pipelines:training", snapshot=snapshot_id(data), snapshot_bytes=data, **more
    )


def manifest(value: object) -> Manifest:
    data = values.encode(value)
    return Manifest("value", 1, "int", digest.value("value", 1, b"", data), len(data), data)


def output(value: object, name: str = "output", artifact: str = "", **more) -> OutputRecord:
    return OutputRecord(name, artifact or f"training/load/{name}", manifest(value), **more)


def finished(step: int, value: object = 1, **more) -> StepFinished:
    more.setdefault("outputs", (output(value, artifact=f"training/{step}/output"),))
    more.setdefault("inputs_key", digest.inputs_key([("x", str(value))]))
    more.setdefault("at", 102.0)
    return StepFinished(step=step, **more)


def whole(run: str, value: object = 1) -> list[Event]:
    """Return a run of two steps that went well, but for its seal."""
    return [
        started(run),
        StepStarted(101.0, 0),
        finished(0, value),
        StepStarted(103.0, 1, log=10),
        finished(1, value, at=104.0, inputs={"table": manifest(value).digest}, log=20),
        RunFinished(105.0, RunStatus.COMPLETED),
    ]


def encoded(events: Sequence[Event]) -> list[bytes]:
    return [encode_event(event) for event in events]


def write_live(home: Path, run: str, events: Sequence[Event]) -> tuple[runlock.RunLock, journal.JournalWriter]:
    """Write a run's journal as its driver does, and hold its lock."""
    folder = journal.live_folder(home, run)
    folder.mkdir(parents=True)
    lock = runlock.lock_run(folder)
    assert lock is not None
    writer = journal.JournalWriter(folder, 1, 0)
    for event in encoded(events):
        writer.append(event)
    return lock, writer


def record(store, events: Sequence[Event], run: str = "") -> str:
    """Run a whole driver's life: journal, store, seal, archive."""
    run = run or ids.new_id()
    lock, writer = write_live(store.home, run, events)
    store.append(run, 1, 1, encoded(events))
    seal = encode_event(store.seal(run))
    store.append(run, 1, writer.append(seal), [seal])
    writer.close()
    journal.archive(store.home, run)
    lock.release()
    return run
