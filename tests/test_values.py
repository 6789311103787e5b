"""The value encoding: what it keeps, what it refuses, how it reads (laws 4 and 6 in test_values_laws.py)."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import enum
import json
import math
import struct
import sys
import threading
import types
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cupola import values
from cupola.errors import Damaged, MaterializerError
from cupola.values import decode, encode

pytestmark = pytest.mark.feature("CORE-05")

sys.path.insert(0, str(Path(__file__).parent))
import value_corpus as corpus  # noqa: E402 — beside this file, which pytest's importlib mode doesn't put on the path

sys.path.pop(0)

same = corpus.same
GOLDEN = Path(__file__).parent / "golden" / "values-1.json"

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.complex_numbers()
    | st.text(st.characters(exclude_categories=()))
    | st.binary()
    | st.dates()
    | st.times()
    | st.datetimes()
    | st.datetimes(timezones=st.timezones(), allow_imaginary=False)
    | st.timedeltas()
    | st.uuids()
    | st.decimals().filter(lambda number: not number.is_snan())  # which can't be a key
    | st.fractions()
    | st.sampled_from([*corpus.Color, *corpus.Size, *corpus.Right, Path("a"), np.float32(1.5), np.int64(2)])
)
keys = scalars | st.tuples(scalars, scalars) | st.frozensets(scalars, max_size=3)
nested = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(keys, inner, max_size=4)
        | st.sets(keys, max_size=4)
        | st.builds(corpus.Plain, st.integers(), inner)
        | st.builds(corpus.Packed, st.integers(), inner)
        | st.builds(corpus.Point, st.integers(), inner)
    ),
    max_leaves=12,
)
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers() | st.floats() | st.none(), inner),
)


@pytest.mark.parametrize("name", corpus.VALUES)
def test_a_value_comes_back_as_it_was(name: str):
    value = corpus.VALUES[name]
    data = encode(value)
    back = decode(data)
    assert same(back, value)
    assert encode(back) == data


@given(nested)
@settings(deadline=None)
def test_any_nesting_comes_back_as_it_was(value: Any):
    data = encode(value)
    back = decode(data)
    assert same(back, value)
    assert encode(back) == data


@given(plain)
@settings(deadline=None)
def test_the_fast_and_the_slow_way_write_the_same_bytes(value: Any):
    slow = encode((value,))
    header = slow[: len(slow) - len(encode(value))]
    assert slow == header + encode(value)
    assert values._Writer().write(value) == encode(value)


def test_the_bytes_of_format_1_are_those_of_its_release(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("cupola.records._name_module", lambda namespace: namespace["__name__"])
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    written = {name: encode(value).hex() for name, value in corpus.VALUES.items() if name != "huge list"}
    assert written == golden
    for name, data in golden.items():
        assert same(decode(bytes.fromhex(data)), corpus.VALUES[name]), name


def test_values_that_compare_equal_but_differ_have_different_bytes():
    different = [
        1,
        1.0,
        True,
        np.int64(1),
        np.float32(1),
        corpus.Size.S,
        (1,),
        [1],
        {1},
        "1",
        b"1",
        bytearray(b"1"),
        -0.0,
        0.0,
    ]
    different += [
        {"a": 1, "b": 2},
        {"b": 2, "a": 1},
        corpus.Plain(1),
        corpus.Slots(1),
        corpus.Packed(1),
        corpus.Point(1),
    ]
    assert len({encode(value) for value in different}) == len(different)


def test_the_payload_of_nan_does_not_count():
    assert encode({corpus.NAN: 1, 2: 0.5}) == encode({corpus.OTHER_NAN: 1, 2: 0.5})
    assert encode([1, {"a": [0.5, corpus.OTHER_NAN]}, "x"]) == encode([1, {"a": [0.5, corpus.NAN]}, "x"])
    for one, other in ((corpus.NAN, corpus.OTHER_NAN), ([corpus.NAN, 1.0], [corpus.OTHER_NAN, 1.0])):
        assert encode(one) == encode(other)
    assert encode(np.float64(corpus.NAN)) == encode(np.float64(corpus.OTHER_NAN))
    assert math.isnan(decode(encode(corpus.OTHER_NAN)))


def test_bytes_that_look_like_nan_stay_as_they_are():
    value = {"a": b"\xcb\x7f\xf8\x00\x00\x00\x00\x00\x01", "b": float("inf"), "c": "\x7f"}
    assert same(decode(encode(value)), value)


def test_a_cached_property_is_no_part_of_the_value():
    one, other = corpus.Frozen(1, (2,)), corpus.Frozen(1, (2,))
    assert one.total == 3
    assert encode(one) == encode(other)


def test_attributes_beside_the_fields_are_kept():
    value = corpus.Plain(1)
    value.extra = {"x": (1,)}
    assert decode(encode(value)).extra == {"x": (1,)}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"guard": [1, 2, threading.Lock()]}, r"config\['guard'\]\[2\] is of type _thread.lock"),
        ({"model": {"weights": [1.0], "guard": object()}}, r"config\['model'\]\['guard'\] is of type object"),
        (corpus.Plain(1, [corpus.Packed(2, print)]), r"config\.b\[0\]\.b is of type builtin_function_or_method"),
        ((1, {2: {3, frozenset({print})}}), r"config\[1\]\[2\]\{…\}\{…\} is of type builtin"),
        ({(1, print): 2}, r"config<key>\[1\] is of type builtin"),
        (np.zeros(3), r"config is of type numpy.ndarray"),
        (np.longdouble(1), r"config is a numpy scalar of type float128"),
        (type("Text", (str,), {})("a"), r"config is of type .*Text, which has no encoding"),
        (type("Map", (dict,), {})(), r"config is of type .*Map, which has no encoding"),
        ([print], r"config\[0\] is of type builtin"),
    ],
)  # fmt: skip
def test_what_cannot_be_kept_is_named_with_its_path(value: Any, message: str):
    with pytest.raises(MaterializerError, match=message) as caught:
        encode(value, path="config")
    assert "Materializer" in caught.value.fix
    assert "plain data" in caught.value.fix
    assert "pickle" in caught.value.fix


def test_a_value_that_contains_itself_is_refused():
    loop: list[Any] = [1]
    loop.append({"again": loop})
    with pytest.raises(MaterializerError, match=r"value\[1\]\['again'\] contains itself"):
        encode(loop)
    twice: list[Any] = []
    twice += [twice, twice]
    with pytest.raises(MaterializerError, match="contains itself"):
        encode(twice)


def test_one_object_in_two_places_is_fine():
    shared = [1]
    assert decode(encode([shared, shared, (shared,)])) == [[1], [1], ([1],)]


@pytest.mark.parametrize("wrap", [lambda x: [x], lambda x: (x,), lambda x: {"k": x}, lambda x: corpus.Plain(1, x)])
def test_nesting_has_a_limit_that_reads_back(wrap: Any):
    deep: Any = 1
    for _ in range(values.MAX_DEPTH):
        deep = wrap(deep)
    data = encode(deep)
    assert encode(decode(data)) == data
    with pytest.raises(MaterializerError, match="nested deeper than 100 levels"):
        encode(wrap(deep))
    for _ in range(2000):
        deep = wrap(deep)
    with pytest.raises(MaterializerError, match="nested deeper than 100 levels") as caught:
        encode(deep)
    assert len(caught.value.what) < 300


def test_a_zone_without_a_name_is_refused():
    class Own(datetime.tzinfo):
        pass

    with pytest.raises(MaterializerError, match="time zone"):
        encode(datetime.datetime(2026, 1, 1, tzinfo=Own()))


def test_a_field_that_was_never_set_is_refused():
    value = corpus.Slots(1)
    del value.b
    with pytest.raises(MaterializerError, match="whose field 'b' was never set"):
        encode(value)


@pytest.mark.parametrize(
    "data", [b"", b"\xc1", encode([1])[:-1], encode((1,)) + b"\x00", b"\xd4\x7f\x90", b"\xd4\x1b\x90"]
)
def test_bytes_that_are_no_value_are_damaged(data: bytes):
    with pytest.raises(Damaged):
        decode(data)


@given(st.binary(max_size=60))
@settings(deadline=None)
def test_reading_arbitrary_bytes_gives_a_value_or_damaged(data: bytes):
    with contextlib.suppress(MaterializerError):
        decode(b"\xc7" + bytes([len(data)]) + data[:1] + data + b"\x00")


def test_hostile_nesting_is_damaged():
    data = encode(1)
    for _ in range(3000):
        data = msgspec.msgpack.encode(msgspec.msgpack.Ext(4, b"\x91" + data))
    with pytest.raises(Damaged):
        decode(data)


@pytest.mark.parametrize(
    ("value", "immutable"),
    [(None, True), (5, True), ("a", True), (b"a", True), ((1, ("a",)), True), (frozenset({1}), True), (1j, True),
     (datetime.date(2026, 1, 1), True), (corpus.Color.RED, True), (Path("a"), True), (np.float64(1), True),
     ([], False), ((1, []), False), ({}, False), (bytearray(), False), (corpus.Color.BLUE, False),
     (corpus.Frozen(1), False), (np.zeros(1), False), (type("T", (int,), {})(1), False)],
)  # fmt: skip
def test_only_what_nobody_can_change_may_be_shared(value: Any, immutable: bool):
    assert values.is_immutable(value) is immutable


def test_a_preview_is_short_and_never_fails():
    class Bad:
        def __repr__(self) -> str:
            raise ValueError("no")

    assert values.preview({"a": 1}) == "{'a': 1}"
    assert len(values.preview(list(range(10**6)))) <= 2000
    assert len(values.preview("x" * 10**6)) <= 2000
    assert "repr failed" in values.preview([Bad()])


def test_the_json_view_is_strict_json():
    shown = values.to_json(corpus.VALUES)
    text = json.dumps(shown, allow_nan=False)
    assert json.loads(text, parse_constant=lambda _: pytest.fail("no JSON"))
    assert shown["nan"] == "NaN"
    assert shown["infinity"] == "Infinity"
    assert shown["bytes"] == "AP8="
    assert set(shown["keys"]) == {"1", "null", "2.5", "(1, 2)", "2026-01-02", "red", "aw=="}
    assert shown["dataclass"] == {"a": 1, "b": [{"a": 2, "b": {"k": [1]}}]}
    assert shown["utc"] == "2026-01-01T00:00:00+00:00"
    assert shown["float64"] == 0.5


def test_type_names_are_those_of_the_records():
    assert values.type_name(1) == "int"
    assert values.type_name(datetime.date(2026, 1, 1)) == "datetime.date"
    assert values.type_name(corpus.Plain(1)).endswith("value_corpus:Plain")
    assert values.type_name(decode(encode_as("gone:Plain"))) == "gone:Plain"


def encode_as(name: str, kind: str = "dataclass", **fields: Any) -> bytes:
    """Return the bytes of an object of a class that this process doesn't have."""
    parts = msgspec.msgpack.encode([name, kind, fields or {"a": 1}])
    return msgspec.msgpack.encode(msgspec.msgpack.Ext(33, parts))


def test_an_unknown_class_gives_a_read_only_record():
    record: Any = decode(encode_as("gone:Config", rate=0.5, keys=[1]))
    assert (record.rate, record["rate"], record.keys, list(record), len(record)) == (0.5, 0.5, [1], ["rate", "keys"], 2)
    assert "Config(rate=0.5, keys=[1])" in repr(record)
    assert record == decode(encode_as("gone:Config", rate=0.5, keys=[1]))
    assert record != decode(encode_as("gone:Config", rate=0.6, keys=[1]))
    assert encode(record) == encode_as("gone:Config", rate=0.5, keys=[1])
    with pytest.raises(AttributeError, match="stored without a field 'x'"):
        _ = record.x
    with pytest.raises(AttributeError, match="read-only"):
        record.rate = 1


def test_a_class_is_never_imported():
    name = "wave" if "wave" not in sys.modules else "sndhdr"
    decode(encode_as(f"{name}:Error"))
    assert name not in sys.modules


def test_the_readers_annotation_names_the_class():
    @dataclasses.dataclass
    class Local:
        a: int

    # Made so, since the names of local classes in annotations that are texts are lost.
    Outer: Any = dataclasses.make_dataclass("Outer", [("one", Local), ("more", dict[str, list[Local | None]])])
    value = Outer(Local(1), {"k": [Local(2), None]})
    data = encode([value])
    assert decode(data, list[Outer]) == [value]
    assert type(decode(data)[0]) is values.Record
    assert decode(data, tuple[Outer | None, ...]) == [value]


def test_a_list_of_a_base_class_keeps_the_classes_of_its_items():
    @dataclasses.dataclass
    class Base:
        a: int

    @dataclasses.dataclass
    class Derived(Base):
        b: int

    value = [Base(1), Derived(1, 2)]
    assert list(map(type, decode(encode(value), list[Base]))) == [Base, Derived]


def test_loading_runs_no_code_of_the_class():
    ran: list[str] = []

    @dataclasses.dataclass
    class Noisy:
        a: int

        def __post_init__(self) -> None:
            ran.append("dataclass")

        def __setattr__(self, name: str, value: object) -> None:
            ran.append("setattr")
            object.__setattr__(self, name, value)

    class Struct(msgspec.Struct, frozen=True):
        a: int

        def __post_init__(self) -> None:
            ran.append("struct")

    for value in (Noisy(1), Struct(1)):
        data = encode(value)
        ran.clear()
        back = decode(data, type(value))
        assert type(back) is type(value)
        assert back.a == 1
        assert ran == []


def test_new_fields_take_their_default_and_fields_without_one_are_named(monkeypatch: pytest.MonkeyPatch):
    module = types.ModuleType("evolving")
    monkeypatch.setitem(sys.modules, "evolving", module)

    def define(*fields: Any) -> Any:
        cls: Any = dataclasses.make_dataclass("Config", fields, namespace={"__module__": "evolving"}, slots=True)
        cls.__module__ = "evolving"
        setattr(module, "Config", cls)  # noqa: B010 — a module has no such attribute for a type checker
        return cls

    old = encode(define(("a", int), ("gone", int, 1))(2))
    define(("a", int), ("new", list, dataclasses.field(default_factory=list)))
    with pytest.raises(MaterializerError, match="evolving:Config has no field 'gone' any more"):
        decode(old)
    define(("a", int), ("gone", int), ("new", list, dataclasses.field(default_factory=list)))
    assert decode(old).new == []
    define(("a", int), ("gone", int), ("new", int))
    with pytest.raises(MaterializerError, match="has a new field 'new' without a default"):
        decode(old)


def test_a_member_that_is_gone_is_named():
    class Now(enum.Enum):
        B = 2

    data = encode(Now.B).replace(b"\xa1B\x02", b"\xa1A\x01")
    with pytest.raises(MaterializerError, match="has no member 'A' any more"):
        decode(data, Now)


def test_a_class_of_another_kind_is_refused():
    class Now(enum.Enum):
        B = 2

    data = encode_as(values.type_name(Now.B))
    with pytest.raises(MaterializerError, match="was stored as a dataclass and is now an enum"):
        decode(data, Now)


def test_the_program_is_never_called_main(run_python: Any, tmp_path: Path):
    program = tmp_path / "run.py"
    program.write_text(
        "import dataclasses\nfrom cupola.values import encode\n@dataclasses.dataclass\nclass C:\n    a: int\n"
        "print(encode(C(1)))\n"
    )
    done = run_python(program)
    assert "run:C" in done.stdout, done.stderr
    assert "__main__" not in done.stdout


def test_bits_of_floats_are_kept_in_long_lists():
    numbers = [
        struct.unpack("<d", struct.pack("<Q", bits))[0]
        for bits in range(0x7FEF_FFFF_FFFF_FF00, 0x7FF0_0000_0000_0001, 16)
    ]
    assert same(decode(encode(numbers)), numbers)
