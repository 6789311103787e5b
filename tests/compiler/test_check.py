"""What a traced pipeline is told about its types and names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from cupola.compiler.check import RULES, check_graph, find_problems, unknown_step
from cupola.compiler.nodes import Output, PipelineDefinition, StepDefinition
from cupola.compiler.trace import add_call, tracing
from cupola.entities.options import PipelineKnobs, StepKnobs
from cupola.errors import CompileError

pytestmark = pytest.mark.feature("CORE-02")


class Parts(NamedTuple):
    table: pd.DataFrame
    size: int


def load(path: Path | str = "a.csv") -> pd.DataFrame:
    return pd.DataFrame()


def word() -> str:
    return "a"


def maybe() -> pd.DataFrame | None:
    return None


def untyped(value):
    return value


def parts() -> Parts:
    return Parts(pd.DataFrame(), 1)


def fit(table: pd.DataFrame, sizes: list[int] = None, rate: float = 0.1) -> tuple[float, str]:  # noqa: RUF013 — often written
    return 1.0, "a"


def report(scores: Sequence[float], by_name: dict[str, pd.DataFrame] | None = None) -> None:
    return None


def use_parts(parts: Parts) -> int:
    return parts.size


def use_pair(pair: tuple[pd.DataFrame, int]) -> int:
    return pair[1]


def numbers(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return values


def call(function: Callable[..., Any], *args: Any, name: str = "", label: str = "", **kwargs: Any) -> Any:
    trace = OPEN[0]
    step = StepDefinition(function=function, name=name or function.__name__, knobs=StepKnobs(), label=label)
    return add_call(trace, step, args, kwargs)


OPEN: list[Any] = []


def problems(wire: Callable[[], Any], name: str = "training") -> list[CompileError]:
    with tracing(PipelineDefinition(function=wire, name=name, knobs=PipelineKnobs())) as trace:
        OPEN[:] = [trace]
        wire()
    return find_problems(trace.nodes)


def texts(wire: Callable[[], Any]) -> list[str]:
    return [problem.what for problem in problems(wire)]


def test_what_fits_has_no_problems() -> None:
    def wire() -> None:
        table = call(load, Path("a"))
        score, text = call(fit, table, sizes=None, rate=1)
        call(fit, call(parts).table, [1, np.int64(2)], np.float64(0.5))
        call(fit, call(untyped, text))
        call(report, [score, 0.5, 1], {"a": table})
        call(report, (score, score))
        call(use_parts, call(parts))
        call(use_pair, call(parts))

    assert texts(wire) == []


def test_a_wrong_output_names_both_steps_and_both_types_and_the_place() -> None:
    (problem,) = problems(lambda: call(fit, call(word)))
    assert problem.what == "fit() wants table: pandas.DataFrame but word() gives str"
    assert problem.where.startswith(f"{__file__}:")
    assert "of table in" in problem.fix
    assert "of what is returned in" in problem.fix


def test_one_of_several_outputs_is_named() -> None:
    wire = lambda: call(fit, call(fit, call(load))[1])  # noqa: E731 — one wiring
    assert texts(wire) == ["fit_2() wants table: pandas.DataFrame but output 'output_1' of fit() is str"]


def test_all_outputs_at_once_are_not_one_of_them() -> None:
    wire = lambda: call(numbers, call(fit, call(load)))  # noqa: E731 — one wiring
    assert texts(wire) == ["numbers() wants values: numpy.ndarray[numpy.float64] but got (fit() → float, fit() → str)"]


def test_the_named_tuple_of_another_step_is_another_type() -> None:
    wire = lambda: call(use_parts, call(fit, call(load)))  # noqa: E731 — one wiring
    (text,) = texts(wire)
    assert text.endswith("Parts but got (fit() → float, fit() → str)")


def test_an_output_that_may_be_none_is_told_how_to_be_handled() -> None:
    (problem,) = problems(lambda: call(fit, call(maybe)))
    assert problem.fix == "maybe() may give None: annotate table: pandas.DataFrame | None and handle it there"


def test_a_wrong_value_is_shown_with_its_type() -> None:
    assert texts(lambda: call(fit, call(load), rate="0.5")) == ["fit() wants rate: float but got '0.5', of type str"]
    assert texts(lambda: call(fit, call(load), [1, "2"])) == [
        "fit() wants sizes: list[int] but got [1, '2'], of type list"
    ]


def test_long_values_are_cut() -> None:
    (text,) = texts(lambda: call(fit, call(load), rate="x" * 10_000))
    assert len(text) < 200


def test_outputs_inside_containers_are_checked_where_they_stand() -> None:
    def wire() -> None:
        table = call(load)
        call(report, [0.5, call(word)], {"a": table})
        call(report, [0.5], {"a": table, "b": call(word)})

    first, second = texts(wire)
    assert first == "report() wants scores: Sequence[float] but got [0.5, word() → str]"
    assert "but got {'a': load() → pandas.DataFrame, 'b': word_2() → str}" in second


def test_the_last_of_many_items_is_looked_at_too() -> None:
    assert texts(lambda: call(report, [0.5] * 100 + ["x"] + [0.5] * 100))


def test_defaults_are_the_affair_of_the_function() -> None:
    # `sizes: list[int] = None` is what many people write.
    assert texts(lambda: call(fit, call(load), sizes=None)) == []


@pytest.mark.parametrize("name", ["a/b", "a[0]", "", " a", "a\n", "a" * 401, "a\x1b[31m"])
def test_names_that_records_could_not_tell_apart_or_show_are_refused(name: str) -> None:
    def wire() -> None:
        step = StepDefinition(function=word, name=name, knobs=StepKnobs())
        add_call(OPEN[0], step, (), {})

    (text,) = texts(wire)
    assert text.startswith("a step can't have the name")
    assert text.isprintable()
    assert len(text) < 300


@pytest.mark.parametrize("name", ["a.b", "0.94", "Schritt 2", "<b>x</b>".replace("/", ""), "n" * 400, "..", "%20#"])
def test_any_other_text_is_a_name(name: str) -> None:
    assert texts(lambda: call(word, name=name)) == []


def test_names_given_by_named_are_checked_as_well() -> None:
    assert "'b/c'" in texts(lambda: call(word, label="b/c"))[0]


def test_a_pipeline_that_can_not_have_its_name_is_told_once() -> None:
    def wire() -> None:
        call(word)
        call(word)

    (problem,) = problems(wire, name="a/b")
    assert "a pipeline can't have the name 'a/b': it has '/' in it, which separates" in problem.what
    assert problem.where.startswith(__file__)


def test_all_problems_are_told_at_once() -> None:
    def wire() -> None:
        call(fit, call(word))
        call(fit, call(load), rate="x")

    with tracing(_pipeline()) as trace:
        OPEN[:] = [trace]
        wire()
    with pytest.raises(CompileError) as caught:
        check_graph(trace.nodes)
    assert "and 1 more:\n- fit_2() wants rate: float but got 'x', of type str" in caught.value.fix


def _pipeline() -> PipelineDefinition:
    return PipelineDefinition(function=word, name="training", knobs=PipelineKnobs())


def test_no_problem_raises_nothing() -> None:
    check_graph([])
    assert len(RULES) >= 2


def test_an_unknown_step_in_a_configuration_names_the_nearest_one() -> None:
    error = unknown_step("fti", ["fit", "load"], "run.yaml")
    assert (error.what, error.where, error.fix) == (
        "there is no step 'fti' in this pipeline",
        "run.yaml",
        "did you mean 'fit'?",
    )
    assert unknown_step("nothing", ["fit", "load"], "run.yaml").fix == "its steps are: fit, load"
    assert error.exit_code == 2


def test_an_output_keeps_its_declared_type() -> None:
    with tracing(_pipeline()) as trace:
        OPEN[:] = [trace]
        output = call(load)
    assert isinstance(output, Output)
    assert output.declaration is not None
    assert output.declaration.text == "pandas.DataFrame"
