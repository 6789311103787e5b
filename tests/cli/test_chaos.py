"""`cupola chaos`: a pipeline under random kills, and what it says of steps that can't stand them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cupola.client.chaos_report import Observed, judge
from cupola.client.scratch_tree import Content, copy_tree, read_contents
from cupola.errors import CupolaError

CUPOLA = Path(sys.executable).with_name("cupola")
Run = Callable[..., subprocess.CompletedProcess[str]]
PROGRAM = """
import os, random, time
from pathlib import Path
from cupola import pipeline, step

@step(cache=False)
def good(count: int) -> list[int]:
    Path("out").mkdir(exist_ok=True)
    Path("out/good").write_text("always the same")
    return list(range(count))

@step(cache=False)
def appends(numbers: list[int]) -> int:
    for number in numbers:
        with open("numbers", "a") as file:
            file.write(f"{number}\\n")
        time.sleep(0.02)
    return len(numbers)

@step(cache=False)
def chance(count: int) -> float:
    Path("stamp").write_text(str(time.time_ns()))
    return random.random()

@step(cache=False)
def counts(count: int) -> int:
    return len(Path("numbers").read_text().splitlines())

@pipeline
def report(count: int = 10) -> int:
    written = appends(good(count))
    chance(written)
    return counts(written)

@step(cache=False)
def steady(number: int) -> int:
    time.sleep(0.01)
    return number + 1

@pipeline
def clean() -> int:
    return steady(steady(steady(1)))

@step(cache=False)
def fails() -> None:
    raise ValueError("always")

@pipeline
def broken() -> None:
    fails()
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "p.py").write_text(PROGRAM)
    return folder


@pytest.mark.feature("ENG-12")
def test_steps_that_do_something_twice_are_named_and_others_are_not(project, home, run_cupola: Run):
    before = read_contents(project)
    command = ["chaos", "p.py:report", "--kills", "20", "--seed", "1", "--json"]
    done = run_cupola(*command, cwd=project, timeout_s=240)
    assert done.returncode == 1, done.stderr
    told = json.loads(done.stdout)
    steps = {step["step"]: step for step in told["steps"]}
    assert told["kills"] == 20
    assert steps["appends"]["again"] > 0
    assert "lines after kills" in steps["appends"]["files"]["numbers"] or "10 lines, " in str(steps["appends"])
    assert steps["appends"]["outputs"] == []
    assert steps["counts"]["outputs"] == ["output"]
    assert steps["good"]["files"] == {}
    assert steps["good"]["outputs"] == []
    assert steps["chance"]["undecided"] == ["output", "stamp"]
    assert steps["chance"]["outputs"] == []
    assert any("not seen" in note for note in told["notes"])
    # The user's own project and store are as they were.
    assert {path: content for path, content in read_contents(project).items() if "__pycache__" not in path} == before
    assert not (home / "cupola.db").exists()


@pytest.mark.feature("ENG-12")
def test_a_pipeline_that_stands_kills_is_told_to(project, run_cupola: Run, tmp_path):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    done = run_cupola("chaos", "p.py:clean", "--kills", "4", cwd=project, timeout_s=240, TMPDIR=str(scratch))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nothing that can be seen is different" in done.stdout
    assert "4 kills" in done.stdout
    assert list(scratch.iterdir()) == []


@pytest.mark.feature("ENG-12")
def test_what_does_not_complete_by_itself_can_not_be_tried(project, run_cupola: Run):
    done = run_cupola("chaos", "p.py:broken", cwd=project)
    assert done.returncode == 2
    assert "doesn't complete when nobody disturbs it" in done.stderr
    assert "ValueError: always" in done.stderr
    for wrong, said in (
        (["p.py:report", "--kills", "0"], "invalid"),
        (["p.py:report", "--kills", "many"], "invalid"),
        (["p.py:reprot"], "did you mean 'report'?"),
        (["nowhere.py"], "there is no file"),
        (["p.py:report", "--kils", "3"], "did you mean --kills?"),
    ):
        done = run_cupola("chaos", *wrong, cwd=project)
        assert done.returncode == 2, wrong
        assert said in done.stderr, done.stderr


@pytest.mark.feature("ENG-12")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_folders_of_a_chaos_that_is_stopped_go_away(project, tmp_path, number, code):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    environment = {**os.environ, "TMPDIR": str(scratch)}
    process = subprocess.Popen(
        [CUPOLA, "chaos", "p.py:report", "--kills", "500"], cwd=project, env=environment, stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    process.stderr.readline()
    process.send_signal(number)
    assert process.wait(30) == code
    process.stderr.close()
    end = time.monotonic() + 10
    while list(scratch.iterdir()) and time.monotonic() < end:
        time.sleep(0.02)
    assert list(scratch.iterdir()) == []


@pytest.mark.feature("ENG-12")
def test_the_copy_is_kept_when_asked_and_the_working_folder_is_below_it(project, run_cupola: Run, tmp_path):
    (project / "below").mkdir()
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    where = {"cwd": project / "below", "TMPDIR": str(scratch), "timeout_s": 240}
    done = run_cupola("chaos", "../p.py:report", "--kills", "2", "--keep", "--param", "count=2", "--json", **where)
    told = json.loads(done.stdout)
    kept = Path(told["folder"])
    assert (kept / "0" / "source" / "below" / "numbers").read_text() == "0\n1\n"
    assert not (project / "below" / "numbers").exists()


def observed(**changes: object) -> Observed:
    usual: dict[str, object] = {
        "status": "completed", "steps": ("a", "b"), "outputs": {("a", "output"): "1", ("b", "output"): "2"},
        "failures": {}, "began": {"a": 1, "b": 1}, "ended": {"a": 1, "b": 1}, "contents": {}, "changed": {},
    }  # fmt: skip
    return Observed(**{**usual, **changes})  # type: ignore[arg-type]


@pytest.mark.feature("ENG-12")
def test_what_differs_without_kills_is_not_held_against_a_step():
    first = observed(contents={"f": Content("x", 1, 0), "g": Content("x", 1, 0)}, changed={"f": ("a",), "g": ("a",)})
    second = observed(
        outputs={("a", "output"): "other", ("b", "output"): "2"},
        contents={"f": Content("y", 1, 0), "g": Content("x", 1, 0)},
    )
    killed = observed(
        outputs={("a", "output"): "third", ("b", "output"): "2"},
        contents={"f": Content("z", 1, 0), "g": Content("x", 1, 0)},
        began={"a": 3, "b": 1},
    )
    report = judge([first, second], [killed])
    assert report.is_clean
    assert [step.again for step in report.steps] == [2, 0]
    assert report.steps[0].undecided == ("output", "f")


@pytest.mark.feature("ENG-12")
def test_a_run_that_fails_after_a_kill_and_a_file_that_nobody_owns_are_told():
    quiet = observed()
    killed = observed(
        status="failed", failures={"b": "FileExistsError: out"}, outputs={("a", "output"): "1"}, began={"a": 2},
        contents={"lost": Content("x", 1, 0)},
    )  # fmt: skip
    report = judge([quiet, quiet], [killed])
    assert not report.is_clean
    assert report.unfinished == ("failed",)
    assert report.files == {"lost": "there only after kills"}
    assert report.steps[1].failures == ("FileExistsError: out",)
    assert report.steps[1].again == 0


@pytest.mark.feature("ENG-12")
def test_a_source_tree_is_copied_without_what_can_be_made_again(tmp_path, monkeypatch):
    root, home = tmp_path / "root", tmp_path / "root" / "store"
    for folder in (root / ".git", root / "__pycache__", root / "env", root / "deep" / "er", home):
        folder.mkdir(parents=True)
        (folder / "file").write_text("x")
    (root / "env" / "pyvenv.cfg").touch()
    (root / ".env").write_text("a secret that the steps need")
    (root / "link").symlink_to("deep/er/file")
    (root / "out").symlink_to("../elsewhere")
    (tmp_path / "elsewhere").write_text("outside")
    (root / "pipe").with_suffix(".fifo").touch()
    os.mkfifo(root / "fifo")
    monkeypatch.setattr("cupola.client.scratch_tree.LARGE_BYTES", 100)
    (root / "large").write_bytes(bytes(200))
    target = tmp_path / "copy"
    assert copy_tree(root, target, without=home) == ["large"]
    names = sorted(path.relative_to(target).as_posix() for path in target.rglob("*"))
    assert names == [".env", "deep", "deep/er", "deep/er/file", "large", "link", "out", "pipe.fifo"]
    assert os.readlink(target / "link") == "deep/er/file"
    assert (target / "out").read_text() == "outside"
    assert (target / "large").resolve() == (root / "large").resolve()
    monkeypatch.setattr("cupola.client.scratch_tree.MOST_BYTES", 10)
    with pytest.raises(CupolaError, match="too much to copy"):
        copy_tree(root, tmp_path / "again", without=home)
