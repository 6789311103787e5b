"""Parameters made into what their annotation says."""

from __future__ import annotations

import collections.abc
import dataclasses
import datetime as dt
import decimal
import enum
import os
import uuid
from pathlib import Path, PurePath
from typing import Annotated, Any, Literal, NamedTuple, NewType, Optional, Required, TypedDict, Union

import attrs
import msgspec
import numpy as np
import pydantic
import pytest

from cupola.compiler.convert import convert
from cupola.compiler.written import Text
from cupola.compiler.yaml_tree import parse_text
from cupola.errors import ConfigError
from cupola.files import File, Folder

pytestmark = pytest.mark.feature("CORE-02")
# ruff: noqa: UP007, UP045 — both ways to write a union have to be understood


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Right(enum.Flag):
    READ = 1
    WRITE = 2


@dataclasses.dataclass
class Opt:
    rate: float = 0.1
    depth: int = 3


@dataclasses.dataclass
class Cfg:
    name: str = "base"
    opt: Opt = dataclasses.field(default_factory=Opt)
    keys: list[int] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Train:
    rate: float = 0.1


@dataclasses.dataclass
class Serve:
    rate: float = 0.1


@dataclasses.dataclass
class Needy:
    a: int
    b: int = dataclasses.field(init=False, default=7)

    def __post_init__(self) -> None:
        if self.a < 0:
            raise ValueError("a must not be negative")


@attrs.define
class Att:
    _x: int
    y: Opt = attrs.Factory(Opt)


class Struct(msgspec.Struct):
    a: int
    b: Color = Color.RED


class Model(pydantic.BaseModel):
    a: int = pydantic.Field(1, ge=0)
    o: Optional[Opt] = None
    u: pydantic.HttpUrl | None = None
    named: int = pydantic.Field(0, alias="theName")


class Keys(TypedDict, total=False):
    a: Required[int]
    b: str


class Pair(NamedTuple):
    a: int
    b: str = "z"


UserId = NewType("UserId", int)


def written(text: str) -> Text:
    return Text(text, place="--param x", folder=os.getcwd())


def in_yaml(text: str) -> Any:
    return parse_text(text, "run.yaml", os.getcwd())


def refusal(value: object, annotation: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        convert(value, annotation, where="parameter 'x'")
    assert caught.value.exit_code == 2
    assert len(str(caught.value).splitlines()) <= 2
    return str(caught.value)


@pytest.mark.parametrize(
    "text", ["no", "01234", "1.10", "12:30:45", "1e3", "null", "2026-01-02", "", "~", "[a]", "'q'", "{{ x }}"]
)
def test_a_text_parameter_gets_the_text_as_written(text: str):
    assert convert(written(text), str, where="x") == text


@pytest.mark.parametrize("text", ["no", "01234", "1.10", "12:30:45", "1e3", "null", "2026-01-02"])
def test_a_text_parameter_gets_the_text_of_the_file(text: str):
    assert convert(in_yaml(text), str, where="x") == text


@pytest.mark.parametrize(
    ("text", "annotation", "value"),
    [("true", bool, True), ("False", bool, False), ("TRUE", bool, True),
     ("5", int, 5), ("-3", int, -3), ("1_000", int, 1000), ("0x10", int, 16), ("007", int, 7),
     ("5", float, 5.0), ("1e-3", float, 0.001), (".5", float, 0.5), (".inf", float, float("inf")),
     ("-inf", float, -float("inf")),
     ("1+2j", complex, 1 + 2j),
     ("5", Optional[int], 5), ("null", Optional[int], None), ("~", int | None, None),
     ("null", Optional[str], None), ("None", Optional[str], "None"), ("", Optional[str], ""),
     ("5", Optional[str], "5"),
     ("5", Union[int, str], 5), ("05", Union[int, str], "05"), ("red", Union[int, str], "red"),
     ("true", bool | str, True),
     ("1", bool | int, 1), ("5", float | int, 5), ("5.0", float | int, 5.0), ("5", float | str, 5.0),
     ("red", Color, Color.RED), ("RED", Color, Color.RED), ("Blue", Color, Color.BLUE), ("2", Level, Level.HIGH),
     ("READ|WRITE", Right, Right.READ | Right.WRITE), ("red", Union[Color, int], Color.RED),
     ("red", Color | str, "red"), ("[1, a]", int | str | list[str], ["1", "a"]), ("[1, a", str | list[str], "[1, a"),
     ("a", Literal["a", 1], "a"), ("1", Literal["a", 1], 1), ("1", Literal["1", 1], 1),
     ("true", Literal[True, "x"], True),
     ("[1, 2]", list[int], [1, 2]), ("[1, 2]", tuple[int, ...], (1, 2)), ("[1, a]", tuple[int, str], (1, "a")),
     ("[1, 1]", set[int], {1}), ("[no, 01]", list[str], ["no", "01"]), ("[]", collections.abc.Sequence[int], []),
     ("{a: 1, b: 2}", dict[str, int], {"a": 1, "b": 2}), ("{1: no}", dict[int, str], {1: "no"}),
     ("{a: [1, {b: null}]}", dict, {"a": [1, {"b": None}]}), ("{red: 1}", dict[Color, int], {Color.RED: 1}),
     ("2026-01-02", dt.date, dt.date(2026, 1, 2)),
     ("2026-01-02T03:04:05", dt.datetime, dt.datetime(2026, 1, 2, 3, 4, 5)),
     ("2026-01-02T03:04Z", dt.datetime, dt.datetime(2026, 1, 2, 3, 4, tzinfo=dt.UTC)),
     ("08:30", dt.time, dt.time(8, 30)),
     ("30s", dt.timedelta, dt.timedelta(seconds=30)), ("2h", dt.timedelta, dt.timedelta(hours=2)),
     ("90", dt.timedelta, dt.timedelta(seconds=90)),
     ("1h30m", dt.timedelta, dt.timedelta(hours=1.5)), ("1.5d", dt.timedelta, dt.timedelta(days=1.5)),
     ("-10m", dt.timedelta, -dt.timedelta(minutes=10)),
     ("12345678-1234-5678-1234-567812345678", uuid.UUID, uuid.UUID("12345678-1234-5678-1234-567812345678")),
     ("1.10", decimal.Decimal, decimal.Decimal("1.10")), ("a/b", Path, Path("a/b")), ("a", PurePath, PurePath("a")),
     ("5", Annotated[int, "note"], 5), ("5", UserId, 5),
     ("5", Any, 5), ("1.5", Any, 1.5), ("yes", Any, "yes"), ("null", Any, None), ("0o17", Any, 15),
     ("[1, {a: b}]", Any, [1, {"a": "b"}]),
     ("'5'", Any, "5"), ("a: b", Any, "a: b"), ("[a", Any, "[a"),
     ("{name: z}", Cfg, Cfg("z")), ("{opt: {depth: 5}}", Cfg, Cfg(opt=Opt(depth=5))),
     ("{keys: [1]}", Cfg, Cfg(keys=[1])),
     ("{x: 3}", Att, Att(3)), ("{_x: 3}", Att, Att(3)), ("{a: 3, b: blue}", Struct, Struct(3, Color.BLUE)),
     ("{a: 2, o: {rate: 2}}", Model, Model(a=2, o=Opt(2.0))), ("{theName: 2}", Model, Model(theName=2)),
     ("{named: 2}", Model, Model(theName=2)),
     ("{u: 'http://x.y'}", Model, Model(u=pydantic.HttpUrl("http://x.y"))),
     ("{a: 3, b: no}", Keys, {"a": 3, "b": "no"}), ("{a: 3}", Pair, Pair(3)), ("[3, q]", Pair, Pair(3, "q")),
     ("[{name: q}]", list[Cfg], [Cfg("q")]), ("{k: {depth: 1}}", dict[str, Opt], {"k": Opt(depth=1)}),
     ("{depth: 1}", Optional[Opt], Opt(depth=1))],
)  # fmt: skip
def test_text_becomes_what_the_annotation_says(text: str, annotation: Any, value: Any):
    made = convert(written(text), annotation, where="x")
    assert made == value
    assert type(made) is type(value)


@pytest.mark.parametrize(
    ("text", "annotation", "words"),
    [("perhaps", bool, ("bool", "'perhaps'", "true or false")), ("yes", bool, ("true or false",)),
     ("1", bool, ("bool",)),
     ("three", int, ("parameter 'x'", "int", "'three'", "such as 3", "--param x")), ("5.0", int, ("int",)),
     ("1e3", int, ("int",)), ("true", int, ("int",)),
     ("", int, ("int",)), ("x", float, ("0.5",)), ("x", Optional[int], ("int", "such as 3")),
     ("x", int | float, ("int | float",)),
     ("reed", Color, ("did you mean", "red, blue")), ("q", Literal["a", 1], ("one of: a, 1",)),
     ("1", list[int], ("list[int]", "[1, 2]")),
     ("[1, x]", list[int], ("field '1'", "int")), ("[1]", tuple[int, int], ("2 items",)),
     ("[[1]]", set, ("hashable",)), ("{a: x}", dict[str, int], ("field 'a'",)),
     ("{nam: z}", Cfg, ("'nam'", "'name'", "Cfg")), ("{opt: {dpth: 1}}", Cfg, ("field 'opt'", "'dpth'", "'depth'")),
     ("5", Cfg, ("mapping",)),
     ("{y: {depth: 1}}", Att, ("no value for 'x'",)),
     ("{a: -1}", Needy, ("refused by Needy", "must not be negative")), ("{b: 1}", Needy, ("no field 'b'",)),
     ("{a: -3}", Model, ("greater than or equal to 0",)), ("{q: 1}", Model, ("no field 'q'",)),
     ("{b: 1}", Keys, ("'a'", "Keys")), ("{c: 1}", Keys, ("'c'",)),
     ("soon", dt.timedelta, ("30s",)), ("1h x", dt.timedelta, ("30s",)), ("tomorrow", dt.date, ("2026-11-25",)),
     ("x", uuid.UUID, ("UUID",)),
     ("x", decimal.Decimal, ("1.10",)), ("1", np.ndarray, ("numpy.ndarray", "can't be written as text")),
     ("", Path, ("write a path",)),
     ("{rate: 1}", Union[Train, Serve], ("Train and", "Serve", "alike"))],
)  # fmt: skip
def test_what_does_not_fit_is_refused_with_value_type_and_example(text: str, annotation: Any, words: tuple[str, ...]):
    message = refusal(written(text), annotation)
    for word in words:
        assert word in message, message


@pytest.mark.parametrize(
    ("value", "annotation"),
    [(5, int), (True, int), (3, float), (0, Optional[int]), (np.int64(5), int), (np.float32(0.5), float),
     (np.bool_(True), bool), (np.str_("a"), str),
     (Color.RED, Union[list[str], str, Color]), ("red", Union[list[str], str, Color]),
     (["red"], Union[list[str], str, Color]),
     (Train(0.5), Union[Train, Serve]), (Serve(0.5), Union[Train, Serve]), (Cfg("a"), Cfg), ([Cfg("a")], list[Cfg]),
     ({"a": 1}, dict), (None, Any),
     ("", str), ([], list[int]), (Path("a"), Path), (File("a"), File), (Path("a"), str | os.PathLike)],
)  # fmt: skip
def test_an_object_of_the_right_type_passes_unchanged(value: Any, annotation: Any):
    assert convert(value, annotation, where="x") is value


@pytest.mark.parametrize(
    ("value", "annotation", "made"),
    [("2026-01-02", dt.date, dt.date(2026, 1, 2)), ("red", Color, Color.RED), ("a.csv", Path, Path("a.csv")),
     ("a.csv", File, File("a.csv")), ("d", Folder, Folder("d")),
     ({"name": "q", "opt": {"depth": 2}}, Cfg, Cfg("q", Opt(depth=2))), ([{"name": "q"}], list[Cfg], [Cfg("q")]),
     ({"a": "b"}, dict[str, Path], {"a": Path("b")}),
     ({"a": 2}, Model, Model(a=2)), ({"a": 2}, Struct, Struct(2)), ({"x": 2}, Att, Att(2)),
     ((1, 2), list[int], [1, 2]), ("10m", dt.timedelta, dt.timedelta(minutes=10))],
)  # fmt: skip
def test_strings_and_mappings_in_code_stand_for_objects(value: Any, annotation: Any, made: Any):
    assert convert(value, annotation, where="x") == made


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        ("5", int),
        ("true", bool),
        (5, str),
        (b"a", str),
        (5, Color),
        (5, list[int]),
        ("ab", list[str]),
        (1.5, int),
        ({"nme": 1}, Cfg),
        (None, int),
        (5, Path),
    ],
)
def test_an_object_of_a_wrong_type_is_refused_by_name(value: Any, annotation: Any):
    assert "parameter 'x'" in refusal(value, annotation)


def test_relative_paths_start_where_they_were_written(tmp_path: Path):
    (tmp_path / "sub").mkdir()
    os.chdir(tmp_path)
    here, below = Text("a.csv", folder=str(tmp_path)), Text("a.csv", folder=str(tmp_path / "sub"))
    assert convert(here, Path, where="x") == Path("a.csv")
    assert convert(below, Path, where="x") == tmp_path / "sub" / "a.csv"
    assert convert(below, File, where="x", root=tmp_path) == File("sub/a.csv")
    assert convert(here, File, where="x", root=tmp_path / "sub") == File(str(tmp_path / "a.csv"))
    assert convert(Text("/x/a.csv", folder=str(tmp_path)), File, where="x", root=tmp_path) == File("/x/a.csv")
    assert convert("a.csv", File, where="x", root=tmp_path) == File("a.csv")


def test_fields_override_what_holds_below_and_leave_their_siblings():
    base = Cfg("mine", Opt(9, 9), [1])
    assert convert(in_yaml("{opt: {depth: 5}}"), Cfg, where="x", base=base) == Cfg("mine", Opt(9, 5), [1])
    assert base.opt.depth == 9
    assert convert(in_yaml("{opt: {depth: 5}}"), Optional[Cfg], where="x", base=base) == Cfg("mine", Opt(9, 5), [1])
    assert convert(in_yaml("{rate: 2}"), Union[Train, Serve], where="x", base=Serve(1)) == Serve(2)
    assert convert(in_yaml("{b: blue}"), Struct, where="x", base=Struct(4)) == Struct(4, Color.BLUE)
    assert convert(in_yaml("{a: 4}"), Model, where="x", base=Model(o=Opt(2.0))) == Model(a=4, o=Opt(2.0))
    assert convert(in_yaml("{y: {depth: 4}}"), Att, where="x", base=Att(1, Opt(7))) == Att(1, Opt(7, 4))
    assert convert(in_yaml("{a: {b: 2}}"), dict, where="x", base={"a": {"b": 1, "c": 3}, "d": 4}) == {
        "a": {"b": 2, "c": 3},
        "d": 4,
    }
    assert convert(in_yaml("{depth: 4}"), Any, where="x", base=Opt(7)) == Opt(7, 4)


def test_fields_named_like_methods_of_dicts_are_ordinary():
    @dataclasses.dataclass
    class Awkward:
        keys: list
        items: dict
        values: list
        get: str
        params: dict
        cache: str

    text = "{keys: [k], items: {i: 1}, values: [2], get: g, params: {a: 1}, cache: c}"
    assert convert(in_yaml(text), Awkward, where="x") == Awkward(["k"], {"i": 1}, [2], "g", {"a": 1}, "c")


def test_variables_are_filled_in_and_converted_by_the_type(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("N", "3")
    monkeypatch.delenv("MISSING", raising=False)

    def yaml(text: str) -> Text:
        return Text(text, place="run.yaml:3:9", variables=True)

    assert convert(yaml("${N}"), int, where="x") == 3
    assert convert(yaml("${N}"), str, where="x") == "3"
    assert convert(yaml("${N}"), Any, where="x") == 3
    assert convert(yaml("a-${N}-${MISSING:-z}"), str, where="x") == "a-3-z"
    assert convert(yaml("$${N} {x} $N"), str, where="x") == "${N} {x} $N"
    assert convert(written("${N}"), str, where="x") == "${N}"
    assert refusal(yaml("${MISSING}"), int).splitlines() == [
        "the environment variable MISSING isn't set (run.yaml:3:9)",
        "set MISSING, or write ${MISSING:-a default}",
    ]
