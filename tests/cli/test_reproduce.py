"""`cupola reproduce`: the archived code runs again in a clean place, and the first difference is named."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from cupola import Client
from cupola.client.reproduction import Changed, Reproduction

pytestmark = pytest.mark.feature("ENG-11")
Run = Callable[..., subprocess.CompletedProcess[str]]

CHAIN = """
from cupola import pipeline, step

FACTOR = 2

@step
def load(rows: int) -> list[int]:
    return list(range(rows))

@step
def fit(table: list[int], rate: float) -> float:
    return sum(table) * rate * FACTOR

@pipeline
def training(rows: int = 4, rate: float = 0.5) -> float:
    return fit(load(rows), rate)

if __name__ == "__main__":
    training(rows=7, rate=0.25)
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    return folder


@pytest.fixture
def program(project: Path, run_python: Run) -> Callable[..., None]:
    """Return a function that writes a program and runs it."""

    def write_and_run(text: str, *, fails: bool = False, **environment: str) -> None:
        (project / "run.py").write_text(textwrap.dedent(text), encoding="utf-8")
        done = run_python("run.py", cwd=project, **environment)
        assert (done.returncode != 0) is fails, done.stderr

    return write_and_run


def reproduce() -> Reproduction:
    return Client().runs.list()[0].reproduce()


def on_path(folder: Path) -> str:
    """Return a PYTHONPATH that begins with a folder."""
    return os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))


def test_the_same_code_gives_the_same_outputs_and_nothing_of_the_store_changes(program, run_cupola):
    program(CHAIN)
    before = [(run.id, run.status) for run in Client().runs.list()]
    versions = [version.ref for version in Client().artifacts.versions("training/fit/output")]
    done = run_cupola("reproduce", "last", "--json", timeout_s=120)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["equal"], found["outputs_compared"], found["difference"], found["environment"]) == (True, 2, None, [])
    assert (found["notes"], found["folder"], found["run"]) == ([], None, before[0][0])
    assert [(run.id, run.status) for run in Client().runs.list()] == before
    assert [version.ref for version in Client().artifacts.versions("training/fit/output")] == versions


def test_the_archived_code_runs_whatever_became_of_the_files(program, project):
    (project / "helpers").mkdir()
    (project / "helpers" / "numbers_.py").write_text("VALUE = 3\n")
    program(CHAIN.replace("FACTOR = 2", "from helpers.numbers_ import VALUE as FACTOR"))
    shutil.rmtree(project)
    assert reproduce().is_equal


def test_nothing_is_taken_from_the_cache_and_cached_steps_are_compared_as_well(program, tmp_path):
    witness = tmp_path / "witness"
    text = CHAIN.replace("return list(range(rows))", f"open({str(witness)!r}, 'a').write('x'); return [rows]")
    program(text)
    program(text)
    assert witness.read_text() == "x"
    found = reproduce()
    assert (found.is_equal, found.compared, witness.read_text()) == (True, 2, "xx")


def test_a_step_that_is_not_deterministic_is_named_and_no_later_one(program, run_cupola):
    program(CHAIN.replace("return list(range(rows))", "import os; return list(os.urandom(8))"))
    done = run_cupola("reproduce", "last", "--json", timeout_s=120)
    assert done.returncode == 1
    first = json.loads(done.stdout)["difference"]
    assert (first["step"], first["output"]) == ("load", "output")
    assert first["then"].startswith("val:")
    assert first["now"].startswith("val:")
    assert first["then"] != first["now"]
    assert first["reason"] == "its code, inputs and environment are the same: the step isn't deterministic"
    shown = run_cupola("reproduce", "last", timeout_s=120).stdout
    assert "Not reproduced" in shown
    assert re.search(r"first difference +load\.output", shown)


def test_parameters_are_those_of_the_run_whatever_their_types(program):
    program(
        """
        from dataclasses import dataclass
        from cupola import pipeline, step

        @dataclass
        class Settings:
            depth: int = 1
            names: tuple[str, ...] = ("a",)

        @step
        def fit(settings: Settings, rate: float) -> list:
            return [settings.depth, settings.names, rate]

        @pipeline
        def training(settings: Settings = Settings(), rate: float = 1.0) -> list:
            return fit(settings, rate)

        if __name__ == "__main__":
            training.with_options(tags=["x"])(settings=Settings(3, ("b", "c")), rate=0.5)
        """
    )
    assert reproduce().is_equal


def test_options_of_a_configuration_file_hold_again(program, project, run_cupola, tmp_path):
    program(CHAIN)
    (tmp_path / "elsewhere.yaml").write_text("steps: {fit: {params: {rate: 8.0}}}\n")
    done = run_cupola("run", project / "run.py", "--config", tmp_path / "elsewhere.yaml")
    assert done.returncode == 0, done.stderr
    (tmp_path / "elsewhere.yaml").unlink()
    assert reproduce().is_equal


WITH_FILE = """
from cupola import File, pipeline, step

@step
def read(table: File) -> str:
    return open(table).read()

@pipeline
def reading(table: File = File("data/table.csv")) -> str:
    return read(table)

if __name__ == "__main__":
    reading()
"""


def test_files_that_the_archive_leaves_out_are_brought_when_they_are_inputs(program, project):
    (project / "data").mkdir()
    (project / "data" / "table.csv").write_text("1,2\n")
    program(WITH_FILE)
    assert reproduce().is_equal
    (project / "data" / "table.csv").write_text("1,3\n")
    first = reproduce().difference
    assert first.step == "read"
    assert first.reason == "it read something else: file data/table.csv"


def test_what_was_left_out_and_is_missed_is_named(program, project):
    (project / "data").mkdir()
    (project / "data" / "constants.txt").write_text("5")
    program(CHAIN.replace("FACTOR = 2", "FACTOR = int(open('data/constants.txt').read())"))
    found = reproduce()
    assert found.difference.now == "not run"
    assert "FileNotFoundError" in found.difference.reason
    assert found.notes == ("not in the archive, and perhaps missed: data",)


def test_a_run_that_failed_fails_again_the_same_way(program):
    program(CHAIN.replace("return sum(table)", "raise ValueError('no'); return sum(table)"), fails=True)
    found = reproduce()
    assert (found.is_equal, found.compared) == (True, 1)


def test_a_step_that_fails_only_now_is_named_with_its_error(program, tmp_path):
    there = tmp_path / "there"
    there.write_text("x")
    program(CHAIN.replace("return sum(table)", f"open({str(there)!r}); return sum(table)"))
    there.unlink()
    first = reproduce().difference
    assert (first.step, first.output, first.then, first.now) == ("fit", "", "completed", "failed")
    assert "FileNotFoundError" in first.reason


def test_hooks_are_not_called_again(program, tmp_path):
    told = tmp_path / "told"
    hook = f"def tell(it): open({str(told)!r}, 'a').write('x')"
    text = CHAIN.replace("@pipeline", f"{hook}\n\n@pipeline(on_success=tell)")
    program(
        text.replace("FACTOR = 2", f"FACTOR = 2\n\n{hook}").replace("@step\ndef fit", "@step(on_end=tell)\ndef fit")
    )
    assert told.read_text() == "xx"
    assert reproduce().is_equal
    assert told.read_text() == "xx"


def test_a_package_of_the_project_is_that_of_the_archive_however_it_was_found(program, project, monkeypatch):
    (project / "src" / "own").mkdir(parents=True)
    (project / "src" / "own" / "__init__.py").write_text("FACTOR = 2\n")
    program(CHAIN.replace("FACTOR = 2", "from own import FACTOR"), PYTHONPATH=on_path(project / "src"))
    (project / "src" / "own" / "__init__.py").write_text("FACTOR = 3\n")
    monkeypatch.setenv("PYTHONPATH", on_path(project / "src"))
    assert reproduce().is_equal


def test_variables_that_steps_declare_are_as_they_were(program, monkeypatch):
    text = CHAIN.replace("from cupola import", "import os\nfrom cupola import CachePolicy,").replace(
        "@step\ndef load", "@step(cache=CachePolicy(env=['MODE']), env={'LEVEL': '3'})\ndef load"
    )
    program(text.replace("list(range(rows))", "[len(os.environ['MODE']), int(os.environ['LEVEL'])]"), MODE="fast")
    monkeypatch.setenv("MODE", "slower")
    assert reproduce().is_equal


def make_distribution(folder: Path, version: str) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    (folder / f"madeup_thing-{version}.dist-info").mkdir(parents=True)
    (folder / "madeup_thing.py").write_text(f"VERSION = {version!r}\n")


def test_distributions_that_differ_are_named_and_without_uv_the_current_ones_are_used(program, tmp_path, monkeypatch):
    make_distribution(tmp_path / "extra", "1.0")
    text = CHAIN.replace("return list(range(rows))", "import madeup_thing; return [len(madeup_thing.VERSION)]")
    program(text, PYTHONPATH=on_path(tmp_path / "extra"))
    make_distribution(tmp_path / "extra", "2.0.1")
    for name, value in (("PYTHONPATH", on_path(tmp_path / "extra")), ("UV_OFFLINE", "1"), ("UV_NO_CACHE", "1")):
        monkeypatch.setenv(name, value)
    found = reproduce()
    assert Changed("madeup-thing", "1.0", "2.0.1") in found.environment
    assert "since the recorded one can't be built" in found.notes[0]
    assert found.difference.step == "load"
    assert found.difference.reason.endswith("madeup_thing:VERSION ('1.0' then, '2.0.1' now)")


def test_the_kept_folder_has_code_and_store(program, run_cupola, tmp_path):
    program(CHAIN)
    done = run_cupola("reproduce", "last", "--keep", timeout_s=120)
    assert done.returncode == 0, done.stderr
    folder = next(line.split()[-1] for line in done.stdout.splitlines() if line.strip().startswith("kept"))
    assert (Path(folder) / "source" / "run.py").read_text() == CHAIN
    shown = run_cupola("show", "last", CUPOLA_HOME=str(Path(folder) / "home"))
    assert "completed" in shown.stdout
    shutil.rmtree(folder)


def test_a_run_without_an_archive_is_refused_with_the_reason(project, program, run_cupola, home):
    program(CHAIN)
    blobs = Client().runs.list()[0].record.blobs
    path = home / "blobs" / blobs["archive"][5:7] / blobs["archive"][7:]
    path.unlink()
    done = run_cupola("reproduce", "last")
    assert done.returncode == 1
    assert "is missing" in done.stderr


def test_help_tells_resume_rerun_and_reproduce_apart(run_cupola):
    said = " ".join(run_cupola("reproduce", "--help").stdout.split())
    for words in ("resume goes on with a run", "rerun makes a new run", "reproduce checks in a clean place"):
        assert words in said


def test_the_code_of_a_run_is_part_of_its_record(program, run_cupola, project):
    program(CHAIN)
    run = Client().runs.list()[0]
    assert run.code.commit is None
    assert run.code.unknown["commit"].endswith("is in no git repository")
    assert run.code.source.startswith("dir:")
    shown = json.loads(run_cupola("show", run.id, "--json").stdout)
    assert shown["code"]["dirty"] is None
    assert shown["code"]["source"] == run.code.source


MAPPED = """
import os, random
from cupola import File, pipeline, step

@step
def read(file: File) -> str:
    return file.path.read_text()

@step
def size(text: str) -> float:
    return len(text) + (random.random() if os.environ.get("ODD") and text == "bb" else 0)

@pipeline
def mapped():
    return size.map(read.map([File("data/a.txt"), File("data/b.txt")]))

if __name__ == "__main__":
    mapped()
"""


@pytest.mark.feature("ENG-03")
def test_the_children_of_mapped_steps_are_compared_one_by_one(project, run_python, run_cupola):
    (project / "mapped.py").write_text(MAPPED)
    (project / "data").mkdir()
    for name, text in (("a", "a"), ("b", "bb")):
        (project / "data" / f"{name}.txt").write_text(text)
    assert run_python("mapped.py", cwd=project).returncode == 0
    done = run_cupola("reproduce", "last", cwd=project)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 outputs" in done.stdout
    done = run_cupola("reproduce", "last", cwd=project, ODD="1")
    assert done.returncode == 1
    assert "size[1]" in done.stdout + done.stderr
