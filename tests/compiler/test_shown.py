# ruff: noqa: E501 — one value or class a line reads as a table
"""What a changed value shows of itself: enough to tell two apart, nothing of what may be a secret."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import textwrap

import pytest

from cupola.compiler.reach import code_parts

pytestmark = pytest.mark.feature("CORE-07")

HEAD = """
import collections, dataclasses, datetime, enum, functools, math, operator, os, pathlib, re, threading, typing
def add(a, b=1): return a + b
class Scale:
    def __init__(self, by, unit=""):
        self.by, self.unit, self._twice = by, unit, 2 * by
    def __call__(self, x): return x * self.by
class Slotted:
    __slots__ = ("by", "unset")
    def __init__(self, by): self.by = by
class Mode(enum.Enum):
    FAST = 1
Point = collections.namedtuple("Point", "x y")
@dataclasses.dataclass
class Config:
    rate: float
    token: str = ""
"""


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Return a function that writes a module of a project and imports it anew."""
    monkeypatch.setenv("CUPOLA_ROOT", str(tmp_path))
    monkeypatch.setenv("SEEN_NOWHERE", "hunter2")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def load(text):
        sys.modules.pop("subject", None)
        (tmp_path / "subject.py").write_text(textwrap.dedent(text))
        importlib.invalidate_caches()
        return importlib.import_module("subject")

    yield load
    sys.modules.pop("subject", None)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("functools.partial(add, b=7)", "partial(subject:add, b=7)"),
        ("functools.partial(add, 1, b='x')", "partial(subject:add, 1, b='x')"),
        ("functools.partial(add, functools.partial(add, b=Mode.FAST))", "partial(subject:add, partial(subject:add, b=Mode.FAST))"),
        ("functools.partial(add, api_key='hunter2')", "partial(subject:add, api_key=<str>)"),
        ("functools.partial(add, os.environ['SEEN_NOWHERE'])", "partial(subject:add, <str>)"),
        ("functools.partial(math.floor, 2.5)", "partial(math:floor, 2.5)"),
        ("functools.lru_cache(add)", "_lru_cache_wrapper of subject:add"),
        ("Scale(3, 'm')", "Scale(by=3, unit='m', _twice=6)"),
        ("Scale(3, os.environ['SEEN_NOWHERE'])", "Scale(by=3, unit=<str>, _twice=6)"),
        ("Slotted([1, {2}, ()])", "Slotted(by=[1, set({2}), ()])"),
        ("Slotted(range(3))", "Slotted(by=range(0, 3))"),
        ("operator.itemgetter('a', 2)", "itemgetter('a', 2)"),
        ("re.compile('a+')", "Pattern('a+', 32)"),
        ("Point(1, 2)", "Point(x=1, y=2)"),
        ("Config(0.5, 'hunter2')", "Config(rate=0.5, token=<str>)"),
        ("datetime.date(2026, 1, 2)", "datetime.date(2026, 1, 2)"),
        ("pathlib.PurePosixPath('a/b')", "PurePosixPath('a/b')"),
        ("{'a': add, 'password': 'hunter2'}", "{'a': subject:add, 'password': <str>}"),
        ("{'password': 'hunter2'}", "{'password': <str>}"),
        ("[Scale(1)] * 30", "[30 items]"),
        ("[[[[[add]]]]]", "[[[<list>]]]"),
    ],
)  # fmt: skip
def test_an_object_shows_what_it_is_made_of(load, value, text):
    tree = code_parts(load(f"{HEAD}\nHELD = {value}\ndef step(): return HELD\n").step)
    assert {part.name: part.text for part in tree.parts}["subject:HELD"] == text
    assert "hunter2" not in repr(tree)


def test_texts_are_equal_over_processes(tmp_path):
    (tmp_path / "subject.py").write_text(
        HEAD + "HELD = [Slotted(add), {Mode.FAST, 'a', 'b', 'c'}, functools.partial(add, Scale), threading.Thread]\n"
        "from cupola.compiler.reach import code_parts\ndef step(): return HELD\nif __name__ == '__main__': print(code_parts(step).parts)\n"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "subject.py"], cwd=tmp_path, env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True, text=True, timeout=60, check=True,
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(outputs) == 1
    assert "Slotted(by=subject:add" in outputs.pop()


CLASSES = {
    "dataclass": "@dataclasses.dataclass\nclass Held:\n    a: int = 1",
    "frozen slotted dataclass": "@dataclasses.dataclass(frozen=True, slots=True, order=True)\nclass Held:\n    a: int = 1",
    "attrs": "import attrs\n@attrs.define\nclass Held:\n    a: int = 1",
    "old attrs": "import attr\n@attr.s(auto_attribs=True, order=True)\nclass Held:\n    a: int = 1",
    "msgspec": "import msgspec\nclass Held(msgspec.Struct):\n    a: int = 1",
    "pydantic": "import pydantic\nclass Held(pydantic.BaseModel):\n    a: int = 1",
    "pydantic dataclass": "import pydantic.dataclasses\n@pydantic.dataclasses.dataclass\nclass Held:\n    a: int = 1",
    "NamedTuple": "class Held(typing.NamedTuple):\n    a: int = 1",
    "TypedDict": "class Held(typing.TypedDict):\n    a: int = 1",
    "Protocol": "@typing.runtime_checkable\nclass Held(typing.Protocol):\n    a: int = 1",
    "Enum": "class Held(enum.Enum):\n    a: int = 1",
    "Flag": "class Held(enum.Flag):\n    a: int = 1",
    "total_ordering": "@functools.total_ordering\nclass Held:\n    a: int = 1\n    def __lt__(self, other): return True",
}


@pytest.mark.parametrize("text", CLASSES.values(), ids=CLASSES)
def test_a_new_field_of_a_class_is_one_cause_with_a_place(load, text):
    text = f"{HEAD}\n{text}\ndef step(): return Held\n"
    before = code_parts(load(text).step)
    after = code_parts(load(text.replace("    a: int = 1", "    a: int = 1\n    b: int = 2")).step)
    changed = {(part.kind, part.name) for part in {*before.parts} ^ {*after.parts}}
    assert changed == {("class", "subject:Held")}
    assert after.places["subject:Held"].startswith("subject.py:")
    assert [part.name for part in after.parts if part.kind == "function"] == ["subject:step"]


@pytest.mark.parametrize(
    "maker", ["collections.namedtuple('Held', ['a'])", "enum.Enum('Held', ['a'])", "typing.NamedTuple('Held', [['a', 'int']])"]
)  # fmt: skip
def test_a_new_field_of_a_class_that_a_call_makes_is_one_cause_too(load, maker):
    text = f"{HEAD}\nHeld = {maker}\nheld = list(Held.__members__) if hasattr(Held, '__members__') else Held(1)\n"
    before = code_parts(load(text + "def step(): return Held\n").step)
    after = code_parts(load(text.replace("'a'", "'z'") + "def step(): return Held\n").step)
    assert {part.name for part in {*before.parts} ^ {*after.parts}} == {"subject:Held"}
    assert after.places["subject:Held"].startswith("subject.py:")


def test_fields_that_are_computed_count_by_what_was_made_of_them(load):
    text = f"{HEAD}\nHeld = collections.namedtuple('Held', os.environ['FIELDS'])\ndef step(): return Held\n"
    os.environ["FIELDS"] = "a b"
    try:
        before = code_parts(load(text).step)
        os.environ["FIELDS"] = "a c"
        after = code_parts(load(text).step)
    finally:
        del os.environ["FIELDS"]
    assert before.parts != after.parts


def test_a_method_of_the_user_s_around_a_made_one_counts(load):
    text = f"""{HEAD}
def loud(function):
    @functools.wraps(function)
    def inner(self): return 1
    return inner
@dataclasses.dataclass
class Held:
    a: int = 1
Held.__repr__ = loud(Held.__repr__)
def step(): return Held()
"""
    before = code_parts(load(text).step)
    after = code_parts(load(text.replace("return 1\n", "return 2\n")).step)
    changed = {part.name for part in {*before.parts} ^ {*after.parts}}
    assert changed == {"subject:loud"}
