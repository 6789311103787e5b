"""`wait` and `cupola answer`: a run pauses without a process, and goes on with what a person says."""

from __future__ import annotations

import json
import subprocess
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from cupola import Client, CompileError, ConfigError, Conflict, pipeline, step, wait

pytestmark = pytest.mark.feature("ENG-07")
Run = Callable[..., subprocess.CompletedProcess[str]]
PROGRAM = """
import dataclasses, pathlib
from cupola import pipeline, step, value, wait

HERE = pathlib.Path(__file__).parent

def witness(name):
    with open(HERE / "witness", "a") as file:
        file.write(f"{name}\\n")

@step(cache=False)
def score() -> float:
    witness("score")
    return 0.5

@step(cache=False)
def release(share: float, why: str) -> str:
    witness("release")
    return f"{share} {why}"

@pipeline(dynamic=True)
def rollout() -> str:
    found = score()
    if not wait(f"release at {value(found)}?", bool):
        return "not released"
    share = wait("to how many of all users?", float)
    return release(share, wait("why?"))
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "go.py").write_text(textwrap.dedent(PROGRAM))
    return tmp_path


def witnessed(project: Path) -> list[str]:
    return (project / "witness").read_text().splitlines()


def test_a_run_waits_without_a_process_and_goes_on_with_each_answer(project, run_cupola, home):
    done = run_cupola("run", "go.py")
    assert done.returncode == 0, done.stderr
    assert "it waits for an answer: release at 0.5?" in done.stderr
    assert "answer it: cupola answer rollout-" in done.stderr
    run = Client().runs.list()[0]
    assert (str(run.status), run.question, run.ended_at) == ("paused", "release at 0.5?", None)
    assert "rollout" in run_cupola("ps").stdout
    assert "release at 0.5?" in run_cupola("show", "last").stdout
    assert run_cupola("answer", "last").stdout.strip() == "release at 0.5?"
    assert json.loads(run_cupola("answer", "last", "--json").stdout)["question"] == "release at 0.5?"
    again = run_cupola("answer", "last", "yes")
    assert again.returncode == 0, again.stderr
    assert "it waits for an answer: to how many of all users?" in again.stderr
    run_cupola("answer", "last", "0.25")
    last = run_cupola("answer", "last", "it is good: 100%")
    assert last.returncode == 0, last.stderr
    run = Client().runs.list()[0]
    assert str(run.status) == "completed"
    assert run.output.load() == "0.25 it is good: 100%"
    assert run.question == ""
    assert witnessed(project) == ["score", "release"]
    assert run_cupola("doctor", "store").returncode == 0
    assert "completed: it doesn't wait for an answer" in run_cupola("answer", "last", "x").stderr


def test_an_answer_of_another_type_is_refused_and_the_run_waits_on(project, run_cupola):
    run_cupola("run", "go.py")
    refused = run_cupola("answer", "last", "perhaps")
    assert refused.returncode == 2
    assert "perhaps" in refused.stderr
    assert "nothing was answered, again: cupola answer rollout-" in refused.stderr
    run = Client().runs.list()[0]
    assert (str(run.status), run.question) == ("paused", "release at 0.5?")
    assert run_cupola("answer", "last", "no").returncode == 0
    assert Client().runs.list()[0].output.load() == "not released"
    assert witnessed(project) == ["score"]


def test_resuming_without_an_answer_asks_again_and_cancelling_ends_the_run(project, run_cupola):
    run_cupola("run", "go.py")
    again = run_cupola("resume", "last")
    assert again.returncode == 0, again.stderr
    assert "it waits for an answer: release at 0.5?" in again.stderr
    assert str(Client().runs.list()[0].status) == "paused"
    cancelled = run_cupola("cancel", "last")
    assert cancelled.returncode == 0, cancelled.stderr
    assert str(Client().runs.list()[0].status) == "cancelled"
    assert "is cancelled: it doesn't wait for an answer" in run_cupola("answer", "last", "yes").stderr
    assert run_cupola("doctor", "store").returncode == 0
    # What was cancelled can be resumed, and asks again.
    assert run_cupola("resume", "last").returncode == 0
    assert run_cupola("answer", "last", "no").returncode == 0
    assert Client().runs.list()[0].output.load() == "not released"
    assert witnessed(project) == ["score"]


def test_it_can_be_too_late_for_an_answer(tmp_path, run_cupola):
    (tmp_path / "go.py").write_text(
        textwrap.dedent(
            """
            from cupola import pipeline, wait

            @pipeline(dynamic=True)
            def impatient() -> str:
                try:
                    return wait("now?", timeout=0.001)
                except TimeoutError as error:
                    return str(error)
            """
        )
    )
    run_cupola("run", "go.py")
    late = run_cupola("answer", "last", "yes")
    assert late.returncode == 0, late.stderr
    assert Client().runs.list()[0].output.load() == "nobody answered 'now?' in time"


def test_answers_are_given_from_python_too(home):
    @step
    def double(x: int) -> int:
        return 2 * x

    @pipeline(dynamic=True)
    def asks() -> int:
        return double(wait("how many?", int))

    run = asks()
    assert run.question == "how many?"
    with pytest.raises(ConfigError, match="many"):
        run.answer("many")
    assert run.answer(21).output.load() == 42
    with pytest.raises(Conflict, match="doesn't wait for an answer"):
        Client().runs.get(run.id).answer(1)


def test_asking_elsewhere_is_refused_with_the_remedy(home):
    @pipeline
    def static() -> str:
        return wait("now?")

    with pytest.raises(CompileError, match=r"wait\(…\) was called outside of the function of a dynamic pipeline"):
        static()
    with pytest.raises(CompileError, match="ask in its function, not in a step"):
        wait("now?")
