"""The table of the value encoding, format 1: how each type beyond msgpack's own is written.

None, bool, int within 64 bits, float, str, bytes, list and dict (in their order) are msgpack as it is. Each line below
is an extension of msgpack: its number, and the parts that its data holds as an array. Numbers are never used again.
"""

from __future__ import annotations

import collections
import datetime
import decimal
import sys
import uuid
from collections.abc import Callable
from typing import Any, cast

import msgspec

from cupola import files
from cupola.errors import MaterializerError
from cupola.records import Unstorable

FORMAT = 1
NAN = float("nan")


class Code(msgspec.Struct, frozen=True):
    """One line of the table.

    Attributes:
        number: Number of the extension, from 1 to 127.
        name: What it is, for people.
        take: Returns the parts of a value.
        make: Returns the value from its parts.
        place: How a part is named in a path: `[]` by position, `{}` as a member, else not at all.
    """

    number: int
    name: str
    take: Callable[[Any], list[Any]]
    make: Callable[..., Any]
    place: str = ""


def _tuple(*parts: Any) -> tuple[Any, ...]:
    return parts


def _set(*parts: Any) -> set[Any]:
    return set(parts)


def _frozenset(*parts: Any) -> frozenset[Any]:
    return frozenset(parts)


def _big_int(value: int) -> list[Any]:
    return [value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True)]


def _made_big_int(data: bytes) -> int:
    return int.from_bytes(data, "big", signed=True)


def _surrogates(value: str) -> list[Any]:
    return [value.encode("utf-8", "surrogatepass")]


def _made_surrogates(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")


def _zone(tz: datetime.tzinfo) -> list[Any]:
    key = getattr(tz, "key", None)
    if type(tz).__module__.partition(".")[0] not in ("zoneinfo", "backports") or not isinstance(key, str):
        raise Unstorable(
            f"has a time zone of type {type(tz).__module__}.{type(tz).__qualname__} without a name to keep"
        )
    return [key]


def _made_zone(key: str) -> datetime.tzinfo:
    import zoneinfo

    try:
        return zoneinfo.ZoneInfo(key)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError) as error:
        raise MaterializerError(
            f"the time zone {key!r} isn't known on this machine", where="loading a stored value", fix="install tzdata"
        ) from error


def _offset(tz: datetime.timezone) -> list[Any]:
    offset, *name = cast(Any, tz).__getinitargs__()
    return [offset, *name]


def _checked_zone(tz: datetime.tzinfo | None) -> datetime.tzinfo | None:
    if tz is not None and type(tz) is not datetime.timezone:
        _zone(tz)
    return tz


def _time(t: datetime.time) -> list[Any]:
    return [t.hour, t.minute, t.second, t.microsecond, t.fold, _checked_zone(t.tzinfo)]


def _made_time(hour: int, minute: int, second: int, micro: int, fold: int, tz: datetime.tzinfo | None) -> datetime.time:
    return datetime.time(hour, minute, second, micro, tz, fold=fold)


def _moment(d: datetime.datetime) -> list[Any]:
    return [d.year, d.month, d.day, d.hour, d.minute, d.second, d.microsecond, d.fold, _checked_zone(d.tzinfo)]


def _made_moment(*parts: Any) -> datetime.datetime:
    *clock, fold, tz = parts
    return cast(Any, datetime.datetime)(*clock, tz, fold=fold)


def _duration(value: datetime.timedelta) -> list[Any]:
    return [value.days, value.seconds, value.microseconds]


def _made_uuid(data: bytes) -> uuid.UUID:
    return uuid.UUID(bytes=data)


def _decimal(value: decimal.Decimal) -> list[Any]:
    return [str(value)]


def _made_decimal(text: str) -> decimal.Decimal:
    # Not decimal.Decimal(text) alone: a context that traps could refuse what was stored.
    return decimal.Context(prec=decimal.MAX_PREC, traps=[]).create_decimal(text)


def _made_fraction(numerator: int, denominator: int) -> Any:
    import fractions

    return fractions.Fraction(numerator, denominator)


_PATHS = ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath")


def _path(value: Any) -> list[Any]:
    return [type(value).__name__, str(value)]


def _made_path(kind: str, text: str) -> Any:
    import pathlib

    if kind not in _PATHS:
        raise ValueError(f"{kind!r} is no kind of path")
    return getattr(pathlib, kind)(text)


def _file(value: Any) -> list[Any]:
    return [type(value).__name__, value.text]


def _made_file(kind: str, text: str) -> Any:

    return {"File": files.File, "Folder": files.Folder}[kind](text)


_FACTORIES: dict[str, Any] = {
    cls.__name__: cls for cls in (list, dict, set, tuple, int, float, complex, str, bytes, bool, frozenset)
}


def _defaultdict(value: collections.defaultdict[Any, Any]) -> list[Any]:
    factory = value.default_factory
    name = "" if factory is None else getattr(factory, "__name__", "")
    if factory is not None and _FACTORIES.get(name) is not factory:
        raise Unstorable("is a defaultdict whose factory is no built-in type such as list, int or dict")
    return [name, dict(value)]


def _made_defaultdict(factory: str, items: dict[Any, Any]) -> Any:
    return collections.defaultdict(_FACTORIES[factory] if factory else None, items)


def _deque(value: collections.deque[Any]) -> list[Any]:
    return [list(value), value.maxlen]


def _made_deque(items: list[Any], maxlen: int | None) -> Any:
    return collections.deque(items, maxlen)


def _scalar(value: Any) -> list[Any]:
    """Take a numpy scalar apart: its dtype, little-endian, and its bytes; text and bytes as they are."""
    numpy = sys.modules["numpy"]
    dtype = value.dtype
    if dtype.kind == "U":
        return ["U", str(value)]
    if dtype.kind == "S":
        return ["S", bytes(value)]
    if dtype.kind not in "biufcmM" or (dtype.isbuiltin != 1 and dtype.kind not in "mM") or dtype.char in "gG":
        raise Unstorable(f"is a numpy scalar of type {dtype}, which can't be kept exactly")
    if dtype.kind in "fc" and value != value:
        return [dtype.newbyteorder("<").str, _canonical_nan(value, numpy)]
    return [dtype.newbyteorder("<").str, value.astype(dtype.newbyteorder("<")).tobytes()]


def _canonical_nan(value: Any, numpy: Any) -> bytes:
    little = value.dtype.newbyteorder("<")
    if little.kind == "f":
        return numpy.array("nan", little).tobytes()
    part = value.real.dtype.newbyteorder("<")
    halves = [NAN if half != half else half for half in (value.real, value.imag)]
    return b"".join(numpy.array(half, part).tobytes() for half in halves)


def _made_scalar(dtype: str, data: Any) -> Any:
    numpy = _library("numpy", "generic")
    if dtype in "US":
        return (numpy.str_ if dtype == "U" else numpy.bytes_)(data)
    kind = numpy.dtype(dtype)
    if kind.hasobject or kind.kind not in "biufcmM":
        raise ValueError(f"{dtype!r} is no dtype of a stored scalar")
    return numpy.frombuffer(data, kind, count=1).astype(kind.newbyteorder("="))[0]


def _timestamp(value: Any) -> list[Any]:
    moment = value.to_datetime64()
    return [int(moment.view("i8")), value.unit, value.fold, _checked_zone(value.tzinfo)]


def _made_timestamp(count: int, unit: str, fold: int, tz: datetime.tzinfo | None) -> Any:
    pandas = _library("pandas", "Timestamp")
    made = pandas.Timestamp(_made_count("datetime64", count, unit))
    if tz is not None:
        return made.tz_localize("UTC").tz_convert(tz)
    return made.replace(fold=fold) if fold else made


def _pandas_span(value: Any) -> list[Any]:
    return [int(value.to_timedelta64().view("i8")), value.unit]


def _made_pandas_span(count: int, unit: str) -> Any:
    return _library("pandas", "Timedelta").Timedelta(_made_count("timedelta64", count, unit))


def _made_count(kind: str, count: int, unit: str) -> Any:
    if unit not in ("s", "ms", "us", "ns"):
        raise ValueError(f"{unit!r} is no unit of time")
    return getattr(_library("numpy", kind), kind)(count, unit)


def _blank(value: Any) -> list[Any]:
    return ["NA" if type(value).__name__ == "NAType" else "NaT"]


def _made_blank(name: str) -> Any:
    if name not in ("NA", "NaT"):
        raise ValueError(f"{name!r} is no mark of what is missing")
    return getattr(_library("pandas", name), name)


def _made_period(ordinal: int, frequency: str) -> Any:
    return _library("pandas", "Period").Period(ordinal=ordinal, freq=frequency)


def _made_interval(left: Any, right: Any, closed: str) -> Any:
    return _library("pandas", "Interval").Interval(left, right, closed=closed)


def _library(name: str, what: str) -> Any:
    from importlib import import_module

    try:
        return import_module(name)
    except ImportError as error:
        raise MaterializerError(
            f"a stored value is a {name}.{what} and {name} isn't installed", fix=f"pip install {name}"
        ) from error


ENUM = 32
"""Enum member: `module:qualname` of its class, its name (empty for an unnamed combination of flags), its value."""
OBJECT = 33
"""Object of a data class: `module:qualname`, kind, fields by name; for pydantic, what else differs from the usual."""
STORED = 34
"""Part that is stored by a materializer beside the value: digest, and what its digest leaves out, such as a name."""

BIG_INT = Code(1, "int beyond 64 bits: its bytes, two's complement, big-endian", _big_int, _made_big_int)
SURROGATES = Code(2, "str with lone surrogates: UTF-8 with them let through", _surrogates, _made_surrogates)
TUPLE = Code(4, "tuple: its items", list, _tuple, "[]")
SET = Code(5, "set: its members, sorted by their bytes", list, _set, "{}")
FROZENSET = Code(6, "frozenset: likewise", list, _frozenset, "{}")
ZONE = Code(15, "zoneinfo.ZoneInfo: its key", _zone, _made_zone)
SCALAR = Code(25, "numpy scalar: dtype, little-endian bytes", _scalar, _made_scalar)
FILE = Code(26, "File or Folder: name of its class, path as given", _file, _made_file)
PATH = Code(20, "path: name of its class, text", _path, _made_path)
FRACTION = Code(
    19, "fractions.Fraction: numerator, denominator", lambda v: [v.numerator, v.denominator], _made_fraction
)

# The scalars of pandas by the name of their class, since pandas must not be imported to know them.
PANDAS: dict[str, Code] = {
    "Timestamp": Code(27, "pandas.Timestamp: count since 1970, unit, fold, zone or None", _timestamp, _made_timestamp),
    "Timedelta": Code(28, "pandas.Timedelta: count, its unit", _pandas_span, _made_pandas_span),
    "NaTType": (BLANK := Code(29, "pandas.NaT or pandas.NA: its name", _blank, _made_blank)),
    "NAType": BLANK,
    "Period": Code(30, "pandas.Period: ordinal, frequency", lambda v: [v.ordinal, v.freqstr], _made_period),
    "Interval": Code(
        31, "pandas.Interval: left, right, which sides are closed", lambda v: [v.left, v.right, v.closed],
        _made_interval,
    ),
}  # fmt: skip

IMMUTABLE = (PATH, FRACTION, SCALAR, *(code for name, code in PANDAS.items() if name != "Interval"))
"""Lines whose values nobody can change."""

BY_TYPE: dict[type, Code] = {
    complex: Code(3, "complex: real and imaginary part", lambda v: [v.real, v.imag], complex),
    tuple: TUPLE,
    set: SET,
    frozenset: FROZENSET,
    bytearray: Code(7, "bytearray: its bytes", lambda v: [bytes(v)], bytearray),
    range: Code(8, "range: start, stop, step", lambda v: [v.start, v.stop, v.step], range),
    slice: Code(9, "slice: start, stop, step", lambda v: [v.start, v.stop, v.step], slice),
    type(...): Code(10, "Ellipsis: nothing", lambda _: [], lambda: ...),
    datetime.date: Code(11, "date: year, month, day", lambda v: [v.year, v.month, v.day], datetime.date),
    datetime.time: Code(12, "time: hour to microsecond, fold, zone or None", _time, _made_time),
    datetime.datetime: Code(13, "datetime: year to microsecond, fold, zone or None", _moment, _made_moment),
    datetime.timedelta: Code(14, "timedelta: days, seconds, microseconds", _duration, datetime.timedelta),
    datetime.timezone: Code(16, "datetime.timezone: offset, and name if it has one", _offset, datetime.timezone),
    uuid.UUID: Code(17, "UUID: its 16 bytes", lambda v: [v.bytes], _made_uuid),
    decimal.Decimal: Code(18, "Decimal: its text", _decimal, _made_decimal),
    collections.OrderedDict: Code(21, "OrderedDict: a dict", lambda v: [dict(v)], collections.OrderedDict),
    collections.defaultdict: Code(22, "defaultdict: name of the factory, a dict", _defaultdict, _made_defaultdict),
    collections.deque: Code(23, "deque: list of its items, maxlen or None", _deque, _made_deque),
    collections.Counter: Code(24, "Counter: a dict", lambda v: [dict(v)], collections.Counter),
}  # fmt: skip

BY_NUMBER: dict[int, Code] = {
    code.number: code
    for code in (BIG_INT, SURROGATES, ZONE, SCALAR, PATH, FILE, FRACTION, *BY_TYPE.values(), *PANDAS.values())
}


def code_for(value: Any) -> Code | None:
    """Return the line of the table that a value is written by, or None."""
    cls = cast("type[Any]", type(value))
    code = BY_TYPE.get(cls)
    if code is not None:
        return code
    # Modules that nobody has imported can't have made a value.
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.generic):
        return SCALAR if cls.__module__ == "numpy" else None
    match cls.__module__.partition(".")[0]:
        case "pathlib" if cls.__name__ in _PATHS:
            return PATH
        case "fractions" if cls.__name__ == "Fraction":
            return FRACTION
        case "cupola" if cls.__module__ == "cupola.files":
            return FILE
        case "pandas":
            return PANDAS.get(cls.__name__)
        case "zoneinfo" if cls.__name__ == "ZoneInfo":
            return ZONE
        case _:
            return None
