"""From what people write to the one entity that they mean: ids, unique beginnings of ids, names."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence

from cupola.errors import Ambiguous, NotFound
from cupola.kinds import Kind
from cupola.stores.records import Row
from cupola.stores.statements import ALWAYS, COLUMNS, FROM, FROM_ROW

SHOWN = 5
"""Candidates that a message lists."""


def find_row(db: sqlite3.Connection, kind: Kind, ref: str) -> Row:
    """Return the row of `COLUMNS` of the one entity that a reference means.

    Raises:
        NotFound: Nothing is called like that.
        Ambiguous: Several are; the message lists them.
    """
    # What a shell passes on may hold bytes that are no text.
    return _FINDERS[kind.name](db, kind, ref.encode(errors="replace").decode())


def _find_run(db: sqlite3.Connection, kind: Kind, ref: str) -> Row:
    return _load(db, kind, (run_number(db, ref),))


def run_number(db: sqlite3.Connection, ref: str) -> int:
    """Return the number of the run that a reference means."""
    exact = db.execute("SELECT number FROM run WHERE id = ?", (ref,)).fetchone()
    if exact:
        return exact[0]
    rows = db.execute("SELECT number, id, name FROM run WHERE name = ? LIMIT ?", (ref, SHOWN + 1)).fetchall()
    if ref and set(ref) <= set("0123456789abcdef"):
        by_id = "SELECT number, id, name FROM run WHERE id >= ? AND id < ? LIMIT ?"
        rows += db.execute(by_id, (ref, ref + "g", SHOWN + 1)).fetchall()
    if not rows:
        names = [row[0] for row in db.execute("SELECT name FROM run ORDER BY number DESC LIMIT 500")]
        raise _not_found("run", ref, names, "`cupola runs list` shows them")
    if len({row[0] for row in rows}) > 1:
        raise _ambiguous("run", ref, [f"{row[1]} ({row[2]})" for row in rows])
    return rows[0][0]


def _find_step(db: sqlite3.Connection, kind: Kind, ref: str) -> Row:
    run, _, name = ref.partition("/")
    if name:
        number = run_number(db, run)
        rows = db.execute("SELECT position FROM step WHERE run = ? AND name = ?", (number, name)).fetchall()
    else:
        run, _, position = ref.rpartition(".")
        if not run or not position.isdecimal():
            raise NotFound(f"{ref!r} names no step", fix=f"write {kind.refs}")
        number = run_number(db, run)
        rows = db.execute("SELECT position FROM step WHERE run = ? AND position = ?", (number, position)).fetchall()
    if not rows:
        names = [row[0] for row in db.execute("SELECT name FROM step WHERE run = ? LIMIT 500", (number,))]
        raise _not_found("step", ref, [f"{run}/{name}" for name in names], f"`cupola show {run}` shows its steps")
    return _load(db, kind, (number, rows[0][0]))


def _find_version(db: sqlite3.Connection, kind: Kind, ref: str) -> Row:
    parts = ref.split(".")
    if len(parts) == 3 and parts[1].isdecimal() and parts[2].isdecimal() and len(parts[0]) == 32:
        row = db.execute("SELECT number FROM run WHERE id = ?", (parts[0],)).fetchone()
        if row:
            return _load(db, kind, (row[0], int(parts[1]), int(parts[2])))
    seen = ""
    for name, test, values in _readings(ref):
        row = db.execute("SELECT key FROM artifact WHERE name = ?", (name,)).fetchone()
        if row:
            seen = seen or name
            sql = f"SELECT run, step, position, number FROM version WHERE artifact = ? AND {test} ORDER BY number DESC"
            rows = db.execute(f"{sql} LIMIT {SHOWN + 1}", (row[0], *values)).fetchall()
            if len(rows) > 1 and test != _NEWEST:
                raise _ambiguous("artifact version", ref, [f"{name}:{found[3]}" for found in rows])
            if rows:
                return _load(db, kind, rows[0][:3])
    if seen:
        raise NotFound(f"artifact {seen!r} has no version {ref!r}", fix=f"`cupola artifacts show {seen}` shows them")
    names = [row[0] for row in db.execute("SELECT name FROM artifact ORDER BY key DESC LIMIT 500")]
    raise _not_found("artifact version", ref, names, "`cupola artifacts list` shows the artifacts")


_NEWEST = "1"


def _readings(ref: str) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Yield each way to read a reference: names and labels may hold colons and at-signs themselves."""
    yield ref, _NEWEST, ()
    for at in range(len(ref) - 1, 0, -1):
        name, sign, rest = ref[:at], ref[at], ref[at + 1 :]
        if sign == ":" and rest == "latest":
            yield name, _NEWEST, ()
        elif sign == ":" and rest.isdecimal() and len(rest) < 19:
            yield name, "number = CAST(? AS INTEGER)", (rest,)
        elif sign == ":" and rest:
            yield name, "label = ? AND label <> ''", (rest,)
        elif sign == "@" and rest:
            prefix = rest if ":" in rest else f"val:{rest}"
            yield name, "digest >= ? AND digest < ?", (prefix, prefix + "g")


def _find_named(db: sqlite3.Connection, kind: Kind, ref: str) -> Row:
    table = kind.table
    shown = ALWAYS.get(kind.name, "1")
    rows = db.execute(f"SELECT key, name FROM {table} WHERE name = ? AND {shown}", (ref,)).fetchall()
    if not rows and ref:
        by_prefix = f"SELECT key, name FROM {table} WHERE name >= ? AND name < ? AND {shown} LIMIT ?"
        rows = db.execute(by_prefix, (ref, ref + "\U0010ffff", SHOWN + 1)).fetchall()
    if not rows:
        names = [row[0] for row in db.execute(f"SELECT name FROM {table} WHERE {shown} ORDER BY key DESC LIMIT 500")]
        raise _not_found(kind.name, ref, names, f"`cupola {kind.name}s list` shows them")
    if len(rows) > 1:
        raise _ambiguous(kind.name, ref, [row[1] for row in rows])
    return _load(db, kind, rows[0][:1])


def _load(db: sqlite3.Connection, kind: Kind, key: tuple[int, ...]) -> Row:
    test = " AND ".join(f"{column} = ?" for column in kind.key)
    source = FROM_ROW[kind.name] if kind.name in ("step", "version") else FROM[kind.name]
    row = db.execute(f"SELECT {COLUMNS[kind.name]} FROM {source} WHERE {test}", key).fetchone()
    if row is None:
        raise NotFound(f"there is no such {kind.name}", fix=f"write {kind.refs}")
    return row


def _not_found(kind: str, ref: str, names: Sequence[str], fix: str) -> NotFound:
    from difflib import get_close_matches  # heavy, and only wanted here

    near = get_close_matches(ref, names, n=3)
    hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
    return NotFound(f"there is no {kind} {ref!r}{hint}", fix=fix)


def _ambiguous(kind: str, ref: str, candidates: Sequence[str]) -> Ambiguous:
    shown = ", ".join(candidates[:SHOWN]) + (", …" if len(candidates) > SHOWN else "")
    return Ambiguous(f"{ref!r} means several {kind}s: {shown}", fix="write more of the one you mean")


_FINDERS = {
    "run": _find_run,
    "step": _find_step,
    "version": _find_version,
    "artifact": _find_named,
    "pipeline": _find_named,
}
