"""Runs whose steps go on at the same time in worker processes, as people see them: programs, signals, records."""

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
from typing import Any

import psutil
import pytest

import cupola
from cupola import Client, ConfigError, Run, RunFailed, pipeline, step

HEAD = """
import os, signal, subprocess, sys, threading, time
from pathlib import Path
import cupola
from cupola import Retry, pipeline, step

def until(check, seconds=30):
    end = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)

def meet(mine, *others):
    Path(mine).touch()
    until(lambda: all(Path(other).exists() for other in others))
    return os.getpid()
"""
needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="what other systems tell of processes is less")


def write(folder: Path, steps: str, main: str = "p()") -> Path:
    path = folder / "go.py"
    body = textwrap.indent(textwrap.dedent(main), "    ")
    path.write_text(HEAD + textwrap.dedent(steps) + f'\nif __name__ == "__main__":\n{body}\n')
    return path


@pytest.fixture
def run_steps(tmp_path: Path, run_python: Callable[..., Any]) -> Callable[..., Run]:
    """Return a function that runs a program with a pipeline `p` and returns the newest run of the store."""

    def run(steps: str, main: str = "p.with_options(raise_on_failure=False)()", **environment: str) -> Run:
        done = run_python(write(tmp_path, steps, main), timeout_s=90, **{"CUPOLA_WORKERS": "2", **environment})
        assert done.returncode == 0, done.stderr
        return Client().runs.list()[0]

    return run


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Return a function that starts a program and waits for the file `ready`; it is killed at the end."""
    started: list[subprocess.Popen[str]] = []

    def start(steps: str, main: str = "p()", ready: str = "ready") -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, write(tmp_path, steps, main)],
            cwd=tmp_path,
            env={**os.environ, "CUPOLA_WORKERS": "2"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(process)
        wait_until((tmp_path / ready).exists, "the step started")
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def wait_until(check: Callable[[], object], what: str, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(0.02)


def states(run: Run) -> dict[str, str]:
    return {name: str(one.status) for name, one in run.steps.items()}


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


# Where steps run.


@pytest.mark.feature("ENG-01")
def test_steps_that_could_run_at_the_same_time_do_and_a_single_one_stays(run_steps) -> None:
    run = run_steps(
        """
        @step(cache=False)
        def first() -> int:
            return os.getpid()

        @step(cache=False)
        def left(x: int) -> int:
            return meet("left", "right")

        @step(cache=False)
        def right(x: int) -> int:
            return meet("right", "left")

        @step(cache=False)
        def last(a: int, b: int) -> list[int]:
            return [os.getpid(), a, b]

        @pipeline
        def p() -> list[int]:
            x = first()
            return last(left(x), right(x))
        """
    )
    assert set(states(run).values()) == {"completed"}
    driver, left, right = run.output.load()
    assert driver == run.steps["first"].output.load()
    assert len({driver, left, right}) == 3


@pytest.mark.feature("ENG-01")
def test_a_chain_and_a_cached_run_start_no_process_and_load_no_pool(run_steps) -> None:
    steps = """
        @step
        def one() -> int:
            return 1

        @step
        def two(x: int) -> int:
            return 2

        @pipeline
        def p():
            {body}
        """
    look = """
        p()
        assert "cupola.engine.pool" not in sys.modules
        assert "cupola.engine.capacity" not in sys.modules
        """
    run = run_steps(steps.format(body="two(two(one()))"), look, CUPOLA_WORKERS="")
    assert states(run) == {"one": "completed", "two": "completed", "two_2": "completed"}
    wide = steps.format(body="two(one()); two(one()); two(one())")
    run_steps(wide)
    assert set(states(run_steps(wide, look, CUPOLA_WORKERS="")).values()) == {"cached"}


@pytest.mark.feature("ENG-01")
@pytest.mark.parametrize("how", ["option", "variable", "setting"])
def test_all_steps_run_in_the_process_where_that_is_asked_for(tmp_path, run_cupola, how) -> None:
    setting = 'settings={"local": {"workers": 0}}' if how == "setting" else ""
    program = write(
        tmp_path,
        f"""
        @step(cache=False)
        def pid() -> int:
            return os.getpid()

        @pipeline({setting})
        def p():
            pid()
            pid()
        """,
    )
    options = ["--in-process"] if how == "option" else []
    environment = {"CUPOLA_WORKERS": "0"} if how == "variable" else {}
    done = run_cupola("run", program, *options, **environment)
    assert done.returncode == 0, done.stderr
    steps = Client().runs.list()[0].steps
    assert steps["pid"].output.load() == steps["pid_2"].output.load()


@pytest.mark.feature("ENG-01")
@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"local": {"worker": 2}}, "there is no setting 'worker'"),
        ({"local": {"workers": -1}}, "workers=-1 is no number from 0 to 1000"),
        ({"local": {"workers": "two"}}, "workers='two' is no number"),
        ({"local": 3}, "3 is no mapping"),
    ],
)
def test_a_wrong_number_of_workers_is_refused_before_the_run(home: Path, settings, words) -> None:
    @pipeline(settings=settings)
    def p() -> None:
        named()

    with pytest.raises(ConfigError, match=words):
        p()
    assert Client().runs.count() == 0


@step
def named() -> int:
    return os.getpid()


@pytest.mark.feature("ENG-01")
def test_a_step_that_cannot_be_sent_runs_in_the_drivers_process_and_says_so(home: Path) -> None:
    lock = threading.Lock()

    @step(cache=False)
    def locks(n: int) -> int:
        with lock:
            return os.getpid()

    @pipeline(settings={"local": {"workers": 2}})
    def p() -> None:
        locks(1)
        locks(2)

    run = p()
    assert {one.output.load() for one in run.steps.values()} == {os.getpid()}
    assert "ran in the driver's process: step 'locks' can't be sent to a worker" in run.steps["locks"].warnings[0]


@pytest.mark.feature("ENG-01")
def test_runs_in_threads_and_inside_of_steps_have_workers_of_their_own(run_steps) -> None:
    run_steps(
        """
        @step(cache=False)
        def leaf(n: int) -> int:
            print("leaf", n)
            return n

        @pipeline
        def inner(n: int) -> int:
            leaf(n)
            return leaf.with_options(timeout=60)(n)

        @step(cache=False)
        def starts(n: int) -> int:
            return inner(n).output.load()

        @pipeline
        def p(n: int) -> int:
            starts(n)
            return starts(n + 1)
        """,
        """
        threads = [threading.Thread(target=p, args=(n,)) for n in (10, 20, 30)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        """,
    )
    runs = Client().runs.list(limit=20)
    assert {str(run.status) for run in runs} == {"completed"}
    assert sorted(run.output.load() for run in runs if run.pipeline == "p") == [11, 21, 31]
    assert sorted(run.output.load() for run in runs if run.pipeline == "inner") == [10, 11, 20, 21, 30, 31]
    for run in runs:
        if run.pipeline == "inner":
            assert f"leaf {run.output.load()}" in str(run.logs(step="leaf_2"))


# What travels.


@pytest.mark.feature("ENG-01")
def test_what_a_step_records_in_a_worker_is_seen_by_what_follows(run_steps) -> None:
    run = run_steps(
        """
        @step(cache=False)
        def makes(n: int) -> int:
            cupola.log_metadata({"n": n})
            cupola.log_metrics({"loss": 0.5}, step=n)
            cupola.add_tags(f"made-{n}")
            cupola.save_artifact([n] * 3, f"kept-{n}")
            print("made", n)
            return n

        @step(cache=False)
        def looks(a: int, b: int, n: int) -> list[int]:
            return cupola.load_artifact(f"kept-{a}") + cupola.load_artifact(f"kept-{b}")

        @pipeline
        def p() -> list[int]:
            a, b = makes(1), makes(2)
            looks(a, b, 1)
            return looks(a, b, 2)
        """
    )
    assert run.output.load() == [1, 1, 1, 2, 2, 2]
    made = run.steps["makes_2"]
    assert made.metadata["n"] == 2
    assert "made-2" in made.tags
    assert str(made.logs()) == "made 2"
    assert made.resources.peak_bytes > 1_000_000
    assert made.resources.cpu_s >= 0


@pytest.mark.feature("ENG-01")
def test_hooks_of_steps_in_workers_are_called_in_the_program_once_each_and_their_output_is_the_steps(home) -> None:
    told: list[tuple[str, str, str]] = []

    def hook(event: str) -> Callable[[Any], None]:
        def tell(one: cupola.StepRun) -> None:
            told.append((event, one.name, str(one.status)))
            print(event, "of", one.name, os.getpid())
            raise ValueError("hook trouble")

        return tell

    hooks = {event: hook(event) for event in ("on_start", "on_success", "on_failure", "on_end")}
    good = shows.with_options(name="good", **hooks)
    bad = fails.with_options(name="bad", retry=cupola.Retry(attempts=2, delay=0.0), **hooks)

    @pipeline(on_error="continue", settings={"local": {"workers": 2}})
    def p() -> None:
        good()
        bad()

    with pytest.raises(RunFailed) as caught:
        p()
    run = caught.value.run
    assert sorted(told) == [
        ("on_end", "bad", "failed"),
        ("on_end", "good", "completed"),
        ("on_failure", "bad", "failed"),
        ("on_start", "bad", "running"),
        ("on_start", "good", "running"),
        ("on_success", "good", "completed"),
    ]
    for name, said, events in (
        ("good", "shown", ("on_start", "on_success", "on_end")),
        ("bad", "failing", ("on_start", "on_failure", "on_end")),
    ):
        log = str(run.logs(step=name))
        assert said in log
        for event in events:
            assert log.count(f"{event} of {name} {os.getpid()}") == 1, log
        assert log.count("ValueError: hook trouble") == 3
    assert len(run.steps["bad"].attempts) == 2
    assert isinstance(caught.value.__cause__, OSError)


@step(cache=False)
def shows() -> int:
    print("shown")
    return 1


@step(cache=False)
def fails() -> int:
    print("failing")
    raise OSError("no luck")


@pytest.mark.feature("ENG-01", "ENG-03")
def test_children_of_a_mapped_step_share_the_workers_and_follow_on_each_other(run_steps) -> None:
    run = run_steps(
        """
        @step(cache=False)
        def numbers() -> list[int]:
            return list(range(6))

        @step(cache=False, retry=Retry(attempts=2, delay=0.0))
        def inc(x: int) -> int:
            print("inc", x)
            if x == 3 and cupola.get_step_context().attempt == 1:
                os._exit(1)
            return x + 1

        @step(cache=False)
        def double(x: int) -> list[int]:
            return [2 * x, os.getpid()]

        @step(cache=False)
        def gather(xs: list[list[int]]) -> list[list[int]]:
            return xs

        @pipeline
        def p() -> list[list[int]]:
            return gather(double.map(inc.map(numbers())))
        """
    )
    assert set(states(run).values()) == {"completed"}
    assert [value for value, _pid in run.output.load()] == [2, 4, 6, 8, 10, 12]
    assert len({pid for _value, pid in run.output.load()}) > 1
    assert str(run.logs(step="inc[4]")) == "inc 4"
    assert len(run.steps["inc[3]"].attempts) == 2


# Limits and deaths.


@pytest.mark.feature("ENG-02")
def test_a_timeout_holds_for_a_step_alone_in_c_code_from_any_thread(run_steps) -> None:
    run = run_steps(
        """
        import itertools

        @step(cache=False, timeout=0.5)
        def holds() -> int:
            Path("child").write_text(str(subprocess.Popen(["sleep", "600"], start_new_session=True).pid))
            return sum(itertools.repeat(1, 10**12))

        @step(cache=False, timeout=0.5)
        async def waits(x: int = 0) -> int:
            import asyncio
            await asyncio.sleep(600)

        @pipeline(on_error="continue")
        def p():
            waits()
            holds()
        """,
        """
        thread = threading.Thread(target=p.with_options(raise_on_failure=False))
        began = time.monotonic()
        thread.start()
        thread.join()
        assert time.monotonic() - began < 10
        assert not os.path.exists(f"/proc/{Path('child').read_text()}")
        """,
    )
    assert states(run) == {"waits": "failed", "holds": "failed"}
    for one in run.steps.values():
        assert one.error is not None
        assert one.error.type == "cupola.middleware.limits.StepTimeout"
        assert "timeout of 0.5 s" in one.error.message


@pytest.mark.feature("ENG-01", "ENG-08")
def test_a_step_that_dies_fails_alone_with_all_that_is_known_and_is_tried_again(run_steps) -> None:
    run = run_steps(
        """
        @step(cache=False, retry=Retry(attempts=3, delay=0.01))
        def dies() -> int:
            print("last words", flush=True)
            if cupola.get_step_context().attempt < 3:
                os.kill(os.getpid(), signal.SIGKILL)
            return os.getpid()

        @step(cache=False)
        def crashes() -> int:
            meet("crashes", "good")
            import ctypes
            ctypes.string_at(0)

        @step(cache=False)
        def good() -> int:
            return meet("good", "crashes")

        @step(cache=False)
        def after(x: int) -> int:
            return x

        @pipeline(on_error="continue")
        def p():
            crashes()
            after(good())
            after(dies())
        """
    )
    assert states(run) == {
        "crashes": "failed", "good": "completed", "after": "completed", "dies": "completed", "after_2": "completed",
    }  # fmt: skip
    error = run.steps["crashes"].error
    assert error is not None
    assert error.signal == "SIGSEGV"
    assert "peak memory" in error.message
    attempts = run.steps["dies"].attempts
    assert [attempt.error.signal if attempt.error else "" for attempt in attempts] == ["SIGKILL", "SIGKILL", ""]
    assert "last words" in attempts[0].error.traceback
    assert str(run.error).startswith("Killed: step 'crashes' was ended by SIGSEGV")


@pytest.mark.feature("ENG-01", "ENG-05")
def test_a_step_that_crashed_with_the_driver_has_a_process_of_its_own_when_resumed(
    tmp_path, run_python, run_cupola
) -> None:
    program = write(
        tmp_path,
        """
        @step(cache=False)
        def early() -> int:
            return os.getpid()

        @step(cache=False)
        def crashes(x: int) -> int:
            import ctypes
            ctypes.string_at(0)

        @pipeline
        def p():
            crashes(early())
        """,
    )
    assert run_python(program).returncode == -signal.SIGSEGV
    assert str(Client().runs.list()[0].status) == "lost"
    done = run_cupola("resume", "last")
    assert done.returncode == 1, done.stderr
    run = Client().runs.list()[0]
    assert states(run) == {"early": "completed", "crashes": "failed"}
    error = run.steps["crashes"].error
    assert error is not None
    assert error.signal == "SIGSEGV"
    # Without a worker it takes the run along again.
    assert run_cupola("resume", "last", "--in-process").returncode == -signal.SIGSEGV


@pytest.mark.feature("ENG-01")
@pytest.mark.parametrize(
    ("mode", "slow", "later"),
    [("stop", "completed", "skipped"), ("kill", "cancelled", "skipped"), ("continue", "completed", "completed")],
)
def test_what_runs_at_a_failure_ends_as_on_error_says(run_steps, mode, slow, later) -> None:
    run = run_steps(
        f"""
        @step(cache=False)
        def bad() -> int:
            until(Path("slow").exists)
            raise ValueError("no luck")

        @step(cache=False)
        def slow() -> int:
            Path("slow").touch()
            if {mode == "kill"}:
                time.sleep(600)
            time.sleep(0.5)
            return 1

        @step(cache=False)
        def later(x: int) -> int:
            return x

        @step(cache=False)
        def needs(x: int) -> int:
            return x

        @pipeline(on_error={mode!r})
        def p():
            needs(bad())
            later(slow())
        """
    )
    assert str(run.status) == "failed"
    assert states(run) == {"bad": "failed", "needs": "skipped", "slow": slow, "later": later}


HOSTILE = {
    "closes": ("os.close(1); os.close(2); sys.stdout.close(); return 1", "completed", ""),
    "closes_all": ("os.closerange(3, 4096); return 1", "failed", "closed the descriptors"),
    "forks": ("os.fork(); return 1", "completed", ""),
    "moves": ("os.chdir('/'); os.environ.clear(); sys.path.clear(); return 1", "completed", ""),
    "ignores": ("[signal.signal(n, signal.SIG_IGN) for n in (2, 15, 17, 14)]; return 1", "completed", ""),
    "leaves_thread": ("threading.Thread(target=time.sleep, args=(600,)).start(); return 1", "completed", ""),
    "leaves_child": ("subprocess.Popen(['sleep', '600'], start_new_session=True); return 1", "completed", ""),
    "exits": ("sys.exit(3)", "failed", "SystemExit: 3"),
    "exits_at_once": ("os._exit(0)", "failed", "exit code 0"),
    "prints": ("os.write(1, bytes(range(256))); sys.stdout.buffer.write(b'\\xff\\x00'); return 1", "completed", ""),
    "fills": (
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30)); return len(b'x' * 2**31)",
        "failed", "MemoryError",
    ),
    "recurses": ("sys.setrecursionlimit(10**9); return smash()", "failed", "SIGSEGV"),
    "aborts": ("os.abort()", "failed", "SIGABRT"),
    "interrupts_itself": ("signal.alarm(1); time.sleep(60)", "failed", "SIGALRM"),
}  # fmt: skip


@needs_linux
@pytest.mark.feature("ENG-01", "ENG-02", "ENG-08")
def test_hostile_steps_harm_no_other_and_the_record_tells_what_happened(run_steps, run_cupola) -> None:
    steps = "\n".join(
        f"        @step(cache=False)\n        def {name}() -> int:\n            {body}\n"
        for name, (body, _status, _words) in HOSTILE.items()
    )
    calls = "\n".join(f"            {name}()\n            good()" for name in HOSTILE)
    run = run_steps(
        f"""
        def smash():
            import itertools
            chain = iter([1])
            for _ in range(10**6):
                chain = itertools.chain(chain)
            return next(chain)

{steps}
        @step(cache=False)
        def good() -> str:
            print("good output")
            return os.getcwd() + str("PATH" in os.environ)

        @pipeline(on_error="continue")
        def p():
{calls}
        """
    )
    for name, (_body, status, words) in HOSTILE.items():
        found = run.steps[name]
        assert str(found.status) == status, (name, found.error)
        assert words in str(found.error)
    good = [one for name, one in run.steps.items() if name.startswith("good")]
    assert {str(one.status) for one in good} == {"completed"}
    assert {one.output.load() for one in good} == {good[0].output.load()}
    assert good[0].output.load().endswith("True")
    assert all("good output" in str(one.logs()) for one in good)
    done = run_cupola("doctor", "store")
    assert done.returncode == 0, done.stdout


# Stopping.

STOPPABLE = """
    def note(pid):
        with open("pids", "a") as file:
            file.write(f"{pid}\\n")

    @step(cache=False)
    def early() -> int:
        return 1

    @step(cache=False)
    def tidies(x: int) -> int:
        note(os.getpid())
        note(subprocess.Popen(["sleep", "600"], start_new_session=True).pid)
        try:
            meet("tidies", "stubborn")
            Path("ready").touch()
            time.sleep(600)
        finally:
            Path("tidied").touch()
        return 2

    @step(cache=False)
    def stubborn(x: int) -> int:
        note(os.getpid())
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        note(subprocess.Popen(["sh", "-c", "trap '' TERM; while :; do sleep 1; done"]).pid)
        meet("stubborn", "tidies")
        while True:
            try:
                time.sleep(600)
            except BaseException:
                pass

    @step(cache=False)
    def late(a: int, b: int) -> int:
        return a + b

    @pipeline
    def p():
        x = early()
        late(tidies(x), stubborn(x))
"""
CANCELLED = {"early": "completed", "tidies": "cancelled", "stubborn": "cancelled", "late": "skipped"}


def noted(folder: Path) -> list[int]:
    return [int(word) for word in (folder / "pids").read_text().split()]


@needs_linux
@pytest.mark.feature("ENG-02", "ENG-09")
@pytest.mark.parametrize("how", ["SIGINT", "SIGTERM", "cancel", "twice"])
def test_a_run_is_cancelled_with_all_that_its_steps_started(start, tmp_path, run_cupola, how) -> None:
    process = start(STOPPABLE)
    began = time.monotonic()
    if how == "cancel":
        done = run_cupola("cancel", "last")
        assert done.returncode == 0, done.stderr
    else:
        process.send_signal(signal.SIGINT if how == "twice" else signal.Signals[how])
    if how == "twice":
        wait_until((tmp_path / "tidied").exists, "the first Ctrl-C stops the step that can be stopped")
        process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=30)
    took = time.monotonic() - began
    assert took < (2 if how == "twice" else 10)
    run = Client().runs.list()[0]
    assert str(run.status) == "cancelled"
    assert states(run) == CANCELLED
    assert (tmp_path / "tidied").exists()
    assert [pid for pid in noted(tmp_path) if is_alive(pid)] == []
    assert "stopping step " in output
    assert "early" not in output.partition("stopping")[2].splitlines()[0]


@pytest.mark.feature("ENG-09")
def test_a_run_in_a_thread_is_cancelled_by_another_process(start, tmp_path, run_cupola) -> None:
    main = """
        thread = threading.Thread(target=p.with_options(raise_on_failure=False))
        thread.start()
        thread.join()
        """
    process = start(STOPPABLE, main)
    done = run_cupola("cancel", "last")
    assert done.returncode == 0, done.stderr
    process.communicate(timeout=30)
    assert states(Client().runs.list()[0]) == CANCELLED


@needs_linux
@pytest.mark.feature("ENG-02", "ENG-08")
def test_nothing_survives_a_run_whose_process_is_killed(start, tmp_path, run_cupola) -> None:
    process = start(STOPPABLE)
    everyone = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.communicate()
    wait_until(lambda: not any(map(is_alive, noted(tmp_path))), "all steps and what they started are gone")
    wait_until(lambda: not any(is_alive(one.pid) for one in everyone), "nursery and workers are gone")
    run = Client().runs.list()[0]
    assert str(run.status) == "lost"
    assert states(run) == {"early": "completed", "tidies": "lost", "stubborn": "lost", "late": "pending"}


@needs_linux
@pytest.mark.feature("ENG-02", "ENG-06")
def test_a_driver_from_which_the_run_is_taken_ends_its_workers(start, tmp_path, run_cupola) -> None:
    process = start(STOPPABLE)
    first = noted(tmp_path)
    (tmp_path / "go.py").write_text((tmp_path / "go.py").read_text())
    with subprocess.Popen(
        [Path(sys.executable).with_name("cupola"), "resume", "last", "--take-over"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as winner:
        try:
            output, _ = process.communicate(timeout=30)
            assert process.returncode != 0
            assert "was taken over by" in output
            assert [pid for pid in first if is_alive(pid)] == []
            wait_until(lambda: len(noted(tmp_path)) == 2 * len(first), "the steps run again")
            winner.send_signal(signal.SIGTERM)
            winner.communicate(timeout=30)
        finally:
            winner.kill()
    assert states(Client().runs.list()[0]) == CANCELLED


@pytest.mark.feature("ENG-09")
def test_a_result_that_comes_after_the_cancel_is_kept_and_not_used(start, tmp_path, run_cupola) -> None:
    process = start(
        """
        def tick(name):
            with open(name + ".ticks", "a") as file:
                file.write("x")

        @step(cache=False)
        def late() -> int:
            tick("late")
            meet("late", "other")
            try:
                Path("ready").touch()
                time.sleep(600)
            except BaseException:
                return 5

        @step(cache=False)
        def other() -> int:
            tick("other")
            meet("other", "late")
            if not Path("go").exists():
                time.sleep(600)
            return 6

        @step(cache=False)
        def uses(a: int, b: int) -> int:
            tick("uses")
            return a + b

        @pipeline
        def p() -> int:
            return uses(late(), other())
        """
    )
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    run = Client().runs.list()[0]
    assert str(run.status) == "cancelled"
    assert states(run) == {"late": "completed", "other": "cancelled", "uses": "skipped"}
    (tmp_path / "go").touch()
    done = run_cupola("resume", "last", "--workers", "2")
    assert done.returncode == 0, done.stderr
    assert Client().runs.list()[0].output.load() == 11
    ticks = {name: (tmp_path / f"{name}.ticks").read_text() for name in ("late", "other", "uses")}
    assert ticks == {"late": "x", "other": "xx", "uses": "x"}


# What is shown.


@pytest.mark.feature("ENG-01")
def test_the_output_of_steps_that_run_at_once_is_shown_by_line_with_their_names(tmp_path, run_python) -> None:
    program = write(
        tmp_path,
        """
        @step(cache=False)
        def left() -> int:
            meet("left", "right")
            print("to the left")
            meet("left-said", "right-said")
            return 1

        @step(cache=False)
        def right() -> int:
            meet("right", "left")
            print("to the right", file=sys.stderr)
            meet("right-said", "left-said")
            return 1

        @pipeline
        def p():
            left()
            right()
        """,
    )
    done = run_python(program, CUPOLA_WORKERS="2")
    assert done.returncode == 0
    assert done.stdout.splitlines() == ["[left] to the left"]
    lines = done.stderr.splitlines()
    assert "[right] to the right" in lines
    assert lines.index("[right] to the right") < next(i for i, line in enumerate(lines) if "✓ right" in line)
    log = Client().runs.list()[0].logs()
    assert sorted(log) == ["to the left", "to the right"]
    assert {line.stream for line in log} == {"stdout", "stderr"}


@pytest.mark.feature("ENG-01")
def test_a_reader_sees_what_runs_in_workers_while_it_runs(start, tmp_path, run_cupola) -> None:
    process = start(
        """
        @step(cache=False)
        def talks(n: int) -> int:
            print("said by", n, flush=True)
            meet(f"talks{n}", "talks0", "talks1")
            Path("ready").touch()
            until(Path("go").exists)
            return n

        @pipeline
        def p():
            talks(0)
            talks(1)
        """
    )
    run = Client().runs.list()[0]
    assert states(run) == {"talks": "running", "talks_2": "running"}
    wait_until(lambda: "said by 1" in str(run.logs(step="talks_2")), "the log of a running step can be read")
    shown = json.loads(run_cupola("show", "last", "--json").stdout)
    assert [one["status"] for one in shown["steps"]] == ["running", "running"]
    (tmp_path / "go").touch()
    process.communicate(timeout=30)
    assert str(Client().runs.get(run.id).status) == "completed"
