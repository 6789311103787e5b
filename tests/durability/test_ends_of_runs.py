"""A process that dies between two of the writes that end a run: the next reader finishes what it began."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cupola import Client

PROGRAM = """
import os, sys
from cupola import pipeline, step
from cupola.engine import ending, launch, sealing
from cupola.stores import sql

@step
def one() -> int:
    return 1

@pipeline
def p() -> int:
    return one()

def die(*args, **named):
    os._exit(9)

archive = sealing.archive

def archive_and_die(*args):
    archive(*args)
    os._exit(9)

def inject(where):
    if where == "finish": ending.Ending.finish = die
    if where == "seal": launch.seal = die
    if where == "in seal": sql.SqlStore.seal = die
    if where == "archive": sealing.archive = die
    if where == "after archive": sealing.archive = archive_and_die

if __name__ == "__main__":
    inject(sys.argv[1])
    p()
"""


@pytest.mark.feature("CORE-03")
@pytest.mark.parametrize(
    ("where", "status"),
    [("finish", "lost"), ("seal", "completed"), ("in seal", "completed"), ("archive", "completed"),
     ("after archive", "completed")],
)  # fmt: skip
def test_a_death_at_the_end_of_a_run_is_settled_by_the_next_reader(
    home: Path, tmp_path: Path, run_python: Callable[..., Any], run_cupola: Callable[..., Any], where: str, status: str
) -> None:
    (tmp_path / "p.py").write_text(PROGRAM)
    assert run_python("p.py", where).returncode == 9
    run = Client().runs.list()[0]
    assert str(run.status) == status
    assert run.steps["one"].output.load() == 1
    assert list((home / "runs").iterdir()) == []
    assert "clean" in run_cupola("doctor", "store").stdout
    assert run_python("p.py", "nowhere").returncode == 0
    assert str(Client().runs.list()[0].steps["one"].status) == "cached"
