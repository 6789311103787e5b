"""Odd values and classes: each is kept exactly, or refused with its path; nothing is changed in silence."""

from __future__ import annotations

import array
import collections
import dataclasses
import decimal
import enum
import mmap
import re
import threading
import types
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

import attrs
import msgspec
import numpy as np
import pandas as pd
import pydantic
import pytest

from cupola.errors import MaterializerError
from cupola.values import Record, decode, encode, is_immutable

pytestmark = pytest.mark.feature("CORE-05")
T = TypeVar("T")


@dataclasses.dataclass
class Initialised:
    a: int
    b: dataclasses.InitVar[int] = 3
    c: int = dataclasses.field(init=False, default=5)
    d: ClassVar[int] = 9

    def __post_init__(self, b: int) -> None:
        self.c = b


@dataclasses.dataclass
class Node:
    value: Any
    next: Node | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Slim:
    a: int
    b: list[int] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(slots=True)
class SlotBase:
    a: int


@dataclasses.dataclass(slots=True, weakref_slot=True)
class SlotSub(SlotBase):
    b: int


@attrs.define
class Converted:
    a: int = attrs.field(converter=int)
    _hidden: int = 2
    late: int = attrs.field(init=False, default=attrs.Factory(lambda self: self.a, takes_self=True))


class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(populate_by_name=True, frozen=True)
    a: int = pydantic.Field(alias="A")
    _private: int = pydantic.PrivateAttr(default=1)

    @pydantic.field_validator("a")
    @classmethod
    def one_more(cls, a: int) -> int:
        return a + 1

    @pydantic.computed_field
    @property
    def double(self) -> int:
        return self.a * 2


class Root(pydantic.RootModel[list[int]]):
    pass


class Tree(pydantic.BaseModel):
    kids: list[Tree] = []


class Wrapper(pydantic.BaseModel, Generic[T]):
    content: T


@pydantic.dataclasses.dataclass
class Checked:
    a: int


class Missing(enum.Enum):
    A = "a"

    @classmethod
    def _missing_(cls, value: object) -> Missing:
        return cls.A


class Bits(enum.IntFlag):
    R = 1
    W = 2


class Renamed(msgspec.Struct, kw_only=True, frozen=True, tag=True, rename="camel"):
    my_a: int
    next_one: Renamed | None = None


class Counting(msgspec.Struct):
    a: int

    def __post_init__(self) -> None:
        self.a += 1


class Pair(NamedTuple):
    a: int = 1
    b: str = "x"


class SubPair(Pair):
    pass


class MyDict(dict[str, int]):
    pass


class MyInt(int):
    pass


class MyText(str):
    __slots__ = ()


KEPT = {
    "InitVar and post_init": Initialised(1, 7),
    "recursive class": Node(1, Node(2)),
    "frozen, slots, keywords": Slim(a=1, b=[1]),
    "slots over slots": SlotSub(1, 2),
    "attrs with converter": Converted("3"),
    "model with validator and alias": Model(A=1),
    "root model": Root([1]),
    "recursive model": Tree(kids=[Tree()]),
    "generic model": Wrapper(content=1),
    "generic model of a type": Wrapper[int](content=1),
    "pydantic dataclass": Checked(1),
    "enum with _missing_": Missing.A,
    "flags": Bits(3),
    "unknown flags": Bits(8),
    "struct with tag": Renamed(my_a=1, next_one=Renamed(my_a=2)),
    "struct with post_init": Counting(1),
    "sub of a named tuple": SubPair(),
    "huge int": 10**5000,
    "huge key": {-(10**30): 1},
    "surrogates": ["\ud800", {"\udfff": {"\ud800", "a"}}],
    "nested sets": {frozenset({1, 2}): {(1, frozenset({"a"}))}},
    "keys that look alike": {True: 1, 2: 3, 1.5: 2, "1": 3, np.int64(7): 1},
    "defaultdict of defaultdicts": collections.defaultdict(dict, {"a": collections.defaultdict(int, b=1)}),
    "many small tuples": [(number,) for number in range(100_000)],
    "a signalling NaN": repr(decimal.Decimal("sNaN123")),
}


@pytest.mark.parametrize("name", KEPT)
def test_it_comes_back_equal_in_value_type_and_bytes(name: str):
    value = KEPT[name]
    loaded = decode(encode(value))
    assert type(loaded) is type(value)
    assert loaded == value
    assert encode(loaded) == encode(value)


def _cyclic_list() -> list[Any]:
    cycle: list[Any] = []
    cycle.append({"a": cycle})
    return cycle


def _cyclic_node() -> Node:
    node = Node(1)
    node.next = node
    return node


def _deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


REFUSED: dict[str, tuple[object, str]] = {
    "cyclic list": (_cyclic_list(), r"x\[0\]\['a'\] contains itself"),
    "cyclic node": (_cyclic_node(), r"x\.next contains itself"),
    "deep": (_deep(5000), r"nested deeper than 100 levels"),
    "dict subclass": ({"a": MyDict(a=1)}, r"x\['a'\] is of type .*MyDict"),
    "int subclass": ([MyInt(1)], r"x\[0\] is of type .*MyInt"),
    "text subclass": ((MyText("a"),), r"x\[0\] is of type .*MyText"),
    "memoryview": ([memoryview(b"a")], r"x\[0\] is of type memoryview"),
    "mmap": (mmap.mmap(-1, 10), r"x is of type mmap\.mmap"),
    "array": (array.array("i", [1]), r"x is of type array\.array"),
    "namespace": (types.SimpleNamespace(a=1), r"x is of type types\.SimpleNamespace"),
    "chain map": (collections.ChainMap({"a": 1}), r"ChainMap"),
    "pattern": ({"p": re.compile("a")}, r"x\['p'\] is of type re\.Pattern"),
    "function": ([len], r"x\[0\]"),
    "class": ([int], r"x\[0\] is of type type"),
    "exception": (ValueError(1), r"ValueError"),
    "factory": (collections.defaultdict(lambda: 1), r"defaultdict whose factory"),
    "offset of pandas": ([pd.offsets.Day(2)], r"x\[0\] is of type pandas\..*Day"),
    "extra attribute": (Node(threading.Lock()), r"x\.value is of type _thread\.lock"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cant_be_kept_is_refused_with_its_path(name: str):
    value, pattern = REFUSED[name]
    with pytest.raises(MaterializerError, match=pattern) as caught:
        encode(value, path="x")
    assert caught.value.fix


def test_a_generic_model_whose_class_nobody_made_yet_is_a_record():
    data = encode(Wrapper[float](content=1.5))
    assert type(decode(data.replace(b"Wrapper[float]", b"Wrapper[bytes]"))) is Record


def test_a_list_that_another_thread_changes_meanwhile_gives_whole_bytes():
    shared: list[Any] = [(0,)]
    stop = threading.Event()

    def change() -> None:
        while not stop.is_set():
            shared.append((1,))
            if len(shared) > 50:
                del shared[10:]

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(300):
            loaded: Any = decode(encode(shared))
            assert loaded[0] == (0,)
    finally:
        stop.set()
        thread.join()


def test_scalars_of_pandas_may_be_shared_and_satisfy_datetime():
    moment = pd.Timestamp("2026-01-01 00:00:00.000000001", tz="UTC")
    assert all(map(is_immutable, (moment, pd.Timedelta(1), pd.NaT, pd.NA, pd.Period("2026", freq="Y"))))
    loaded: Any = decode(encode({"at": moment, "gaps": [pd.NaT, pd.NA]}))
    assert loaded["at"].nanosecond == 1
    assert loaded["gaps"][0] is pd.NaT
    assert loaded["gaps"][1] is pd.NA


def test_a_zone_of_pandas_without_a_name_is_refused():
    tz = pytest.importorskip("dateutil.tz")
    with pytest.raises(MaterializerError, match="time zone of type dateutil"):
        encode(pd.Timestamp("2026-01-01", tz=tz.gettz("Europe/Zurich")))
