"""Ctrl-C, SIGTERM and crashes, in real processes: the record is finished or settled, nothing that finished is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cupola import Client, Run

PROGRAM = """
import ctypes, os, pathlib, signal, subprocess, sys, time
from cupola import pipeline, step
here = pathlib.Path(__file__).parent

@step(cache=False)
def early() -> int:
    return 1

@step(cache=False)
def long(x: int) -> int:
    child = subprocess.Popen(["sleep", "60"])
    (here / "child").write_text(str(child.pid))
    print("working hard", flush=False)
    mode = sys.argv[1]
    try:
        (here / "started").touch()
        if mode == "segfault": ctypes.string_at(0)
        if mode == "exit": os._exit(3)
        if mode == "abort": os.abort()
        if mode == "gil": ctypes.PyDLL(None).sleep(6)
        time.sleep(60)
    finally:
        (here / "cleaning").touch()
        if mode == "stubborn": time.sleep(60)
    return 2

@step(cache=False)
def late(x: int) -> int:
    return x

@pipeline(on_end=lambda run: (here / "ended").write_text(str(run.status)))
def p():
    late(long(early()))

if __name__ == "__main__":
    before = signal.getsignal(signal.SIGINT)
    try:
        p()
    finally:
        (here / "restored").write_text(str(signal.getsignal(signal.SIGINT) is before))
"""


def wait_for(check: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def start(tmp_path: Path, mode: str) -> subprocess.Popen[str]:
    (tmp_path / "p.py").write_text(PROGRAM)
    return subprocess.Popen(
        [sys.executable, "p.py", mode], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def states(run: Run) -> dict[str, str]:
    return {name: str(step.status) for name, step in run.steps.items()}


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.feature("CORE-04")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_cancels_the_run_and_ends_its_children(home: Path, tmp_path: Path, number: signal.Signals) -> None:
    process = start(tmp_path, "sleep")
    wait_for((tmp_path / "started").exists)
    child = int((tmp_path / "child").read_text())
    process.send_signal(number)
    output, _ = process.communicate(timeout=30)
    assert process.returncode != 0
    run = Client().runs.list()[0]
    assert str(run.status) == "cancelled"
    assert states(run) == {"early": "completed", "long": "cancelled", "late": "skipped"}
    assert "stopping step long" in output
    assert "early" not in output.partition("stopping")[2].splitlines()[0]
    assert (tmp_path / "cleaning").exists()
    assert (tmp_path / "ended").read_text() == "cancelled"
    assert (tmp_path / "restored").read_text() == "True"
    wait_for(lambda: not is_alive(child))
    assert "RunCancelled" in output


@pytest.mark.feature("CORE-04")
def test_a_second_ctrl_c_ends_the_clean_up(home: Path, tmp_path: Path) -> None:
    process = start(tmp_path, "stubborn")
    wait_for((tmp_path / "started").exists)
    process.send_signal(signal.SIGINT)
    wait_for((tmp_path / "cleaning").exists)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    run = Client().runs.list()[0]
    assert str(run.status) == "cancelled"
    assert states(run)["long"] == "cancelled"


@pytest.mark.feature("CORE-04")
@pytest.mark.parametrize(("mode", "named"), [("segfault", "SIGSEGV"), ("abort", "SIGABRT"), ("exit", ""), ("kill", "")])
def test_the_next_reader_sees_a_crash_as_lost(home: Path, tmp_path: Path, mode: str, named: str) -> None:
    process = start(tmp_path, mode)
    wait_for((tmp_path / "started").exists)
    if mode == "kill":
        wait_for(lambda: states(Client().runs.list()[0])["long"] == "running")
        process.kill()
    process.communicate(timeout=30)
    os.kill(int((tmp_path / "child").read_text()), signal.SIGKILL)
    run = Client().runs.list()[0]
    assert str(run.status) == "lost"
    assert states(run) == {"early": "completed", "long": "lost", "late": "pending"}
    assert run.steps["early"].output.load() == 1
    if named:
        assert run.error is not None
        assert run.error.signal == named
        assert "long" in str(run.logs(step="long")) or "ctypes" in str(run.logs(step="long"))


@pytest.mark.feature("CORE-03")
def test_a_reader_sees_the_running_step_while_it_holds_the_interpreter(home: Path, tmp_path: Path) -> None:
    process = start(tmp_path, "gil")
    try:
        wait_for((tmp_path / "started").exists)
        began = time.monotonic()
        assert states(Client().runs.list()[0]) == {"early": "completed", "long": "running", "late": "pending"}
        assert time.monotonic() - began < 5, "the reader waited for the step"
    finally:
        process.kill()
        process.communicate()
        os.kill(int((tmp_path / "child").read_text()), signal.SIGKILL)


@pytest.mark.feature("CORE-03")
def test_a_reader_sees_a_running_step_at_once(home: Path, tmp_path: Path) -> None:
    process = start(tmp_path, "sleep")
    try:
        wait_for((tmp_path / "started").exists)
        began = time.monotonic()
        run = Client().runs.list()[0]
        assert time.monotonic() - began < 5
        assert states(run) == {"early": "completed", "long": "running", "late": "pending"}
        assert str(run.status) == "running"
        wait_for(lambda: "working hard" in str(run.logs(step="long")))
    finally:
        process.kill()
        process.communicate()
        os.kill(int((tmp_path / "child").read_text()), signal.SIGKILL)
