"""One program is one snapshot, byte for byte: however it is started, from wherever, under any hash seed."""

from __future__ import annotations

from pathlib import Path

import pytest

from cupola import Client

PROGRAM = """
from dataclasses import dataclass
from lib.helpers import WORDS, clean
from cupola import pipeline, step

@dataclass
class Options:
    words: frozenset = frozenset({"a", "b", "c"})
    rate: float = 0.5

@step(cache=False)
def load(options: Options) -> list[str]:
    return sorted(clean(WORDS | options.words))

@step
def count(words: list[str], names: dict[str, int]) -> int:
    return len(words) + len(names)

@pipeline(tags=["b", "a"])
def counting(options: Options = Options()) -> int:
    return count(load(options), {"x": 1, "y": 2})

if __name__ == "__main__":
    counting()
"""
HELPERS = """
WORDS = {"one", "two", "three", "four"}

def clean(words):
    return {word.strip() for word in words if word not in {"", " ", "-"}}
"""


@pytest.mark.feature("CORE-01", "CORE-02")
@pytest.mark.parametrize("marker", ["marked", "nested", "outside of any root"])
def test_a_program_is_one_snapshot_however_it_is_started(tmp_path, home, run_python, run_cupola, marker) -> None:
    project = tmp_path / "outer" / "my project"
    (project / "lib").mkdir(parents=True)
    (project / "run.py").write_text(PROGRAM)
    (project / "lib" / "helpers.py").write_text(HELPERS)
    for folder in {"marked": [project], "nested": [project, project.parent]}.get(marker, []):
        (folder / ".cupola").mkdir()
    for start in (
        lambda: run_python("run.py", cwd=project, PYTHONHASHSEED="1"),
        lambda: run_python(project / "run.py", cwd=tmp_path, PYTHONHASHSEED="2"),
        lambda: run_python("-m", "run", cwd=project, PYTHONHASHSEED="3"),
        lambda: run_cupola("run", "run.py", cwd=project, PYTHONHASHSEED="4"),
        lambda: run_cupola("run", Path("outer", "my project", "run.py"), cwd=tmp_path, PYTHONHASHSEED="5"),
        lambda: run_python("-c", "from run import counting; counting()", cwd=project, PYTHONHASHSEED="6"),
    ):
        done = start()
        assert done.returncode == 0, done.stderr
    runs = Client().runs.list()
    assert len(runs) == 6
    assert len({run.snapshot.id for run in runs}) == 1, [(run.record.facts, run.snapshot.id) for run in runs]
    assert {run.steps["count"].status.value for run in runs[:-1]} == {"cached"}
    assert "__main__" not in repr(runs[0].snapshot.graph)
