"""Workers: steps in processes of their own, what they do to these, and that none survives."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

HERE = Path(__file__).resolve().parent
HEAD = """
import os, signal, subprocess, sys, threading, time
from pathlib import Path
from cupola import step, pipeline
"""
TAIL = """
if __name__ == "__main__":
    from pool_driving import Driving, drive
"""
needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="what other systems tell of processes is less")


def write(folder: Path, steps: str, main: str = "drive(p)", name: str = "run.py") -> Path:
    """Write a program with steps, a pipeline `p` of them, and what it does when it is started."""
    path = folder / name
    path.write_text(HEAD + textwrap.dedent(steps) + TAIL + textwrap.indent(textwrap.dedent(main), "    ") + "\n")
    return path


@pytest.fixture
def run_steps(tmp_path: Path, run_python: Callable[..., Any]) -> Callable[..., dict[str, Any]]:
    """Return a function that runs steps in workers and returns what became of each, by name."""

    def run(steps: str, main: str = "drive(p)", **environment: str) -> dict[str, Any]:
        path = write(tmp_path, steps, main)
        done = run_python(path, PYTHONPATH=str(HERE), timeout_s=90, **environment)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return run


def wait_until(condition: Callable[[], Any], what: str, timeout_s: float = 15.0) -> Any:
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline, what
        time.sleep(0.02)
    return found


@pytest.mark.feature("ENG-01")
def test_steps_run_in_processes_of_their_own_at_the_same_time(run_steps) -> None:
    landed = run_steps(
        """
        def meet(mine, other):
            Path(mine).touch()
            deadline = time.monotonic() + 20
            while not Path(other).exists():
                assert time.monotonic() < deadline
                time.sleep(0.01)
            return os.getpid()

        @step
        def left() -> int:
            print("left was here")
            return meet("left", "right")

        @step
        def right() -> int:
            return meet("right", "left")

        @step
        def both(a: int, b: int) -> list[int]:
            print("both")
            return [a, b, os.getpid(), os.getppid()]

        @pipeline
        def p():
            both(left(), right())
        """,
        "print(os.getpid(), end=' '); print(); drive(p)",
    )
    assert {landed[name]["status"] for name in landed} == {"completed"}
    a, b, pid, parent = landed["both"]["value"]
    assert a != b
    assert pid in (a, b)
    assert parent not in (a, b)
    assert landed["left"]["log"] == "left was here"
    assert landed["both"]["log"] == "both"
    assert {landed["left"]["worker"], landed["right"]["worker"]} == {1, 2}


@pytest.mark.feature("ENG-01")
def test_a_program_closures_and_lambdas_run_in_workers(run_steps) -> None:
    landed = run_steps(
        """
        import enum, functools
        from dataclasses import dataclass

        @dataclass
        class Point:
            x: int

        class Colour(enum.Enum):
            RED = 1

        class Own(Exception):
            pass

        def loud(function):
            @functools.wraps(function)
            def inner(*args, **kwargs):
                print("loud")
                return function(*args, **kwargs)
            return inner

        @step
        def named(n: int) -> Point:
            print(__name__, Point.__module__)
            return Point(n)

        @step
        @loud
        def wrapped(point: Point) -> int:
            assert type(point) is Point, type(point)
            return point.x + 1

        def make(offset):
            @step(name="closure")
            def inner(point: Point, colour: Colour) -> int:
                assert type(point) is Point and colour is Colour.RED
                return point.x + offset
            return inner

        double = step(lambda n: 2 * n, name="double")

        @step
        def fails() -> int:
            raise Own("mine")

        @pipeline
        def p():
            point = named(40)
            wrapped(point)
            make(100)(point, Colour.RED)
            double(21)
            fails()
        """
    )
    assert {name: entry["status"] for name, entry in landed.items()} == {
        **dict.fromkeys(("named", "wrapped", "closure", "double"), "completed"),
        "fails": "failed",
    }, landed
    assert {name: landed[name]["value"] for name in ("wrapped", "closure", "double")} == {
        "wrapped": 41,
        "closure": 140,
        "double": 42,
    }
    assert landed["named"]["log"] == "run run"
    assert landed["wrapped"]["log"] == "loud"
    assert landed["fails"]["type"] == "run.Own"
    assert (landed["fails"]["error"], landed["fails"]["own"]) == ("Own", "__main__")


@pytest.mark.feature("ENG-01")
def test_a_program_without_a_file_sends_its_steps_by_value(tmp_path: Path, run_python) -> None:
    text = textwrap.dedent(
        """
        import json
        from cupola.engine.recipes import make_recipe, follow_recipe
        from cupola.compiler.stepcompile import LiveStep
        from cupola import step

        class Point:
            x = 20

        @step
        def other(n):
            return n + 1

        @step
        def sum_up(n):
            return other(n) + Point.x

        live = LiveStep(function=sum_up.fn, annotations={}, positional=(), declarations=(), multiple=False,
                        retry_on=(ValueError,), hooks={"on_end": print}, files={})
        class Spec:
            name, source, code_digest = "sum_up", "x:sum_up", ""
        recipe = make_recipe(1, live, Spec, None)
        assert recipe.pickled and not recipe.module
        open("recipe", "wb").write(recipe.pickled)
        """
    )
    done = run_python("-c", text)
    assert done.returncode == 0, done.stderr
    reader = (
        "import pickle; live = pickle.load(open('recipe','rb')); print(live.function(1), live.retry_on, live.hooks)"
    )
    read = run_python("-c", reader)
    assert read.stdout.split(" ", 1)[0] == "22", read.stderr
    assert read.stdout.rstrip().endswith("(<class 'ValueError'>,) {}")


@pytest.mark.feature("ENG-01")
def test_a_step_that_reads_what_the_program_changed_goes_by_value(run_steps) -> None:
    landed = run_steps(
        """
        RATE = 1

        @step
        def read(n: int) -> int:
            return n * RATE

        @pipeline
        def p():
            read(1)
            read(2)
            read(3)
        """,
        "RATE = 10\ndrive(p)",
    )
    assert [landed[name]["value"] for name in ("read", "read_2", "read_3")] == [10, 20, 30]


@pytest.mark.feature("ENG-01")
def test_code_that_changed_since_it_was_compiled_is_refused(run_steps) -> None:
    landed = run_steps(
        """
        def helper():
            return 1

        @step
        def uses() -> int:
            return helper()

        @pipeline
        def p():
            uses()
        """,
        """
        driving = Driving(p)
        path = Path(__file__)
        path.write_text(path.read_text().replace("return 1", "return 2"))
        later = path.stat().st_mtime + 2
        os.utime(path, (later, later))
        import json
        try:
            result = driving.all()
        finally:
            driving.pool.close()
        print(json.dumps(result))
        """,
    )
    assert landed["uses"]["status"] == "failed"
    assert landed["uses"]["type"] == "cupola.errors.CodeChanged"
    assert "'uses' changed" in landed["uses"]["message"]
    assert "helper" in landed["uses"]["message"]


@pytest.mark.feature("ENG-01")
def test_a_run_that_a_worker_would_start_by_importing_is_an_error(run_steps) -> None:
    landed = run_steps(
        """
        @step
        def one() -> int:
            return 1

        @pipeline
        def p():
            one()

        if __name__ != "__main__":
            p()
        """
    )
    assert landed["one"]["type"] == "cupola.errors.RunAtImport"
    assert 'if __name__ == "__main__":' in landed["one"]["message"]
    assert "run.py:" in landed["one"]["message"]


@pytest.mark.feature("ENG-01", "ENG-08")
@pytest.mark.parametrize(
    ("body", "status", "failure", "name_of_signal", "words"),
    [
        ("os.close(1); os.close(2); sys.stdout.close(); return 1", "completed", "", "", ""),
        ("os.closerange(3, 4096); return 1", "failed", "Exited", "", "closed the descriptors"),
        ("os.chdir('/'); os.environ.clear(); sys.path.clear(); return 1", "completed", "", "", ""),
        ("[signal.signal(n, signal.SIG_IGN) for n in (2, 15, 17, 14)]; return 1", "completed", "", "", ""),
        ("threading.Thread(target=time.sleep, args=(600,)).start(); return 1", "completed", "", "", ""),
        ("subprocess.Popen(['sleep', '600'], start_new_session=True); return 1", "completed", "", "", ""),
        ("os.fork(); return 1", "completed", "", "", ""),
        ("sys.exit(3)", "failed", "SystemExit", "", "3"),
        ("os.write(1, bytes(range(256))); sys.stdout.buffer.write(b'\\xff\\x00'); return 1", "completed", "", "", ""),
        ("print('last words', flush=True); os._exit(7)", "failed", "Exited", "", "exit code 7"),
        ("print('last words', flush=True); os.kill(os.getpid(), 9)", "failed", "Killed", "SIGKILL", "peak memory"),
        ("print('last words', flush=True); os.abort()", "failed", "Killed", "SIGABRT", "SIGABRT"),
        ("import ctypes; print('last words', flush=True); ctypes.string_at(0)", "failed", "Killed", "SIGSEGV", "SEGV"),
        ("sys.setrecursionlimit(10**9); deep = lambda: deep(); return smash()", "failed", "Killed", "SIGSEGV", "SEGV"),
        (
            "import resource; resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30)); b'x' * 2**31; return 1",
            "failed",
            "MemoryError",
            "",
            "",
        ),
        ("os.setpgid(0, 0) if os.getpgrp() != os.getpid() else None; return 1", "completed", "", "", ""),
        ("signal.alarm(1); time.sleep(60); return 1", "failed", "Killed", "SIGALRM", "SIGALRM"),
        ("signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 32)); return 1", "completed", "", "", ""),
    ],
)
def test_a_hostile_step_harms_itself_alone(run_steps, body, status, failure, name_of_signal, words) -> None:
    landed = run_steps(
        f"""
        def smash():
            # A chain of objects that C code walks down by recursion.
            import itertools
            chain = iter([1])
            for _ in range(10 ** 6):
                chain = itertools.chain(chain)
            return next(chain)

        @step
        def hostile() -> int:
            {body}

        @step(cache=False)
        def good(n: int) -> str:
            print("good output")
            return os.getcwd() + "|" + str("HOME" in os.environ or "PATH" in os.environ)

        @pipeline
        def p():
            hostile()
            for n in range(3):
                good(n)
        """,
        "drive(p, size=1)",
    )
    hostile = landed["hostile"]
    assert (hostile["status"], hostile["type"], hostile["signal"]) == (status, failure, name_of_signal), hostile
    assert words in hostile["message"]
    if "last words" in body:
        assert "last words" in hostile["traceback"]
        assert hostile["log"].startswith("last words")
    if hostile["type"] in ("Killed", "Exited"):
        assert hostile["peak"] > 0
    for name in ("good", "good_2", "good_3"):
        assert landed[name]["status"] == "completed", landed[name]
        assert landed[name]["log"] == "good output"
        assert not landed[name]["value"].startswith("/|")
        assert landed[name]["value"].endswith("True")


@pytest.mark.feature("ENG-02")
def test_a_timeout_ends_the_step_and_all_that_it_started(run_steps, tmp_path: Path) -> None:
    landed = run_steps(
        """
        @step(timeout=0.5)
        def sleeps() -> int:
            subprocess.Popen(["sh", "-c", "echo $$ > child; exec sleep 600"], start_new_session=True)
            while not Path("child").exists() or not Path("child").read_text(): time.sleep(0.01)
            try:
                time.sleep(600)
            finally:
                print("tidied", flush=True)

        @step(timeout=0.5)
        def holds() -> int:
            # One call of C code that holds the interpreter and sees no signal.
            import itertools
            return sum(itertools.repeat(1, 10 ** 12))

        @step
        def after(n: int) -> int:
            return n

        @pipeline
        def p():
            sleeps()
            holds()
            for n in range(3):
                after(n)
        """
    )
    assert landed["sleeps"]["type"] == "cupola.middleware.limits.StepTimeout"
    assert "timeout of 0.5 s" in landed["sleeps"]["message"]
    assert landed["sleeps"]["log"] == "tidied"
    assert landed["holds"]["type"] == "cupola.middleware.limits.StepTimeout"
    assert "0.5 s" in landed["holds"]["message"]
    assert "was killed" in landed["holds"]["message"]
    assert {landed[name]["status"] for name in ("after", "after_2", "after_3")} == {"completed"}
    assert not psutil.pid_exists(int((tmp_path / "child").read_text()))


STOPPABLE = """
    @step
    def busy() -> int:
        subprocess.Popen(["sh", "-c", "trap '' TERM; echo $$ > child; while :; do sleep 1; done"])
        while not Path("child").exists() or not Path("child").read_text(): time.sleep(0.01)
        Path("ready").touch()
        try:
            time.sleep(600)
        finally:
            print("tidied", flush=True)

    @step
    def stubborn() -> int:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        Path("ready").touch()
        while True:
            try:
                time.sleep(600)
            except BaseException:
                pass

    @pipeline
    def p():
        busy()
        stubborn()
"""


@pytest.mark.feature("ENG-02")
@pytest.mark.parametrize(("name", "log"), [("busy", "tidied"), ("stubborn", "")])
def test_a_step_that_is_stopped_tidies_up_and_is_killed_if_it_will_not(run_steps, tmp_path, name, log) -> None:
    landed = run_steps(
        STOPPABLE,
        f"""
        import json
        driving = Driving(p)
        driving.start({name!r})
        while not Path("ready").exists():
            driving.pool.wait(0.02)
        position = next(iter(driving.starts))
        driving.pool.stop([position], 0.5)
        began = time.monotonic()
        driving.wait()
        driving.landed[{name!r}]["took"] = time.monotonic() - began
        driving.pool.close()
        print(json.dumps(driving.landed))
        """,
    )
    assert landed[name]["status"] == "cancelled"
    assert landed[name]["log"] == log
    assert landed[name]["took"] < 5
    if name == "busy":
        assert not psutil.pid_exists(int((tmp_path / "child").read_text()))


ORPHANS = """
    def note(what):
        with open("pids", "a") as file:
            file.write(f"{what}\\n")

    def daemon():
        # Twice forked, in a session of its own: nothing in the process tree leads to it.
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                note(os.getpid())
                time.sleep(600)
            os._exit(0)
        os.wait()

    @step
    def leaves(n: int) -> int:
        note(os.getpid())
        daemon()
        note(subprocess.Popen(["sleep", "600"], start_new_session=True).pid)
        note(subprocess.Popen(["sh", "-c", "trap '' TERM HUP; while :; do sleep 1; done"]).pid)
        if n:
            Path("ready").touch()
            time.sleep(600)
        return n

    @pipeline
    def p():
        leaves(0)
        leaves(1)
"""


def alive(folder: Path) -> list[int]:
    return [int(word) for word in (folder / "pids").read_text().split() if is_alive(int(word))]


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def cleanup(tmp_path: Path) -> Iterator[None]:
    yield
    if (tmp_path / "pids").exists():
        for pid in alive(tmp_path):
            os.kill(pid, signal.SIGKILL)


@needs_linux
@pytest.mark.feature("ENG-02")
@pytest.mark.usefixtures("cleanup")
def test_no_process_survives_a_driver_that_is_killed(tmp_path: Path) -> None:
    path = write(tmp_path, ORPHANS)
    driver = subprocess.Popen(
        [sys.executable, path], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(HERE)}, stdout=subprocess.DEVNULL
    )
    try:
        wait_until((tmp_path / "ready").exists, "the step didn't start", 60)
        wait_until(lambda: len(alive(tmp_path)) == 8, "not all processes of both steps started", 30)
        everyone = [child.pid for child in psutil.Process(driver.pid).children(recursive=True)]
    finally:
        driver.kill()
        driver.wait()
    wait_until(lambda: not alive(tmp_path), f"alive: {alive(tmp_path)}", 10)
    wait_until(lambda: not any(map(is_alive, everyone)), "nursery or workers survive", 10)


@needs_linux
@pytest.mark.feature("ENG-02")
@pytest.mark.usefixtures("cleanup")
def test_what_a_finished_step_left_behind_lives_until_the_pool_closes(run_steps, tmp_path: Path) -> None:
    landed = run_steps(
        ORPHANS,
        """
        import json
        driving = Driving(p)
        driving.start("leaves")
        result = driving.wait()
        pids = [int(word) for word in Path("pids").read_text().split()]
        result["alive"] = [os.path.exists(f"/proc/{pid}") for pid in pids]
        began = time.monotonic()
        driving.pool.close(0.3)
        result["took"] = time.monotonic() - began
        print(json.dumps(driving.landed))
        """,
    )
    assert landed["leaves"]["alive"] == [True] * 4
    assert landed["leaves"]["took"] < 5
    assert alive(tmp_path) == []


@needs_linux
@pytest.mark.feature("ENG-02")
@pytest.mark.usefixtures("cleanup")
def test_a_crash_takes_along_what_its_own_step_started_only(run_steps, tmp_path: Path) -> None:
    landed = run_steps(
        """
        def start(name):
            if os.fork() == 0:
                os.setsid()
                if os.fork() == 0:
                    Path(name).write_text(str(os.getpid()))
                    os.execvp("sleep", ["sleep", "600"])
                os._exit(0)
            os.wait()
            while not Path(name).exists() or not Path(name).read_text(): time.sleep(0.01)

        @step
        def first() -> int:
            start("kept")
            time.sleep(0.1)
            return 1

        @step
        def second(n: int) -> int:
            start("ended")
            os.kill(os.getpid(), 11)

        @pipeline
        def p():
            second(first())
        """,
        """
        import json
        driving = Driving(p, size=1)
        result = driving.all()
        for name in ("kept", "ended"):
            result[name] = os.path.exists(f"/proc/{Path(name).read_text()}")
        driving.pool.close(0.3)
        result["closed"] = os.path.exists(f"/proc/{Path('kept').read_text()}")
        print(json.dumps(result))
        """,
    )
    assert landed["second"]["signal"] == "SIGSEGV"
    assert (landed["kept"], landed["ended"], landed["closed"]) == (True, False, False)


@pytest.mark.feature("ENG-01")
def test_an_attempt_that_died_is_tried_again_in_a_new_worker(run_steps) -> None:
    landed = run_steps(
        """
        from cupola import Retry

        @step(retry=Retry(attempts=3, delay=0.01))
        def dies() -> int:
            os._exit(9)

        @step(retry=Retry(attempts=3, delay=0.01, on=ValueError))
        def picky() -> int:
            os._exit(9)

        @pipeline
        def p():
            dies()
            picky()
        """,
        """
        import json
        driving = Driving(p, size=1)
        result = []
        for attempt in (1, 2, 3):
            driving.start("dies", attempt=attempt)
            result.append(driving.wait()["again"])
        driving.start("picky")
        result.append(driving.wait()["again"])
        driving.pool.close()
        print(json.dumps(result))
        """,
    )
    assert [again is not None for again in landed] == [True, True, False, False]


@pytest.mark.feature("ENG-01")
def test_a_worker_has_the_environment_that_it_was_made_with(run_steps) -> None:
    landed = run_steps(
        """
        @step(cache=False, env={"OWN": "1"})
        def look() -> list[str]:
            return [str(os.getpid()), os.environ.get("DEVICES", ""), os.environ.get("OWN", ""), sys.argv[1]]

        @pipeline
        def p():
            look()
        """,
        """
        import json
        sys.argv[1:] = ["argument"]
        driving = Driving(p, size=1)
        result = []
        for env in ({}, {"DEVICES": "0"}, {"DEVICES": "0"}, {"DEVICES": "1"}):
            driving.start("look", env)
            result.append(driving.wait()["value"])
        driving.pool.close()
        print(json.dumps(result))
        """,
    )
    assert [rest for _pid, *rest in landed] == [[text, "1", "argument"] for text in ("", "0", "0", "1")]
    pids = [pid for pid, *_rest in landed]
    assert len(set(pids)) == 3
    assert pids[1] == pids[2]


@pytest.mark.feature("ENG-01")
def test_what_workers_print_is_shown_line_by_line_with_the_step(run_steps) -> None:
    shown = run_steps(
        """
        @step(cache=False)
        def talks(n: int) -> int:
            print("one", flush=True)
            print("bar 1%\\rbar 2%")
            print("to stderr", file=sys.stderr)
            sys.stdout.write("no end")
            return n

        @pipeline
        def p():
            talks(0)
            talks(1)
        """,
        """
        import json
        shown = []
        driving = Driving(p, size=2, show=lambda data, stream: shown.append((data.decode(), stream)))
        driving.start("talks")
        driving.wait()
        alone = list(shown)
        shown.clear()
        driving.all()
        driving.pool.close()
        print(json.dumps([alone, sorted(line for data, _ in shown for line in data.splitlines())]))
        """,
    )
    alone, several = shown
    assert "".join(data for data, stream in alone if stream == 1) == "one\nbar 2%\nno end\n"
    assert "".join(data for data, stream in alone if stream == 2) == "to stderr\n"
    assert set(several) <= {
        f"{prefix}{line}"
        for line in ("one", "bar 2%", "no end", "to stderr")
        for prefix in ("", "[talks] ", "[talks_2] ")
    }
    assert "[talks] one" in several or "[talks_2] one" in several


@pytest.mark.feature("ENG-01")
def test_a_worker_finds_artifacts_by_name_and_records_what_a_step_says(run_steps) -> None:
    landed = run_steps(
        """
        import cupola

        @step(cache=False)
        def says() -> int:
            cupola.log_metadata({"rows": 3})
            cupola.save_artifact(list(range(10)), name="kept")
            return len(cupola.load_artifact("kept"))

        @step(cache=False)
        def asks() -> int:
            try:
                cupola.load_artifact("unknown")
            except cupola.NotFound:
                return 1
            return 0

        @pipeline
        def p():
            says()
            asks()
        """
    )
    assert landed["says"]["value"] == 10, landed
    assert landed["asks"]["value"] == 1, landed


@pytest.mark.feature("ENG-01")
def test_steps_in_workers_use_multiprocessing_threads_and_runs_of_their_own(run_steps) -> None:
    landed = run_steps(
        """
        import asyncio, multiprocessing
        from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

        def double(n):
            return 2 * n

        @step(cache=False)
        def processes(method: str) -> list[int]:
            with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(method)) as pool:
                return list(pool.map(double, [1, 2, 3]))

        @step(cache=False)
        def terminated() -> int:
            # At once, so that the signal comes while the child is being made.
            for _ in range(30):
                child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(600,))
                child.start()
                child.terminate()
                child.join(20)
                if child.exitcode != -15:
                    return child.exitcode
            return child.exitcode

        @step(cache=False)
        def threads() -> list[int]:
            with ThreadPoolExecutor(4) as pool:
                return list(pool.map(double, [1, 2, 3]))

        @step(cache=False)
        async def waits() -> int:
            await asyncio.sleep(0.01)
            return 7

        @step(cache=False)
        def one(n: int) -> int:
            print("inner", n)
            return n + 1

        @pipeline
        def inner(n: int = 1):
            one(n)

        @step(cache=False)
        def starts_a_run() -> str:
            run = inner(n=41)
            return f"{run.status} {run.steps['one'].output.load()}"

        @pipeline
        def p():
            for method in ("fork", "spawn", "forkserver"):
                processes(method)
            terminated()
            threads()
            waits()
            starts_a_run()
        """
    )
    assert {name: entry["value"] for name, entry in landed.items()} == {
        "processes": [2, 4, 6],
        "processes_2": [2, 4, 6],
        "processes_3": [2, 4, 6],
        "terminated": -15,
        "threads": [2, 4, 6],
        "waits": 7,
        "starts_a_run": "completed 42",
    }, landed
    assert "inner 41" in landed["starts_a_run"]["log"]


@pytest.mark.feature("ENG-01", "ENG-08")
def test_a_pool_goes_on_when_its_nursery_is_killed(run_steps) -> None:
    landed = run_steps(
        """
        @step(cache=False)
        def waits() -> int:
            Path("ready").touch()
            time.sleep(600)

        @step(cache=False)
        def quick() -> int:
            return 1

        @pipeline
        def p():
            waits()
            quick()
        """,
        """
        import json, psutil
        driving = Driving(p)
        driving.start("waits")
        while not Path("ready").exists():
            driving.pool.wait(0.02)
        everyone = psutil.Process().children(recursive=True)
        psutil.Process().children()[0].kill()
        began = time.monotonic()
        driving.wait()
        took = time.monotonic() - began
        driving.start("quick")
        driving.wait()
        gone, alive = psutil.wait_procs(everyone, 5)
        driving.pool.close()
        print(json.dumps([driving.landed, took, len(alive), len(everyone)]))
        """,
    )
    steps, took, alive, everyone = landed
    assert (steps["waits"]["status"], steps["waits"]["type"], steps["waits"]["signal"]) == (
        "failed",
        "Killed",
        "SIGKILL",
    )
    assert steps["quick"]["value"] == 1
    assert took < 1.0
    assert (alive, everyone) == (0, 2)


@pytest.mark.feature("ENG-08")
def test_waiting_ends_at_once_for_signals_and_descriptors(run_steps) -> None:
    took, caught, woken, status = run_steps(
        """
        @step(cache=False)
        def waits() -> int:
            Path("ready").touch()
            time.sleep(600)

        @pipeline
        def p():
            waits()
        """,
        """
        import json
        driving = Driving(p)
        driving.start("waits")
        while not Path("ready").exists():
            driving.pool.wait(0.02)
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
        began, caught = time.monotonic(), False
        try:
            driving.pool.wait(30)
        except KeyboardInterrupt:
            caught = True
        source, target = os.pipe()
        threading.Timer(0.1, os.write, (target, b"x")).start()
        woken = driving.pool.wait(30, [source])
        took = time.monotonic() - began
        driving.pool.stop([0], 1.0)
        status = driving.wait()["status"]
        driving.pool.close()
        driving.pool.close()
        print(json.dumps([took, caught, woken, status]))
        """,
    )
    assert took < 5
    assert (caught, woken, status) == (True, [], "cancelled")


@pytest.mark.feature("ENG-01", "ENG-02")
def test_a_step_can_be_stopped_before_its_worker_is_there(run_steps) -> None:
    landed = run_steps(
        """
        if __name__ != "__main__":
            time.sleep(600)

        @step(cache=False)
        def never() -> int:
            return 1

        @pipeline
        def p():
            never()
        """,
        """
        import json
        driving = Driving(p)
        results = []
        for wait_s in (0.0, 1.0):
            driving.start("never")
            driving.pool.wait(wait_s)
            driving.pool.stop([0], 0.5)
            results.append(driving.wait()["status"])
        driving.pool.close()
        print(json.dumps(results))
        """,
    )
    assert landed == ["cancelled", "cancelled"]


@pytest.mark.feature("ENG-01")
def test_large_values_and_closures_take_their_way_by_the_store(run_steps) -> None:
    landed = run_steps(
        """
        def make(table):
            @step(cache=False)
            def holder(n: int) -> int:
                return len(table) + n
            return holder

        @step(cache=False)
        def makes() -> bytes:
            return bytes(64 * 1024 * 1024)

        @step(cache=False)
        def takes(data: bytes) -> int:
            return len(data)

        @pipeline
        def p():
            make(os.urandom(3_000_000))(1)
            takes(makes())
        """,
        """
        import json, resource
        driving = Driving(p)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        driving.start("holder"); driving.wait()
        driving.start("makes")
        while "makes" not in driving.landed:
            for landed in driving.pool.wait(5):
                driving.manifests[landed.position, "output"] = landed.outcome.outputs[0].manifest
                driving.landed["makes"] = {"name": landed.outcome.outputs[0].name}
        position, manifest = next(iter(driving.manifests.items()))
        driving.manifests[position[0], driving.landed["makes"]["name"]] = driving.manifests[1, "output"]
        driving.start("takes"); driving.wait()
        driving.landed["grown"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        driving.pool.close()
        print(json.dumps(driving.landed))
        """,
    )
    assert landed["holder"]["value"] == 3_000_001
    assert landed["takes"]["value"] == 64 * 1024 * 1024
    assert landed["grown"] < 20 * 1024
