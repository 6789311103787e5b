"""Checks a store from end to end, and makes its database anew from journals and catalogue.

The journals are the record: a database that differs from them is wrong. Nothing is changed by a check but what every
opening does: it settles the runs of dead drivers.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

import msgspec

from cupola import journal
from cupola.artifacts.blobs import Blobs, read_chunks
from cupola.digest import blob_hasher, blob_of
from cupola.errors import CupolaError, Damaged
from cupola.event import decode_event
from cupola.fold import RunState, fold
from cupola.stores import catalogue, inspection
from cupola.stores.database import Database
from cupola.stores.files import CATALOGUE, DATABASE
from cupola.stores.rebuild import Rebuilt, rebuild_database, run_folders
from cupola.stores.sql import open_store

OLD_S = 24 * 3600.0
"""Age from which a temporary file belongs to nobody any more."""


class Finding(msgspec.Struct, frozen=True):
    """Something that is not as it should be.

    Attributes:
        level: `error` when something is lost or wrong, `warning` when it is only untidy or worth knowing.
        what: What it is, with the values.
        where: File or record.
        fix: What to do now.
    """

    level: Literal["error", "warning"]
    what: str
    where: str = ""
    fix: str = ""


class Report(msgspec.Struct, frozen=True):
    """What a check found, and how much it looked at."""

    findings: tuple[Finding, ...]
    runs: int = 0
    events: int = 0
    versions: int = 0
    blobs: int = 0

    @property
    def is_clean(self) -> bool:
        """Tell whether nothing is lost or wrong."""
        return all(finding.level != "error" for finding in self.findings)


_REBUILD = "run `cupola doctor store --rebuild`"


class _Counts(msgspec.Struct):
    runs: int = 0
    events: int = 0
    versions: int = 0
    blobs: int = 0


def check_store(home: Path, *, rehash: bool = False) -> Report:
    """Check database, journals, blobs and leftovers of the store in a folder.

    Args:
        home: The folder.
        rehash: Whether to read and hash each blob again, instead of trusting an unbroken seal.

    Raises:
        StoreTooNew: A newer Cupola wrote it.
        ConfigError: It is on a network file system.
    """
    if not (home / DATABASE).exists() and not (home / "finished").exists():
        return Report(())
    counts = _Counts()
    blobs = Blobs(home)
    findings: list[Finding] = []
    try:
        open_store(home, read_blob=lambda name: blobs.open(name).read_bytes()).close()
        database = Database(home)
    except Damaged as error:
        return Report((Finding("error", error.what, error.where, error.fix), *_check_leftovers(home)))
    try:
        findings += _check_database(database)
        findings += _check_journals(database, home, counts)
        findings += _check_blobs(database, blobs, counts, rehash=rehash)
        findings += _check_catalogue(home)
    finally:
        database.close()
    findings += _check_leftovers(home)
    return Report(tuple(findings), counts.runs, counts.events, counts.versions, counts.blobs)


def rebuild(home: Path) -> Rebuilt:
    """Make the database anew from journals, catalogue and blobs; the old file is kept beside it.

    Raises:
        Unreachable: Another process keeps writing, or the folder can't be written.
    """
    blobs = Blobs(home)
    try:
        return rebuild_database(home, lambda name: blobs.open(name).read_bytes())
    except OSError as error:
        raise journal.cannot_write(home / DATABASE, error) from error


def _check_database(database: Database) -> Iterator[Finding]:
    for problem in inspection.check_integrity(database):
        yield Finding("error", f"the database is damaged: {problem}", str(database.path), _REBUILD)
    for what, number in inspection.count_orphans(database).items():
        if number:
            yield Finding("error", f"{number} {what}", str(database.path), _REBUILD)
    for run, seq, reason in inspection.list_dead_letters(database):
        where = f"run {run}, event {seq}" if seq else f"run {run}"
        yield Finding("warning", f"could not be applied: {reason}", where, "the run's journal keeps it")


def _check_journals(database: Database, home: Path, counts: _Counts) -> Iterator[Finding]:
    known = inspection.list_heads(database)
    for folder in run_folders(home):
        counts.runs += 1
        head = known.pop(folder.name, None)
        try:
            frames = list(journal.JournalReader(folder).read())
        except CupolaError as error:
            yield Finding("error", error.what, error.where, error.fix)
            continue
        counts.events += len(frames)
        yield from _check_tails(folder)
        if head is None:
            if frames:
                yield Finding("error", f"run {folder.name} is not in the database", str(folder), _REBUILD)
        else:
            yield from _compare(folder, head, frames)
    for run in known:
        yield Finding(
            "error", f"the journal of run {run} is missing", str(journal.finished_folder(home, run)),
            f"put the folder back from a copy, or `cupola runs delete {run}`",
        )  # fmt: skip


def _compare(folder: Path, head: inspection.Head, frames: list[journal.Frame]) -> Iterator[Finding]:
    where = str(folder)
    if [frame.seq for frame in frames] != list(range(1, len(frames) + 1)):
        yield Finding("error", f"the journal of run {folder.name} has a gap", where, "put it back from a copy")
    elif len(frames) < head.seq:
        missing = head.seq - len(frames)
        yield Finding("error", f"the journal of run {folder.name} lacks its last {missing} events", where, _REBUILD)
    elif journal.chained(b"", [frame.event for frame in frames[: head.seq]]) != head.digest:
        yield Finding("error", f"journal and database disagree about run {folder.name}", where, _REBUILD)
    elif len(frames) > head.seq and head.sealed:
        extra = len(frames) - head.seq
        yield Finding("error", f"the journal of run {folder.name} has {extra} events after its end", where, _REBUILD)
    else:
        yield from _compare_states(folder, head, frames[: head.seq])


def _compare_states(folder: Path, head: inspection.Head, frames: list[journal.Frame]) -> Iterator[Finding]:
    """Hold what the database says of a run and its steps against what its events add up to."""
    state = RunState()
    try:
        for frame in frames:
            fold(state, decode_event(frame.event))
    except msgspec.DecodeError:
        return  # what can't be applied is told as such
    steps = Counter(str(step.status) for step in state.steps.values())
    known, true = (head.status, _in_words(head.steps)), (str(state.status), _in_words(steps))
    if known != true:
        yield Finding(
            "error",
            f"run {folder.name} is {' with '.join(known)} in the database, and {' with '.join(true)} by its journal",
            str(folder),
            _REBUILD,
        )


def _in_words(steps: Mapping[str, int]) -> str:
    """Return how many steps are in which state; those that never began have no events."""
    counted = [f"{number} {word}" for word, number in sorted(steps.items()) if number and word != "pending"]
    return ", ".join(counted) or "no steps"


def _check_tails(folder: Path) -> Iterator[Finding]:
    for epoch in journal.epochs(folder):
        path = folder / f"journal.{epoch}"
        bad = journal.bad_tail(path)
        if bad:
            yield Finding(
                "warning", f"{bad} bytes at the end of a journal are no event", str(path), "they are passed over"
            )


def _check_blobs(database: Database, blobs: Blobs, counts: _Counts, *, rehash: bool) -> Iterator[Finding]:
    checked: dict[str, str] = {}
    for version, names in inspection.list_blobs(database):
        counts.versions += 1
        for name in names:
            if name not in checked:
                checked[name] = _problem(blobs, name, rehash=rehash)
            if checked[name]:
                fix = "run its pipeline again: the step that made it runs again"
                yield Finding("error", f"{version}: {checked[name]}", name, fix)
    counts.blobs = len(checked)


def _problem(blobs: Blobs, name: str, *, rehash: bool) -> str:
    try:
        path = blobs.open(name)
        if rehash and not _has_digest(path, name):
            return "its content is not what it was"
    except CupolaError as error:
        return error.what
    return ""


def _has_digest(path: Path, name: str) -> bool:
    hasher = blob_hasher()
    for chunk in read_chunks(path):
        hasher.update(chunk)
    return blob_of(hasher) == name


def _check_catalogue(home: Path) -> Iterator[Finding]:
    path = home / CATALOGUE
    try:
        size = path.stat().st_size if path.exists() else 0
        bad = size - catalogue.good_bytes(path)
    except Damaged as error:
        yield Finding("error", error.what, error.where, error.fix)
        return
    if bad:
        yield Finding(
            "warning", f"{bad} bytes at the end of the catalogue are no entry", str(path), "they are passed over"
        )


def _check_leftovers(home: Path) -> Iterator[Finding]:
    for folder, pattern in (
        (home, f"{DATABASE}.*.new*"),
        (home, f"{DATABASE}.*.rebuilt*"),
        (home / "blobs" / "tmp", "*"),
    ):
        for path in folder.glob(pattern) if folder.is_dir() else ():
            try:
                age = time.time() - os.stat(path).st_mtime
            except FileNotFoundError:
                continue
            if age > OLD_S:
                yield Finding("warning", "a temporary file of a process that ended", str(path), f"rm {path}")
