"""`cupola debug`: Python's debugger in a step of an earlier run, driven through a terminal as a person drives it."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cupola import Client

CUPOLA = Path(sys.executable).with_name("cupola")
Run = Callable[..., subprocess.CompletedProcess[str]]
PROGRAM = """
import asyncio, functools, json, sys, time
from pathlib import Path
from cupola import File, checkpoint, load_artifact, log_metadata, pipeline, save_artifact, step
from helpers import too_much

FACTOR = 3

def loud(function):
    @functools.wraps(function)
    def inner(*args, **named):
        return function(*args, **named)
    return inner

@step(cache=False)
def load(count: int, data: File = File("data.csv")) -> list[int]:
    print("loading")
    return [*range(count), len(Path(data).read_text())]

@step(cache=False)
@loud
def check(numbers: list[int], limit: int) -> int:
    print("checking")
    scaled = [number * FACTOR for number in numbers]
    log_metadata({"n": len(scaled)})
    save_artifact(scaled, "scaled")
    assert load_artifact("scaled") == scaled
    checkpoint(scaled)
    return too_much(scaled, limit)

@step(cache=False)
def parse(text: str) -> dict:
    raw = text
    return json.loads(raw)

@step(cache=False)
def after(number: int) -> int:
    return number

@step(cache=False)
def flaky(marker: str) -> int:
    if not Path(marker).exists():
        Path(marker).touch()
        raise OSError("not yet")
    return 1

@step(cache=False)
def leaves() -> None:
    sys.exit("enough")

@step(cache=False)
async def slow(number: int) -> int:
    await asyncio.sleep(0)
    inside = number + 1
    return inside

@step(cache=False)
def double(number: int) -> int:
    twice = number * 2
    if twice == 4:
        raise ValueError("four")
    return twice

@step(cache=False)
def large(size: int) -> bytes:
    return bytes(range(256)) * size

@step(cache=False)
def both(left: bytes, right: bytes) -> int:
    return len(left) + len(right)

@pipeline(on_error="continue")
def several(marker: str, count: int = 5, limit: int = 10):
    numbers = load(count)
    after(check(numbers, limit))
    parse("{nope")
    flaky(marker)
    leaves()
    slow(7)
    double.map([1, 2, 3])
    both(large.named("left")(100), large.named("right")(200))

@step(cache=False)
def before(seconds: float) -> str:
    time.sleep(seconds)
    return "x"

@step(cache=False)
def waits(name: str) -> None:
    Path("waiting").touch()
    time.sleep(60)

@pipeline
def killed(seconds: float = 1.0) -> None:
    waits(before(seconds))

@pipeline
def killed_at_once() -> None:
    waits("x")

@step(cache=False)
def counts(limit: int) -> int:
    number = 0
    while number < limit:
        number += 1
    return number

@pipeline
def long(limit: int = 1) -> int:
    return counts(limit)
"""
HELPERS = """
def too_much(scaled, limit):
    total = sum(scaled)
    if total > limit:
        raise ValueError(f"too much: {total}")
    return total
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "go.py").write_text(PROGRAM)
    (folder / "helpers.py").write_text(HELPERS)
    (folder / "data.csv").write_text("a,b\n")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    return folder


@pytest.fixture
def ran(project: Path, run_cupola: Run) -> Path:
    """Have a run in which steps ended in many ways; return its project."""
    marker = f"marker={project.parent / 'marker'}"
    # One by one, so that the same step is always the first that fails.
    done = run_cupola("run", "go.py:several", "--in-process", "--param", marker, cwd=project)
    assert done.returncode == 1, done.stderr
    assert "'check'" in done.stderr
    return project


class Terminal:
    """A person at a terminal: reads what is shown, types lines and Ctrl-C."""

    def __init__(self, *command: object, cwd: Path) -> None:
        self.process, self._file = 0, -1
        self.process, self._file = pty.fork()
        if self.process == 0:
            os.chdir(cwd)
            os.environ["TERM"] = "dumb"
            os.execv(CUPOLA, ["cupola", *map(str, command)])
        self.shown = ""
        self._read = 0

    def expect(self, text: str, timeout_s: float = 30) -> str:
        """Wait until a text is shown after what was waited for before; return what is shown up to it."""
        end = time.monotonic() + timeout_s
        while (place := self.shown.find(text, self._read)) < 0:
            assert time.monotonic() < end, f"{text!r} is not in {self.shown[self._read :]!r}"
            if not self._more(0.1):
                raise AssertionError(f"it ended, and {text!r} is not in {self.shown[self._read :]!r}")
        before = self.shown[self._read : place + len(text)]
        self._read = place + len(text)
        return before

    def type(self, text: str) -> None:
        os.write(self._file, text.encode())

    def command(self, line: str) -> str:
        """Type a line at the debugger's prompt, and return what it shows up to the next prompt."""
        self.type(line + "\n")
        return self.expect("(Pdb) ")

    def end(self) -> int:
        """Wait for the program's end and return its exit code."""
        while self._more(0.1):
            pass
        code = os.waitstatus_to_exitcode(os.waitpid(self.process, 0)[1])
        self.process = 0
        return code

    def close(self) -> None:
        if self.process:
            os.kill(self.process, signal.SIGKILL)
            os.waitpid(self.process, 0)
        os.close(self._file)

    def _more(self, wait_s: float) -> bool:
        # Not `select`, which can't wait for a descriptor above 1023 as a long session of tests may have.
        waiting = select.poll()
        waiting.register(self._file, select.POLLIN)
        if not waiting.poll(1000 * wait_s):
            return True
        try:
            data = os.read(self._file, 65536)
        except OSError:
            return False
        self.shown += data.decode(errors="replace").replace("\r\n", "\n")
        return bool(data)


@pytest.fixture
def open_terminal() -> Iterator[Callable[..., Terminal]]:
    opened: list[Terminal] = []

    def start(*command: object, cwd: Path) -> Terminal:
        opened.append(Terminal(*command, cwd=cwd))
        return opened[-1]

    yield start
    for terminal in opened:
        terminal.close()


def record_of(home: Path) -> dict[str, object]:
    """Return all that a store records: its journals and blobs, and what lists show."""
    client = Client()
    files = [path for name in ("runs", "finished", "blobs", "files") for path in (home / name).rglob("*")]
    return {
        "files": {str(path): path.read_bytes() for path in files if path.is_file()},
        "runs": [(run.id, str(run.status), run.metadata) for run in client.runs.list()],
        "artifacts": [artifact.name for artifact in client.artifacts.list()],
    }


@pytest.mark.feature("ENG-12")
def test_a_failed_step_is_entered_at_the_frame_that_raised(ran, home, open_terminal, tmp_path):
    before = record_of(home)
    terminal = open_terminal("debug", "last", "check", cwd=ran)
    shown = terminal.expect("(Pdb) ")
    assert "ValueError: too much: 42" in shown
    assert "helpers.py" in shown
    assert "checking" in shown
    assert "(42, 10)" in terminal.command("p total, limit")
    assert "too_much" in terminal.command("w")
    assert "check()" in terminal.command("up")
    assert "[0, 3, 6, 9, 12, 12]" in terminal.command("p scaled")
    terminal.command("total = [number for number in numbers]")
    terminal.type("q\n")
    assert terminal.end() == 0
    assert record_of(home) == before
    assert list((tmp_path / "scratch").iterdir()) == []


@pytest.mark.feature("ENG-12")
def test_where_a_library_raised_the_frame_of_the_project_that_called_it_is_entered(ran, open_terminal):
    terminal = open_terminal("debug", "last", "parse", cwd=ran)
    assert "JSONDecodeError" in terminal.expect("(Pdb) ")
    assert "'{nope'" in terminal.command("p raw")
    assert "json" in terminal.command("down")
    terminal.type("q\n")
    assert terminal.end() == 0


@pytest.mark.feature("ENG-12")
def test_a_finished_step_is_stopped_at_its_start_and_can_be_stepped_through(ran, home, open_terminal):
    before = record_of(home)
    terminal = open_terminal("debug", "last", "load", cwd=ran)
    assert 'print("loading")' in terminal.expect("(Pdb) ")
    assert "5" in terminal.command("p count")
    assert "File('data.csv')" in terminal.command("p data")
    assert "return [*range(count)" in terminal.command("n")
    terminal.type("c\n")
    terminal.expect("the step has returned")
    assert terminal.end() == 0
    terminal = open_terminal("debug", "last", "slow", cwd=ran)
    assert "await asyncio.sleep(0)" in terminal.expect("(Pdb) ")
    assert "7" in terminal.command("p number")
    terminal.type("q\n")
    assert terminal.end() == 0
    assert record_of(home) == before


@pytest.mark.feature("ENG-12")
def test_a_step_that_raises_while_it_is_stepped_through_is_entered_there(ran, open_terminal):
    terminal = open_terminal("debug", "last", "double[0]", cwd=ran)
    terminal.expect("(Pdb) ")
    terminal.command("number = 2")
    assert "ValueError: four" in terminal.command("c")
    assert "4" in terminal.command("p twice")
    terminal.type("q\n")
    assert terminal.end() == 0


@pytest.mark.feature("ENG-12")
def test_ctrl_c_stops_the_step_and_not_the_debugger(project, run_cupola: Run, open_terminal, tmp_path):
    assert run_cupola("run", "go.py:long", cwd=project).returncode == 0
    terminal = open_terminal("debug", "last", "counts", cwd=project)
    terminal.expect("(Pdb) ")
    terminal.command("limit = 10**12")
    terminal.type("c\n")
    time.sleep(0.5)
    terminal.type("\x03")
    terminal.expect("interrupted")
    terminal.expect("(Pdb) ")
    assert "1000000000000" in terminal.command("p limit")
    terminal.command("number = limit")
    terminal.type("q\n")
    assert terminal.end() == 0
    assert list((tmp_path / "scratch").iterdir()) == []


def kill_while_it_waits(project: Path, pipeline: str) -> None:
    """Run a pipeline and kill its driver while a step waits for that."""
    process = subprocess.Popen([CUPOLA, "run", f"go.py:{pipeline}"], cwd=project, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 30
    while not (project / "waiting").exists():
        assert time.monotonic() < end
        time.sleep(0.01)
    process.kill()
    process.wait(30)


@pytest.mark.feature("ENG-12")
def test_a_step_whose_process_was_killed_is_stopped_at_its_start(project, run_cupola: Run, open_terminal, tmp_path):
    kill_while_it_waits(project, "killed")
    done = run_cupola("debug", "last", "waits", "--exec", "name", cwd=project)
    assert done.stdout == "'x'\n", done.stderr
    (project / "waiting").unlink()
    terminal = open_terminal("debug", "last", "waits", cwd=project)
    assert 'Path("waiting").touch()' in terminal.expect("(Pdb) ")
    terminal.command("n")
    assert not (project / "waiting").exists()
    terminal.command("import os, signal")
    terminal.type("os.kill(os.getpid(), signal.SIGKILL)\n")
    assert terminal.end() == 137
    assert list((tmp_path / "scratch").iterdir()) == []


@pytest.mark.feature("ENG-12")
def test_code_that_was_not_archived_is_refused_with_the_remedy(project, run_cupola: Run):
    kill_while_it_waits(project, "killed_at_once")
    refused = run_cupola("debug", "last", "waits", "--exec", "name", cwd=project)
    assert refused.returncode == 2, refused.stdout
    assert "was not archived" in refused.stderr
    assert "waits --current" in refused.stderr
    done = run_cupola("debug", "last", "waits", "--current", "--exec", "name", cwd=project)
    assert (done.returncode, done.stdout) == (0, "'x'\n"), done.stderr


@pytest.mark.feature("ENG-12")
def test_an_expression_runs_at_the_frame_that_raised(ran, home, run_cupola: Run):
    before = record_of(home)

    def execute(step: str, expression: str) -> subprocess.CompletedProcess[str]:
        return run_cupola("debug", "last", step, "--exec", expression, cwd=ran)

    done = execute("check", "total, [number for number in scaled if number > limit]")
    assert (done.returncode, done.stdout) == (0, "(42, [12, 12])\n"), done.stderr
    assert "checking" in done.stderr
    assert execute("parse", "raw").stdout == "'{nope'\n"
    assert execute("leaves", "'here'").stdout == "'here'\n"
    assert execute("double[1]", "twice").stdout == "4\n"
    assert execute("load", "count + 1").stdout == "6\n"
    assert execute("load", "None").stdout == "None\n"
    assert execute("load", "import math; print(math.pi > 3)").stdout == "True\n"
    assert execute("check", "(lambda: total)()").stdout == "42\n"
    assert execute("check", "exit(5)").returncode == 1
    raised = execute("load", "1 / 0")
    assert raised.returncode == 1
    assert "ZeroDivisionError" in raised.stderr
    assert "src/cupola" not in raised.stderr
    wrong = execute("load", "count +")
    assert wrong.returncode == 2
    assert "--exec can't be read" in wrong.stderr
    assert record_of(home) == before


@pytest.mark.feature("ENG-12")
def test_only_the_inputs_that_an_expression_names_are_loaded(ran, home, run_cupola: Run):
    blob = Client().runs.list()[0].steps["left"].output.record.manifest.files[0].blob
    path = home / "blobs" / blob[5:7] / blob[7:]
    path.unlink()
    done = run_cupola("debug", "last", "both", "--exec", "len(right)", cwd=ran)
    assert (done.returncode, done.stdout) == (0, f"{256 * 200}\n"), done.stderr
    missing = run_cupola("debug", "last", "both", "--exec", "len(left)", cwd=ran)
    assert missing.returncode == 1
    assert "is missing" in missing.stderr


@pytest.mark.feature("ENG-12")
def test_the_code_is_as_it_ran_unless_the_current_is_asked_for(ran, run_cupola: Run, rewrite):
    rewrite(ran / "go.py", (ran / "go.py").read_text().replace("FACTOR = 3", "FACTOR = 100"))
    then = run_cupola("debug", "last", "check", "--exec", "scaled[-1]", cwd=ran)
    assert then.stdout == "12\n", then.stderr
    now = run_cupola("debug", "last", "check", "--current", "--exec", "scaled[-1]", cwd=ran)
    assert now.stdout == "400\n", now.stderr
    assert "is not the code that ran" in now.stderr
    rewrite(
        ran / "go.py", (ran / "go.py").read_text().replace("def parse", "def parsed").replace(" parse(", " parsed(")
    )
    gone = run_cupola("debug", "last", "parse", "--current", "--exec", "raw", cwd=ran)
    assert gone.returncode == 2
    assert "has no step 'parse' any more" in gone.stderr
    assert "leave --current away" in gone.stderr
    for name in ("go.py", "helpers.py", "data.csv"):
        (ran / name).unlink()
    assert run_cupola("debug", "last", "check", "--exec", "scaled[-1]", cwd=ran).stdout == "12\n"
    assert run_cupola("debug", "last", "check", "--current", "--exec", "scaled", cwd=ran).returncode == 2


@pytest.mark.feature("ENG-12")
def test_a_step_that_does_not_fail_again_says_so_and_stops_at_its_start(ran, run_cupola: Run):
    (ran.parent / "marker").touch()
    done = run_cupola("debug", "last", "flaky", "--exec", "marker", cwd=ran)
    assert done.returncode == 0
    assert done.stdout == f"{str(ran.parent / 'marker')!r}\n"
    assert "did not raise this time, as it did with OSError: not yet" in done.stderr


@pytest.mark.feature("ENG-12")
def test_what_can_not_be_entered_is_refused_by_name(ran, run_cupola: Run):
    for step, said in (
        ("double", "'double' is mapped"),
        ("after", "its input 'number' was never made"),
        ("chek", "did you mean 'check'?"),
        ("double[7]", "double[7]"),
    ):
        done = run_cupola("debug", "last", step, "--exec", "1", cwd=ran)
        assert done.returncode in (1, 2), step
        assert said in done.stderr, done.stderr
    assert run_cupola("debug", "nothing", "check", cwd=ran).returncode == 2


@pytest.mark.feature("ENG-12")
def test_without_a_terminal_the_debugger_reads_its_commands_from_the_input(ran):
    done = subprocess.run(
        [CUPOLA, "debug", "last", "check"], cwd=ran, input="p total\n", capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0
    assert "42" in done.stdout
