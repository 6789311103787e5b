"""Makes the database anew from what it is made of: the journals of runs and the catalogue.

The new one is made beside the old one and takes its place in one rename, under the lock that all writers need; who has
the old one open notices by its inode. The old file is kept.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path

import msgspec

from cupola import journal
from cupola.errors import CupolaError
from cupola.event import RunSealed, decode_event
from cupola.stores import catalogue, migrations
from cupola.stores.catalogue import Removed
from cupola.stores.changes import apply_catalogue
from cupola.stores.database import Database
from cupola.stores.files import DATABASE, WriteLock, make_home
from cupola.stores.filesystems import refuse_network
from cupola.stores.ledger import Ledger

REBUILD_WAIT_S = 60.0


class Rebuilt(msgspec.Struct, frozen=True):
    """What a rebuild did: how many runs and events it read, where the old file is, and what it could not read."""

    runs: int
    events: int
    kept: Path | None
    problems: tuple[str, ...]


class _Journal(msgspec.Struct, frozen=True):
    run: str
    frames: tuple[journal.Frame, ...]
    sealed: RunSealed | None


def rebuild_database(home: Path, read_blob: Callable[[str], bytes]) -> Rebuilt:
    """Replace the database of a store by one made from its journals and catalogue.

    Raises:
        Unreachable: Another process keeps writing, or the folder can't be written; the old database stays.
        Damaged: The catalogue can't be read; the old database stays.
    """
    refuse_network(home)
    make_home(home)
    lock = WriteLock(home)
    try:
        with lock.held(REBUILD_WAIT_S):
            return _rebuild_locked(home, read_blob)
    finally:
        lock.close()


def _rebuild_locked(home: Path, read_blob: Callable[[str], bytes]) -> Rebuilt:
    path = home / DATABASE
    draft = path.with_name(f"{DATABASE}.{os.uname().nodename}-{os.urandom(6).hex()}.rebuilt")
    migrations.create(draft)
    database = Database(home, path=draft)
    problems: list[str] = []
    try:
        ledger = Ledger(database, read_blob)
        runs, events = _replay(ledger, home, problems)
        with database.writing() as db:
            apply_catalogue(db, home)
        database.finish()
    except BaseException:
        database.close()
        for name in (draft, *_beside(draft)):
            name.unlink(missing_ok=True)
        raise
    kept = _set_aside(path)
    os.replace(draft, path)
    return Rebuilt(runs, events, kept, tuple(problems))


def _replay(ledger: Ledger, home: Path, problems: list[str]) -> tuple[int, int]:
    gone = _deleted_runs(home)
    journals = [item for item in _read_journals(home, problems) if item.run not in gone]
    # Sealed runs know their numbers; those of the others come after, by age.
    journals.sort(key=lambda item: (item.sealed is None, item.sealed.number if item.sealed else 0, item.run))
    events = 0
    for item in journals:
        try:
            for epoch, group in groupby(item.frames, key=lambda frame: frame.epoch):
                batch = list(group)
                ledger.append(item.run, epoch, batch[0].seq, [frame.event for frame in batch], sealed=item.sealed)
                events += len(batch)
        except CupolaError as error:
            problems.append(f"run {item.run}: {error.what}")
    return len(journals), events


def _deleted_runs(home: Path) -> set[str]:
    entries = [entry for entry, _end in catalogue.read(home)]
    changes = [change for entry in entries for change in entry.changes if isinstance(change, Removed)]
    return {run for change in changes for run, _number in change.runs}


def _read_journals(home: Path, problems: list[str]) -> Iterator[_Journal]:
    for folder in run_folders(home):
        try:
            frames = tuple(journal.JournalReader(folder).read())
        except CupolaError as error:
            problems.append(f"run {folder.name}: {error.what}")
            continue
        if frames:
            yield _Journal(folder.name, frames, _sealed(frames[-1].event))


def run_folders(home: Path) -> Iterator[Path]:
    """Yield the folders of all runs, finished ones first, each kind by age."""
    for part in sorted(os.listdir(home / "finished")):
        for name in sorted(os.listdir(home / "finished" / part)):
            yield home / "finished" / part / name
    for name in journal.live_runs(home):
        yield home / "runs" / name


def _sealed(last: bytes) -> RunSealed | None:
    try:
        event = decode_event(last)
    except msgspec.DecodeError:
        return None
    return event if isinstance(event, RunSealed) else None


def _set_aside(path: Path) -> Path | None:
    if not path.exists():
        return None
    kept = path.with_name(f"{path.name}.damaged-{time.strftime('%Y%m%dT%H%M%S')}-{os.urandom(2).hex()}")
    os.rename(path, kept)
    # Its log belongs to it; left here, SQLite would take it for the new file's.
    for name in _beside(path):
        if name.exists():
            os.rename(name, kept.with_name(kept.name + name.name.removeprefix(path.name)))
    return kept


def _beside(path: Path) -> tuple[Path, Path]:
    return path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")
