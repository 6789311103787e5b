"""`checkpoint(value)` and `resume_state`: a long step goes on where its last attempt was, and never anywhere else."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cupola import (
    Client,
    CupolaError,
    File,
    MaterializerError,
    Retry,
    RunFailed,
    checkpoint,
    get_step_context,
    pipeline,
    step,
)

CUPOLA = Path(sys.executable).with_name("cupola")
Run = Callable[..., subprocess.CompletedProcess[str]]
PROGRAM = """
import os, pathlib, signal
import numpy as np
from cupola import File, Retry, checkpoint, get_step_context, pipeline, step

HERE = pathlib.Path(__file__).parent

def die_at(epoch):
    if os.environ.get("DIE_AT") == str(epoch):
        os.kill(os.getpid(), signal.SIGKILL)

@step(cache=False)
def prepare(rate: int, data: File) -> int:
    return rate + len(pathlib.Path(data).read_text())

@step(cache=False)
def train(base: int, data: File) -> list[int]:
    state = get_step_context().resume_state or {"epoch": 0, "seen": []}
    for epoch in range(state["epoch"], 5):
        state["seen"].append(base + epoch)
        state["epoch"] = epoch + 1
        checkpoint(state)
        with open(HERE / "epochs", "a") as file:
            file.write(f"{epoch}\\n")
        die_at(epoch)
    return state["seen"]

@step(cache=False)
def after(seen: list[int]) -> int:
    die_at("after")
    return sum(seen)

@pipeline
def training(rate: int = 10, data: File = File("data")) -> int:
    return after(train(prepare(rate, data), data))
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "go.py").write_text(textwrap.dedent(PROGRAM))
    (tmp_path / "data").write_text("")
    return tmp_path


def epochs(project: Path) -> list[int]:
    return list(map(int, (project / "epochs").read_text().split()))


def kept(home: Path) -> list[Path]:
    """Return the files of all checkpoints that there are."""
    return [path for path in home.glob("*/**/checkpoints/**/*") if path.is_file()]


@pytest.mark.feature("ENG-07")
def test_a_killed_step_goes_on_from_its_checkpoint_after_a_resume(project, home, run_cupola: Run):
    assert run_cupola("run", "go.py", DIE_AT="2").returncode == -9
    assert kept(home)
    done = run_cupola("resume", "last")
    assert done.returncode == 0, done.stderr
    assert epochs(project) == [0, 1, 2, 3, 4]
    run = Client().runs.list()[0]
    assert run.output.load() == sum(10 + epoch for epoch in range(5))
    assert kept(home) == []
    assert run_cupola("doctor", "store").returncode == 0


@pytest.mark.feature("ENG-07")
def test_a_checkpoint_is_gone_when_its_step_has_finished_whatever_comes_then(project, home, run_cupola: Run):
    assert run_cupola("run", "go.py", DIE_AT="after").returncode == -9
    assert kept(home) == []
    assert run_cupola("resume", "last").returncode == 0
    assert epochs(project) == [0, 1, 2, 3, 4]


@pytest.mark.feature("ENG-07")
def test_a_checkpoint_is_offered_to_no_other_run_unless_it_is_asked_for(project, home, run_cupola: Run):
    assert run_cupola("run", "go.py", DIE_AT="3").returncode == -9
    assert run_cupola("run", "go.py", DIE_AT="0").returncode == -9
    assert epochs(project) == [0, 1, 2, 3, 0]
    first = Client().runs.list()[1].id
    assert run_cupola("rerun", first, DIE_AT="1").returncode == -9
    assert epochs(project) == [0, 1, 2, 3, 0, 0, 1]
    assert run_cupola("rerun", first, "--with-checkpoints").returncode == 0
    assert epochs(project) == [0, 1, 2, 3, 0, 0, 1, 4]
    # The earlier run keeps its own, and a fork takes them as a resume does.
    assert run_cupola("resume", first, "--fork").returncode == 0
    assert epochs(project) == [0, 1, 2, 3, 0, 0, 1, 4, 4]
    assert run_cupola("resume", first).returncode == 0
    assert epochs(project) == [0, 1, 2, 3, 0, 0, 1, 4, 4, 4]
    assert {run.output.load() for run in Client().runs.list() if str(run.status) == "completed"} == {60}


@pytest.mark.feature("ENG-07")
def test_a_checkpoint_of_other_inputs_is_not_offered(project, run_cupola: Run):
    assert run_cupola("run", "go.py", DIE_AT="3").returncode == -9
    assert run_cupola("rerun", "last", "--with-checkpoints", "--param", "rate=20").returncode == 0
    assert epochs(project) == [0, 1, 2, 3, 0, 1, 2, 3, 4]
    assert run_cupola("run", "go.py", DIE_AT="3").returncode == -9
    (project / "data").write_text("x")
    assert run_cupola("resume", "last").returncode == 0
    assert epochs(project)[9:] == [0, 1, 2, 3, 0, 1, 2, 3, 4]


@pytest.mark.feature("ENG-07")
def test_a_resume_without_checkpoints_begins_the_step_anew(project, run_cupola: Run):
    assert run_cupola("run", "go.py", DIE_AT="3").returncode == -9
    assert run_cupola("resume", "last", "--without-checkpoints").returncode == 0
    assert epochs(project) == [0, 1, 2, 3, 0, 1, 2, 3, 4]


@pytest.mark.feature("ENG-07")
def test_a_resume_with_edited_code_goes_on_from_the_checkpoint(project, run_cupola: Run, rewrite):
    assert run_cupola("run", "go.py", DIE_AT="3").returncode == -9
    rewrite(project / "go.py", (project / "go.py").read_text().replace("base + epoch", "1000 + base + epoch"))
    assert run_cupola("resume", "last", "--with-current-code").returncode == 0
    assert epochs(project) == [0, 1, 2, 3, 4]
    assert Client().runs.list()[0].output.load() == 1060


@pytest.mark.feature("ENG-07")
@pytest.mark.parametrize("damage", ["truncate", "flip", "delete", "empty record", "foreign record"])
def test_a_damaged_checkpoint_is_none_and_said_so(project, home, run_cupola: Run, rewrite, damage):
    text = (
        (project / "go.py").read_text().replace("checkpoint(state)", 'checkpoint({**state, "ballast": bytes(10_000)})')
    )
    rewrite(project / "go.py", text)
    assert run_cupola("run", "go.py", DIE_AT="3").returncode == -9
    (record,) = [path for path in kept(home) if path.name.startswith("last.")]
    (blob,) = [path for path in kept(home) if path.stat().st_size > 10_000]
    blob.chmod(0o600)
    match damage:
        case "truncate":
            blob.write_bytes(blob.read_bytes()[:-1])
        case "flip":
            blob.write_bytes(b"\xff" + blob.read_bytes()[1:])
        case "delete":
            blob.unlink()
        case "empty record":
            record.write_bytes(b"")
        case _:
            record.write_bytes(os.urandom(200))
    assert run_cupola("resume", "last").returncode == 0
    assert epochs(project) == [0, 1, 2, 3, 0, 1, 2, 3, 4]
    shown = run_cupola("show", "last", "train").stdout
    assert "begins anew" in shown
    assert kept(home) == []


@pytest.mark.feature("ENG-07")
def test_kills_at_any_moment_of_a_checkpoint_leave_the_one_before(project, home, run_cupola: Run):
    program = """
        import os
        import numpy as np
        from cupola import checkpoint, get_step_context, pipeline, step

        def tell(line):
            file = os.open(os.environ["WITNESS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            os.write(file, f"{line}\\n".encode())
            os.close(file)

        @step(cache=False)
        def counts() -> int:
            before = get_step_context().resume_state
            number = 0 if before is None else int(before[0])
            assert before is None or (before == number).all()
            tell(f"begin {number}")
            while number < 500:
                number += 1
                checkpoint(np.full(50_000, number))
                tell(number)
            return number

        @pipeline
        def counting() -> int:
            return counts()
    """
    (project / "count.py").write_text(textwrap.dedent(program))
    witness = project / "counted"
    environment = {**os.environ, "WITNESS": str(witness)}
    lines: list[str] = []
    for round_number in range(12):
        command = ["resume", "last"] if round_number else ["run", "count.py"]
        process = subprocess.Popen([CUPOLA, *command], cwd=project, env=environment, stderr=subprocess.DEVNULL)
        wanted = len(lines) + 20 + round_number
        end = time.monotonic() + 30
        while not witness.exists() or len(witness.read_text().splitlines()) < wanted:
            assert time.monotonic() < end
        time.sleep(0.0007 * round_number)
        process.send_signal(signal.SIGKILL)
        process.wait(30)
        lines = witness.read_text().splitlines()
    for before, line in itertools.pairwise(lines):
        if line.startswith("begin"):
            # What was said to be kept is kept; the one in progress may be.
            assert int(line.split()[1]) - int(before) in (0, 1), lines
    assert len([path for path in kept(home) if path.stat().st_size > 100_000]) <= 3
    assert run_cupola("resume", "last", WITNESS=str(witness)).returncode == 0
    assert kept(home) == []


@pytest.mark.feature("ENG-07")
def test_a_retry_goes_on_from_the_checkpoint_and_other_steps_have_their_own(home):
    begun: list[tuple[str, object]] = []

    @step(cache=False, retry=Retry(attempts=3, delay=0))
    def long(number: int) -> int:
        context = get_step_context()
        begun.append((context.step.name, context.resume_state))
        reached = context.resume_state or 0
        checkpoint(reached + number)
        assert context.resume_state == reached + number
        if context.attempt < 3:
            raise OSError("again")
        return reached

    @pipeline(settings={"local": {"workers": 0}})
    def p() -> None:
        # One after the other, so that both run in this process, where the list is.
        long.after(long(1))(10)

    run = p()
    assert begun == [("long", None), ("long", 1), ("long", 2), ("long_2", None), ("long_2", 10), ("long_2", 20)]
    assert [one.output.load() for one in run.steps.values()] == [2, 20]
    assert kept(home) == []


@pytest.mark.feature("ENG-07")
@pytest.mark.parametrize(
    "value",
    [b"x", None, 0, {"a": [1, (2, None)]}, float("nan"), np.arange(10), "ż" * 5000, [np.zeros((3, 0))]],
    ids=repr,
)
def test_any_value_that_can_be_an_artifact_can_be_a_checkpoint(home, value):
    found: list[object] = []

    @step(cache=False, retry=Retry(attempts=2, delay=0))
    def once() -> None:
        if get_step_context().is_retry:
            found.append(get_step_context().resume_state)
            return
        checkpoint("something else")
        checkpoint(value)
        raise OSError("again")

    @pipeline
    def p() -> None:
        once()

    p()
    np.testing.assert_equal(found, [value])
    assert type(found[0]) is type(value)


@pytest.mark.feature("ENG-07")
def test_a_large_checkpoint_is_mapped_and_leaves_nothing_behind(home):
    count = (1 << 27) if os.environ.get("CUPOLA_TEST_SIZE") == "full" else 1 << 22  # 1 GiB, 32 MiB

    @step(cache=False, retry=Retry(attempts=2, delay=0))
    def grows() -> float:
        state = get_step_context().resume_state
        if state is not None:
            checkpoint({"weights": np.zeros(10)})  # what was loaded stays what it was
            return float(state["weights"][:: count // 4].sum())
        for number in range(2):
            checkpoint({"weights": np.full(count, float(number + 1))})
        raise OSError("again")

    @pipeline
    def p() -> float:
        return grows()

    assert p().output.load() == 8.0
    assert kept(home) == []


@pytest.mark.feature("ENG-07")
def test_files_that_a_step_was_offered_stay_while_it_makes_new_checkpoints(home, tmp_path):
    @step(cache=False, retry=Retry(attempts=2, delay=0))
    def weights() -> str:
        state = get_step_context().resume_state
        path = tmp_path / "weights"
        for number in range(3):
            path.write_text(f"number {number}")
            checkpoint({"weights": File(path)})
        if state is None:
            raise OSError("again")
        return Path(state["weights"]).read_text()

    @pipeline
    def p() -> str:
        return weights()

    assert p().output.load() == "number 2"
    assert kept(home) == []


@pytest.mark.feature("ENG-07")
def test_what_can_not_be_kept_is_refused_and_the_checkpoint_before_stays(home):
    @step(cache=False, retry=Retry(attempts=2, delay=0))
    def bad() -> int:
        if get_step_context().is_retry:
            return get_step_context().resume_state
        checkpoint(7)
        checkpoint({"lock": threading.Lock()})
        return 0

    @pipeline
    def p() -> int:
        return bad()

    run = p()
    assert run.output.load() == 7
    failure = run.steps["bad"].attempts[0].error
    assert failure is not None
    assert "bad.checkpoint['lock']" in failure.message or "bad.checkpoint" in failure.message


@pytest.mark.feature("ENG-07")
def test_the_error_of_what_can_not_be_kept_says_what_can_be(home):
    caught: list[MaterializerError] = []

    @step(cache=False)
    def bad() -> None:
        try:
            checkpoint(threading.Lock())
        except MaterializerError as error:
            caught.append(error)

    @pipeline
    def p() -> None:
        bad()

    p()
    assert "pass plain values, data classes, arrays, tables" in caught[0].fix


@pytest.mark.feature("ENG-07")
def test_threads_may_make_checkpoints_and_one_that_outlives_its_step_may_not(home):
    late: list[BaseException] = []
    go = threading.Event()

    def outlive() -> None:
        context = get_step_context()
        go.wait(30)
        try:
            context.checkpoints.save(1)
        except CupolaError as error:
            late.append(error)

    @step(cache=False)
    def many() -> None:
        threads = [threading.Thread(target=checkpoint, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert get_step_context().resume_state in range(8)
        threading.Thread(target=outlive, daemon=True).start()

    @pipeline
    def p() -> None:
        many()

    p()
    go.set()
    end = time.monotonic() + 30
    while not late and time.monotonic() < end:
        time.sleep(0.01)
    assert "is over" in str(late[0])
    assert kept(home) == []


@pytest.mark.feature("ENG-07")
def test_a_child_process_of_a_step_may_make_the_checkpoint(home):
    @step(cache=False, retry=Retry(attempts=2, delay=0))
    def forks() -> object:
        if get_step_context().is_retry:
            return get_step_context().resume_state
        child = os.fork()
        if child == 0:
            checkpoint({"by": "child"})
            os._exit(0)
        os.waitpid(child, 0)
        raise OSError("again")

    @pipeline
    def p() -> object:
        return forks()

    assert p().output.load() == {"by": "child"}
    assert kept(home) == []


@pytest.mark.feature("ENG-07")
def test_a_failed_run_keeps_its_checkpoint_until_it_is_deleted(home):
    @step(cache=False)
    def fails() -> None:
        checkpoint(bytes(100_000))
        raise OSError("for good")

    @pipeline
    def p() -> None:
        fails()

    with pytest.raises(RunFailed) as caught:
        p()
    assert kept(home)
    Client().runs.delete(caught.value.run.id)
    assert kept(home) == []


@pytest.mark.feature("ENG-07")
def test_a_step_that_is_called_plainly_makes_no_checkpoint_and_outside_of_one_it_is_an_error(home):
    @step
    def plain(number: int) -> int:
        checkpoint(number)
        return number + 1

    assert plain(1) == 2
    with pytest.raises(CupolaError, match="outside of a step"):
        checkpoint(1)
    assert kept(home) == []
