"""Run programs in fresh processes and take their time and memory; floor and subject take turns, medians count."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

HERE = Path(__file__).resolve().parent
PROGRAMS = HERE / "programs"
CUPOLA = Path(sys.executable).with_name("cupola")
TMPFS = Path("/dev/shm")


class Done(NamedTuple):
    """What a process took, from start to exit, and what it said last as JSON (or a bare number)."""

    seconds: float
    peak_bytes: int
    said: dict[str, float]


class Started(NamedTuple):
    """A running program, the file that it prints to, and when it was started."""

    process: subprocess.Popen[bytes]
    output: IO[bytes]
    began: float


class Place:
    """Where the measured programs write: a temporary folder, and fresh stores in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def new_home(self) -> Path:
        """Return an empty folder for a store."""
        return Path(tempfile.mkdtemp(dir=self.folder, prefix="home-"))

    def environment(self, home: Path | None) -> dict[str, str]:
        """Return the environment of a measured program: bytecode is used, output is buffered, as for a user."""
        unwanted = ("PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED", "CUPOLA_")
        clean = {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}
        clean["TMPDIR"] = str(self.folder)
        if home:
            clean["CUPOLA_HOME"] = str(home)
        return clean

    def start(self, *command: object, home: Path | None = None) -> Started:
        """Start a program; what it prints goes to a file, which `finish` closes."""
        output = tempfile.TemporaryFile(dir=self.folder)  # noqa: SIM115 - stays open until the program ends
        began = time.perf_counter()
        process = subprocess.Popen(
            list(map(str, command)),
            cwd=self.folder,
            env=self.environment(home),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        return Started(process, output, began)

    def run(self, *command: object, home: Path | None = None) -> Done:
        """Run a program to its end."""
        return finish(self.start(*command, home=home))

    def python(self, program: str, *arguments: object, home: Path | None = None) -> Done:
        """Run one of `programs/` (or the floor) with the interpreter of the benchmarks."""
        path = HERE / program if program == "floor.py" else PROGRAMS / program
        return self.run(sys.executable, path, *arguments, home=home)


def finish(started: Started) -> Done:
    """Wait for a program.

    Raises:
        RuntimeError: It failed; the message has its last lines.
    """
    process, output, began = started
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    with output:
        output.seek(max(0, output.seek(0, os.SEEK_END) - 4000))
        text = output.read().decode(errors="replace")
    if process.returncode:
        raise RuntimeError(f"{process.args} ended with {process.returncode}:\n{text}")
    scale = 1 if sys.platform == "darwin" else 1024
    return Done(seconds, usage.ru_maxrss * scale, _last_json(text))


def _last_json(text: str) -> dict[str, float]:
    for line in reversed(text.splitlines()):
        try:
            said = json.loads(line)
        except ValueError:
            continue
        return said if isinstance(said, dict) else {"per_step": float(said)}
    return {}


def take_turns(times: int, *subjects: Callable[[], float]) -> list[float]:
    """Return the median of each subject, which run one after the other, so often; one round before isn't counted."""
    rounds = [[subject() for subject in subjects] for _ in range(times + 1)][1:]
    return [statistics.median(values) for values in zip(*rounds, strict=True)]


@contextmanager
def place(on_disk: bool = False) -> Iterator[Place]:
    """Give a folder on tmpfs where there is one, since creating a file on a disk hides everything else."""
    parent = TMPFS if TMPFS.is_dir() and not on_disk else None
    folder = Path(tempfile.mkdtemp(dir=parent, prefix="cupola-bench-"))
    try:
        yield Place(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
