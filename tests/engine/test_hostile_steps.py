"""Steps and hooks that do to the process what they like: forks, threads, exits, exceptions that fail themselves."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import cupola
from cupola import Client, RunCancelled, RunFailed, get_step_context, pipeline, step


def failed(call: Callable[[], object]) -> cupola.Run:
    with pytest.raises(RunFailed) as caught:
        call()
    return caught.value.run


def raising(make: Callable[[], BaseException], **options: object) -> cupola.Pipeline[[], None]:
    @step(cache=False, **options)  # type: ignore[call-overload]
    def bad() -> int:
        raise make()

    @pipeline
    def p() -> None:
        bad()

    return p


class Speechless(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


def with_note() -> ValueError:
    error = ValueError("x")
    error.add_note("seen at night")
    return error


def in_a_circle() -> ValueError:
    error, other = ValueError("first"), ValueError("second")
    error.__cause__, other.__cause__ = other, error
    return error


@pytest.mark.feature("CORE-04")
@pytest.mark.parametrize(
    ("make", "message", "in_traceback"),
    [
        (Speechless, "<its text can't be had: RuntimeError>", "Speechless"),
        (with_note, "x", "seen at night"),
        (in_a_circle, "first", "second"),
        (lambda: ExceptionGroup("many", [ValueError("a"), TypeError("b")]), "many (2 sub-exceptions)", "TypeError: b"),
        (lambda: ValueError("a \udce4 b"), "a \ufffd b", "a \ufffd b"),
        (lambda: MemoryError(), "", "MemoryError"),
        (lambda: GeneratorExit("g"), "g", "GeneratorExit"),
        (lambda: SystemExit(3), "3", "SystemExit"),
        (lambda: asyncio.CancelledError("c"), "c", "CancelledError"),
    ],
)
def test_whatever_a_step_raises_is_its_failure(
    home: Path, make: Callable[[], BaseException], message: str, in_traceback: str
) -> None:
    told: list[str] = []
    run = failed(raising(make, on_failure=lambda record: told.append(str(record.status))))
    error = run.steps["bad"].error
    assert error is not None
    assert error.message == message
    assert in_traceback in error.traceback
    assert told == ["failed"]


@pytest.mark.feature("CORE-04")
def test_a_very_long_message_is_kept_with_its_ends(home: Path) -> None:
    run = failed(raising(lambda: ValueError("begin" + "x" * 3_000_000 + "end")))
    error = run.steps["bad"].error
    assert error is not None
    assert error.message.startswith("begin")
    assert error.message.endswith("end")
    assert "letters left out" in error.message
    assert len(error.message) + len(error.traceback) < 200_000


@pytest.mark.feature("CORE-04")
def test_a_step_that_raises_keyboard_interrupt_itself_cancels_the_run(home: Path) -> None:
    with pytest.raises(RunCancelled) as caught:
        raising(KeyboardInterrupt)()
    assert str(caught.value.run.steps["bad"].status) == "cancelled"


@pytest.mark.feature("CORE-04")
def test_hooks_that_leave_the_program_change_nothing(home: Path) -> None:
    def leave(record: object) -> None:
        raise SystemExit(4)

    @step(cache=False, on_start=leave, on_success=leave, on_end=leave)
    def fine() -> int:
        return 3

    @pipeline(on_start=leave, on_success=leave, on_end=leave)
    def p() -> int:
        return fine()

    run = p()
    assert run.output.load() == 3
    assert "SystemExit: 4" in str(run.logs(step="fine"))


@pytest.mark.feature("CORE-04")
def test_forked_children_that_come_back_end_and_write_no_record(home: Path) -> None:
    @step(cache=False, retry=3)
    def forks(how: str) -> int:
        child = os.fork()
        if child == 0:
            if how == "raise":
                raise ValueError("in the child")
            if how == "exit":
                sys.exit(7)
            if how == "text":
                sys.exit("bye")
            return 99
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    @pipeline
    def p() -> None:
        for how in ("raise", "exit", "text", "return"):
            forks.named(how)(how)

    run = p()
    assert {name: one.output.load() for name, one in run.steps.items()} == {
        "raise": 1, "exit": 7, "text": 1, "return": 0,
    }  # fmt: skip
    assert [len(one.attempts) for one in run.steps.values()] == [1, 1, 1, 1]
    assert "in the child" in str(run.logs(step="raise"))
    assert len(Client().runs.list()) == 1


@pytest.mark.feature("CORE-04")
def test_hooks_may_fork(home: Path) -> None:
    codes: list[int] = []

    def fork(record: object) -> None:
        child = os.fork()
        if child:
            codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

    @step(cache=False, on_success=fork)
    def fine() -> int:
        return 3

    @pipeline(on_start=fork, on_end=fork)
    def p() -> int:
        return fine()

    assert p().output.load() == 3
    assert codes == [0, 0, 0]


def wait_long() -> None:
    time.sleep(60)


@pytest.mark.feature("CORE-04")
def test_a_child_that_is_terminated_dies_of_the_signal(home: Path) -> None:
    @step(cache=False)
    def ends_its_child() -> int | None:
        process = multiprocessing.get_context("fork").Process(target=wait_long)
        process.start()
        process.terminate()
        process.join(30)
        return process.exitcode

    @pipeline
    def p() -> int | None:
        return ends_its_child()

    assert p().output.load() == -signal.SIGTERM


@pytest.mark.feature("CORE-04")
def test_runs_in_several_threads_at_once_are_all_recorded(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    together = threading.Barrier(3, timeout=30)

    @step(cache=False, env={"SHARED": "1"})
    def meet(name: str) -> str:
        together.wait()
        cupola.log_metadata({"who": name})
        print("said by", name)
        together.wait()
        return get_step_context().run.id

    @pipeline
    def p(name: str) -> str:
        return meet(name)

    runs: dict[str, cupola.Run] = {}

    def drive(name: str) -> None:
        runs[name] = p(name)

    threads = [threading.Thread(target=drive, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(runs) == ["a", "b", "c"]
    for name, run in runs.items():
        recorded = Client().runs.get(run.id)
        assert recorded.output.load() == run.id
        assert recorded.steps["meet"].metadata == {"who": name}
    assert "SHARED" not in os.environ
    assert get_step_context_fails()
    print("the stream is the program's again")
    assert "the stream is the program's again" in capfd.readouterr().out


def get_step_context_fails() -> bool:
    try:
        get_step_context()
    except cupola.CupolaError:
        return True
    return False


@pytest.mark.feature("CORE-04")
def test_pipelines_run_inside_steps_threads_of_steps_and_hooks(home: Path) -> None:
    @step(cache=False)
    def leaf() -> int:
        return 1

    @pipeline
    def inner() -> int:
        return leaf()

    @step(cache=False)
    def calls(depth: int) -> int:
        if depth == 0:
            return 0
        return 1 + outer(depth - 1).output.load()

    @step(cache=False)
    def from_thread() -> int:
        found: list[int] = []
        thread = threading.Thread(target=lambda: found.append(inner().output.load()))
        thread.start()
        thread.join(60)
        return found[0]

    @pipeline(on_end=lambda run: inner())
    def outer(depth: int) -> int:
        from_thread()
        return calls(depth)

    assert outer(2).output.load() == 2
    assert {str(run.status) for run in Client().runs.list()} == {"completed"}
    assert Client().runs.count() == 3 + 3 + 3


NESTED = """
import os, pathlib, signal, sys, time
from cupola import pipeline, step
here = pathlib.Path(__file__).parent

@step(cache=False)
def waits() -> int:
    (here / "started").touch()
    time.sleep(60)
    return 1

@pipeline
def inner():
    waits()

@step(cache=False, retry=3)
def starts() -> int:
    with open(here / "tries", "a") as file: file.write("x")
    inner()
    return 1

@step(cache=False)
def late(x: int) -> int:
    return x

@pipeline
def outer():
    late(starts())

if __name__ == "__main__":
    outer()
"""


@pytest.mark.feature("CORE-04")
def test_a_signal_stops_the_run_inside_a_step_and_the_one_around_it(home: Path, tmp_path: Path) -> None:
    (tmp_path / "p.py").write_text(NESTED)
    process = subprocess.Popen([sys.executable, "p.py"], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 30
    while not (tmp_path / "started").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    runs = {run.pipeline: run for run in Client().runs.list()}
    assert {name: str(run.status) for name, run in runs.items()} == {"inner": "cancelled", "outer": "cancelled"}
    assert {name: str(one.status) for name, one in runs["outer"].steps.items()} == {
        "starts": "cancelled", "late": "skipped",
    }  # fmt: skip
    assert (tmp_path / "tries").read_text() == "x"
