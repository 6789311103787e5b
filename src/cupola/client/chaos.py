"""Chaos: a user's pipeline run under random kills and resumed, against two runs that nobody disturbed.

All of it in copies of the source tree and in stores of their own, in processes started as a person starts them. What
differs between the two undisturbed runs is not the kills' doing, and is told apart.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from cupola.client.chaos_report import Line, Observed, Report, judge, read_lines
from cupola.client.connect import Connection
from cupola.client.moving import moved
from cupola.client.reading import RunReader
from cupola.client.restored import own_program
from cupola.client.scratch_tree import copy_tree, read_contents
from cupola.entities.run import RunStatus
from cupola.errors import CupolaError
from cupola.middleware.witness import FILE, FOLDER
from cupola.store import OWNER, Query

_MOST_KILLS_OF_A_RUN = 5
_LAST_LETTERS = 2000
_LOOK_S = 0.0005
"""How often the witness is looked at while a kill waits for it, in seconds; less often in long runs."""
_DURATION_SHARE = 0.5
"""Share of the kills that come at any time of a run; the others come just after a step began or ended."""


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """What is run.

    Attributes:
        root: Source root of the pipeline.
        target: The pipeline as `cupola run` names it: a path relative to the root, and the name behind a colon.
        options: Other arguments of `cupola run`.
        config: A configuration file, else empty.
        folder: The working folder.
        home: Folder of the user's own store, which nothing is done to.
    """

    root: Path
    target: str
    options: tuple[str, ...]
    config: str
    folder: Path
    home: Path


class _Trial:
    """One run of the pipeline in a copy of its own, killed or not."""

    def __init__(self, subject: Subject, scratch: Path, number: int) -> None:
        folder = scratch / f"{number}"
        self.source, self.home = folder / "source", folder / "home"
        self._subject = subject
        self._witness, self._said = folder / "witness", folder / "said"
        self.kills = 0
        self.duration_s = 0.0
        self._seen_bytes = self._seen_lines = 0
        self.linked = copy_tree(subject.root, self.source, without=subject.home)
        self._folder = self._working_folder(folder)

    def start(self) -> subprocess.Popen[bytes]:
        """Begin the run, or go on with it."""
        command = ["resume", "last"] if self.reader() else self._run_command()
        variables = {
            **{name: value for name, value in os.environ.items() if not name.startswith("CUPOLA_")},
            "CUPOLA_HOME": str(self.home), "CUPOLA_ROOT": str(self.source),
            FILE: str(self._witness), FOLDER: str(self.source),
        }  # fmt: skip
        with self._said.open("ab") as said:
            return subprocess.Popen(
                own_program(sys.executable, "cupola.cli.main", *command),
                cwd=self._folder, env=variables, stdin=subprocess.DEVNULL, stdout=said, stderr=said,
            )  # fmt: skip

    def finish(self) -> int:
        """Go on until the end, and return the exit code."""
        started = time.monotonic()
        code = _wait(self.start())
        self.duration_s = time.monotonic() - started
        return code

    def kill(self, chance: random.Random, usual: _Usual) -> int | None:
        """Start and kill at a random moment; return the exit code of a run that ended before that, else None."""
        process = self.start()
        try:
            usual.wait(process, chance, self.count_lines)
        finally:
            process.send_signal(signal.SIGKILL)
            code = process.wait()
        if code != -signal.SIGKILL:
            return code
        self.kills += 1
        return None

    def lines(self) -> list[Line]:
        return read_lines(self._witness)

    def count_lines(self) -> int:
        """Return how many lines the witness has; only what is new is read."""
        with suppress(FileNotFoundError), self._witness.open("rb") as file:
            file.seek(self._seen_bytes)
            data = file.read()
            self._seen_bytes += len(data)
            self._seen_lines += data.count(b"\n")
        return self._seen_lines

    def reader(self) -> RunReader | None:
        """Return what reads the run, or None while there is none."""
        if not (self.home / "cupola.db").exists():
            return None
        connection = Connection(self.home)
        found = connection.store.find("run", Query(limit=1), who=OWNER).items
        return RunReader(connection, found[0].id) if found else None

    def said(self) -> str:
        """Return the end of what it printed."""
        with self._said.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _LAST_LETTERS))
            return file.read().decode(errors="replace").strip()

    def observe(self) -> Observed:
        """Return what can be seen of the run that is over."""
        reader = self.reader()
        if reader is None:
            raise CupolaError("the run left no record", where=str(self.home), fix=self.said())
        steps = reader.steps().values()
        outputs = {
            (step.name, name): version.manifest.digest if version.manifest.stable else ""
            for step in steps
            for name, version in reader.outputs(step.position).items()
        }
        failures = {step.name: str(step.failure) for step in steps if step.failure is not None}
        lines = self.lines()
        changed: dict[str, set[str]] = {}
        for line in lines:
            for path in line.changed:
                changed.setdefault(path, set()).add(line.step)
        return Observed(
            status=str(reader.record().status),
            steps=tuple(step.name for step in sorted(steps, key=lambda step: step.position)),
            outputs=outputs,
            failures=failures,
            began=Counter(line.step for line in lines if line.word == "begin"),
            ended=Counter(line.step for line in lines if line.word == "end"),
            contents=read_contents(self.source),
            changed={path: tuple(sorted(names)) for path, names in changed.items()},
        )

    def forget(self) -> None:
        """Remove the copy and its store."""
        shutil.rmtree(self.source.parent, ignore_errors=True)

    def _run_command(self) -> list[str]:
        subject = self._subject
        config = moved(subject.config, str(subject.root), str(self.source)) or subject.config
        return [
            "run", str(self.source / subject.target), *subject.options, *(("--config", config) if config else ())
        ]  # fmt: skip

    def _working_folder(self, folder: Path) -> Path:
        place = Path(moved(str(self._subject.folder), str(self._subject.root), str(self.source)) or folder / "work")
        place.mkdir(parents=True, exist_ok=True)
        return place


class _Usual:
    """What an undisturbed run looks like from outside: how long it takes, and how much its witness sees."""

    def __init__(self, duration_s: float, lines: int) -> None:
        self._duration_s = duration_s
        self._lines = lines

    def wait(self, process: subprocess.Popen[bytes], chance: random.Random, count: Callable[[], int]) -> None:
        """Wait for a random moment of what is left of a run, or for its end; `count` tells how much the witness saw."""
        seen = count()
        left = max(1, self._lines - seen)
        look_s = max(_LOOK_S, self._duration_s / 5000)
        moment = time.monotonic()
        if chance.random() < _DURATION_SHARE:
            moment += chance.uniform(0, self._duration_s * max(0.3, left / max(1, self._lines)))
        else:
            wanted = seen + chance.randrange(left) + 1
            while count() < wanted and process.poll() is None:
                time.sleep(look_s)
            moment = time.monotonic() + chance.expovariate(1 / 0.001)
        while time.monotonic() < moment and process.poll() is None:
            time.sleep(min(look_s, max(0.0, moment - time.monotonic())))


def run_chaos(subject: Subject, *, kills: int, seed: int, tell: Callable[[str], None], keep: bool = False) -> Report:
    """Run a pipeline twice undisturbed, then under kills until there were so many, and judge what came of it.

    Args:
        subject: What is run.
        kills: How many kills.
        seed: Decides the moments, as far as the machine's own timing lets it.
        tell: Is told how far it has come.
        keep: Whether the copies and stores are kept to be looked at.

    Raises:
        CupolaError: The pipeline doesn't complete when nobody disturbs it.
    """
    scratch = Path(os.path.realpath(tempfile.mkdtemp(prefix="cupola-chaos-")))
    try:
        quiet = [_run_quietly(subject, scratch, number, tell) for number in range(2)]
        usual = _Usual(quiet[0].duration_s, len(quiet[0].lines()))
        before = [trial.observe() for trial in quiet]
        killed = _run_killed(subject, scratch, usual, kills, random.Random(seed), tell, keep=keep)
        notes = _notes(subject, quiet[0])
    finally:
        if not keep:
            shutil.rmtree(scratch, ignore_errors=True)
    report = judge(before, [observed for observed, _kills in killed])
    done = sum(number for _observed, number in killed)
    return msgspec.structs.replace(
        report, kills=done, seed=seed, notes=(*report.notes, *notes), folder=str(scratch) if keep else ""
    )


def _run_quietly(subject: Subject, scratch: Path, number: int, tell: Callable[[str], None]) -> _Trial:
    trial = _Trial(subject, scratch, number)
    code = trial.finish()
    reader = trial.reader()
    if code or reader is None or reader.record().status is not RunStatus.COMPLETED:
        error = CupolaError(
            f"the pipeline doesn't complete when nobody disturbs it; it was run in a copy of {subject.root} and ended "
            f"with status {code}:\n{trial.said()}",
            fix="let it complete first; what it reads must be below the source root or have an absolute path",
        )
        error.exit_code = 2
        raise error
    tell(f"undisturbed run {number + 1} of 2: {trial.duration_s:.1f} s")
    return trial


def _run_killed(
    subject: Subject,
    scratch: Path,
    usual: _Usual,
    kills: int,
    chance: random.Random,
    tell: Callable[[str], None],
    *,
    keep: bool,
) -> list[tuple[Observed, int]]:
    """Run until there were so many kills; a run that is over before its kill counts as none, and is tried anew."""
    found: list[tuple[Observed, int]] = []
    done, number, most = 0, 2, 3 * kills + 10
    while done < kills and number < most:
        trial = _Trial(subject, scratch, number)
        number += 1
        wanted = min(kills - done, 1 + chance.randrange(_MOST_KILLS_OF_A_RUN))
        code: int | None = None
        while trial.kills < wanted and code is None:
            code = trial.kill(chance, usual)
        if code is None:
            code = trial.finish()
        done += trial.kills
        if trial.kills and trial.reader():
            found.append((trial.observe(), trial.kills))
            tell(f"kill {done} of {kills}: the run ended with status {code} after {trial.kills}")
        if not keep:
            trial.forget()
    return found


def _notes(subject: Subject, trial: _Trial) -> Sequence[str]:
    notes: list[str] = []
    if trial.linked:
        shown = ", ".join(trial.linked[:5])
        notes.append(f"large files were linked, not copied, and what steps did to them was done for good: {shown}")
    if not moved(str(subject.folder), str(subject.root), "/"):
        notes.append("the working folder is outside of the source root: the runs had an empty one")
    return notes


def _wait(process: subprocess.Popen[bytes]) -> int:
    try:
        return process.wait()
    except BaseException:
        process.kill()
        process.wait()
        raise
