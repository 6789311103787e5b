"""Readers of a run that goes on, and what the command line says when one is stopped or dies."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

CUPOLA = Path(sys.executable).with_name("cupola")
PROGRAM = """
import pathlib, time
from cupola import pipeline, step

HERE = pathlib.Path(__file__).parent

@step(cache=False)
def first() -> int:
    print("first is done")
    return 1

@step(cache=False)
def slow(value: int) -> int:
    print("slow has begun", flush=True)
    (HERE / "began").touch()
    end = time.monotonic() + 50
    while not (HERE / "go").exists() and time.monotonic() < end:
        time.sleep(0.02)
    print("slow is done")
    return value

@step(cache=False)
def last(value: int) -> int:
    return value

@pipeline
def waiting() -> int:
    return last(slow(first()))
"""


def until(check: Callable[[], object], timeout_s: float = 30) -> None:
    end = time.monotonic() + timeout_s
    while not check():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


@pytest.fixture
def waiting(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Start a run that waits in its second step until the file `go` is there."""
    (tmp_path / "go.py").write_text(textwrap.dedent(PROGRAM))
    process = subprocess.Popen(
        [CUPOLA, "run", "go.py"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    until((tmp_path / "began").exists)
    yield process
    if process.poll() is None:
        process.kill()
    process.communicate(timeout=30)


@pytest.mark.feature("CORE-03", "CORE-09")
def test_a_running_run_is_seen_by_every_reader(waiting, tmp_path, run_cupola):
    (run,) = json.loads(run_cupola("ps", "--json").stdout)
    assert run["status"] == "running"
    assert run["ended_at"] is None
    shown = json.loads(run_cupola("show", "last", "--json").stdout)
    assert [(step["name"], step["status"]) for step in shown["steps"]] == [
        ("first", "completed"),
        ("slow", "running"),
        ("last", "pending"),
    ]
    assert shown["outputs"] == {}
    assert "▸ slow" in run_cupola("show", "last", "--graph").stdout
    until(lambda: "slow has begun" in run_cupola("logs", "last", "slow").stdout)
    follower = subprocess.Popen([CUPOLA, "logs", "last", "-f"], stdout=subprocess.PIPE, text=True)
    assert follower.stdout is not None
    assert follower.stdout.readline() == "first is done\n"
    assert follower.stdout.readline() == "slow has begun\n"
    (tmp_path / "go").touch()
    assert follower.stdout.readline() == "slow is done\n"
    assert follower.communicate(timeout=30)[0] == ""
    assert follower.returncode == 0
    assert waiting.wait(30) == 0
    assert run_cupola("ps").stdout == ""


@pytest.mark.feature("CORE-04", "CORE-09")
@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_run_that_is_stopped_says_so_and_ends_with_its_code(waiting, run_cupola, name, code):
    waiting.send_signal(getattr(signal, name))
    _, said = waiting.communicate(timeout=30)
    assert waiting.returncode == code
    assert "Traceback" not in said
    assert f"was cancelled by {name}" in said
    shown = json.loads(run_cupola("show", "last", "--json").stdout)
    assert shown["status"] == "cancelled"
    assert [step["status"] for step in shown["steps"]] == ["completed", "cancelled", "skipped"]


@pytest.mark.feature("CORE-04", "CORE-09")
def test_a_run_that_was_killed_is_lost_for_the_next_reader(waiting, run_cupola):
    waiting.kill()
    waiting.wait(30)
    assert run_cupola("ps").stdout == ""
    (run,) = json.loads(run_cupola("runs", "list", "--json").stdout)
    assert run["status"] == "lost"
    assert "lost" in run_cupola("show", "last").stdout
    assert "slow has begun" in run_cupola("logs", "last").stdout


@pytest.mark.feature("CORE-09")
def test_a_follower_is_ended_by_control_c_without_a_traceback(waiting):
    follower = subprocess.Popen(
        [CUPOLA, "logs", "last", "-f"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert follower.stdout is not None
    assert follower.stdout.readline() == "first is done\n"
    assert waiting.poll() is None
    follower.send_signal(signal.SIGINT)
    _, said = follower.communicate(timeout=30)
    assert follower.returncode == 130
    assert said == ""


def in_terminal(words: list[str], **environment: str) -> str:
    parent, child = pty.openpty()
    process = subprocess.Popen(
        [CUPOLA, *words], stdin=child, stdout=child, stderr=child, env={**os.environ, "TERM": "xterm", **environment}
    )
    os.close(child)
    written = b""
    while True:
        try:
            data = os.read(parent, 65536)
        except OSError:
            break
        if not data:
            break
        written += data
    os.close(parent)
    assert process.wait(30) == 0
    return written.decode()


@pytest.mark.feature("CORE-09")
def test_a_terminal_gets_colour_and_its_width_and_can_say_no(waiting, tmp_path):
    (tmp_path / "go").touch()
    waiting.wait(30)
    coloured = in_terminal(["runs", "list"], COLUMNS="60")
    assert "\x1b[32mcompleted\x1b[0m" in coloured
    assert "…" in coloured
    for environment in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        plain = in_terminal(["runs", "list"], COLUMNS="200", **environment)
        assert "\x1b" not in plain
        assert "…" not in plain
