"""Changes that people make: deletions, tags, metadata. Written to the catalogue's journal first, then applied from it.

A deletion names exactly what goes, so that the same entries over the same journals always give the same database.
Blobs stay; run folders go after the transaction.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path

from cupola import ids, journal
from cupola.digest import checksum
from cupola.errors import ConfigError, Conflict, NotFound
from cupola.kinds import find_kind
from cupola.store import Change, Delete
from cupola.stores import catalogue
from cupola.stores.catalogue import Changed, Entry, Removed
from cupola.stores.files import CATALOGUE
from cupola.stores.metadata import typed
from cupola.stores.rows import decode_step_detail, read_history

Key = tuple[int, int, int]


def write_changes(db: sqlite3.Connection, home: Path, changes: Sequence[Change], key: str) -> list[str]:
    """Record and apply changes inside a write transaction; return the ids of deleted runs, whose folders go after it.

    Raises:
        NotFound: One of the entities doesn't exist.
        Conflict: A run that is to be deleted, or whose results are, is not over.
    """
    apply_catalogue(db, home)
    if db.execute("SELECT 1 FROM done WHERE key = ?", (key,)).fetchone():
        return []
    entry = Entry(key, ids.now(), tuple([_plan(db, change) for change in changes]))
    catalogue.append(home, entry)
    apply_catalogue(db, home)
    return [run for change in entry.changes if isinstance(change, Removed) for run, _number in change.runs]


def apply_catalogue(db: sqlite3.Connection, home: Path) -> None:
    """Apply what the catalogue's journal has beyond the database."""
    row = db.execute("SELECT value FROM meta WHERE key = ?", (CATALOGUE,)).fetchone()
    start = end = int(row[0]) if row else 0
    for entry, end in catalogue.read(home, start):  # noqa: B007 - the last one's end is wanted
        if db.execute("INSERT OR IGNORE INTO done VALUES (?, ?)", (entry.key, entry.at)).rowcount:
            for change in entry.changes:
                _remove(db, change) if isinstance(change, Removed) else _change(db, change)
    if end != start:
        db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (CATALOGUE, str(end)))


def remove_folders(home: Path, runs: Iterable[str]) -> None:
    """Remove the folders of deleted runs; what can't be removed is found by `doctor`."""
    for run in runs:
        import shutil  # here, since it brings three libraries of compression

        shutil.rmtree(journal.finished_folder(home, run), ignore_errors=True)


def find_key(db: sqlite3.Connection, kind: str, identifier: str) -> Key | None:
    """Return the key of a run, step or version by its full id."""
    run, *rest = identifier.split(".")
    row = db.execute("SELECT number FROM run WHERE id = ?", (run,)).fetchone()
    wanted = {"run": 0, "step": 1, "version": 2}[kind]
    if row is None or len(rest) != wanted or not all(part.isdecimal() for part in rest):
        return None
    numbers = [*map(int, rest), -1, -1]
    key = (row[0], numbers[0], numbers[1])
    tests = {"step": "position = ?2", "version": "step = ?2 AND position = ?3"}
    if kind in tests:
        sql = f"SELECT 1 FROM {kind} WHERE run = ?1 AND {tests[kind]}"
        if db.execute(sql, key[: wanted + 1]).fetchone() is None:
            return None
    return key


def _plan(db: sqlite3.Connection, change: Change) -> Removed | Changed:
    kind = find_kind(change.kind)
    if isinstance(change, Delete):
        return _PLANS[kind.name](db, change.id)
    if not kind.relations:
        raise ConfigError(f"a {kind.name} has neither tags nor metadata", fix="change those of its runs or versions")
    if find_key(db, kind.name, change.id) is None:
        raise NotFound(f"there is no {kind.name} {change.id!r}", fix=f"write {kind.refs}")
    return Changed(kind.name, change.id, change.add_tags, change.remove_tags, change.metadata)


def _plan_run(db: sqlite3.Connection, identifier: str) -> Removed:
    row = db.execute("SELECT number, sealed FROM run WHERE id = ?", (identifier,)).fetchone()
    if row is None:
        raise NotFound(f"there is no run {identifier!r}", fix="`cupola runs list` shows them")
    if not row[1]:
        raise _still_live(identifier)
    return Removed(runs=((identifier, row[0]),), last=_last(db, "version.run = ?", (row[0],)))


def _plan_step(db: sqlite3.Connection, identifier: str) -> Removed:
    key = _key_of_finished(db, "step", identifier)
    last = _last(db, "version.run = ? AND version.step = ?", key[:2])
    return Removed(steps=(identifier,), versions=_version_ids(db, "run = ? AND step = ?", key[:2]), last=last)


def _plan_version(db: sqlite3.Connection, identifier: str) -> Removed:
    key = _key_of_finished(db, "version", identifier)
    last = _last(db, "version.run = ? AND version.step = ? AND version.position = ?", key)
    return Removed(versions=(identifier,), last=last)


def _plan_artifact(db: sqlite3.Connection, name: str) -> Removed:
    row = db.execute("SELECT key FROM artifact WHERE name = ?", (name,)).fetchone()
    versions = _version_ids(db, "artifact = ?", row) if row else ()
    if not versions:
        raise NotFound(f"there is no artifact {name!r}", fix="`cupola artifacts list` shows them")
    sql = "SELECT id FROM run WHERE sealed = 0 AND number IN (SELECT run FROM version WHERE artifact = ?) LIMIT 1"
    live = db.execute(sql, row).fetchone()
    if live:
        raise _still_live(live[0])
    return Removed(versions=versions, last=_last(db, "version.artifact = ?", row))


def _plan_pipeline(db: sqlite3.Connection, name: str) -> Removed:
    sql = "SELECT run.id, run.number, run.sealed FROM run JOIN pipeline ON pipeline.key = run.pipeline"
    runs = db.execute(f"{sql} WHERE pipeline.name = ? ORDER BY run.number", (name,)).fetchall()
    if not runs:
        raise NotFound(f"there is no pipeline {name!r}", fix="`cupola pipelines list` shows them")
    for run, _number, sealed in runs:
        if not sealed:
            raise _still_live(run)
    inside = (
        "version.run IN (SELECT number FROM run JOIN pipeline ON pipeline.key = run.pipeline WHERE pipeline.name = ?)"
    )
    return Removed(runs=tuple([(run, number) for run, number, _ in runs]), last=_last(db, inside, (name,)))


_PLANS = {
    "run": _plan_run,
    "step": _plan_step,
    "version": _plan_version,
    "artifact": _plan_artifact,
    "pipeline": _plan_pipeline,
}


def _still_live(run: str) -> Conflict:
    return Conflict(f"run {run} is not over", fix="end it first: press Ctrl-C in its terminal, or wait for it")


def _key_of_finished(db: sqlite3.Connection, kind: str, identifier: str) -> Key:
    key = find_key(db, kind, identifier)
    if key is None:
        raise NotFound(f"there is no {kind} {identifier!r}", fix=f"write {find_kind(kind).refs}")
    if not db.execute("SELECT sealed FROM run WHERE number = ?", key[:1]).fetchone()[0]:
        raise _still_live(identifier.partition(".")[0])
    return key


def _version_ids(db: sqlite3.Connection, test: str, values: Sequence[object]) -> tuple[str, ...]:
    sql = f"SELECT run, step, position FROM version WHERE {test} ORDER BY run, step, position"
    runs: dict[int, str] = {}
    found: list[str] = []
    for run, step, position in db.execute(sql, tuple(values)).fetchall():
        if run not in runs:
            runs[run] = db.execute("SELECT id FROM run WHERE number = ?", (run,)).fetchone()[0]
        found.append(f"{runs[run]}.{step}.{position}")
    return tuple(found)


def _last(db: sqlite3.Connection, test: str, values: Sequence[object]) -> tuple[tuple[str, str, int], ...]:
    """Return the artifacts whose newest version is among those that a condition finds."""
    sql = (
        "SELECT artifact.project, artifact.name, version.number FROM version"
        f" JOIN artifact ON artifact.key = version.artifact WHERE {test} AND version.number ="
        " (SELECT max(newest.number) FROM version AS newest WHERE newest.artifact = version.artifact)"
    )
    return tuple(db.execute(sql, tuple(values)).fetchall())


def _remove(db: sqlite3.Connection, change: Removed) -> None:
    for run, number in change.runs:
        remove_run(db, run, number)
    for step in change.steps:
        key = find_key(db, "step", step)
        if key:
            _remove_step(db, key)
    for version in change.versions:
        key = find_key(db, "version", version)
        if key:
            _remove_version(db, key)
    for project, name, last in change.last:
        db.execute(
            "INSERT INTO artifact (project, name, created_at, retired) VALUES (?, ?, 0, ?)"
            " ON CONFLICT (name, project) DO UPDATE SET retired = max(retired, excluded.retired)",
            (project, name, last),
        )


def remove_run(db: sqlite3.Connection, run: str, number: int) -> None:
    """Remove all rows of a run; its number is not given again."""
    # A rebuild meets numbers of runs that it has never seen: they must not be given again.
    db.execute("INSERT INTO sqlite_sequence SELECT 'run', 0 WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence)")
    db.execute("UPDATE sqlite_sequence SET seq = max(seq, ?) WHERE name = 'run'", (number,))
    row = db.execute("SELECT pipeline, snapshot FROM run WHERE id = ?", (run,)).fetchone()
    if row is None:
        return
    for kind in ("run", "step", "version"):
        for table in ("tag", "metadata"):
            db.execute(f"DELETE FROM {table} WHERE kind = ? AND run = ?", (kind, number))
    _forget_inputs(db, db.execute("SELECT run, position, detail FROM step WHERE run = ?", (number,)))
    for table in ("step", "version", "place", "expansion"):
        db.execute(f"DELETE FROM {table} WHERE run = ?", (number,))
    db.execute("DELETE FROM run WHERE number = ?", (number,))
    db.execute("DELETE FROM dead_letter WHERE run = ?", (run,))
    if not db.execute("SELECT 1 FROM run WHERE snapshot = ?", (row[1],)).fetchone():
        db.execute("DELETE FROM snapshot WHERE id = ?", (row[1],))
    settle_pipeline(db, row[0])


def settle_pipeline(db: sqlite3.Connection, key: int) -> None:
    """Make a pipeline's row say what its runs say; without runs it goes."""
    first = db.execute("SELECT min(number), count(*) FROM run WHERE pipeline = ?", (key,)).fetchone()
    if not first[1]:
        db.execute("DELETE FROM pipeline WHERE key = ?", (key,))
        return
    sql = "UPDATE pipeline SET runs = ?, created_at = (SELECT started_at FROM run WHERE number = ?) WHERE key = ?"
    db.execute(sql, (first[1], first[0], key))


def _remove_step(db: sqlite3.Connection, key: Key) -> None:
    same = "run = ? AND position = ?"
    _forget_inputs(db, db.execute(f"SELECT run, position, detail FROM step WHERE {same}", key[:2]))
    db.execute(f"DELETE FROM step WHERE {same}", key[:2])
    for table in ("tag", "metadata"):
        db.execute(f"DELETE FROM {table} WHERE kind = 'step' AND run = ? AND step = ?", key[:2])


def _forget_inputs(db: sqlite3.Connection, rows: Iterable[tuple[int, int, bytes]]) -> None:
    keys: list[Key] = []
    for run, step, data in list(rows):
        detail = decode_step_detail(data)
        digests = (*read_history(detail).inputs.values(), *detail.loaded)
        keys.extend((checksum(digest), run, step) for digest in digests)
    db.executemany("DELETE FROM input WHERE bucket = ? AND run = ? AND step = ?", keys)


def _remove_version(db: sqlite3.Connection, key: Key) -> None:
    db.execute("DELETE FROM version WHERE run = ? AND step = ? AND position = ?", key)
    for table in ("tag", "metadata"):
        db.execute(f"DELETE FROM {table} WHERE kind = 'version' AND run = ? AND step = ? AND position = ?", key)
    # A result without all of its values is none.
    db.execute("UPDATE step SET cache_bucket = NULL WHERE run = ? AND position = ?", key[:2])


def _change(db: sqlite3.Connection, change: Changed) -> None:
    key = find_key(db, change.kind, change.id)
    if key is None:
        return
    owner = (change.kind, *key)
    same = "kind = ? AND run = ? AND step = ? AND position = ?"
    for tag in change.remove_tags:
        db.execute(f"DELETE FROM tag WHERE {same} AND name = ?", (*owner, tag))
    for tag in change.add_tags:
        db.execute("INSERT OR IGNORE INTO tag VALUES (?, ?, ?, ?, ?)", (*owner, tag))
    for name, value in change.metadata.items():
        if value is None:
            db.execute(f"DELETE FROM metadata WHERE {same} AND key = ?", (*owner, name))
        else:
            row = (*owner, name, *typed(value), value)
            db.execute("INSERT OR REPLACE INTO metadata VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
