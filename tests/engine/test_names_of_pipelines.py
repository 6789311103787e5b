"""A pipeline's name that another source file used before: told once, with both files."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

PROGRAM = """
from cupola import pipeline, step

@step
def one() -> int:
    return 1

@pipeline
def training() -> int:
    return one()

if __name__ == "__main__":
    training()
"""


@pytest.mark.feature("CORE-02")
def test_a_pipeline_name_of_another_file_warns_once_with_both_paths(home: Path, tmp_path: Path, run_python) -> None:
    first, second = tmp_path / "first" / "run.py", tmp_path / "second" / "run.py"
    for file in (first, second):
        file.parent.mkdir()
        file.write_text(PROGRAM)
    said = [run_python(file).stderr for file in (first, first, second, second)]
    assert ["has the name of one of" in text for text in said] == [False, False, True, False]
    assert str(first) in said[2]
    assert str(second) in said[2]
    assert sys.executable not in said[2]
