"""What `map`, `product`, `unmapped` and `collect` wire, and what they refuse."""

from __future__ import annotations

import enum
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import pandas as pd
import pytest

from cupola import CompileError, Mapped, pipeline, step, unmapped
from cupola.compiler import items
from cupola.compiler.items import is_list_type, items_of
from cupola.snapshot import Collect, Fan, FromStep, Gather, Literal, Snapshot, StepSpec

pytestmark = pytest.mark.feature("ENG-03")


class Parts(NamedTuple):
    left: int
    right: str


@dataclass
class Config:
    rate: float = 0.1


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


@step
def numbers() -> list[int]:
    return [1, 2, 3]


@step
def words() -> list[str]:
    return ["a"]


@step
def word() -> str:
    return "abc"


@step
def table() -> pd.DataFrame:
    return pd.DataFrame()


@step
def lookup() -> dict[str, int]:
    return {}


@step
def pair() -> Annotated[tuple[int, str], "pair"]:
    return 1, "a"


@step
def maybe() -> list[int] | None:
    return None


@step
def anything() -> Any:
    return [1]


@step
def split(x: int) -> tuple[Annotated[int, "low"], Annotated[str, "high"]]:
    return x, str(x)


@step
def parts(x: int) -> Parts:
    return Parts(x, "a")


@step
def inc(x: int, by: int = 1) -> int:
    return x + by


@step
def join(xs: list[int], last: int) -> list[int]:
    return [*xs, last]


@step
def total(xs: list[int]) -> int:
    return sum(xs)


@step
def nothing(x: int) -> None:
    return None


@step
def lots(batch: int) -> int:
    return batch


def compiled(wire: Any) -> Snapshot:
    def wired() -> None:
        wire()

    return pipeline(wired, name="wired").compile()


def last(wire: Any) -> StepSpec:
    return compiled(wire).steps[-1]


def refused(wire: Any) -> str:
    with pytest.raises(CompileError) as caught:
        compiled(wire)
    return str(caught.value)


def test_a_mapped_step_is_one_step_of_the_snapshot_with_its_items():
    spec = last(lambda: inc.map([5, 6], by=unmapped(2)))
    assert spec.name == "inc"
    assert spec.fan == Fan("map", ("x",))
    assert spec.inputs == {"x": Gather("list", (Literal(b"\x05"), Literal(b"\x06"))), "by": Literal(b"\x02")}


@pytest.mark.parametrize(
    "given", [[1, 2], (1, 2), range(1, 3), {2, 1}, frozenset({1, 2}), {1: 0, 2: 0}.keys(), np.array([1, 2]).tolist()]
)
def test_lists_and_their_like_are_spread_in_an_order_that_is_fixed(given):
    assert last(lambda: inc.map(given)).inputs["x"] == Gather("list", (Literal(b"\x01"), Literal(b"\x02")))


def test_a_generator_is_taken_apart_when_the_pipeline_compiles():
    assert last(lambda: inc.map(x for x in range(1, 3))) == last(lambda: inc.map([1, 2]))


def test_what_outputs_and_other_maps_give_is_spread_when_the_run_has_it():
    def wire():
        first = inc.map(numbers())
        inc.map(first)
        total(first)
        total(first.collect(allow_failures=True))

    steps = compiled(wire).steps
    assert steps[1].inputs["x"] == FromStep(0, "output")
    assert steps[2].inputs["x"] == steps[3].inputs["xs"] == Collect(1, "output")
    assert steps[4].inputs["xs"] == Collect(1, "output", allow_failures=True)


def test_lists_of_outputs_and_lists_of_maps_are_spread_item_by_item():
    spec = last(lambda: total.map([inc.map([1]), [2, inc(3)]]))
    assert spec.inputs["xs"] == Gather(
        "list", (Collect(0, "output"), Gather("list", (Literal(b"\x02"), FromStep(1, "output"))))
    )


def test_a_product_takes_each_with_each_in_the_order_of_the_parameters():
    assert last(lambda: inc.product(by=[10], x=[1, 2])).fan == Fan("product", ("x", "by"))


def test_a_step_with_several_outputs_gives_a_list_for_each():
    def wire():
        low, high = split.map([1, 2])
        total(low)
        total(parts.map([1]).left)
        assert (low.name, high.name) == ("low", "high")

    assert [spec.inputs["xs"] for spec in compiled(wire).steps if spec.source.endswith("total")] == [
        Collect(0, "low"),
        Collect(2, "left"),
    ]


def test_named_after_and_options_work_as_for_calls():
    def wire():
        first = inc.named("first").map([1])
        inc.after(first, nothing.map([1])).with_options(cache=False).map([2])

    spec = last(wire)
    assert (spec.name, spec.after) == ("inc", (0, 1))


def test_a_pipeline_returns_what_its_children_put_out():
    @pipeline
    def returns() -> list[int]:
        return inc.map([1])  # type: ignore[return-value]

    assert [(output.name, output.source) for output in returns.compile().outputs] == [("output", Collect(0, "output"))]


def test_batch_says_how_many_children_a_worker_gets_unless_the_step_has_such_a_parameter():
    assert last(lambda: inc.map([1], batch=200)).fan == Fan("map", ("x",), 200)
    assert last(lambda: lots.map(batch=[1, 2])).fan == Fan("map", ("batch",))
    for wrong in (0, -1, True, "3", 2.0):
        assert "batch=" in refused(lambda wrong=wrong: inc.map([1], batch=wrong))


def test_maps_in_nested_pipelines_have_their_names():
    @pipeline
    def inner():
        return inc.map([1])

    def wire():
        total(inner())

    assert [spec.name for spec in compiled(wire).steps] == ["inner/inc", "total"]


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ("abc", "str"), (b"abc", "bytes"), ({"a": 1}, "dict"), (Parts(1, "a"), "Parts"), (Config(), "Config"),
        (5, "int"), (None, "None"), (pd.DataFrame({"a": [1]}), "DataFrame"), (np.array(3), "ndarray"),
        (bytearray(b"a"), "bytearray"), (Colour.RED, "Colour"),
    ],
)  # fmt: skip
def test_one_value_is_no_list_and_the_error_names_unmapped(given, what):
    text = refused(lambda: inc.map(given))
    assert "inc.map" in text
    assert "unmapped" in text
    assert "x=" in text
    assert what in text


@pytest.mark.parametrize(
    ("make", "type_name"), [(word, "str"), (table, "DataFrame"), (lookup, "dict"), (pair, "tuple")]
)
def test_an_output_that_is_one_value_is_no_list_and_the_error_names_both_steps(make, type_name):
    text = refused(lambda: inc.map(make()))
    assert "unmapped" in text
    assert f"{make.name}()" in text
    assert "inc" in text
    assert type_name in text


def test_items_of_another_type_are_refused_with_both_steps_and_both_types():
    text = refused(lambda: inc.map(words()))
    assert "inc()" in text
    assert "words()" in text
    assert "x: int" in text
    assert "list[str]" in text
    assert "maybe() gives list[int] | None" in refused(lambda: inc.map(maybe()))
    text = refused(lambda: inc.map(inc.map(words())))
    assert "words()" in text


def test_an_item_in_code_of_another_type_is_told_by_its_place():
    text = refused(lambda: inc.map([1, 2, "three"]))
    assert "item 2" in text
    assert "'three'" in text
    assert "x: int" in text


def test_a_list_for_a_parameter_that_wants_the_whole_list_names_unmapped():
    assert "xs=unmapped" in refused(lambda: join.map([1, 2], last=[1, 2]))
    assert "xs=unmapped" in refused(lambda: join.map(numbers(), last=[1, 2]))


def test_a_mapped_step_passed_on_whole_is_a_list():
    text = refused(lambda: inc(inc.map([1])))
    assert "inc.map() gives list[int]" in text
    assert "inc.map(x=" in text


def test_unequal_lengths_are_refused_with_both_lengths_when_they_are_known():
    text = refused(lambda: inc.map([1, 2], by=[1, 2, 3]))
    assert "'inc'" in text
    assert "x has 2" in text
    assert "by has 3" in text
    assert "by has 3" in refused(lambda: inc.map(inc.map([1, 2]), by=inc.map([1, 2, 3])))


def test_what_is_known_only_when_the_run_has_it_is_not_compared_yet():
    compiled(lambda: inc.map(numbers(), by=[1, 2]))
    compiled(lambda: inc.map(anything(), by=anything()))


def test_unmapped_has_no_meaning_elsewhere():
    assert "unmapped" in refused(lambda: inc(unmapped(1)))
    assert "unmapped" in refused(lambda: total([unmapped(1)]))
    assert "unmapped" in refused(lambda: inc.map([unmapped(1)]))


def test_nothing_to_spread_is_refused():
    assert "inc.map() needs a value for 'x'" in refused(lambda: inc.map())  # type: ignore[call-overload]
    assert "nothing to run the step for" in refused(lambda: inc.map(x=unmapped(1)))
    assert "nothing to run the step for" in refused(lambda: numbers.map())  # type: ignore[call-overload]


def test_wrong_arguments_are_told_as_for_calls():
    assert "inc.map() has no parameter 'z'" in refused(lambda: inc.map([1], z=[1]))
    assert "join.map() needs a value for 'last'" in refused(lambda: join.map([[1]]))


def test_a_set_of_outputs_has_no_order():
    assert "no order" in refused(lambda: inc.map({inc(1), inc(2)}))


def test_collect_belongs_to_mapped_steps():
    assert "was used as a value (.collect())" in refused(lambda: inc(1).collect())  # type: ignore[attr-defined]


def test_a_mapped_output_used_as_a_value_names_what_works():
    text = refused(lambda: len(inc.map([1])))
    assert ".collect()" in text


def test_an_output_used_as_a_value_names_map_and_dynamic():
    text = refused(lambda: [x for x in numbers()])  # noqa: C416 — iterating is what is tried
    assert ".map" in text
    assert "dynamic=True" in text


def test_too_many_items_are_refused_before_they_fill_the_memory(monkeypatch):
    monkeypatch.setattr(items, "WIDEST", 100)

    def forever():
        while True:
            yield 1

    assert "at most 100 items" in refused(lambda: inc.map(forever()))
    assert "10,000 children" in refused(lambda: inc.product(range(100), range(100)))


def test_configuration_sets_what_is_the_same_for_all_children_and_nothing_else(tmp_path, run_cupola):
    program = (
        "from cupola import pipeline, step, unmapped\n@step\ndef inc(x: int, by: int = 1) -> int:\n    return x + by\n"
    )
    program += "@pipeline\ndef p() -> list[int]:\n    return inc.map([1, 2])\n"
    (tmp_path / "p.py").write_text(program)
    (tmp_path / "good.yaml").write_text("steps:\n  inc:\n    params:\n      by: 10\n")
    (tmp_path / "bad.yaml").write_text("steps:\n  inc:\n    params:\n      x: 10\n")
    done = run_cupola("run", "p.py", "--config", "good.yaml")
    assert done.returncode == 0, done.stderr
    done = run_cupola("run", "p.py", "--config", "bad.yaml")
    assert done.returncode == 2
    assert "spread over the children" in done.stderr


def test_the_order_of_a_set_is_the_same_in_processes_with_different_hash_seeds(tmp_path: Path):
    program = tmp_path / "sets.py"
    program.write_text(
        "from cupola import pipeline, step\n"
        "@step\ndef show(x: object) -> None: ...\n"
        "@pipeline\ndef p():\n"
        "    show.map({'b', 'a', 'c', 'ab'})\n    show.map({(2, 'x'), (1, 'y'), 'z', 3, None, 2.5})\n"
        "print(p.compile().id)\n"
    )
    ids = {
        subprocess.run(
            [sys.executable, str(program)], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("0", "1", "2", "3")
    }
    assert len(ids) == 1


def test_outside_of_a_pipeline_map_calls_the_function_for_each_item():
    assert inc.map([1, 2], by=unmapped(10)) == [11, 12]
    assert inc.product([1, 2], [10, 20]) == [11, 21, 12, 22]
    assert inc.map(range(2)).collect() == [1, 2]
    assert split.map({3, 1}) == ([1, 3], ["1", "3"])
    assert parts.map([1]).left == [1]
    with pytest.raises(CompileError, match="different lengths"):
        inc.map([1], by=[1, 2])


def test_the_type_of_a_list_is_told_from_that_of_one_value():
    lists = [list[int], tuple[int, ...], set[str], Any, list, Annotated[list[int], "a"], np.ndarray, "unknown"]
    assert all(is_list_type(annotation) for annotation in lists)
    ones = [int, str, bytes, dict[str, int], tuple[int, str], Parts, Config, pd.DataFrame, list[int] | None]
    assert not any(is_list_type(annotation) for annotation in ones)


def test_items_of_leaves_what_it_is_given_alone():
    given = [1, 2]
    assert items_of(given) == given
    assert items_of(given) is not given


def test_mapped_stands_in_annotations():
    def helper(values: Mapped[int]) -> Mapped[int]:
        return values

    assert helper.__annotations__
