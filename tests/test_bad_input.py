"""What can be wrong around a run: full and read-only disks, limits, damaged stores, hostile paths.

Each ends in an error of what, where and what now; the store stays readable, and nothing half-written stands in it.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cupola import Client

PROGRAM = """
import os, sys
from cupola import File, pipeline, step

@step(cache=False)
def fill() -> None:
    with open(os.environ["CUPOLA_HOME"] + "/fill", "wb", buffering=0) as file:
        for size in (65536, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                pass

@step(cache=False)
def make(i: int, size: int) -> bytes:
    print("making", i)
    return os.urandom(size)

@step(cache=False)
def read(data: File) -> str:
    with open(data) as file:
        return file.read()

@pipeline
def makes(size: int = 10, count: int = 3):
    for i in range(count):
        make(i, size)

@pipeline
def fills():
    fill()
    for i in range(50):
        make(i, 3000)

@pipeline
def reads(data: File = File("data.csv")) -> str:
    return read(data)
"""
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "p.py"
    path.write_text(PROGRAM)
    return path


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Return a folder on a file system of 3 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", folder], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("file systems can be mounted by root only")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def error_lines(result: subprocess.CompletedProcess[str]) -> list[str]:
    """Return what was said from the error on; it must be no traceback of Cupola's own."""
    lines = result.stderr.splitlines()
    start = next(place for place, line in enumerate(lines) if line.startswith("error:"))
    assert f"src{os.sep}cupola" not in result.stderr
    return lines[start:]


def check_store(home: Path, run_cupola: Run) -> None:
    result = run_cupola("doctor", "store", CUPOLA_HOME=str(home))
    assert result.returncode == 0, result.stdout + result.stderr
    assert "clean" in result.stdout + result.stderr


@pytest.mark.feature("CORE-12")
def test_a_full_disk_fails_the_step_and_leaves_a_clean_store(program: Path, small_disk: Path, run_cupola: Run) -> None:
    home = small_disk / "home"
    # Two such values fit, and what the third one would lack is room enough for the database to go on.
    result = run_cupola("run", f"{program}:makes", "--param", "size=960000", "--param", "count=20", CUPOLA_HOME=home)
    assert result.returncode == 1
    said = "\n".join(error_lines(result))
    assert "No space left on device" in said
    assert "free some space" in said
    assert not list((home / "blobs" / "tmp").iterdir())
    shown = run_cupola("runs", "list", CUPOLA_HOME=home).stdout
    assert "failed" in shown
    check_store(home, run_cupola)


@pytest.mark.feature("CORE-12")
def test_a_disk_without_room_for_a_store_says_so_and_is_fine_once_there_is(
    program: Path, small_disk: Path, run_cupola: Run
) -> None:
    home = small_disk / "home"
    (small_disk / "fill").write_bytes(bytes(3_120_000))
    result = run_cupola("run", f"{program}:makes", CUPOLA_HOME=home)
    assert result.returncode == 3
    assert "CUPOLA_HOME" in error_lines(result)[1]
    (small_disk / "fill").unlink()
    assert run_cupola("run", f"{program}:makes", CUPOLA_HOME=home).returncode == 0
    check_store(home, run_cupola)


@pytest.mark.feature("CORE-12")
def test_a_disk_that_fills_up_under_the_journal_loses_no_finished_step(
    program: Path, small_disk: Path, run_cupola: Run
) -> None:
    home = small_disk / "home"
    result = run_cupola("run", f"{program}:fills", CUPOLA_HOME=home)
    assert result.returncode == 3
    assert "the disk is full: free some space" in error_lines(result)[1]
    (home / "fill").unlink()
    shown = run_cupola("runs", "list", CUPOLA_HOME=home).stdout
    assert "lost" in shown
    assert "completed" in shown
    check_store(home, run_cupola)


@pytest.mark.feature("CORE-12")
@pytest.mark.parametrize("limit_kib", [4, 400])
def test_a_limit_on_the_size_of_files_says_how_to_raise_it(
    home: Path, program: Path, run_program: Run, run_cupola: Run, limit_kib: int
) -> None:
    cupola = Path(sys.executable).with_name("cupola")
    command = f'ulimit -f {limit_kib}; exec "$0" "$@"'
    result = run_program("bash", "-c", command, cupola, "run", f"{program}:makes", "--param", "size=1000000")
    assert result.returncode in (1, 3)
    assert error_lines(result)[1]
    if limit_kib == 400:
        assert "ulimit -f" in "\n".join(error_lines(result))
    check_store(home, run_cupola)
    assert run_cupola("run", f"{program}:makes").returncode == 0


@pytest.mark.feature("CORE-12")
def test_a_home_that_can_not_be_written_is_named_with_the_remedy(
    program: Path, small_disk: Path, run_cupola: Run
) -> None:
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    result = run_cupola("run", f"{program}:makes", CUPOLA_HOME=small_disk / "home")
    assert result.returncode == 3
    said = error_lines(result)
    assert str(small_disk) in "\n".join([*said, result.stderr])
    assert "CUPOLA_HOME" in said[1]
    assert run_cupola("plan", f"{program}:makes", CUPOLA_HOME=small_disk / "home").returncode in (0, 3)


@pytest.mark.feature("CORE-12")
def test_a_home_that_is_a_file_is_named_with_the_remedy(program: Path, tmp_path: Path, run_cupola: Run) -> None:
    file = tmp_path / "taken"
    file.touch()
    result = run_cupola("run", f"{program}:makes", CUPOLA_HOME=file)
    assert result.returncode == 3
    assert "CUPOLA_HOME" in error_lines(result)[1]


@pytest.mark.feature("CORE-12")
@pytest.mark.parametrize("name", ["with space", "with\nnewline", "zażółć ☃", "per%20cent#hash'quote\"", "-dash"])
def test_any_path_is_fine_for_home_and_program(tmp_path: Path, run_python: Run, run_cupola: Run, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    (folder / "p.py").write_text(PROGRAM + "\nif __name__ == '__main__':\n    makes()\n")
    home = folder / "the home"
    assert run_python(folder / "p.py", CUPOLA_HOME=home).returncode == 0
    assert run_cupola("run", f"{folder / 'p.py'}:makes", CUPOLA_HOME=home).returncode == 0
    assert "2 runs" in run_cupola("doctor", "store", CUPOLA_HOME=home).stdout


@pytest.mark.feature("CORE-12")
def test_a_damaged_database_is_named_and_made_anew(home: Path, program: Path, run_cupola: Run) -> None:
    assert run_cupola("run", f"{program}:makes").returncode == 0
    with open(home / "cupola.db", "r+b") as file:
        file.seek(100)
        file.write(os.urandom(20_000))
    for wal in home.glob("cupola.db-*"):
        wal.unlink()
    result = run_cupola("run", f"{program}:makes")
    assert result.returncode != 0
    said = error_lines(result)
    assert "damaged" in said[0]
    assert "cupola doctor store --rebuild" in said[1]
    assert run_cupola("doctor", "store", "--rebuild").returncode == 0
    assert [str(run.status) for run in Client().runs.list()] == ["completed"]


@pytest.mark.feature("CORE-12")
def test_a_damaged_end_of_a_journal_costs_that_end_only(home: Path, program: Path, run_python: Run) -> None:
    code = "import os, p; p.makes.with_options(on_end=lambda run: os._exit(9))(count=3)"
    run_python("-c", code, cwd=program.parent)
    (journal,) = (home / "runs").glob("*/journal.1")
    whole = journal.read_bytes()
    shutil.rmtree(home / "blobs", ignore_errors=True)
    for database in home.glob("cupola.db*"):
        database.unlink()
    journal.write_bytes(whole[:-7] + b"\0\0\0")
    run = Client().runs.list()[0]
    assert str(run.status) in ("completed", "lost")
    assert [str(one.status) for one in run.steps.values()] == ["completed"] * 3


@pytest.mark.feature("CORE-12")
def test_a_store_of_a_newer_version_is_left_as_it_is(home: Path, program: Path, run_cupola: Run) -> None:
    assert run_cupola("run", f"{program}:makes").returncode == 0
    db = sqlite3.connect(home / "cupola.db")
    db.execute("PRAGMA user_version = 9999")
    db.commit()
    db.close()
    before = {path.name: path.read_bytes() for path in home.iterdir() if path.is_file()}
    result = run_cupola("run", f"{program}:makes")
    assert result.returncode == 3
    assert "newer" in error_lines(result)[0] or "9999" in error_lines(result)[0]
    after = {path.name: path.read_bytes() for path in home.iterdir() if path.is_file()}
    assert {name: after[name] for name in before} == before


@pytest.mark.feature("CORE-12")
def test_two_processes_make_the_store_at_once(home: Path, program: Path) -> None:
    command = [sys.executable, "-c", "import p; p.makes()"]
    started = [
        subprocess.Popen(command, cwd=program.parent, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        for _ in range(4)
    ]
    for process in started:
        _out, said = process.communicate(timeout=60)
        assert process.returncode == 0, said
    assert [str(run.status) for run in Client().runs.list()] == ["completed"] * 4


@pytest.mark.feature("CORE-12")
def test_a_missing_file_is_named_with_the_place_it_was_looked_for(program: Path, run_cupola: Run) -> None:
    result = run_cupola("run", f"{program}:reads")
    assert result.returncode == 1
    assert "FileNotFoundError" in result.stderr
    assert str(program.with_name("data.csv")) in result.stderr
    program.with_name("data.csv").write_text("a,b")
    assert run_cupola("run", f"{program}:reads", cwd=Path("/")).returncode == 0
