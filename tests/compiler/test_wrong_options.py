"""Options, names and wirings that can't be right: each is refused with what, where and what to do."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from cupola import CachePolicy, Client, CompileError, ConfigError, CupolaError, Retry, pipeline, step


def identity(x: int = 1) -> int:
    return x


def nothing() -> None:
    return None


@step
def one() -> int:
    return 1


def compile_step(**options: Any) -> None:
    marked = step(identity, **options)

    @pipeline
    def p() -> None:
        marked()

    p.compile()


def compile_pipeline(**options: Any) -> None:
    def p() -> int:
        return one()

    pipeline(p, **options).compile()


@pytest.mark.feature("CORE-12")
@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"name": 5}, "name=5"), ({"name": ""}, "name=''"), ({"name": "a/b"}, "a/b"), ({"name": "a\nb"}, "shown"),
        ({"name": "x" * 500}, "500 letters"), ({"cache": "no"}, "cache='no'"), ({"retry": 0}, "retry=0"),
        ({"retry": True}, "retry=True"), ({"retry": "3"}, "retry='3'"), ({"timeout": 0}, "timeout=0"),
        ({"timeout": "5x"}, "timeout='5x'"), ({"timeout": float("inf")}, "timeout=inf"),
        ({"timeout": float("nan")}, "timeout=nan"), ({"env": {"A": 1}}, "env['A']=1"), ({"env": ["A"]}, "env=['A']"),
        ({"settings": 5}, "settings=5"), ({"settings": {"a": object()}}, "settings['a']"),
        ({"on_start": "x"}, "on_start='x'"), ({"resources": 5}, "resources=5"), ({"caching": True}, "'caching'"),
        ({"model": "m"}, "model='m'"), ({"requirements": 5}, "requirements=5"),
    ],
)  # fmt: skip
def test_a_wrong_option_of_a_step_is_refused(options: dict[str, Any], word: str) -> None:
    with pytest.raises(CupolaError) as caught:
        compile_step(**options)
    assert word in str(caught.value)
    assert caught.value.fix or caught.value.where


@pytest.mark.feature("CORE-12")
@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"name": 5}, "name=5"), ({"name": "a/b"}, "a/b"), ({"dynamic": "yes"}, "dynamic='yes'"),
        ({"on_error": "halt"}, "on_error='halt'"),
        ({"on_error": ["stop"]}, "on_error=['stop']"), ({"tags": "x"}, "tags='x'"), ({"tags": [1]}, "tags=[1]"),
        ({"tags": None}, "tags=None"), ({"tags": [""]}, "tags=['']"), ({"description": 5}, "description=5"),
        ({"on_end": 5}, "on_end=5"), ({"settings": 5}, "settings=5"), ({"cache": "x"}, "cache='x'"),
        ({"raise_on_failure": "no"}, "raise_on_failure='no'"), ({"on_err": "stop"}, "'on_err'"),
    ],
)  # fmt: skip
def test_a_wrong_option_of_a_pipeline_is_refused(options: dict[str, Any], word: str) -> None:
    with pytest.raises(CupolaError) as caught:
        compile_pipeline(**options)
    assert word in str(caught.value)


@pytest.mark.feature("CORE-12")
def test_the_name_of_a_pipeline_without_steps_is_checked_too() -> None:
    with pytest.raises(CompileError, match="'a/b'"):
        pipeline(nothing, name="a/b").compile()


@pytest.mark.feature("CORE-12")
@pytest.mark.parametrize(
    "make",
    [
        lambda: CachePolicy(ignore=5), lambda: CachePolicy(ignore="x"), lambda: CachePolicy(key=5),  # type: ignore[arg-type]
        lambda: CachePolicy(expires=5), lambda: CachePolicy(verify=2), lambda: CachePolicy(verify="x"),  # type: ignore[arg-type]
        lambda: CachePolicy(code="x"), lambda: CachePolicy(write=5), lambda: Retry(attempts=1.5),  # type: ignore[arg-type]
        lambda: Retry(on=5), lambda: Retry(on=(5,)), lambda: Retry(jitter=2), lambda: Retry(delay="1s"),  # type: ignore[arg-type]
        lambda: Retry(delay=float("nan")), lambda: Retry(max_delay=float("inf")),
    ],
)  # fmt: skip
def test_a_wrong_policy_is_refused_where_it_is_made(make: Callable[[], object]) -> None:
    with pytest.raises(ConfigError, match=r"(CachePolicy|Retry)\("):
        make()


@pytest.mark.feature("CORE-02")
def test_policies_take_single_exceptions_and_names() -> None:
    assert Retry(on=ValueError).on == (ValueError,)  # type: ignore[arg-type]
    assert Retry(on="ValueError").on == ("ValueError",)  # type: ignore[arg-type]
    assert CachePolicy(expires=datetime.timedelta(days=1)).expires == datetime.timedelta(days=1)


@pytest.mark.feature("CORE-12")
@pytest.mark.parametrize("name", ["", 5, None, "a/b", "a[1]"])
def test_a_wrong_name_of_a_call_is_refused(name: Any) -> None:
    @pipeline
    def p() -> None:
        one.named(name)()

    with pytest.raises(CompileError, match="name"):
        p.compile()


@pytest.mark.feature("CORE-02")
def test_parameters_by_place_only_work_in_pipelines_nested_ones_and_single_steps(home: object) -> None:
    @step
    def product(x: int, /, y: int = 2, *, z: int = 3) -> int:
        return x * y * z

    @pipeline
    def inner(x: int, /, y: int = 5, *, z: int = 7) -> int:
        return product(x, y, z=z)

    @pipeline
    def outer() -> int:
        return inner.inline(2)

    assert inner(2, z=1).output.load() == 10
    assert outer().output.load() == 70
    assert product.run(2).output.load() == 12
    with pytest.raises(CompileError, match="by place only"):
        product.run(x=2)  # type: ignore[call-arg]


@pytest.mark.feature("CORE-02")
def test_what_a_pipeline_returns_is_of_the_type_that_it_is_annotated_with() -> None:
    class Pair(NamedTuple):
        a: int
        b: str

    @pipeline
    def output() -> str:
        return one()  # type: ignore[return-value]

    @pipeline
    def literal() -> int:
        return "five"  # type: ignore[return-value]

    @pipeline
    def several() -> Pair:
        return Pair(one(), one())  # type: ignore[arg-type]

    @pipeline
    def fits() -> tuple[float, list[int]]:
        return one(), [one(), 2]

    with pytest.raises(CompileError, match=r"return output: str but one\(\) gives int"):
        output.compile()
    with pytest.raises(CompileError, match="return output: int but it returns 'five'"):
        literal.compile()
    with pytest.raises(CompileError, match="return b: str"):
        several.compile()
    assert len(fits.compile().outputs) == 2


@pytest.mark.feature("CORE-12")
def test_a_pipeline_that_calls_itself_without_end_is_refused_and_one_with_an_end_is_fine() -> None:
    @pipeline
    def endless() -> int:
        return endless.inline()

    @pipeline
    def ends(depth: int = 3) -> int:
        return ends.inline(depth - 1) if depth else one()

    with pytest.raises(CompileError, match="nested more than 50 deep") as caught:
        endless.compile()
    assert "test_wrong_options.py" in caught.value.where
    assert [spec.name for spec in ends.compile().steps] == ["ends/ends/ends/one"]


@pytest.mark.feature("CORE-12")
def test_no_cycle_can_be_wired() -> None:
    """A step takes only what earlier calls returned, so a graph has no cycles by construction."""

    @pipeline
    def after_itself() -> None:
        one.after(one)()

    with pytest.raises(CompileError, match=r"one.after\(…\) got <step 'one'"):
        after_itself.compile()


@pytest.mark.feature("CORE-02")
def test_names_given_by_hand_and_automatic_ones_stay_apart(home: object) -> None:
    @step
    def fit() -> int:
        return 1

    @step
    def fit_2() -> int:
        return 2

    @pipeline
    def p() -> None:
        fit()
        fit_2()
        fit()
        fit_2()
        fit.named("fit_4")()
        fit()

    assert [spec.name for spec in p.compile().steps] == ["fit", "fit_2", "fit_3", "fit_2_2", "fit_4", "fit_5"]
    assert Client().runs.count() == 0


OVERWRITTEN = """
from cupola import pipeline, step

@step
def one() -> int:
    return 1

@pipeline
def training() -> int:
    return one()

{line}
"""


@pytest.mark.feature("CORE-02")
@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("pipeline = training.with_options(cache=False)", "pipeline"),
        ("step = one.named('x')", "step"),
        ("def step(x): return x", "step"),
        ("class pipeline: pass", "pipeline"),
        ("from os.path import join as step", "step"),
        ("for step in range(3): pass", "step"),
    ],
)
def test_overwriting_the_name_of_a_decorator_is_an_error_that_says_where(
    home: object, tmp_path: Path, run_cupola: Callable[..., Any], line: str, name: str
) -> None:
    file = tmp_path / "run.py"
    file.write_text(OVERWRITTEN.format(line=line))
    result = run_cupola("run", f"{file}:training")
    assert result.returncode == 2
    assert f"the name {name!r}" in result.stderr
    assert f"{file}:12" in result.stderr


@pytest.mark.feature("CORE-02")
@pytest.mark.parametrize(
    "text",
    [
        "import cupola\nstep, pipeline = cupola.step, cupola.pipeline\nPLACE",
        "from cupola import pipeline as flow, step as task\nstep = 3\nPLACE",
        "import cupola\npipeline = cupola.pipeline(lambda: None, name='x')\nPLACE",
    ],
)
def test_names_that_are_not_the_decorators_are_the_modules_own(
    home: object, tmp_path: Path, run_cupola: Callable[..., Any], text: str
) -> None:
    body = "import cupola\n@cupola.step\ndef one() -> int:\n    return 1\n@cupola.pipeline\ndef go():\n    one()\n"
    (tmp_path / "run.py").write_text(text.replace("PLACE", body))
    result = run_cupola("run", f"{tmp_path / 'run.py'}:go")
    assert result.returncode == 0, result.stderr
