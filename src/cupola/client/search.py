"""From filters as people write them to the closed query of the store, and through its pages.

A filter is a field of the kind, or one of `since`, `until`, `tag` and `metadata`; each reader of lists uses these.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from cupola.errors import ConfigError
from cupola.ids import now
from cupola.kinds import Kind, find_kind
from cupola.store import OWNER, Condition, Has, Operator, Query, Store, Value
from cupola.suggest import nearest

PAGE = 200
"""Records asked for at once when all are wanted."""
_UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 604800}
_METADATA = re.compile(r"\s*(?P<key>.*?)\s*(?P<op>>=|<=|!=|==|=|>|<)\s*(?P<value>.*?)\s*", re.DOTALL)
_OPERATORS: dict[str, Operator] = {">=": "ge", "<=": "le", "!=": "ne", "==": "eq", "=": "eq", ">": "gt", "<": "lt"}


def search(
    store: Store, kind: str, filters: Mapping[str, Any], *, sort: str = "", limit: int | None = 20
) -> tuple[list[Any], bool]:
    """Return the records that match, newest first unless sorted otherwise, and whether there are more.

    Args:
        store: The store.
        kind: Name of the kind.
        filters: Values by filter name; None is no filter.
        sort: Name of a declared order, with a leading `-` for the reverse.
        limit: Largest number of records; all when None.

    Raises:
        ConfigError: There is no such filter or order; the message names the nearest.
    """
    if limit is None:
        return list(iterate(store, kind, filters, sort=sort)), False
    if limit < 1:
        raise ConfigError(f"limit={limit} must be at least 1", fix="leave it out for 20, or ask for all")
    page = store.find(kind, build_query(find_kind(kind), filters, sort, limit), who=OWNER)
    return list(page.items), bool(page.next)


def iterate(store: Store, kind: str, filters: Mapping[str, Any], *, sort: str = "") -> Iterator[Any]:
    """Yield all records that match, a page in memory at a time."""
    cursor = ""
    while True:
        query = build_query(find_kind(kind), filters, sort, PAGE, cursor)
        page = store.find(kind, query, who=OWNER)
        yield from page.items
        cursor = page.next
        if not cursor:
            return


def count_matches(store: Store, kind: str, filters: Mapping[str, Any]) -> int:
    """Return how many match, counting no further than the store's bound."""
    return store.count(kind, build_query(find_kind(kind), filters, "", 1), who=OWNER)


def build_query(kind: Kind, filters: Mapping[str, Any], sort: str, limit: int, cursor: str = "") -> Query:
    """Return filters as a query; raises `ConfigError` for a filter that the kind doesn't have."""
    where: list[Condition] = []
    has: list[Has] = []
    for name, value in filters.items():
        if value is None:
            continue
        if name in ("since", "until"):
            where.append(Condition(_time_field(kind), "ge" if name == "since" else "lt", read_time(value)))
        elif name == "tag" and "tag" in kind.relations:
            has += [Has("tag", (Condition("name", "eq", str(tag)),)) for tag in _several(value)]
        elif name == "metadata" and "metadata" in kind.relations:
            has += _metadata(value)
        else:
            where.append(_condition(kind, name, value))
    return Query(tuple(where), tuple(has), sort, limit, cursor)


def filter_names(kind: Kind) -> list[str]:
    """Return the names of all filters of a kind."""
    return [*(field.name for field in kind.fields), "since", "until", *kind.relations]


def read_time(value: Any) -> float:
    """Return a time in seconds since 1970: of a date, a time, or how long ago, such as `2d`, `90min` or `3h`.

    Raises:
        ConfigError: It is none of these.
    """
    if isinstance(value, datetime.timedelta):
        return now() - value.total_seconds()
    if isinstance(value, datetime.datetime):
        return value.timestamp()
    if isinstance(value, datetime.date):
        return datetime.datetime(value.year, value.month, value.day).astimezone().timestamp()
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    text = str(value).strip()
    ago = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]+)", text)
    if ago and ago[2] in _UNITS:
        return now() - float(ago[1]) * _UNITS[ago[2]]
    try:
        return datetime.datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise ConfigError(
            f"{text!r} is no time", fix="write how long ago (`90min`, `3h`, `2d`, `1w`) or a date (`2026-11-25`)"
        ) from None


def _time_field(kind: Kind) -> str:
    names = [field.name for field in kind.fields]
    return "started" if "started" in names else "created"


def _condition(kind: Kind, name: str, value: Any) -> Condition:
    known = filter_names(kind)
    if name not in known:
        close = nearest(name, known)
        fix = f"did you mean {close!r}?" if close else f"there are: {', '.join(known)}"
        raise ConfigError(f"{kind.name}s have no filter {name!r}", fix=fix)
    field = kind.field(name)
    if isinstance(value, list | tuple | set | frozenset):
        members = tuple(_plain(field.type, item) for item in cast("Sequence[Any]", value))
        if len(members) == 1:
            return Condition(name, "eq", members[0])
        return Condition(name, "in", cast(Value, members))
    return Condition(name, "eq", _plain(field.type, value))


def _plain(kind: str, value: Any) -> str | int | float:
    if kind == "text":
        return str(value)
    if kind == "time":
        return read_time(value)
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ConfigError(f"{value!r} is no number") from None


def _several(value: Any) -> list[Any]:
    return list(cast("Sequence[Any]", value)) if isinstance(value, list | tuple | set | frozenset) else [value]


def _metadata(value: Any) -> list[Has]:
    if isinstance(value, Mapping):
        pairs = cast("Mapping[str, Any]", value)
        return [
            Has("metadata", (Condition("key", "eq", key), Condition("value", "eq", item)))
            for key, item in pairs.items()
        ]
    return [_metadata_text(str(text)) for text in _several(value)]


def _metadata_text(text: str) -> Has:
    found = _METADATA.fullmatch(text)
    if found is None:
        if not text.strip():
            raise ConfigError("metadata='' is no condition", fix="write `accuracy>0.9`, or `accuracy` for any value")
        return Has("metadata", (Condition("key", "eq", text.strip()),))
    if not found["key"]:
        raise ConfigError(f"metadata={text!r} names no key", fix="write it as in `accuracy>0.9`")
    value = Condition("value", _OPERATORS[found["op"]], _read_value(found["value"]))
    return Has("metadata", (Condition("key", "eq", found["key"]), value))


def _read_value(text: str) -> str | float | bool:
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "'\"":
        return text[1:-1]
    if text in ("true", "false"):
        return text == "true"
    try:
        return float(text)
    except ValueError:
        return text
