"""What policies and files do to the cache, and what is said of it: one run after the other in one process."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cupola import CachePolicy, File, pipeline, step
from cupola.client.views import Run


def causes(run: Run, name: str) -> list[tuple[str, str]]:
    return [(cause.kind, cause.name) for cause in run.steps[name].cache.causes]


def status(run: Run, name: str) -> str:
    return str(run.steps[name].status)


@pytest.mark.feature("CORE-07")
def test_a_key_function_decides_instead_of_the_inputs(home: Path) -> None:
    @step(cache=CachePolicy(key=lambda inputs: inputs["a"] % 2))
    def parity(a: int) -> int:
        return a

    @pipeline
    def p(a: int) -> int:
        return parity(a)

    p(1)
    assert status(p(3), "parity") == "cached"
    assert causes(p(4), "parity") == [("option", "key")]


@pytest.mark.feature("CORE-07")
def test_files_and_variables_of_a_policy_count_by_content(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "table.csv"

    @step(cache=CachePolicy(files=[str(table)], env=["REGION"]))
    def read() -> int:
        return 1

    @pipeline
    def p() -> int:
        return read()

    p()
    assert status(p(), "read") == "cached"
    table.write_text("1")
    run = p()
    assert causes(run, "read") == [("file", str(table))]
    assert run.steps["read"].cache.causes[0].old == "missing"
    monkeypatch.setenv("REGION", "north")
    assert causes(p(), "read") == [("env", "REGION")]
    assert status(p(), "read") == "cached"


@pytest.mark.feature("CORE-07")
def test_an_expired_result_is_not_used_and_named(home: Path) -> None:
    @step(cache=CachePolicy(expires=datetime.timedelta(seconds=0.05)))
    def fresh() -> int:
        return 1

    @pipeline
    def p() -> int:
        return fresh()

    first = p()
    deadline = first.ended_at.timestamp() + 0.1
    while time.time() < deadline:
        time.sleep(0.01)
    run = p()
    assert status(run, "fresh") == "completed"
    assert causes(run, "fresh") == [("result", "fresh")]


@pytest.mark.feature("CORE-07")
def test_a_file_that_changes_while_the_step_runs_makes_it_uncacheable_with_a_warning(
    home: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data.csv"
    data.write_text("1")

    @step
    def grow(source: File) -> str:
        with open(source, "a") as file:
            file.write("x")
        return "done"

    @pipeline
    def p(source: File) -> str:
        return grow(source)

    run = p(File(data))
    assert run.steps["grow"].warnings == [f"file {data} changed while the step ran: its result is not used again"]
    data.write_text("1")
    assert status(p(File(data)), "grow") == "completed"


PROGRAM = """
from cupola import File, Folder, pipeline, step

@step
def load(data: File = File("data.csv")) -> str:
    with open(data) as file:
        return file.read()

@pipeline
def p() -> str:
    return load()

if __name__ == "__main__":
    print("status:", p().steps["load"].status)
"""


@pytest.mark.feature("CORE-07")
def test_a_file_as_default_of_a_step_counts_by_its_content(
    home: Path, tmp_path: Path, run_python: Callable[..., object]
) -> None:
    (tmp_path / "run.py").write_text(PROGRAM)
    said: list[str] = []
    for text in ("a", "a", "b", "b"):
        (tmp_path / "data.csv").write_text(text)
        said.append(run_python(tmp_path / "run.py", cwd="/").stdout.split("status: ")[1].strip())  # type: ignore[attr-defined]
    assert said == ["completed", "cached", "completed", "cached"]
