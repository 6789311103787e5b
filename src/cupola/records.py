"""Data classes as values: what their fields are and how they are named.

A data class is a dataclass, an attrs class, a msgspec Struct, a pydantic model, a NamedTuple or an enum. Its objects
are stored as their class's name, `module:qualname`, and their fields. Finding the class again is `classes.py`; who
loads an object without having its class gets a `Record`.
"""

from __future__ import annotations

import enum
import functools
import sys
import typing
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import Any, cast

import msgspec

from cupola.errors import CupolaError

PROGRAM = ("__main__", "__mp_main__")
PLACE = "\0"
"""What stands for the path of a part in a reason, where whoever refuses it doesn't know its place."""

# Objects of these keep their content outside of their fields, so a data class built on one can't be kept by its fields.
_CONTENT = (dict, list, set, frozenset, tuple, str, bytes, bytearray, int, float, complex, BaseException)


class Record:
    """A read-only stand-in for an object whose class isn't known to this process.

    Its fields are its attributes and items (`record.rate`, `record["rate"]`); iterating gives their names in order.
    It has no methods, so that no field name is taken. `values.type_name(record)` tells the class; two records are equal
    if class and fields are.
    """

    __slots__ = ("__class_name__", "__fields__", "__kind__", "__state__")
    __class_name__: str
    __kind__: str
    __fields__: dict[str, Any]
    __state__: dict[str, Any]

    def __init__(self, class_name: str, kind: str, fields: Mapping[str, Any], state: Mapping[str, Any]) -> None:
        object.__setattr__(self, "__class_name__", class_name)
        object.__setattr__(self, "__kind__", kind)
        object.__setattr__(self, "__fields__", dict(fields))
        object.__setattr__(self, "__state__", dict(state))

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__fields__[name]
        except KeyError:
            raise AttributeError(f"{self.__class_name__} was stored without a field {name!r}", name=name) from None

    def __getitem__(self, name: str) -> Any:
        return self.__fields__[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.__fields__)

    def __len__(self) -> int:
        return len(self.__fields__)

    def __bool__(self) -> bool:
        return True

    def __contains__(self, name: object) -> bool:
        return name in self.__fields__

    def __setattr__(self, name: str, value: object) -> typing.NoReturn:
        raise AttributeError(f"a Record is read-only, so {name!r} can't be set", name=name)

    def __delattr__(self, name: str) -> typing.NoReturn:
        raise AttributeError(f"a Record is read-only, so {name!r} can't be deleted", name=name)

    def __eq__(self, other: object) -> bool:
        if type(other) is not Record:
            return NotImplemented
        mine = (self.__class_name__, self.__kind__, list(self.__fields__.items()), self.__state__)
        return mine == (other.__class_name__, other.__kind__, list(other.__fields__.items()), other.__state__)

    def __hash__(self) -> int:
        return hash((self.__class_name__, tuple(self.__fields__)))

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={value!r}" for name, value in self.__fields__.items())
        return f"<{self.__class_name__.partition(':')[2]}({fields}), class not imported>"


class Unstorable(Exception):
    """A value can't be kept; carries the reason, and the way to it from the inside out.

    Attributes:
        reason: What it is and why it can't be kept.
        where, fix: Where that is and what to do, if more is known than for all values.
        trail: Parts of its path, the innermost first.
    """

    def __init__(self, reason: str, where: str = "", fix: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.where = where
        self.fix = fix
        self.trail: list[str] = []

    def told(self, path: str) -> str:
        """Return the reason with the path of the part, below that of the whole."""
        trail = self.trail[::-1]
        if len(trail) > 20:
            trail[10:-10] = ["…"]
        place = f"{path}{''.join(trail)}"
        return self.reason.replace(PLACE, place) if PLACE in self.reason else f"{place} {self.reason}"


def _own_name(namespace: dict[str, Any]) -> str:
    """Name a module as it was imported; the program by its alias, `-m` name or file."""
    name = str(namespace.get("__name__", ""))
    if name not in PROGRAM:
        return name
    main = sys.modules.get(name)
    for alias, module in list(sys.modules.items()):
        if module is main and alias not in PROGRAM:
            return alias
    spec = namespace.get("__spec__")
    if spec is not None:
        return str(spec.name).removesuffix(".__main__")
    file = namespace.get("__file__")
    return str(file).replace("\\", "/").rpartition("/")[2].removesuffix(".py") if file else ""


_name_module: Callable[[dict[str, Any]], str] = _own_name


def set_module_namer(namer: Callable[[dict[str, Any]], str]) -> None:
    """Set how modules are named in records: a function of their globals, such as `compiler.source.canonical_module`."""
    global _name_module
    _name_module = namer


def class_name(cls: type) -> str:
    """Return `module:qualname` of a class as records name it; never `__main__`.

    Raises:
        Unstorable: The class stands in a program without a file.
    """
    module = sys.modules.get(cls.__module__)
    namespace = module.__dict__ if isinstance(module, ModuleType) else {"__name__": cls.__module__}
    try:
        name = _name_module(namespace)
    except CupolaError as error:
        raise Unstorable(f"is a {cls.__qualname__}, whose class can't be named: {error.what}") from error
    if not name or name in PROGRAM:
        raise Unstorable(f"is a {cls.__qualname__}, whose class stands in a program without a file")
    return f"{name}:{cls.__qualname__}"


@functools.lru_cache(maxsize=1024)
def kind_of(cls: Any) -> str:
    """Return which kind of data class it is (`dataclass`, `attrs`, …); empty for all other classes."""
    if isinstance(cls, enum.EnumMeta):
        return "enum"
    if issubclass(cls, tuple):
        named = isinstance(getattr(cast(Any, cls), "_fields", None), tuple) and hasattr(cast(Any, cls), "_make")
        return "namedtuple" if named else ""
    if issubclass(cls, _CONTENT):
        return ""
    if issubclass(cls, msgspec.Struct):
        return "msgspec"
    pydantic = sys.modules.get("pydantic")
    if pydantic is not None and issubclass(cls, pydantic.BaseModel):
        return "pydantic"
    marks = (("dataclass", "__dataclass_fields__"), ("attrs", "__attrs_attrs__"))
    return next((kind for kind, mark in marks if hasattr(cls, mark)), "")


@functools.lru_cache(maxsize=1024)
def field_names(cls: type) -> tuple[str, ...]:
    """Return the fields of a data class in the order of their declaration."""
    match kind_of(cls):
        case "dataclass":
            fields = cast(Any, cls).__dataclass_fields__.values()
            # ClassVar and InitVar stand among them, told apart by this mark only.
            return tuple(field.name for field in fields if field._field_type.name == "_FIELD")
        case "attrs":
            return tuple(attribute.name for attribute in cast(Any, cls).__attrs_attrs__)
        case "msgspec":
            return cast(Any, cls).__struct_fields__
        case "pydantic":
            return tuple(model_fields(cls))
        case "namedtuple":
            return cast(Any, cls)._fields
        case _:
            return ()


def model_fields(cls: Any) -> dict[str, Any]:
    """Return the fields of a pydantic model by name; how to ask for them changed in its version 2.10."""
    fields = getattr(cls, "__pydantic_fields__", None)
    return fields if fields is not None else cls.model_fields


def parts_of(value: Any) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Return kind, fields and further state of an object of a data class that is no enum.

    Attributes that an object has besides its fields are kept as fields too, but for cached properties.

    Raises:
        Unstorable: A field was never set.
    """
    cls = cast(Any, type(value))
    kind = kind_of(cls)
    if kind == "namedtuple":
        if len(value) != len(cls._fields):
            raise Unstorable(f"is a {cls.__qualname__} of {len(value)} items instead of {len(cls._fields)}")
        return kind, {**dict(zip(cls._fields, value, strict=True)), **_extras(value, cls._fields)}, {}
    namespace = getattr(value, "__dict__", {})
    fields: dict[str, Any] = {}
    for name in field_names(cls):
        try:
            fields[name] = namespace[name] if name in namespace else getattr(value, name)
        except AttributeError:
            raise Unstorable(f"is a {cls.__qualname__} whose field {name!r} was never set") from None
    state = _pydantic_state(value) if kind == "pydantic" else {}
    return kind, {**fields, **_extras(value, fields)}, state


def _extras(value: Any, fields: Any) -> dict[str, Any]:
    namespace = getattr(value, "__dict__", None)
    if not namespace or (len(namespace) <= len(fields) and all(name in fields for name in namespace)):
        return {}
    cls = cast(Any, type(value))
    return {
        name: item
        for name, item in namespace.items()
        if name not in fields
        and name not in ("__orig_class__", "_attrs_cached_hash")
        and not isinstance(getattr(cls, name, None), functools.cached_property)
    }


def _pydantic_state(value: Any) -> dict[str, Any]:
    state: dict[str, Any] = {}
    if value.__pydantic_fields_set__ != set(model_fields(type(value))):
        state["set"] = sorted(value.__pydantic_fields_set__)
    if value.__pydantic_extra__:
        state["extra"] = value.__pydantic_extra__
    if value.__pydantic_private__:
        state["private"] = value.__pydantic_private__
    return state


def enum_parts(value: enum.Enum) -> tuple[str, Any]:
    """Return name and value of a member; the name of an unnamed combination of flags is empty."""
    return value._name_ or "", value._value_
