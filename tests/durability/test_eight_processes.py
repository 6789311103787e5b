"""Eight processes use one empty store at the same moment."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from cupola import Client

PROCESSES, STEPS = 8, 100
PROGRAM = f"""
import sys
from cupola import pipeline, step

@step
def add(total: int) -> int:
    return total + 1

@pipeline
def hundred(salt: int) -> int:
    total = salt
    for _ in range({STEPS}):
        total = add(total)
    return total

if __name__ == "__main__":
    sys.stdin.read()
    run = hundred(salt=int(sys.argv[1]))
    assert run.output.load() == int(sys.argv[1]) + {STEPS}
"""


@pytest.mark.feature("CORE-03", "CORE-04")
def test_eight_processes_of_100_steps_at_once_are_all_recorded(tmp_path, run_cupola):
    (tmp_path / "hundred.py").write_text(PROGRAM)
    children = [
        subprocess.Popen(
            [sys.executable, "hundred.py", str(1000 * number)],
            cwd=tmp_path,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ},
        )
        for number in range(PROCESSES)
    ]
    for child in children:
        assert child.stdin is not None
        child.stdin.close()  # the start signal: all have been started, so their first steps coincide
        child.stdin = None
    outputs = [child.communicate(timeout=120)[0] for child in children]
    assert [child.returncode for child in children] == [0] * PROCESSES, "\n".join(outputs)
    assert "Traceback" not in "".join(outputs)

    runs = Client().runs.list(pipeline="hundred", limit=20)
    assert sorted(run.params["salt"] for run in runs) == [1000 * number for number in range(PROCESSES)]
    assert {str(run.status) for run in runs} == {"completed"}
    for run in runs:
        assert len(run.steps) == STEPS
        assert run.output.load() == run.params["salt"] + STEPS
    assert run_cupola("doctor", "store").returncode == 0
