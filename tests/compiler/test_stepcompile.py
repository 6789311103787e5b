"""What calls of one step share, and what each has of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from cupola import File, pipeline, step
from cupola.compiler.callsite import CallSite
from cupola.compiler.requests import Request, compile_request
from cupola.errors import CompileError
from cupola.snapshot import Literal

pytestmark = pytest.mark.feature("CORE-02")


@step
def add(total: int, by: int = 1) -> int:
    return total + by


@step
def read(file: File) -> int:
    return 1


@pipeline
def chain(length: int = 3) -> int:
    total = 0
    for _ in range(length):
        total = add(total)
    return total


@pipeline
def nested() -> int:
    return add(chain.inline(2), by=2)


def test_a_configuration_file_that_names_a_later_call_holds_for_that_call_alone(tmp_path: Path) -> None:
    config = tmp_path / "run.yaml"
    config.write_text("steps:\n  add_2:\n    retry: 3\n")
    snapshot = compile_request(Request(pipeline=chain.definition, config=config)).snapshot
    assert [snapshot.options[spec.options].attempts for spec in snapshot.steps] == [1, 3, 1]


def test_calls_of_one_step_share_what_is_equal_and_keep_names_wiring_and_keys_apart() -> None:
    compiled = compile_request(Request(pipeline=chain.definition))
    first, second, third = compiled.snapshot.steps
    assert (first.name, second.name, third.name) == ("add", "add_2", "add_3")
    assert first.code is second.code
    assert first.inputs["by"] is third.inputs["by"]
    assert first.base_key != second.base_key == third.base_key
    assert compiled.steps[0] is compiled.steps[2]
    assert second.outputs[0].artifact == "chain/add_2/output"


def test_calls_in_a_nested_pipeline_are_other_calls_of_the_step() -> None:
    snapshot = nested.compile()
    assert [spec.name for spec in snapshot.steps] == ["chain/add", "chain/add_2", "add"]
    assert snapshot.steps[0].code is not snapshot.steps[2].code
    assert snapshot.steps[0].code == snapshot.steps[2].code


def test_equal_scalars_of_other_types_stay_apart_and_zeros_keep_their_sign() -> None:
    @step
    def take(value: object) -> None: ...

    @pipeline
    def several() -> None:
        for value in (1, True, 1.0, "1", 0.0, -0.0, None, 1, 2**70):
            take(value)

    sources = [spec.inputs["value"] for spec in several.compile().steps]
    written = [source.value for source in sources if isinstance(source, Literal)]
    assert written[0] == written[7]
    assert len(set(written)) == 8


def test_files_of_one_call_are_not_those_of_another() -> None:
    @pipeline
    def reads() -> None:
        read(File("a.csv"))
        read(File("b.csv"))

    compiled = compile_request(Request(pipeline=reads.definition))
    assert [dict(live.files) for live in compiled.steps] == [{"file a.csv": "a.csv"}, {"file b.csv": "b.csv"}]


def test_an_error_names_the_line_of_its_own_call() -> None:
    @pipeline
    def wrong() -> None:
        add(1)
        add("two")  # pyright: ignore[reportArgumentType]

    with pytest.raises(CompileError, match="wants total: int but got 'two'") as error:
        wrong.compile()
    assert error.value.where.endswith(f"test_stepcompile.py:{wrong.fn.__code__.co_firstlineno + 3}")


def test_a_call_site_without_any_code_of_the_users_has_no_text() -> None:
    assert str(CallSite(None, 0)) == ""
