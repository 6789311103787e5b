"""Values of every kind that the encoding keeps, and what it means that two of them are the same.

Imported by the tests and by their fresh processes; nothing of it may change, since its bytes are golden.
"""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import pathlib
import struct
import uuid
from functools import cached_property
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import attrs
import msgspec
import numpy as np
import pandas as pd
import pydantic


class Color(enum.Enum):
    RED = "red"
    BLUE = ["b", 1]


class Size(enum.IntEnum):
    S = 1
    L = 2


class Mode(enum.StrEnum):
    FAST = "fast"


class Right(enum.Flag):
    READ = 1
    WRITE = 2


class Point(NamedTuple):
    x: int
    y: Any = None


@dataclasses.dataclass
class Plain:
    a: int
    b: Any = None


@dataclasses.dataclass(frozen=True)
class Frozen:
    a: int
    b: tuple[int, ...] = ()

    @cached_property
    def total(self) -> int:
        return self.a + sum(self.b)


@dataclasses.dataclass(slots=True)
class Slots:
    a: int
    b: Any = None


@attrs.frozen(cache_hash=True)
class AttrsFrozen:
    a: int
    b: Any = None


@attrs.define(slots=False)
class AttrsDict:
    a: int
    _hidden: Any = 2


class Packed(msgspec.Struct, frozen=True):
    a: int
    b: Any = None


class Model(pydantic.BaseModel):
    a: int = 1
    b: Any = None
    _note: str = pydantic.PrivateAttr(default="n")


class Open(pydantic.BaseModel, extra="allow"):
    a: int


ZURICH = ZoneInfo("Europe/Zurich")
NAN = float("nan")
OTHER_NAN = struct.unpack("<d", b"\x01\0\0\0\0\0\xf8\xff")[0]

VALUES: dict[str, Any] = {
    "none": None,
    "true": True,
    "int": 5,
    "int 64": 2**64 - 1,
    "int -64": -(2**63),
    "big int": 2**70,
    "big negative": -(2**63) - 1,
    "float": 0.1,
    "negative zero": -0.0,
    "infinity": float("inf"),
    "nan": NAN,
    "another nan": OTHER_NAN,
    "complex": complex(-0.0, NAN),
    "text": "Grüße, 世界",
    "surrogate": "a\ud800",
    "bytes": b"\x00\xff",
    "bytearray": bytearray(b"ab"),
    "list": [1, [2.5, None]],
    "long list": list(range(20)),
    "huge list": [None] * 70_000,
    "tuple": (1, [2, (3,)]),
    "empty tuple": (),
    "set": {3, "a", (1, 2), None},
    "frozenset": frozenset({1.5, frozenset({"x"})}),
    "dict": {"b": 1, "a": {"deep": [True]}},
    "keys": {1: "int", "1": "str", None: 0, 2.5: 0, (1, 2): 0, dt.date(2026, 1, 2): 0, Color.RED: 0, b"k": 0},
    "nan keys": {float("nan"): 1, float("nan"): 2},
    "range": range(5, 1, -2),
    "slice": slice(None, 3),
    "ellipsis": ...,
    "date": dt.date(2026, 11, 25),
    "time": dt.time(2, 30, 0, 7, fold=1),
    "naive": dt.datetime(2026, 3, 29, 2, 30),
    "aware": dt.datetime(2026, 10, 25, 2, 30, tzinfo=ZURICH, fold=1),
    "utc": dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
    "offset": dt.datetime(2026, 1, 1, tzinfo=dt.timezone(-dt.timedelta(minutes=90))),
    "named offset": dt.datetime(2026, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=2), "X")),
    "timedelta": dt.timedelta(-1, 3, 5),
    "uuid": uuid.UUID("12345678-1234-5678-1234-567812345678"),
    "decimal": decimal.Decimal("1.10"),
    "decimal nan": decimal.Decimal("-sNaN12"),
    "fraction": fractions.Fraction(-1, 3),
    "path": pathlib.Path("a/b c"),
    "pure path": pathlib.PureWindowsPath("c:\\x"),
    "enum": Color.BLUE,
    "int enum": Size.L,
    "str enum": Mode.FAST,
    "flags": Right.READ | Right.WRITE,
    "no flag": Right(0),
    "named tuple": Point(1, Point(2)),
    "dataclass": Plain(1, [Plain(2, {"k": (1,)})]),
    "frozen dataclass": Frozen(1, (2, 3)),
    "slots": Slots(1, Color.RED),
    "attrs": AttrsFrozen(1, [2]),
    "attrs dict": AttrsDict(1, (2,)),
    "struct": Packed(1, Packed(2)),
    "model": Model(a=2),
    "open model": Open(a=1, more=[1]),
    "ordered dict": collections.OrderedDict([("b", 1), ("a", 2)]),
    "defaultdict": collections.defaultdict(list, {"a": [1]}),
    "deque": collections.deque([1, (2,)], 3),
    "counter": collections.Counter("aab"),
    "float64": np.float64(0.5),
    "float32": np.float32(0.1),
    "float16 nan": np.float16("nan"),
    "int8": np.int8(-3),
    "bool": np.bool_(True),
    "str_": np.str_("a\0b"),
    "bytes_": np.bytes_(b"a"),
    "datetime64": np.datetime64("2026-01-02T03", "25s"),
    "not a time": np.datetime64("NaT", "ns"),
    "timedelta64": np.timedelta64(3, "D"),
    "complex64": np.complex64(1 - 2j),
    "Timestamp": pd.Timestamp("2026-01-02 03:04:05.123456789"),
    "Timestamp in seconds": pd.Timestamp("2026-01-02").as_unit("s"),
    "Timestamp with fold": pd.Timestamp("2026-10-25 01:30", tz="UTC").tz_convert(ZoneInfo("Europe/Zurich")),
    "Timestamp before fold": pd.Timestamp("2026-10-25 00:30", tz="UTC").tz_convert(ZoneInfo("Europe/Zurich")),
    "Timestamp with offset": pd.Timestamp("2026-01-02 03:04:05+02:00"),
    "naive Timestamp with fold": pd.Timestamp("2026-10-25 02:30").replace(fold=1),
    "far Timestamp": pd.Timestamp("9999-12-31").as_unit("s"),
    "Timedelta": pd.Timedelta(-1, "ns"),
    "Timedelta in seconds": pd.Timedelta(10**5, "s").as_unit("s"),
    "NaT": pd.NaT,
    "NA": pd.NA,
    "Period": pd.Period("2026Q1", freq="Q-FEB"),
    "Interval": pd.Interval(0, 1.5, closed="both"),
    "Interval of moments": pd.Interval(pd.Timestamp("2026-01-01"), pd.Timestamp("2026-02-01"), closed="left"),
}


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal in type and bits, deep inside; order of sets and payload of NaN don't count."""
    if type(one) is not type(other):
        return False
    if isinstance(one, float) and not isinstance(one, np.generic):
        return (one != one and other != other) or struct.pack("<d", one) == struct.pack("<d", other)
    if isinstance(one, complex) and not isinstance(one, np.generic):
        return same(one.real, other.real) and same(one.imag, other.imag)
    if isinstance(one, np.generic):
        return one.dtype == other.dtype and (one.tobytes() == other.tobytes() or (one != one and other != other))
    if isinstance(one, (set, frozenset)):
        return len(one) == len(other) and all(any(same(a, b) for b in other) for a in one)
    if isinstance(one, (list, tuple, collections.deque)):
        sizes = len(one) == len(other) and getattr(one, "maxlen", None) == getattr(other, "maxlen", None)
        return sizes and all(map(same, one, other))
    if isinstance(one, dict):
        factories = getattr(one, "default_factory", None) is getattr(other, "default_factory", None)
        return factories and same(list(one.items()), list(other.items()))
    if isinstance(one, (Plain, Frozen, AttrsDict)):
        return same({**vars(one), "total": 0}, {**vars(other), "total": 0})
    if isinstance(one, (Slots, AttrsFrozen, Packed)):
        return same([one.a, one.b], [other.a, other.b])
    if one is pd.NaT or one is pd.NA:
        return one is other
    if isinstance(one, (pd.Timestamp, pd.Timedelta)) and one.unit != other.unit:
        return False
    if isinstance(one, (dt.datetime, dt.time)):
        zones = type(one.tzinfo) is type(other.tzinfo) and str(one.tzinfo) == str(other.tzinfo)
        return zones and one.replace(tzinfo=None) == other.replace(tzinfo=None) and one.fold == other.fold
    if isinstance(one, decimal.Decimal):
        return one.as_tuple() == other.as_tuple()
    if isinstance(one, pydantic.BaseModel):
        return one == other and one.model_fields_set == other.model_fields_set
    return bool(one == other) and repr(one) == repr(other)
