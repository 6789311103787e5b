"""SIGKILL at random moments, resumed until done: each finished step ran exactly once, and the outputs are right.

CUPOLA_TEST_SIZE=full makes it 200 kills over all pipelines instead of 60. CUPOLA_KILL_SEED repeats the moments of an
earlier session.
"""

from __future__ import annotations

import os
import random
import time

import pytest
from kill_and_resume import Case

KILLS = 200 if os.environ.get("CUPOLA_TEST_SIZE") == "full" else 60
KILLS_PER_RUN = 5

# File in `pipelines/`, and how many of its steps may be in progress at once: as many as there are workers.
CASES = {"static": 2, "mapped": 2, "dynamic": 2}


@pytest.mark.feature("ENG-03", "ENG-04", "ENG-05", "ENG-06", "ENG-08")
@pytest.mark.parametrize("name", CASES)
def test_a_run_that_is_killed_again_and_again_is_resumed_to_the_same_result(name, tmp_path, monkeypatch, run_cupola):
    monkeypatch.setenv("CUPOLA_WORKERS", "2")
    seed = int(os.environ.get("CUPOLA_KILL_SEED", random.randrange(10**6)))
    chance = random.Random(seed)
    quiet = Case(name, tmp_path / "quiet", monkeypatch)
    started = time.monotonic()
    quiet.finish()
    usual_s = time.monotonic() - started
    usual_lines, outputs = len(quiet.lines()), quiet.outputs()
    assert outputs
    hits = total = 0
    while total < KILLS // len(CASES):
        case = Case(name, tmp_path / f"killed-{total}", monkeypatch, in_progress=CASES[name])
        try:
            for _ in range(KILLS_PER_RUN):
                total += 1
                if case.kill_at_random(chance, usual_s, usual_lines):
                    break
                hits += 0 < len(case.lines()) < usual_lines
            case.finish()
            assert case.outputs() == outputs
        except AssertionError as error:
            error.add_note(f"kill {total} of seed {seed} in {case.folder}: {case.lines()[-3:]}")
            raise
        doctor = run_cupola("doctor", "store", CUPOLA_HOME=str(case.home))
        assert doctor.returncode == 0, doctor.stdout + doctor.stderr
        assert "clean" in doctor.stdout
    assert hits > total // 3, f"too few kills fell into the middle of a run to prove anything (seed {seed})"
