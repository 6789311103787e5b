"""SIGKILL at random moments: what the store says and what an outside witness saw must agree, every time.

CUPOLA_TEST_SIZE=full makes it 200 kills instead of 50. CUPOLA_KILL_SEED repeats the moments of an earlier session.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
LENGTH = 60
KILLS = 200 if os.environ.get("CUPOLA_TEST_SIZE") == "full" else 50
# Several kills per store, so that they also meet one that others were killed in; several stores, so that they also meet
# one that is only being made.
KILLS_PER_STORE = 5
PATIENCE_S = 30
NAMES = ["add", *(f"add_{number}" for number in range(2, LENGTH + 1))]


def lines_of(witness: Path) -> list[str]:
    return witness.read_text().splitlines() if witness.exists() else []


def kill_at_random(child: subprocess.Popen[bytes], witness: Path, chance: random.Random, usual_s: float) -> None:
    """Kill the child after any share of its usual time, or a moment after the witness has seen some number of lines."""
    deadline = time.monotonic() + PATIENCE_S
    if chance.random() < 0.25:
        moment = time.monotonic() + chance.uniform(0, usual_s)
    else:
        wanted = chance.randrange(2 * LENGTH)
        while len(lines_of(witness)) < wanted and child.poll() is None:
            assert time.monotonic() < deadline, "the child does nothing"
        moment = time.monotonic() + chance.expovariate(1 / 0.0005)
    while time.monotonic() < moment:
        pass
    child.send_signal(signal.SIGKILL)
    child.wait(PATIENCE_S)


def start(folder: Path, salt: int, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    program = [sys.executable, str(folder / "chain_of_60.py"), str(salt)]
    return subprocess.Popen(program, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def check_killed(seen: list[str], before: dict) -> set[str]:
    """Check the record of a killed run against what the witness saw; return the steps that had finished."""
    begun = [line.removeprefix("begin ") for line in seen if line.startswith("begin ")]
    ended = {line.removeprefix("end ") for line in seen if line.startswith("end ")}
    recorded = {name for name, status in before["steps"].items() if status == "completed"}
    assert begun == NAMES[: len(begun)], "steps began out of order or twice"
    # A step begins only after the one before it is finished, so all that began but the last must be recorded.
    assert set(begun[:-1]) <= recorded, f"finished, but not recorded: {sorted(set(begun[:-1]) - recorded)}"
    assert recorded <= ended, f"recorded as finished, but not finished: {sorted(recorded - ended)}"
    assert before["runs"] <= 1
    assert before["status"] in ("absent", "lost", "completed")
    assert not (begun and before["status"] == "absent"), "steps ran in a run that nobody recorded"
    others = {status for name, status in before["steps"].items() if name not in recorded}
    assert others <= {"pending", "lost", "skipped"}, others
    return recorded


def check_next(seen: list[str], finished: set[str], after: dict, salt: int) -> None:
    """Check that the next run took over what had finished, ran the rest, and came to the right result."""
    assert after["status"] == "completed"
    assert after["output"] == salt + LENGTH
    assert {name for name, status in after["steps"].items() if status == "cached"} == finished
    assert {name for name, status in after["steps"].items() if status == "completed"} == set(NAMES) - finished
    twice = {name for name in NAMES if seen.count(f"begin {name}") > 1}
    assert not twice & finished, f"finished, but run again: {sorted(twice & finished)}"
    assert len(twice) <= 1, "only the step that was in progress may run twice"


@pytest.mark.feature("CORE-03", "CORE-04", "CORE-07")
def test_kills_at_random_moments_lose_no_finished_step_and_invent_none(tmp_path, run_python, run_cupola):
    seed = int(os.environ.get("CUPOLA_KILL_SEED", random.randrange(10**6)))
    chance = random.Random(seed)
    folder = tmp_path / "project"
    folder.mkdir()
    for name in ("chain_of_60.py", "report_60.py"):
        shutil.copy(HERE / name, folder)
    hits, usual_s = 0, 0.5
    for number in range(KILLS):
        salt = 1000 * number
        witness = tmp_path / f"witness-{number}"
        home = tmp_path / f"home-{number // KILLS_PER_STORE}"
        environment = {**os.environ, "WITNESS": str(witness), "CUPOLA_HOME": str(home)}
        kill_at_random(start(folder, salt, environment), witness, chance, usual_s)
        seen = lines_of(witness)
        done = run_python(folder / "report_60.py", salt, cwd=folder, WITNESS=str(witness), CUPOLA_HOME=str(home))
        assert done.returncode == 0, done.stdout + done.stderr
        told = json.loads(done.stdout.splitlines()[-1])
        try:
            finished = check_killed(seen, told["before"])
            check_next(lines_of(witness), finished, told["after"], salt)
        except AssertionError as error:
            error.add_note(f"kill {number} of seed {seed}; store {home}, witness {witness}: {seen[-3:]}")
            raise
        hits += bool(finished) and len(finished) < LENGTH
        if number % KILLS_PER_STORE == KILLS_PER_STORE - 1:
            doctor = run_cupola("doctor", "store", CUPOLA_HOME=str(home))
            assert doctor.returncode == 0, doctor.stdout + doctor.stderr
    assert hits > KILLS // 3, f"too few kills fell into the middle of a run to prove anything (seed {seed})"
