"""Which types and values fit where a type is wanted."""

# ruff: noqa: UP007, UP045 — both spellings of unions are what is tested
from __future__ import annotations

import collections
import datetime
import enum
import numbers
import os
import re
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import (
    Annotated,
    Any,
    Generic,
    Literal,
    NamedTuple,
    NewType,
    NotRequired,
    Optional,
    Protocol,
    SupportsFloat,
    TypedDict,
    TypeVar,
    Union,
    runtime_checkable,
)

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LinearRegression, LogisticRegression

from cupola.compiler.annotations import NO_ANNOTATION
from cupola.compiler.assignable import is_assignable, is_instance

pytestmark = pytest.mark.feature("CORE-02")

T = TypeVar("T")
N = TypeVar("N", int, str)
In = TypeVar("In", contravariant=True)
UserId = NewType("UserId", int)
OrderId = NewType("OrderId", int)
AdminId = NewType("AdminId", UserId)


class Base: ...


class Derived(Base): ...


B = TypeVar("B", bound=Base)


@dataclass
class Box(Generic[T]):
    item: T


class Ints(list[int]): ...


class Table(dict[str, T]): ...


class Sink(Generic[In]): ...


class Color(enum.Enum):
    RED = 1
    BLUE = 2


class Point(NamedTuple):
    x: int
    y: int


class Movie(TypedDict):
    title: str
    year: NotRequired[int]


class Rated(Movie):
    stars: int


class Wrong(TypedDict):
    title: int


class HasShape(Protocol):
    shape: tuple[int, int]


@runtime_checkable
class Closes(Protocol):
    def close(self) -> None: ...


FITS: list[tuple[Any, Any]] = [
    (int, int), (int, Any), (Any, int), (int, NO_ANNOTATION), (NO_ANNOTATION, int), (int, object), (int, "Later"),
    (bool, int), (int, float), (int, complex), (float, complex), (Derived, Base), (int, int | None),
    (None, int | None), (int | str, int | str | None), (Optional[int], Union[None, float]),
    (Annotated[int, "n"], int), (int, Annotated[float, "x"]), (Literal["a"], str), (Literal["a"], Literal["a", "b"]),
    (bool, Literal[True, False]), (Color, Literal[Color.RED, Color.BLUE]), (None, Literal[None]),
    (bool, Literal[True] | None | Literal[False]), (Literal[1, "a"], int | str), (list[int], list), (list, list[int]),
    (list[Derived], list[Base]), (list[int], Sequence[float]), (list[int], Iterable), (str, Sequence[str]),
    (bytes, Sequence[int]), (range, Iterable[int]), (dict[str, int], Mapping[str, float]),
    (dict[str, int], Iterable[str]), (collections.Counter[str], Mapping[str, int]), (Ints, list[int]),
    (Ints, Sequence[float]), (Table[int], dict[str, int]), (Table, dict[str, int]), (Box[Derived], Box[Base]),
    (Box, Box[int]), (Sink[Base], Sink[Derived]), (tuple[int, str], tuple[int, str]),
    (tuple[int, str], tuple[float, object]), (tuple[int, int], tuple[int, ...]), (tuple[int, str], tuple),
    (tuple[int, str], Sequence[int | str]), (tuple[Any, ...], tuple[int, str]), (tuple, tuple[int, str]),
    (Point, tuple[int, int]), (Point, tuple[int, ...]), (Point, tuple), (Callable[[int], str], Callable),
    (Callable[[Base], Derived], Callable[[Derived], Base]), (type, Callable[..., Any]),
    (Callable[..., int], Callable[[str], int]), (type[Derived], type[Base]), (type[int], type), (int, T), (T, int),
    (Derived, B), (int, N), (UserId, int), (UserId, UserId), (int, UserId), (AdminId, UserId), (UserId, float),
    (Movie, dict), (Movie, Mapping[str, Any]), (Rated, Movie), (dict[str, Any], Movie), (Movie, Movie),
    (pd.DataFrame, HasShape), (int, HasShape), (int, SupportsFloat), (int, Hashable), (int, numbers.Number),
    (Path, os.PathLike), (datetime.datetime, datetime.date), (Color, enum.Enum), (pd.DataFrame, pd.DataFrame | None),
    (LogisticRegression, ClassifierMixin), (LogisticRegression, BaseEstimator | None), (np.float64, float),
    (np.float32, float), (np.int64, int), (np.int64, float), (np.bool_, bool), (np.str_, str),
    (np.complex64, complex), (NDArray[np.float64], NDArray[np.float64]), (NDArray[np.float64], np.ndarray),
    (np.ndarray, NDArray[np.float64]), (NDArray[np.float64], NDArray[np.floating[Any]]),
    (NDArray[np.float64], NDArray[Any]), (NDArray[np.float64], ArrayLike),
    (list[list[int]], Sequence[Sequence[float]]),
]  # fmt: skip
DIFFERS: list[tuple[Any, Any]] = [
    (str, int), (float, int), (int, bool), (int, str), (Base, Derived), (object, int), (None, int), (int | None, int),
    (int | str, int), (str, Literal["a"]), (Literal["c"], Literal["a", "b"]), (Literal[1], Literal[True]),
    (bool, Literal[True]), (Color, Literal[Color.RED]), (Literal["a"], int), (list[int], list[str]),
    (list[Base], list[Derived]), (list[int], set[int]), (list[int], tuple[int, ...]), (str, Sequence[int]),
    (str, list[str]), (dict[str, int], dict[int, int]), (dict[str, str], dict[str, int]),
    (dict[str, int], Iterable[int]), (Ints, list[str]), (Table[int], dict[str, str]), (Box[int], Box[str]),
    (Sink[Derived], Sink[Base]), (tuple[int, str], tuple[int]), (tuple[int, str], tuple[int, ...]),
    (tuple[int, ...], tuple[int, int]), (tuple[int, str], list), (Point, tuple[int, int, int]),
    (int, Callable[..., Any]), (Callable[[int], str], Callable[[int], int]),
    (Callable[[int], str], Callable[[int, int], str]), (Callable[[Derived], int], Callable[[Base], int]),
    (type[Base], type[Derived]), (int, B), (float, N), (OrderId, UserId), (UserId, OrderId), (UserId, str),
    (UserId, AdminId), (Movie, Rated), (Wrong, Movie), (Movie, list), (list[int], Movie), (list, Hashable),
    (datetime.date, datetime.datetime), (Color, int), (str, Color), (str, Path), (pd.Series, pd.DataFrame),
    (np.ndarray, pd.DataFrame), (pd.DataFrame, np.ndarray), (LinearRegression, ClassifierMixin),
    (int, pd.DataFrame | None), (np.float64, int), (np.int64, bool), (np.float64, np.float32), (int, np.int64),
    (np.float64, str), (NDArray[np.float64], NDArray[np.int64]), (NDArray[np.float64], list[float]),
    (dict[str, int], Closes), (int, Iterator[int]),
]  # fmt: skip


@pytest.mark.parametrize(("have", "want"), FITS, ids=repr)
def test_types_that_fit(have: Any, want: Any) -> None:
    assert is_assignable(have, want)


@pytest.mark.parametrize(("have", "want"), DIFFERS, ids=repr)
def test_types_that_do_not_fit(have: Any, want: Any) -> None:
    assert not is_assignable(have, want)


VALUES: list[tuple[Any, Any]] = [
    (1, int), (True, int), (1, float), (1, complex), (1.5, float), ("a", str), (None, None), (None, int | None),
    ([], list[int]), ([1, 2], list[int]), ([1, 2.5], list[float]), ((1, "a"), tuple[int, str]),
    ((1, 2, 3), tuple[int, ...]), ((), tuple[int, ...]), ({"a": 1}, dict[str, int]),
    ({"a": [1]}, Mapping[str, Sequence[float]]), ({1, 2}, set[int]), ("abc", Sequence[str]), ("a", Literal["a", "b"]),
    (Color.RED, Color), (Color.RED, Literal[Color.RED]), (Derived(), Base), ([Derived()], list[Base]),
    (Point(1, 2), tuple[int, int]), (Point(1, 2), Point), (Ints([1]), list[int]), (Box(1), Box[int]), (1, UserId),
    (1, AdminId), ({"title": "a"}, Movie), ({"title": "a", "year": 1}, Movie), (int, type), (int, type[int]),
    (bool, type[int]), (len, Callable[..., int]), (print, Callable[[str], None]), (Path("a"), os.PathLike[str]),
    (Path("a"), str | Path), (1, T), (1, N), (Derived(), B), (1, HasShape), (np.float64(1), float),
    (np.float32(1), float), (np.int8(1), int), (np.bool_(True), bool), (np.str_("a"), str),
    ([np.int64(1)], list[int]), (np.zeros(3), NDArray[np.float64]), (np.zeros(3), NDArray[Any]),
    (np.zeros((2, 2)), np.ndarray[tuple[int, int], np.dtype[np.float64]]), (np.zeros(3), ArrayLike),
    (pd.DataFrame(), pd.DataFrame), (pd.DataFrame(), HasShape), (LogisticRegression(), ClassifierMixin | None),
    (collections.Counter("a"), dict[str, int]), (1, Any), (1, object), (1, "Later"), ((1, 2), Sequence[int]),
    (iter([1]), Iterator[str]),
]  # fmt: skip
OTHER_VALUES: list[tuple[Any, Any]] = [
    ("1", int), (1.0, int), (1, bool), (1, str), (None, int), (1, None), ([1, "a"], list[int]), ([1], set[int]),
    ((1,), tuple[int, str]), ((1, 2), tuple[int, str]), ((1, "a"), tuple[int, ...]), ({"a": "b"}, dict[str, int]),
    ({1: 1}, dict[str, int]), ("abc", Sequence[int]), ("c", Literal["a", "b"]), (1, Literal[True]),
    (True, Literal[1]), ("red", Color), (Color.BLUE, Literal[Color.RED]), (Base(), Derived),
    (Point(1, 2), tuple[int, int, int]), (Ints([1]), list[str]), ({}, Movie), ({"title": 1}, Movie), ([], Movie),
    (str, type[int]), (1, Callable[..., Any]), ("a", Path), (1.5, N), (1, B), (np.float64(1), int),
    (np.int64(1), bool), (np.float64(1), str), (np.zeros(3), NDArray[np.int64]),
    (np.zeros(3), np.ndarray[tuple[int, int], np.dtype[np.float64]]), (pd.Series([1]), pd.DataFrame),
    (1, pd.DataFrame | None), ("a", UserId), (LinearRegression(), ClassifierMixin), ({"a": 1}, Closes),
    ([None], list[int]), ({"rate": 0.1}, Box),
]  # fmt: skip


@pytest.mark.parametrize(("value", "want"), VALUES, ids=lambda thing: re.sub(" at 0x[0-9a-f]+", "", repr(thing)))
def test_values_that_fit(value: Any, want: Any) -> None:
    assert is_instance(value, want)
    assert is_instance(value, want, every=True)


@pytest.mark.parametrize(("value", "want"), OTHER_VALUES, ids=lambda thing: re.sub(" at 0x[0-9a-f]+", "", repr(thing)))
def test_values_that_do_not_fit(value: Any, want: Any) -> None:
    assert not is_instance(value, want)


def test_large_containers_are_looked_at_in_eight_places_only() -> None:
    class Counted(int):
        seen = 0

        def __eq__(self, other: object) -> bool:
            return int(self) == other

        __hash__ = int.__hash__

    looked: list[Any] = []
    rows = [Counted(number) for number in range(100_000)]
    assert is_instance(rows, list[int], stand_in=lambda value: looked.append(value))
    assert len(looked) == 9  # the list and eight items
    looked.clear()
    assert is_instance(dict.fromkeys(range(100_000), "a"), dict[int, str], stand_in=lambda value: looked.append(value))
    assert len(looked) == 17
    assert is_instance([*rows[:50], "x", *rows[50:]], list[int])
    assert not is_instance([*rows[:50], "x", *rows[50:]], list[int], every=True)
    assert not is_instance([*rows, "x"], list[int])


def test_no_iterator_is_consumed() -> None:
    rows = iter([1, 2, 3])
    assert is_instance(rows, Iterable[str])
    assert list(rows) == [1, 2, 3]


def test_what_stands_for_a_value_is_judged_by_its_type() -> None:
    class Stand:
        def __init__(self, kind: Any) -> None:
            self.kind = kind

    def kind_of(value: Any) -> Any:
        return value.kind if isinstance(value, Stand) else None

    assert is_instance([Stand(int), 1], list[float], stand_in=kind_of)
    assert not is_instance([Stand(str), 1], list[float], stand_in=kind_of)
    assert is_instance({"a": (Stand(Any), 1)}, dict[str, tuple[str, int]], stand_in=kind_of)


def test_types_that_name_themselves_end() -> None:
    names: dict[str, Any] = {}
    try:
        exec("type A = list[A] | int\ntype B = list[B] | int\ntype C = list[C]\ntype D = list[D]", names)
    except SyntaxError:
        pytest.skip("the type statement is new in Python 3.12")
    assert is_assignable(names["A"], names["B"])
    assert is_assignable(names["C"], names["D"])
    assert is_instance([[1, [2]]], names["A"])
    assert not is_instance([["a"]], names["A"])


ATOMS = st.sampled_from(
    [int, str, float, bool, None, Base, Derived, bytes, Color, pd.DataFrame, np.float64, UserId, Literal["a"]]
)
TYPES = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.builds(lambda item: list[item], inner),
        st.builds(lambda item: Sequence[item], inner),
        st.builds(lambda item: Box[item], inner),
        st.builds(lambda one, two: dict[one, two], inner, inner),
        st.builds(lambda one, two: tuple[one, two], inner, inner),
        st.builds(lambda one: tuple[one, ...], inner),
        st.builds(lambda one, two: Union[one, two], inner, inner),
        st.builds(lambda one: Annotated[one, "note"], inner),
    ),
    max_leaves=6,
)
PLAIN = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3), st.binary(max_size=3)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.tuples(inner, inner), st.dictionaries(st.text(max_size=2), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(TYPES)
@settings(max_examples=150, deadline=None)
def test_each_type_fits_itself_and_any_and_object(kind: Any) -> None:
    assert is_assignable(kind, kind)
    assert is_assignable(kind, Any)
    assert is_assignable(Any, kind)
    assert is_assignable(kind, object)
    assert is_assignable(kind, Annotated[kind, "note"])


@given(TYPES, TYPES)
@settings(max_examples=150, deadline=None)
def test_a_union_takes_each_of_its_members(one: Any, two: Any) -> None:
    assert is_assignable(one, Union[one, two])
    assert is_assignable(two, Union[one, two])
    assert is_assignable(Union[one, two], Union[two, one])


@given(TYPES, TYPES, TYPES)
@settings(max_examples=200, deadline=None)
def test_a_union_fits_where_all_of_its_members_fit(one: Any, two: Any, want: Any) -> None:
    both = is_assignable(one, want) and is_assignable(two, want)
    assert is_assignable(Union[one, two], want) == both


@given(TYPES, TYPES)
@settings(max_examples=200, deadline=None)
def test_what_fits_a_member_fits_the_union(have: Any, want: Any) -> None:
    if is_assignable(have, want):
        assert is_assignable(have, Union[want, bytes])
        assert is_assignable(list[have], Sequence[want])


@given(TYPES, TYPES)
@settings(max_examples=200, deadline=None)
def test_containers_fit_as_their_items_do(have: Any, want: Any) -> None:
    assert is_assignable(list[have], list[want]) == is_assignable(have, want)
    assert is_assignable(dict[str, have], Mapping[str, want]) == is_assignable(have, want)


def _type_of(value: Any) -> Any:
    if isinstance(value, list):
        return list[Union[tuple(map(_type_of, value))]] if value else list[int]
    if isinstance(value, tuple):
        return tuple[tuple(map(_type_of, value))]
    if isinstance(value, dict):
        return dict[str, Union[tuple(map(_type_of, value.values()))]] if value else dict[str, int]
    return type(value)


@given(PLAIN, TYPES)
@settings(max_examples=300, deadline=None)
def test_a_value_fits_what_its_type_fits(value: Any, want: Any) -> None:
    kind = _type_of(value)
    assert is_instance(value, kind, every=True)
    if is_assignable(kind, want):
        assert is_instance(value, want, every=True)
        assert is_instance(value, want)
