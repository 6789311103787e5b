"""From a `Query` to SQL.

A condition either finds few rows, then the statement starts from those and sorts them in memory, or many, then it walks
the rows in the wanted order until the page is full. Which one it is, is asked of the database first (a bounded probe):
the wrong choice costs three orders of magnitude, and SQLite keeps no statistics to make it by.
"""

from __future__ import annotations

import math
import sqlite3
from typing import Any, cast

import msgspec

from cupola.errors import ConfigError
from cupola.kinds import Field, Kind, Sort
from cupola.store import Condition, Has, Query
from cupola.stores import records

FEW = 1000
"""Up to so many rows are collected and sorted; above, rows are walked in order."""

# CROSS JOIN keeps the order of the tables, so that the outer one decides the order of the rows.
_STEP_JOIN = "run CROSS JOIN pipeline ON pipeline.key = run.pipeline CROSS JOIN step ON step.run = run.number"
# Not from the runs: many of them make no version.
_VERSION_JOIN = (
    "version CROSS JOIN run ON run.number = version.run CROSS JOIN artifact ON artifact.key = version.artifact"
)
FROM = {
    "run": "run CROSS JOIN pipeline ON pipeline.key = run.pipeline",
    "step": _STEP_JOIN,
    "version": _VERSION_JOIN,
    "artifact": "artifact",
    "pipeline": "pipeline",
}
# The same joins from the other end, for conditions that find few rows.
FROM_ROW = {
    **FROM,
    "step": "step CROSS JOIN run ON run.number = step.run CROSS JOIN pipeline ON pipeline.key = run.pipeline",
}
COLUMNS = {
    "run": records.RUN_COLUMNS,
    "step": records.STEP_COLUMNS,
    "version": records.VERSION_COLUMNS,
    "artifact": records.ARTIFACT_COLUMNS,
    "pipeline": records.PIPELINE_COLUMNS,
}
# What a listing never shows: names that all versions were deleted of are kept for the sake of their numbers only.
ALWAYS = {"artifact": "EXISTS (SELECT 1 FROM version WHERE version.artifact = artifact.key)"}
_OPS = {"eq": "=", "ne": "<>", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
Value = str | int | float | None


class Part(msgspec.Struct, frozen=True):
    """One condition as SQL.

    Attributes:
        test: The condition, for rows found otherwise.
        values: Values of its marks.
        source: A subquery of the keys of all rows that meet it, by an index; empty when there is none.
        source_values: Values of that.
    """

    test: str
    values: tuple[Value, ...]
    source: str = ""
    source_values: tuple[Value, ...] = ()


class Statement(msgspec.Struct, frozen=True):
    """A statement with its values, ready to run."""

    sql: str
    values: tuple[Value, ...]


def compile_page(db: sqlite3.Connection, kind: Kind, query: Query) -> tuple[Statement, Sort]:
    """Return the statement of one page, whose rows end with the values of the sort's columns; one row too many."""
    sort, descending = choose_sort(kind, query)
    parts = compile_parts(db, kind, query)
    # An order within one thing is that thing's index: nothing finds less.
    driver = None if sort.within else _rarest(db, parts)
    tests = [part.test for part in parts if part is not driver] + _always(kind)
    values = [value for part in parts if part is not driver for value in part.values]
    if query.cursor:
        after = _read_cursor(query.cursor, len(sort.columns))
        marks = ", ".join("?" * len(after))
        tests.append(f"({', '.join(sort.columns)}) {'<' if descending else '>'} ({marks})")
        values.extend(after)
    way = " DESC" if descending else ""
    # A plus sign keeps SQLite from walking the order when the rows were found otherwise.
    plus = "+" if driver else ""
    order = ", ".join(f"{plus}{column}{way}" for column in sort.columns)
    source = FROM_ROW[kind.name] if driver or sort.within else FROM[kind.name]
    if driver:
        tests.insert(0, _inside(kind, driver.source))
        values[:0] = driver.source_values
    where = f" WHERE {' AND '.join(tests)}" if tests else ""
    sql = f"SELECT {COLUMNS[kind.name]}, {', '.join(sort.columns)} FROM {source}{where} ORDER BY {order} LIMIT ?"
    return Statement(sql, (*values, query.limit + 1)), sort


def compile_count(db: sqlite3.Connection, kind: Kind, query: Query, bound: int) -> Statement:
    """Return the statement that counts what matches, no further than `bound`."""
    parts = compile_parts(db, kind, query)
    driver = _rarest(db, parts)
    tests = [part.test for part in parts if part is not driver] + _always(kind)
    values = [value for part in parts if part is not driver for value in part.values]
    if driver:
        tests.insert(0, _inside(kind, driver.source))
        values[:0] = driver.source_values
    where = f" WHERE {' AND '.join(tests)}" if tests else ""
    source = FROM_ROW[kind.name] if driver else FROM[kind.name]
    return Statement(f"SELECT count(*) FROM (SELECT 1 FROM {source}{where} LIMIT ?)", (*values, bound))


def _always(kind: Kind) -> list[str]:
    return [ALWAYS[kind.name]] if kind.name in ALWAYS else []


def choose_sort(kind: Kind, query: Query) -> tuple[Sort, bool]:
    """Return the order of a query, and whether it is descending."""
    fixed = {condition.field for condition in query.where if condition.op == "eq"}
    if not query.sort:
        return next(sort for sort in kind.sorts if not sort.within or sort.within in fixed), True
    sort = kind.sort(query.sort.lstrip("-"))
    if sort.within and sort.within not in fixed:
        raise ConfigError(f"{kind.name}s can be sorted by {sort.name} only within one {sort.within}")
    return sort, query.sort.startswith("-")


def write_cursor(values: tuple[Any, ...]) -> str:
    """Return the cursor that continues after a row with these values of the sort's columns."""
    import base64

    return base64.urlsafe_b64encode(msgspec.msgpack.encode(values)).decode().rstrip("=")


def _read_cursor(cursor: str, width: int) -> tuple[Value, ...]:
    import base64

    try:
        values = msgspec.msgpack.decode(base64.urlsafe_b64decode(cursor + "=="), type=tuple[Value, ...])
    except (ValueError, msgspec.DecodeError):
        values = ()
    if len(values) != width:
        raise ConfigError(f"{cursor!r} is no cursor of this list", fix="start again without a cursor")
    return values


def compile_parts(db: sqlite3.Connection, kind: Kind, query: Query) -> list[Part]:
    """Return the conditions of a query as SQL."""
    parts = [_field_part(db, kind, condition) for condition in query.where]
    parts.extend(_relation_part(kind, has) for has in query.has)
    return parts


def _field_part(db: sqlite3.Connection, kind: Kind, condition: Condition) -> Part:
    field = kind.field(condition.field)
    if condition.op not in field.ops:
        raise ConfigError(
            f"{condition.op!r} doesn't work on {kind.name}s' {field.name}", fix=f"use one of: {', '.join(field.ops)}"
        )
    looked_up = _LOOKED_UP.get((kind.name, field.name))
    if looked_up:
        table, key, name = looked_up
        found = db.execute(f"SELECT {key} FROM {table} WHERE {name} = ?", (_bindable(condition.value),)).fetchall()
        keys = [row[0] for row in found]
        column = {"pipeline": "run.pipeline", "artifact": "version.artifact", "run": "run.number"}[table]
        if keys and kind.name == "version" and table == "run":
            # The order is that of runs: the walk begins at this one.
            return Part("version.run = ?", (keys[0],))
        return _compare(kind, field, column, "in", tuple(keys)) if keys else Part("0", ())
    return _compare(kind, field, field.column, condition.op, condition.value)


# Fields that stand in another, small table: their key is looked up first, so that the plan sees a number.
_LOOKED_UP = {
    ("run", "pipeline"): ("pipeline", "key", "name"),
    ("step", "pipeline"): ("pipeline", "key", "name"),
    ("version", "artifact"): ("artifact", "key", "name"),
    ("step", "run"): ("run", "number", "id"),
    ("version", "run"): ("run", "number", "id"),
}


def _compare(kind: Kind, field: Field, column: str, op: str, value: Any) -> Part:
    values: tuple[Value, ...]
    if op == "in":
        given = cast("tuple[Value, ...]", value if isinstance(value, tuple) else (value,))
        items = tuple([_bindable(item) for item in given])
        test, values = f"{column} IN ({', '.join('?' * len(items))})", items
        if len(items) == 1:
            test = f"{column} = ?"
    elif op == "starts":
        # Not LIKE: names may hold `%` and `_`, and this uses the index.
        start = _bindable(str(value))
        test, values = f"{column} >= ? AND {column} < ?", (start, start + "\U0010ffff")
    elif op == "contains":
        test, values = f"instr({column}, ?) > 0", (_bindable(str(value)),)
    elif value is None:
        test, values = f"{column} IS {'NOT ' if op == 'ne' else ''}NULL", ()
    else:
        test, values = f"{column} {_OPS[op]} ?", (_bindable(value),)
    if not field.index or op in ("ne", "contains") or not column.startswith(f"{kind.table}."):
        return Part(test, values)
    extra = " AND step.status <> 'completed'" if field.index == "step_unusual" else ""
    if extra and "completed" in values:
        return Part(test, values)
    keys = ", ".join(kind.key)
    source = f"SELECT {keys} FROM {kind.table} INDEXED BY {field.index} WHERE {test}{extra}"
    return Part(test, values, source, values)


def _bindable(value: Any) -> Any:
    """Return a value as the database takes it: text without halves of letters, numbers within its range."""
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return math.copysign(math.inf, value)
    return value


def _relation_part(kind: Kind, has: Has) -> Part:
    if has.relation not in kind.relations:
        raise ConfigError(
            f"{kind.name}s have no {has.relation}", fix=f"they have: {', '.join(kind.relations) or 'none'}"
        )
    tests, values = ["kind = ?"], [kind.name]
    for condition in has.where:
        test, more = _RELATIONS[has.relation](condition)
        tests.append(test)
        values.extend(more)
    columns = ("run", "step", "position")[: len(kind.key)]
    source = f"SELECT {', '.join(columns)} FROM {has.relation} WHERE {' AND '.join(tests)}"
    levels = ("run", "step", "position")
    own = {"run": ("run.number", "-1", "-1"), "step": ("step.run", "step.position", "-1")}.get(kind.name, kind.key)
    same = " AND ".join(f"{has.relation}.{level} = {column}" for level, column in zip(levels, own, strict=True))
    test = f"EXISTS (SELECT 1 FROM {has.relation} WHERE {' AND '.join(tests)} AND {same})"
    return Part(test, tuple(values), source, tuple(values))


def _tag_test(condition: Condition) -> tuple[str, list[Any]]:
    if condition.field != "name" or condition.op != "eq":
        raise ConfigError("tags are asked for by `name eq`")
    return "name = ?", [_bindable(condition.value)]


def _metadata_test(condition: Condition) -> tuple[str, list[Any]]:
    value = condition.value
    if condition.field == "key":
        return "key = ?", [_bindable(value)]
    if condition.op not in _OPS:
        raise ConfigError(f"{condition.op!r} doesn't work on metadata", fix=f"use one of: {', '.join(_OPS)}")
    op = _OPS[condition.op]
    if isinstance(value, bool):
        return f"type = 'bool' AND number {op} ?", [int(value)]
    if isinstance(value, int | float):
        if isinstance(value, float) and math.isnan(value):
            return f"type = 'float' AND text {op} 'nan'", []
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            return f"type = 'int' AND text {op} ?", [str(value)]
        return f"number {op} ? AND type <> 'bool'", [value]
    return f"type = 'str' AND text {op} ?", [_bindable(value)]


_RELATIONS = {"tag": _tag_test, "metadata": _metadata_test}


def _rarest(db: sqlite3.Connection, parts: list[Part]) -> Part | None:
    """Return the condition that finds the fewest rows, if these are few."""
    best: Part | None = None
    least = FEW + 1
    for part in parts:
        if part.source:
            sql = f"SELECT count(*) FROM ({part.source} LIMIT ?)"
            found: int = db.execute(sql, (*part.source_values, least)).fetchone()[0]
            if found < least:
                best, least = part, found
    return best


def _inside(kind: Kind, source: str) -> str:
    columns = ", ".join(kind.key)
    return f"({columns}) IN ({source})" if len(kind.key) > 1 else f"{columns} IN ({source})"
