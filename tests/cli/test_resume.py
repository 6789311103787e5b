"""`cupola resume`, `rerun` and `cancel`: going on with runs that failed, were stopped or killed, from elsewhere."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cupola import Client, runlock

CUPOLA = Path(sys.executable).with_name("cupola")
PROGRAM = """
import os, pathlib, time
from cupola import Retry, pipeline, step

HERE = pathlib.Path(__file__).parent

def witness(name):
    with open(HERE / "witness", "a") as file:
        file.write(name + "\\n")

def wait_or_fail(name):
    witness(name)
    if (HERE / "fail").exists():
        raise ValueError(f"{name} was told to fail")
    end = time.monotonic() + 50
    while not (HERE / "go").exists() and time.monotonic() < end:
        time.sleep(0.02)

@step(cache=False, retry=Retry(attempts=2, delay=0))
def flaky() -> int:
    witness("flaky")
    if not (HERE / "tried").exists():
        (HERE / "tried").touch()
        raise OSError("not at the first attempt")
    return 1

@step(cache=False)
def middle(value: int, factor: int = 10) -> int:
    wait_or_fail("middle")
    return value * factor

@step(cache=False)
def last(value: int) -> int:
    witness("last")
    return value + 1

@pipeline
def three(factor: int = 10) -> int:
    return last(middle(flaky(), factor))
"""
Run = Callable[..., subprocess.CompletedProcess[str]]


def until(check: Callable[[], object], timeout_s: float = 30) -> None:
    end = time.monotonic() + timeout_s
    while not check():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "go.py").write_text(textwrap.dedent(PROGRAM))
    return tmp_path


def witnessed(project: Path) -> list[str]:
    return (project / "witness").read_text().split()


@pytest.fixture
def started(project: Path) -> Iterator[subprocess.Popen[str]]:
    """Start a run that waits in its second step until the file `go` is there."""
    process = subprocess.Popen(
        [CUPOLA, "run", "go.py"], cwd=project, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    until(lambda: (project / "witness").exists() and "middle" in witnessed(project))
    yield process
    if process.poll() is None:
        process.send_signal(signal.SIGCONT)
        process.kill()
    process.communicate(timeout=30)


def shown(run_cupola: Run, ref: str = "last") -> dict[str, object]:
    return json.loads(run_cupola("show", ref, "--json").stdout)


def statuses(run_cupola: Run, ref: str = "last") -> list[str]:
    return [step["status"] for step in shown(run_cupola, ref)["steps"]]  # type: ignore[index, attr-defined]


@pytest.mark.feature("ENG-05")
def test_a_failed_run_is_resumed_where_it_failed(project, run_cupola):
    (project / "fail").touch()
    assert run_cupola("run", "go.py").returncode == 1
    first = shown(run_cupola)["id"]
    (project / "fail").unlink()
    (project / "go").touch()
    done = run_cupola("resume", "last")
    assert done.returncode == 0, done.stderr
    assert witnessed(project) == ["flaky", "flaky", "middle", "middle", "last"]
    run = Client().runs.get(str(first))
    assert str(run.status) == "completed"
    assert run.output.load() == 11
    assert [attempt.number for attempt in run.steps["flaky"].attempts] == [1, 2]
    assert [attempt.number for attempt in run.steps["middle"].attempts] == [1, 2]
    assert run.error is None
    assert run_cupola("doctor", "store").returncode == 0
    again = run_cupola("resume", "last")
    assert again.returncode == 1
    assert "is completed: there is nothing to resume" in again.stderr
    assert "cupola rerun" in again.stderr


@pytest.mark.feature("ENG-05", "ENG-08")
def test_a_killed_run_is_resumed_and_finished_steps_do_not_run_again(project, started, run_cupola):
    started.kill()
    started.wait(30)
    assert shown(run_cupola)["status"] == "lost"
    (project / "go").touch()
    done = run_cupola("resume", "last")
    assert done.returncode == 0, done.stderr
    assert witnessed(project) == ["flaky", "flaky", "middle", "middle", "last"]
    assert statuses(run_cupola) == ["completed"] * 3
    assert run_cupola("doctor", "store").returncode == 0


@pytest.mark.feature("ENG-09")
def test_a_run_is_cancelled_by_another_process_and_resumed(project, started, run_cupola):
    asked = run_cupola("cancel", "last")
    assert asked.returncode == 0, asked.stderr
    assert asked.stdout.endswith("is cancelled\n")
    _, said = started.communicate(timeout=30)
    assert started.returncode == 143
    assert "was cancelled by cupola cancel of" in said
    assert statuses(run_cupola) == ["completed", "cancelled", "skipped"]
    twice = run_cupola("cancel", "last")
    assert twice.returncode == 1
    assert "is cancelled already" in twice.stderr
    (project / "go").touch()
    assert run_cupola("resume", "last").returncode == 0
    assert witnessed(project) == ["flaky", "flaky", "middle", "middle", "last"]


@pytest.mark.feature("ENG-06")
def test_of_two_resumes_at_once_one_wins_and_the_other_says_who(project, started, run_cupola):
    started.kill()
    started.wait(30)
    both = [
        subprocess.Popen([CUPOLA, "resume", "last"], cwd=project, stderr=subprocess.PIPE, text=True) for _ in range(2)
    ]
    until(lambda: witnessed(project).count("middle") == 2)
    until(lambda: any(process.poll() is not None for process in both))
    (project / "go").touch()
    said = {process.pid: process.communicate(timeout=30)[1] for process in both}
    assert sorted(process.returncode for process in both) == [0, 1]
    winner, loser = sorted(both, key=lambda process: process.returncode)
    assert f"is being driven by process {winner.pid} on {os.uname().nodename}" in said[loser.pid]
    assert "cupola cancel" in said[loser.pid]
    assert witnessed(project) == ["flaky", "flaky", "middle", "middle", "last"]
    assert run_cupola("doctor", "store").returncode == 0


@pytest.mark.feature("ENG-06")
def test_a_stopped_driver_that_wakes_up_after_a_takeover_writes_nothing(project, started, run_cupola, home):
    started.send_signal(signal.SIGSTOP)
    held = run_cupola("resume", "last")
    assert held.returncode == 1
    assert "--take-over" in held.stderr
    (project / "go").touch()
    other = subprocess.Popen([CUPOLA, "resume", "last", "--take-over"], cwd=project, stderr=subprocess.PIPE, text=True)
    _, told = other.communicate(timeout=30)
    assert other.returncode == 0, told
    run = str(shown(run_cupola)["id"])
    folder = home / "finished" / run[:6] / run
    before = {path.name: path.read_bytes() for path in folder.glob("journal.*")}
    started.send_signal(signal.SIGCONT)
    _, said = started.communicate(timeout=30)
    assert started.returncode != 0
    assert f"was taken over by process {other.pid} on" in said
    assert {path.name: path.read_bytes() for path in folder.glob("journal.*")} == before
    assert statuses(run_cupola) == ["completed"] * 3
    assert run_cupola("doctor", "store").returncode == 0


@pytest.mark.feature("ENG-05")
def test_fork_makes_a_new_run_of_what_has_finished_when_the_lease_cannot_be_had(project, started, run_cupola):
    (project / "go").touch()
    started.send_signal(signal.SIGSTOP)
    forked = run_cupola("resume", "last", "--fork")
    assert forked.returncode == 0, forked.stderr
    assert statuses(run_cupola) == ["cached", "completed", "completed"]
    assert witnessed(project).count("flaky") == 2


@pytest.mark.feature("ENG-05")
def test_edited_code_of_unfinished_steps_is_refused_by_name_unless_asked_for(project, run_cupola, rewrite):
    (project / "fail").touch()
    run_cupola("run", "go.py")
    (project / "fail").unlink()
    (project / "go").touch()
    text = (project / "go.py").read_text().replace("return value * factor", "return value * factor + 100")
    rewrite(project / "go.py", text.replace('witness("flaky")', 'witness("flaky again")'))
    refused = run_cupola("resume", "last")
    assert refused.returncode == 1
    assert "'middle'" in refused.stderr
    assert "--with-current-code" in refused.stderr
    assert witnessed(project) == ["flaky", "flaky", "middle"]
    done = run_cupola("resume", "last", "--with-current-code")
    assert done.returncode == 0, done.stderr
    assert "edited since they finished, and kept as they are: flaky" in done.stderr
    assert Client().runs.list(limit=1)[0].output.load() == 111
    assert witnessed(project) == ["flaky", "flaky", "middle", "middle", "last"]
    assert run_cupola("doctor", "store").returncode == 0


@pytest.mark.feature("ENG-05")
@pytest.mark.parametrize("damage", ["delete", "truncate", "flip"])
def test_a_step_whose_blob_is_gone_is_not_finished(project, run_cupola, home, rewrite, damage):
    text = (project / "go.py").read_text().replace("def flaky() -> int:", "def flaky() -> bytes:")
    text = text.replace("    return 1\n", "    return bytes(10_000)\n").replace(
        "value: int, factor", "value: bytes, factor"
    )
    rewrite(project / "go.py", text.replace("value * factor", "len(value) * factor"))
    (project / "fail").touch()
    run_cupola("run", "go.py")
    blobs = [path for path in (home / "blobs").rglob("*") if path.is_file() and path.stat().st_size == 10_000]
    if not blobs:
        blobs = [path for path in (home / "blobs").rglob("*") if path.is_file() and path.stat().st_size > 9_000]
    for path in blobs:
        data = path.read_bytes()
        path.chmod(0o600)
        if damage == "delete":
            path.unlink()
        elif damage == "truncate":
            path.write_bytes(data[:-1])
        else:
            path.write_bytes(bytes([data[0] ^ 1]) + data[1:])
    (project / "fail").unlink()
    (project / "go").touch()
    done = run_cupola("resume", "last")
    assert done.returncode == 0, done.stderr
    assert witnessed(project) == ["flaky", "flaky", "middle", "flaky", "middle", "last"]
    assert statuses(run_cupola) == ["completed"] * 3
    assert run_cupola("doctor", "store").returncode == 0


@pytest.mark.feature("ENG-05")
def test_rerun_takes_over_what_still_holds(project, run_cupola):
    (project / "go").touch()
    assert run_cupola("run", "go.py").returncode == 0
    assert run_cupola("rerun", "last", "--from", "last").returncode == 0
    assert statuses(run_cupola) == ["cached", "cached", "completed"]
    assert run_cupola("rerun", "last", "--param", "factor=7").returncode == 0
    assert statuses(run_cupola) == ["cached", "completed", "completed"]
    assert Client().runs.list(limit=1)[0].output.load() == 8
    wrong = run_cupola("rerun", "last", "--from", "midle")
    assert wrong.returncode == 2
    assert "has no step 'midle'" in wrong.stderr
    assert "did you mean 'middle'?" in wrong.stderr
    assert witnessed(project) == ["flaky", "flaky", "middle", "last", "last", "middle", "last"]


@pytest.mark.feature("ENG-05", "ENG-06")
def test_a_resume_that_died_before_its_first_event_is_in_nobodys_way(project, started, run_cupola, home):
    started.kill()
    started.wait(30)
    run = str(shown(run_cupola)["id"])
    (home / "finished" / run[:6] / run / "journal.3").touch()
    (project / "go").touch()
    done = run_cupola("resume", "last")
    assert done.returncode == 0, done.stderr
    assert statuses(run_cupola) == ["completed"] * 3
    assert run_cupola("doctor", "store").returncode == 0


@pytest.mark.feature("ENG-05")
def test_a_run_is_resumed_with_the_source_root_that_its_program_had(project, run_cupola, run_python):
    """The pipeline's own file is in a folder below that of the program, which no marker makes the root."""
    (project / "flows").mkdir()
    (project / "go.py").rename(project / "flows" / "go.py")
    (project / "main.py").write_text("from flows.go import three\nthree()\n")
    (project / "flows" / "fail").touch()
    assert run_python("main.py").returncode == 1
    (project / "flows" / "fail").unlink()
    (project / "flows" / "go").touch()
    done = run_cupola("resume", "last")
    assert done.returncode == 0, done.stderr
    assert statuses(run_cupola) == ["completed"] * 3


@pytest.mark.feature("ENG-06")
def test_a_reader_that_settles_a_run_is_not_taken_for_its_driver(project, started, run_cupola, home):
    run = str(shown(run_cupola)["id"])
    folder = home / "runs" / run
    started.kill()
    started.wait(30)
    (project / "go").touch()
    lock = runlock.lock_run(folder, is_named=False)
    assert lock is not None
    threading.Timer(0.3, lock.release).start()
    done = run_cupola("resume", "last")
    assert done.returncode == 0, done.stderr
    assert statuses(run_cupola) == ["completed"] * 3
