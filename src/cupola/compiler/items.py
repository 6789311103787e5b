"""What a mapped step can be spread over: lists and their like, taken apart in an order that is fixed once.

The same for values, when a pipeline compiles and when a step has made the list, and for their types.
"""

from __future__ import annotations

import typing
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Annotated, Any, Union, cast

from cupola import values
from cupola.compiler.annotations import NO_ANNOTATION, open_alias
from cupola.compiler.assignable import is_assignable
from cupola.errors import CompileError
from cupola.records import kind_of

WIDEST = 1_000_000
"""How many children a mapped step may have: more is a generator without an end, or work for fewer, larger steps."""
_ONE_VALUE = (str, bytes, bytearray, memoryview, Mapping)
_ALIKE = frozenset({bool, int, str, bytes})
"""Types whose values have an order that people expect and that is the same in every process."""


def items_of(value: Any) -> list[Any] | None:
    """Return the items of a list, tuple, set, range, generator or the like; None for what is one value.

    The order of a set differs from process to process; here it is fixed.

    Raises:
        CompileError: There are more than a run can have.
    """
    if isinstance(value, _ONE_VALUE) or not hasattr(cast("object", type(value)), "__iter__") or _has_fields(value):
        return None
    try:
        found = list(islice(cast("Iterable[Any]", value), WIDEST + 1))
    except TypeError:
        if hasattr(value, "__next__"):  # a generator's own error, which is the user's
            raise
        return None  # an array without dimensions
    if len(found) > WIDEST:
        raise CompileError(
            f"a step can be mapped over at most {WIDEST:,} items",
            fix="let one child work on many of them: map over lists of items",
        )
    return _in_order(found) if isinstance(value, set | frozenset) else found


def check_width(step: str, width: int, where: str) -> None:
    """Raise `CompileError` when a mapped step would have more children than a run can have."""
    if width > WIDEST:
        raise CompileError(
            f"step {step!r} is mapped to {width:,} children, more than {WIDEST:,}",
            where=where,
            fix="let one child work on many items: map over lists of them",
        )


def _has_fields(value: Any) -> bool:
    """Tell whether a value is a record or a table, which can be iterated as well."""
    cls = cast("Any", type(value))
    return hasattr(cls, "columns") or bool(not isinstance(value, type) and kind_of(cls))


def _in_order(items: list[Any]) -> list[Any]:
    kinds = set(map(type, items))
    return sorted(items) if len(kinds) == 1 and kinds <= _ALIKE else sorted(items, key=values.encode)


def is_list_type(annotation: Any) -> bool:
    """Tell whether values of a type are lists of items; where nothing is known of it they may be.

    Example:
        >>> is_list_type(list[int]), is_list_type(str), is_list_type(tuple[int, str]), is_list_type(tuple[int, ...])
        (True, False, False, True)
    """
    annotation = _plain(annotation)
    arguments: tuple[Any, ...] = typing.get_args(annotation)
    cls: Any = typing.get_origin(annotation) or annotation
    if cls is Union or type(annotation).__name__ == "UnionType":
        return all(map(is_list_type, arguments))
    if not isinstance(cls, type):
        return True
    known = cast("type[object]", cls)
    if issubclass(known, _ONE_VALUE) or hasattr(known, "columns") or kind_of(known):
        return False
    if issubclass(known, tuple) and (arguments and Ellipsis not in arguments):
        return False
    return is_assignable(known, Iterable)


def items_fit(annotation: Any, wanted: Any) -> bool:
    """Tell whether the items of a list of this type are of the type that is wanted."""
    return wanted is NO_ANNOTATION or is_assignable(annotation, Iterable[wanted])


def item_type(annotation: Any) -> Any:
    """Return the type of a list's items; None where it doesn't say."""
    annotation = _plain(annotation)
    arguments: tuple[Any, ...] = typing.get_args(annotation)
    cls: Any = typing.get_origin(annotation) or annotation
    known = isinstance(cls, type) and cls.__module__ in ("builtins", "collections", "collections.abc")
    return arguments[0] if arguments and known and hasattr(cls, "__iter__") else None


def _plain(annotation: Any) -> Any:
    annotation = open_alias(annotation)
    while typing.get_origin(annotation) is Annotated:
        annotation = open_alias(typing.get_args(annotation)[0])
    return annotation


def check_lengths(step: str, lengths: Mapping[str, int], where: str) -> None:
    """Raise `CompileError` unless inputs that are taken side by side have equally many items."""
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        raise CompileError(
            f"step {step!r} is mapped over inputs of different lengths: {listed}",
            where=where,
            fix="give them equally many items, use .product(…) for each with each, or unmapped(…) for a whole one",
        )
