"""Runs a pipeline under SIGKILLs, resumes it until it is done, and holds its record against an outside witness.

A pipeline is a file of `pipelines/` whose steps tell the witness when they begin and end. What holds for each of them:
a step that the record calls finished never begins again; at most the steps in progress at a kill do; the outputs are
those of a run that nobody disturbed.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from cupola import ArtifactVersion, Client, Run
from cupola.client import connect

HERE = Path(__file__).parent
CUPOLA = Path(sys.executable).with_name("cupola")
PATIENCE_S = 60
FINISHED = ("completed", "cached")


def project(folder: Path, name: str) -> Path:
    """Return a source tree with one pipeline in a test's folder; in the repository it would be all that is there."""
    target = folder / "project"
    target.mkdir(exist_ok=True)
    for file in (HERE / "forking.py", HERE / "pipelines" / "witness.py", HERE / "pipelines" / f"{name}.py"):
        if not (target / file.name).exists():
            shutil.copy(file, target)
    return target


def close_stores() -> None:
    """Close what was opened to look at earlier cases: there are hundreds of them."""
    for connection in connect._open.values():
        connection.store.close()
    connect._open.clear()


def digest_of(output: Any) -> object:
    """Return the digest of an output; of a mapped step's the digests of what its children put out."""
    return output.digest if isinstance(output, ArtifactVersion) else [part.digest for part in output]


class Case:
    """One run of a pipeline in a store of its own, killed and resumed.

    Attributes:
        in_progress: The most steps that may be in progress at once, and so begin again after a kill.
    """

    def __init__(self, name: str, folder: Path, patch: pytest.MonkeyPatch, *, in_progress: int = 1) -> None:
        folder.mkdir()
        self.file = project(folder.parent, name) / f"{name}.py"
        self.folder = folder
        self.home = folder / "home"
        self.witness = folder / "witness"
        self.in_progress = in_progress
        self.kills = 0
        self._finished: dict[str, int] = {}
        close_stores()
        patch.setenv("CUPOLA_HOME", str(self.home))

    def start(self) -> subprocess.Popen[bytes]:
        """Begin the run, or go on with it where it has begun."""
        command = [CUPOLA, "resume", "last"] if self.is_begun() else [CUPOLA, "run", self.file]
        environment = {**os.environ, "CUPOLA_HOME": str(self.home), "WITNESS": str(self.witness)}
        with open(self.folder / "said", "ab") as said:
            return subprocess.Popen(command, cwd=self.folder, env=environment, stdout=said, stderr=said)

    def kill_at_random(self, chance: random.Random, usual_s: float, usual_lines: int) -> bool:
        """Start, kill at a random moment, and check what is recorded; return whether the run was over before."""
        process = self.start()
        deadline = time.monotonic() + PATIENCE_S
        lines = len(self.lines())
        if chance.random() < 0.25:
            moment = time.monotonic() + chance.uniform(0, usual_s)
        else:
            wanted = lines + chance.randrange(max(1, usual_lines - lines))
            while len(self.lines()) < wanted and process.poll() is None:
                assert time.monotonic() < deadline, "the run does nothing"
            moment = time.monotonic() + chance.expovariate(1 / 0.0005)
        while time.monotonic() < moment and process.poll() is None:
            pass
        process.send_signal(signal.SIGKILL)
        is_over = process.wait(PATIENCE_S) == 0
        self.kills += 1
        self.check_record()
        return is_over

    def finish(self) -> None:
        """Go on until the run is done, and check it once more."""
        if not self.is_complete():
            process = self.start()
            assert process.wait(PATIENCE_S) == 0, (self.folder / "said").read_text()
        self.check_record()
        assert str(self.run().status) == "completed"

    def is_begun(self) -> bool:
        return bool(self.home.exists() and Client().runs.list(limit=1))

    def is_complete(self) -> bool:
        return self.is_begun() and str(self.run().status) == "completed"

    def run(self) -> Run:
        return Client().runs.list(limit=1)[0]

    def outputs(self) -> dict[str, dict[str, object]]:
        steps = self.run().steps.items()
        return {name: {key: digest_of(output) for key, output in step.outputs.items()} for name, step in steps}

    def lines(self) -> list[str]:
        return self.witness.read_text().splitlines() if self.witness.exists() else []

    def check_record(self) -> None:
        """Check what is recorded now against what the witness saw."""
        begun = Counter(line.removeprefix("begin ") for line in self.lines() if line.startswith("begin "))
        ended = Counter(line.removeprefix("end ") for line in self.lines() if line.startswith("end "))
        if not self.is_begun():
            assert not begun, "steps ran in a run that nobody recorded"
            return
        run = self.run()
        assert len(Client().runs.list()) == 1
        assert str(run.status) in ("lost", "failed", "completed"), run.status
        finished = {name for name, step in run.steps.items() if str(step.status) in FINISHED}
        for name, times in self._finished.items():
            assert name in finished, f"{name} was finished, and is not any more"
            assert begun[name] == times, f"{name} was finished, and began again"
        for name in finished & begun.keys():
            assert ended[name], f"{name} is recorded as finished, and did not finish"
            self._finished.setdefault(name, begun[name])
        # One attempt is the first; a kill lets those in progress begin again. Flaky ones add some of their own, and
        # begin again as well where they failed.
        again = sum(times - 1 for name, times in begun.items() if "flaky" not in name)
        assert again <= self.kills * self.in_progress, f"after {self.kills} kills, {again} steps began again"
