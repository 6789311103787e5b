"""Whether a type or a value fits where another type is wanted.

The same answers as type checkers give, with two differences. Containers are covariant, since a step never changes an
object that another step holds. And what can't be known (a Protocol that isn't checked at run time, a library's own
generics, names without meaning here) fits, so that no correct pipeline is refused.
"""

from __future__ import annotations

import collections
import collections.abc
import functools
import itertools
import sys
import types
import typing
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from typing import Annotated, Any, Union, cast

from cupola.compiler.annotations import open_alias

SAMPLE = 8
_CALLABLE: Any = collections.abc.Callable
_UNIONS = (Union, types.UnionType)
_WRAPPERS = (Annotated, typing.Required, typing.NotRequired, typing.Final, typing.ClassVar)
_TOWER: dict[Any, tuple[type, ...]] = {float: (int,), complex: (int, float)}
_NUMPY: dict[Any, tuple[str, ...]] = {
    int: ("integer",), float: ("integer", "floating"), complex: ("number",), bool: ("bool_",), str: ("str_",)
}  # fmt: skip
_ITEMS: dict[Any, type] = {str: str, bytes: int, bytearray: int, memoryview: int, range: int}
_SCALARS = frozenset({type(None), bool, int, float, complex, str, bytes})
_PLAIN_CONTAINERS = (list, tuple, set, frozenset, dict, collections.deque, collections.OrderedDict,
                     collections.defaultdict, collections.Counter)  # fmt: skip


def is_assignable(given: Any, wanted: Any) -> bool:
    """Tell whether a value of one type may be passed where another type is wanted.

    Example:
        >>> is_assignable(list[bool], list[int] | None), is_assignable(str, int)
        (True, False)
    """
    try:
        return _known_fits(given, wanted)
    except TypeError:  # a note inside of Annotated may have no hash
        return _safe_fits(given, wanted)


def _safe_fits(given: Any, wanted: Any) -> bool:
    try:
        return _fits(given, wanted)
    except RecursionError:  # types that name themselves
        return True


# A pipeline of many steps wires few types, and looking at one pair takes up to 50 µs.
_known_fits = functools.lru_cache(maxsize=1024)(_safe_fits)


def is_instance(value: Any, wanted: Any, *, every: bool = False, stand_in: Callable[[Any], Any] | None = None) -> bool:
    """Tell whether a value may be passed where a type is wanted.

    Args:
        value: The value.
        wanted: The type.
        every: Whether to look at each item of a container; otherwise at eight, so that size costs nothing.
        stand_in: Gives the type of an object that stands for a value, or None for an ordinary value.
    """
    if type(value) is wanted:
        return True
    if stand_in is None and not every and _fits_at_a_glance(value, wanted):
        return True
    try:
        return _Values(every, stand_in).fits(value, wanted)
    except RecursionError:
        return True


def _all_fit(given: type, wanted: Any) -> bool:
    """Whether all values of a class are known to fit, so that none of them needs a look."""
    try:
        return _known_fits(given, wanted)
    except TypeError:  # a note inside of Annotated may have no hash
        return False


def _fits_at_a_glance(value: Any, wanted: Any) -> bool:
    """Whether what is looked at in a dict or list are scalars of classes that all fit; False where it takes more."""
    kind = cast("type[Any]", type(value))
    if kind is not dict and kind is not list:
        return False
    try:
        container, first, second = _scalars_in(wanted)
    except TypeError:  # a note inside of Annotated may have no hash
        return False
    if kind is not container:
        return False
    if kind is list:
        return first.issuperset(map(type, (*value[: SAMPLE // 2], *value[-SAMPLE // 2 :])))
    table = cast("dict[Any, Any]", value)
    keys, items = itertools.islice(table, SAMPLE), itertools.islice(table.values(), SAMPLE)
    return first.issuperset(map(type, keys)) and second.issuperset(map(type, items))


@functools.lru_cache(maxsize=1024)
def _scalars_in(wanted: Any) -> tuple[type | None, frozenset[type], frozenset[type]]:
    """Return dict or list, if that is what a type stands for, and the scalar classes that fit each of its brackets."""
    wanted = _simple(wanted)
    args = typing.get_args(wanted)
    if typing.get_origin(wanted) is dict and len(args) == 2:
        return dict, _fitting_scalars(args[0]), _fitting_scalars(args[1])
    if typing.get_origin(wanted) is list:
        return list, _fitting_scalars(args[0]), frozenset()
    return None, frozenset(), frozenset()


def _fitting_scalars(wanted: Any) -> frozenset[type]:
    return frozenset(kind for kind in _SCALARS if _all_fit(kind, wanted))


def _simple(annotation: Any, *, given: bool = False) -> Any:
    """Return a type without aliases, wrappers and variables; Any where nothing is known."""
    try:
        annotation = open_alias(annotation)
    except Exception:  # the value of a `type` statement is the user's code
        return Any
    origin = typing.get_origin(annotation)
    if origin in _WRAPPERS:
        return _simple(typing.get_args(annotation)[0], given=given)
    if annotation is None:
        return types.NoneType
    if isinstance(annotation, typing.TypeVar) and not given:
        if annotation.__constraints__:
            return Union[annotation.__constraints__]  # noqa: UP007 — the members are only known here
        return _simple(annotation.__bound__) if annotation.__bound__ is not None else Any
    if annotation is typing.LiteralString:
        return str
    known = origin is not None or isinstance(annotation, (type, typing.NewType))
    return annotation if known or annotation in (typing.Never, typing.NoReturn) else Any


def _fits(given: Any, wanted: Any) -> bool:
    given, wanted = _simple(given, given=True), _simple(wanted)
    if Any in (given, wanted) or wanted is object or given == wanted or given in (typing.Never, typing.NoReturn):
        return True
    if isinstance(given, typing.NewType):
        if isinstance(wanted, typing.NewType):  # two names for one type are two types
            return _fits(given.__supertype__, wanted) if isinstance(given.__supertype__, typing.NewType) else False
        return _fits(given.__supertype__, wanted)
    if typing.get_origin(given) in _UNIONS:
        return all(_fits(member, wanted) for member in typing.get_args(given))
    if typing.get_origin(wanted) in _UNIONS:
        return any(_fits(given, member) for member in typing.get_args(wanted)) or _fits_by_parts(given, wanted)
    if isinstance(wanted, typing.NewType):
        return _fits(given, wanted.__supertype__)
    if typing.get_origin(given) is typing.Literal:
        return all(is_instance(value, wanted) for value in typing.get_args(given))
    if typing.get_origin(wanted) is typing.Literal:
        return _covers(given, typing.get_args(wanted))
    given_class, wanted_class = typing.get_origin(given) or given, typing.get_origin(wanted) or wanted
    if not isinstance(given_class, type) or not isinstance(wanted_class, type):
        return True
    if typing.is_typeddict(wanted_class):
        return _typed_dict_fits(given_class, wanted_class)
    return _class_fits(given_class, wanted_class) and _args_fit(given, wanted)


def _fits_by_parts(given: Any, wanted: Any) -> bool:
    """Whether the values of a finite type each fit a member: bool into `Literal[True] | None | Literal[False]`."""
    parts = _all_values(given)
    return bool(parts) and all(is_instance(part, wanted) for part in parts)


def _all_values(given: Any) -> Sequence[Any]:
    if typing.get_origin(given) is typing.Literal:
        return typing.get_args(given)
    if given is bool:
        return (True, False)
    if given is types.NoneType:
        return (None,)
    if isinstance(given, type) and issubclass(given, Enum):
        return list(given)
    return ()


def _covers(given: Any, values: Sequence[Any]) -> bool:
    """Whether each value that a type has is among those of a Literal."""
    parts = _all_values(given)
    return bool(parts) and all(any(_same(part, value) for value in values) for part in parts)


def _same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and one == other


def _class_fits(given: type, wanted: type) -> bool:
    if given is wanted or given in _TOWER.get(wanted, ()) or _is_numpy(given, wanted):
        return True
    try:
        return issubclass(given, wanted)
    except TypeError:  # a Protocol that only type checkers can check
        return True


def _is_numpy(given: type, wanted: type) -> bool:
    """Whether a class is a numpy scalar that counts as a Python number or text. Numpy isn't imported for it."""
    numpy = sys.modules.get("numpy")
    if numpy is None or wanted not in _NUMPY or given.__module__ != "numpy":
        return False
    return issubclass(given, tuple(getattr(numpy, name) for name in _NUMPY[wanted]))


def _args_fit(given: Any, wanted: Any) -> bool:
    """Whether what stands in brackets fits; the classes do already."""
    wanted_class, wanted_args = typing.get_origin(wanted) or wanted, typing.get_args(wanted)
    if not wanted_args:
        return True
    if wanted_class is _CALLABLE:
        return _callable_fits(given, wanted_args)
    if wanted_class is tuple:
        return _tuple_fits(given, wanted_args)
    args = _args_as(given, wanted_class, len(wanted_args))
    if args is None or len(args) != len(wanted_args):
        return True
    variables = getattr(wanted_class, "__parameters__", ())
    for place, (have, want) in enumerate(zip(args, wanted_args, strict=True)):
        turned = place < len(variables) and getattr(variables[place], "__contravariant__", False)
        if not (_fits(want, have) if turned else _fits(have, want)):
            return False
    return True


def _callable_fits(given: Any, wanted_args: tuple[Any, ...]) -> bool:
    args = typing.get_args(given)
    if typing.get_origin(given) is not _CALLABLE or len(args) != 2:
        return True
    takes, wanted_takes = args[0], wanted_args[0]
    if isinstance(takes, list) and isinstance(wanted_takes, list):
        have, want = cast("list[Any]", takes), cast("list[Any]", wanted_takes)
        if len(have) != len(want) or not all(map(_fits, want, have)):
            return False
    return _fits(args[1], wanted_args[1])


def _tuple_fits(given: Any, wanted: tuple[Any, ...]) -> bool:
    args = typing.get_args(given)
    if any(typing.get_origin(arg) is typing.Unpack or getattr(arg, "__unpacked__", False) for arg in (*args, *wanted)):
        return True
    if not args:
        fields = getattr(given, "_fields", None)
        return fields is None or Ellipsis in wanted or len(fields) == len(wanted)
    if Ellipsis in wanted:
        return all(_fits(arg, wanted[0]) for arg in args if arg is not Ellipsis)
    if Ellipsis in args:  # any length, which fits a fixed one only where nothing is said of the items
        return _simple(args[0], given=True) is Any
    return len(args) == len(wanted) and all(map(_fits, args, wanted))


def _args_as(given: Any, target: type, count: int) -> tuple[Any, ...] | None:
    """Return what a type would have in brackets, written as another class that it is one of; None if unknown."""
    cls, args = typing.get_origin(given) or given, typing.get_args(given)
    if cls is target:
        return args or None
    if cls in _ITEMS:
        return (_ITEMS[cls],)
    if cls is tuple:
        items = tuple(arg for arg in args if arg is not Ellipsis)
        return (Union[items],) if items else None  # noqa: UP007 — the members are only known here
    for base in getattr(cls, "__orig_bases__", ()):
        origin = typing.get_origin(base)
        if isinstance(origin, type) and origin is not typing.Generic and _class_fits(origin, target):
            return _args_as(_filled(base, cls, args), target, count)
    if not args or cls.__module__ not in ("builtins", "collections", "collections.abc"):
        return None
    if cls is collections.Counter:
        args = (args[0], int)
    return args[:count]


def _filled(base: Any, cls: Any, args: tuple[Any, ...]) -> Any:
    """Put what a class has in brackets into one of its bases: `Box[int]`, a `list[T]`, gives `list[int]`."""
    wanted = getattr(base, "__parameters__", ())
    if not wanted:
        return base
    # A class that is generic through a builtin only, `class Table(dict[str, T])`, has no parameters of its own.
    bases: Any = cls.__orig_bases__
    variables = getattr(cls, "__parameters__", ()) or dict.fromkeys(
        v for b in bases for v in getattr(b, "__parameters__", ())
    )
    known = dict(zip(variables, args, strict=False))
    return base[tuple(known.get(variable, Any) for variable in wanted)]


def _typed_dict_fits(given: type, wanted: type) -> bool:
    if not typing.is_typeddict(given):
        return issubclass(given, collections.abc.Mapping)
    have, want = _fields(given), _fields(wanted)
    return _required(wanted, want) <= have.keys() and all(_fits(have[key], want[key]) for key in want if key in have)


def _fields(typed_dict: type) -> dict[str, Any]:
    try:
        return typing.get_type_hints(typed_dict, include_extras=True)
    except Exception:  # the annotations are the user's code; what can't be resolved isn't known
        return dict.fromkeys(getattr(typed_dict, "__annotations__", {}), Any)


def _required(typed_dict: type, fields: dict[str, Any]) -> set[str]:
    """Return the keys that must be there. Python itself doesn't see `NotRequired` in annotations that are texts."""
    keys: Iterable[str] = getattr(typed_dict, "__required_keys__", ())
    return {key for key in keys if typing.get_origin(fields.get(key)) is not typing.NotRequired}


class _Values:
    """How values are judged: whether each item of a container is looked at, and what stands for values."""

    def __init__(self, every: bool, stand_in: Callable[[Any], Any] | None) -> None:
        self.every = every
        self.stand_in = stand_in

    def fits(self, value: Any, wanted: Any) -> bool:
        kind = cast("type[Any]", type(value))
        if self.stand_in is None and kind in _SCALARS and _all_fit(kind, wanted):
            return True
        given = self.stand_in(value) if self.stand_in else None
        if given is not None:
            return _fits(given, wanted)
        wanted = _simple(wanted)
        while isinstance(wanted, typing.NewType):
            wanted = _simple(wanted.__supertype__)
        if wanted is Any or wanted is object:
            return True
        origin = typing.get_origin(wanted)
        if origin in _UNIONS:
            return any(self.fits(value, member) for member in typing.get_args(wanted))
        if origin is typing.Literal:
            return any(_same(value, member) for member in typing.get_args(wanted))
        cls = origin or wanted
        if not isinstance(cls, type):
            return cls not in (typing.Never, typing.NoReturn)
        if typing.is_typeddict(cls):
            return self._typed_dict(value, cls)
        return self._class(value, cls) and self._items(value, wanted, cls)

    def _class(self, value: Any, cls: type) -> bool:
        try:
            if isinstance(value, cls):
                return True
        except TypeError:  # a Protocol that only type checkers can check
            return True
        given = cast("Any", type(value))
        return given in _TOWER.get(cls, ()) or _is_numpy(given, cls)

    def _items(self, value: Any, wanted: Any, cls: type) -> bool:
        args = typing.get_args(wanted)
        given = cast("Any", type(value))
        if not args:
            return True
        if cls is type:
            return _fits(type[value], wanted)
        if cls is tuple and Ellipsis not in args:
            return len(value) == len(args) and all(map(self.fits, value, args))
        if given in _PLAIN_CONTAINERS:
            if len(args) == 2 and issubclass(given, dict):
                return all(self.fits(key, args[0]) and self.fits(value[key], args[1]) for key in self._some(value))
            return all(self.fits(item, args[0]) for item in self._some(value))
        if hasattr(value, "dtype") and len(args) == 2:
            return _array_fits(value, args)
        return _args_fit(given, wanted)

    def _some(self, items: Any) -> Iterable[Any]:
        if self.every or len(items) <= SAMPLE:
            return items
        if isinstance(items, (list, tuple)):
            row = cast("Sequence[Any]", items)
            return (*row[: SAMPLE // 2], *row[-SAMPLE // 2 :])
        return itertools.islice(items, SAMPLE)

    def _typed_dict(self, value: Any, wanted: type) -> bool:
        if not isinstance(value, dict):
            return False
        table = cast("dict[Any, Any]", value)
        fields = _fields(wanted)
        return _required(wanted, fields) <= table.keys() and all(
            self.fits(table[key], field) for key, field in fields.items() if key in table
        )


def _array_fits(array: Any, args: tuple[Any, ...]) -> bool:
    """Whether an array has the shape and scalar type of `ndarray[shape, dtype[scalar]]`."""
    shape, scalar = typing.get_args(args[0]), typing.get_args(args[1])
    if shape and Ellipsis not in shape and len(shape) != getattr(array, "ndim", len(shape)):
        return False
    return not scalar or _fits(getattr(array.dtype, "type", Any), scalar[0])
