"""Resuming dynamic runs: calls that were made before give what they gave, the rest goes on."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cupola import Client

CUPOLA = Path(sys.executable).with_name("cupola")
Run = Callable[..., subprocess.CompletedProcess[str]]
PROGRAM = """
import os, pathlib, time
from cupola import StepFailed, as_completed, get_step_context, pipeline, step, value

HERE = pathlib.Path(__file__).parent

def witness(name):
    with open(HERE / "witness", "a") as file:
        file.write(f"{name}\\n")

def hold(name):
    witness(name)
    if (HERE / "fail").exists():
        raise ValueError(f"{name} was told to fail")
    end = time.monotonic() + 50
    while not (HERE / "go").exists() and time.monotonic() < end:
        time.sleep(0.02)

@step(cache=False)
def first(x: int) -> int:
    witness(f"first {x}")
    return x + 1

@step(cache=False)
def refuse(x: int) -> int:
    witness(f"refuse {x}")
    raise KeyError(x)

@step(cache=False)
def middle(x: int) -> int:
    hold(f"middle {x}")
    return 10 * x

@step(cache=False)
def gather(items: list[int]) -> int:
    witness("gather")
    return sum(items)

@pipeline(dynamic=True)
def flow(n: int = 3) -> int:
    context = get_step_context()
    (HERE / "values").open("a").write(f"{context.run.random()} {context.run.uuid()} {context.run.now()}\\n")
    items = [first(x) for x in range(n)]
    try:
        refuse(1)
    except StepFailed as error:
        items.append(first(100))
    total = gather(items)
    if value(total) > 5:
        return middle(total)
    return total
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "go.py").write_text(textwrap.dedent(PROGRAM))
    return tmp_path


def witnessed(project: Path) -> list[str]:
    return (project / "witness").read_text().splitlines()


def until(check: Callable[[], object], timeout_s: float = 30) -> None:
    end = time.monotonic() + timeout_s
    while not check():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def statuses(run_cupola: Run) -> dict[str, str]:
    shown = json.loads(run_cupola("show", "last", "--json").stdout)
    return {step["name"]: step["status"] for step in shown["steps"]}


BEFORE = ["first 0", "first 1", "first 2", "refuse 1", "first 100", "gather", "middle 107"]


def end_it(project: Path, how: str, run_cupola: Run) -> None:
    """Start the run and let it end in its last step."""
    if how == "fail":
        (project / "fail").touch()
        assert run_cupola("run", "go.py").returncode == 1
        (project / "fail").unlink()
        return
    process = subprocess.Popen([CUPOLA, "run", "go.py"], cwd=project, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    until(lambda: (project / "witness").exists() and "middle 107" in witnessed(project))
    process.send_signal(signal.SIGKILL if how == "kill" else signal.SIGINT)
    process.communicate(timeout=30)


@pytest.mark.feature("ENG-04", "ENG-05")
@pytest.mark.parametrize("how", ["kill", "interrupt", "fail"])
def test_a_dynamic_run_goes_on_where_it_stopped(project, run_cupola, how):
    end_it(project, how, run_cupola)
    assert witnessed(project) == BEFORE
    (project / "go").touch()
    done = run_cupola("resume", "last")
    assert done.returncode == 0, done.stderr
    assert witnessed(project) == [*BEFORE, "middle 107"]
    run = Client().runs.list()[0]
    assert run.output.load() == 1070
    assert statuses(run_cupola) == {
        "first": "completed",
        "first_2": "completed",
        "first_3": "completed",
        "refuse": "failed",
        "first_4": "completed",
        "gather": "completed",
        "middle": "completed",
    }
    values = (project / "values").read_text().splitlines()
    assert len(values) == 2
    assert values[0] == values[1]
    assert [attempt.number for attempt in run.steps["middle"].attempts] == [1, 2]
    assert run_cupola("doctor", "store").returncode == 0


@pytest.mark.feature("ENG-04", "ENG-05")
def test_an_edit_is_refused_until_it_is_wanted_and_finished_steps_stay(project, run_cupola, rewrite):
    end_it(project, "fail", run_cupola)
    edited = PROGRAM.replace("return 10 * x", "return 100 * x").replace("return x + 1", "return x + 2")
    rewrite(project / "go.py", textwrap.dedent(edited))
    (project / "go").touch()
    refused = run_cupola("resume", "last")
    assert refused.returncode == 1
    assert "was edited since" in refused.stderr
    assert "cupola resume flow-" in refused.stderr
    assert "--with-current-code" in refused.stderr
    done = run_cupola("resume", "last", "--with-current-code")
    assert done.returncode == 0, done.stderr
    assert "edited since they finished, and kept as they are: first, first_2, first_3, first_4" in done.stderr
    assert witnessed(project) == [*BEFORE, "middle 107"]
    assert Client().runs.list()[0].output.load() == 10700


@pytest.mark.feature("ENG-04", "ENG-05")
def test_calls_that_an_edited_pipeline_no_longer_makes_are_listed(project, run_cupola, rewrite):
    end_it(project, "fail", run_cupola)
    rewrite(project / "go.py", textwrap.dedent(PROGRAM.replace("range(n)", "range(n - 1)")))
    (project / "go").touch()
    done = run_cupola("resume", "last", "--with-current-code")
    assert done.returncode == 0, done.stderr
    assert "called before the run was resumed, and not any more: first_3, gather, middle" in done.stderr
    assert statuses(run_cupola)["middle"] == "skipped"
    assert statuses(run_cupola)["first_3"] == "completed"
    assert Client().runs.list()[0].output.load() == 10 * (1 + 2 + 101)


@pytest.mark.feature("ENG-04", "ENG-05")
def test_a_finished_call_whose_blob_is_gone_runs_again(project, run_cupola, home, rewrite):
    program = PROGRAM.replace("return x + 1", 'return [x, "y" * 10_000]').replace(
        '-> int:\n    witness(f"first', '-> list:\n    witness(f"first'
    )
    program = program.replace("items: list[int]", "items: list").replace("return sum(items)", "return 107")
    rewrite(project / "go.py", textwrap.dedent(program))
    end_it(project, "fail", run_cupola)
    version = Client().runs.list()[0].steps["first_2"].output
    for file in (home / "blobs").rglob("*"):
        if file.is_file() and file.read_bytes().count(b"y") >= 10_000 and version.digest:
            file.chmod(0o644)
            file.unlink()
    (project / "go").touch()
    done = run_cupola("resume", "last")
    assert done.returncode == 0, done.stderr
    # Equal values share no blob here, since each holds its own number: all four are gone.
    assert witnessed(project) == [*BEFORE, "first 0", "first 1", "first 2", "first 100", "middle 107"]


@pytest.mark.feature("ENG-04", "ENG-09")
def test_a_pipeline_function_that_computes_is_stopped_by_ctrl_c(tmp_path, run_cupola):
    (tmp_path / "go.py").write_text(
        textwrap.dedent(
            """
            import pathlib, time
            from cupola import pipeline, step

            @step
            def one() -> int:
                return 1

            @pipeline(dynamic=True)
            def slow() -> int:
                one()
                pathlib.Path(__file__).with_name("there").touch()
                time.sleep(50)
                return one()
            """
        )
    )
    process = subprocess.Popen([CUPOLA, "run", "go.py"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    until((tmp_path / "there").exists)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode == 130
    assert str(Client().runs.list()[0].status) == "cancelled"


FACTORS = """
import pathlib
from cupola import pipeline, step, value

HERE = pathlib.Path(__file__).parent
FACTOR = 2

def told(run):
    with open(HERE / "told", "a") as file:
        file.write(f"{run.name}\\n")

@step(cache=False)
def numbers(n: int) -> list[int]:
    with open(HERE / "witness", "a") as file:
        file.write("numbers\\n")
    return list(range(n))

@step(on_end=told)
def scale(x: int) -> int:
    return FACTOR * x

@step
def add(xs: list[int]) -> int:
    return sum(xs)

@step(cache=False)
def divide(x: int) -> float:
    rest = x - 12
    return 10 / rest

@pipeline(dynamic=True)
def scaled(n: int = 3) -> float:
    total = add(scale.map(numbers(n)))
    return divide(total) if value(total) > 1 else 0.0
"""


@pytest.fixture
def factors(tmp_path: Path, run_cupola) -> Path:
    (tmp_path / "go.py").write_text(textwrap.dedent(FACTORS))
    assert run_cupola("run", "go.py").returncode == 0
    return tmp_path


@pytest.mark.feature("ENG-04", "CORE-07")
def test_why_names_the_cause_in_a_dynamic_run_and_plan_says_what_it_cannot_know(factors, run_cupola, rewrite):
    rewrite(factors / "go.py", textwrap.dedent(FACTORS.replace("FACTOR = 2", "FACTOR = 3")))
    assert run_cupola("run", "go.py").returncode == 0
    causes = json.loads(run_cupola("show", "last", "--why", "scale[1]", "--json").stdout)["causes"]
    assert [(cause["kind"], cause["old"], cause["new"]) for cause in causes] == [("constant", "2", "3")]
    assert causes[0]["file"] == "go.py"
    upstream = json.loads(run_cupola("show", "last", "--why", "add", "--json").stdout)["causes"]
    assert [cause["kind"] for cause in upstream][:1] == ["input"]
    assert "constant" in [cause["kind"] for cause in upstream]
    planned = run_cupola("plan", "go.py")
    assert "scaled is dynamic: which steps it calls is known only while it runs" in planned.stderr
    assert json.loads(run_cupola("plan", "go.py", "--json").stdout) == {
        "pipeline": "scaled", "dynamic": True, "steps": [],
    }  # fmt: skip
    assert "cupola show last --why add" in run_cupola("plan", "go.py", "--why", "add").stderr


@pytest.mark.feature("ENG-04", "ENG-05")
def test_a_rerun_of_a_dynamic_run_takes_over_what_still_holds(factors, run_cupola):
    done = run_cupola("rerun", "last")
    assert done.returncode == 0, done.stderr
    assert set(statuses(run_cupola).values()) == {"cached"}
    assert witnessed(factors) == ["numbers"]
    done = run_cupola("rerun", "last", "--from", "scale")
    assert done.returncode == 0, done.stderr
    assert statuses(run_cupola) == {
        "numbers": "cached",
        "scale[0]": "completed",
        "scale[1]": "completed",
        "scale[2]": "completed",
        "add": "completed",
        "divide": "completed",
    }
    assert "did you mean 'scale'?" in run_cupola("rerun", "last", "--from", "scael").stderr


@pytest.mark.feature("ENG-04", "ENG-11", "ENG-12")
def test_a_dynamic_run_is_reproduced_without_its_hooks_and_its_steps_are_debugged(factors, run_cupola):
    before = len((factors / "told").read_text().splitlines())
    done = run_cupola("reproduce", "last", "--json", timeout_s=120)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["outputs_compared"] == 6
    assert len((factors / "told").read_text().splitlines()) == before
    assert run_cupola("run", "go.py", "--param", "n=4").returncode == 1  # 12 - 12
    assert run_cupola("debug", "last", "divide", "--exec", "rest").stdout.strip() == "0"
    assert run_cupola("debug", "last", "scale[3]", "--exec", "x * FACTOR").stdout.strip() == "6"
