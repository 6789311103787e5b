"""What pyright and mypy, with no plugin, say of `wirings.py`, compared line by line with the golden file.

To write the golden file anew after a change of `wirings.py`: `python tests/typing/test_typing.py`.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
WIRINGS = HERE / "wirings.py"
GOLDEN = HERE / "wirings.golden"
SOURCE = HERE.parent.parent / "src"
LIMIT_S = 300
WRONG = "# wrong"
LIMIT_OF_MYPY = "# right, though mypy"
# Strict, but for what the libraries' own partial types and the wirings' deliberately unused results would say.
PYRIGHT = {
    "include": ["wirings.py"],
    "extraPaths": [str(SOURCE)],
    "pythonVersion": "3.11",
    "typeCheckingMode": "strict",
    "reportMissingTypeStubs": False,
    "reportMissingModuleSource": False,
    "reportUnknownMemberType": False,
    "reportUnusedVariable": False,
}
# scikit-learn has annotations but doesn't say so; without them its estimators would be Any, and fit everywhere.
MYPY = """
[mypy]
strict = True
python_version = 3.11
untyped_calls_exclude = sklearn
[mypy-sklearn.*]
follow_untyped_imports = True
"""


def pyright_lines(folder: Path) -> set[int]:
    """Return the lines of the copy of the wirings in a folder in which pyright sees an error."""
    (folder / "pyrightconfig.json").write_text(json.dumps(PYRIGHT))
    command = ("-m", "pyright", "--pythonpath", sys.executable, "--outputjson", "-p", str(folder))
    report = json.loads(_run(folder, *command))
    assert report["summary"]["filesAnalyzed"] == 1
    return {
        diagnostic["range"]["start"]["line"] + 1
        for diagnostic in report["generalDiagnostics"]
        if diagnostic["severity"] == "error"
    }


def mypy_lines(folder: Path, cache: Path) -> set[int]:
    """Return the lines of the copy of the wirings in a folder in which mypy sees an error."""
    (folder / "mypy.ini").write_text(MYPY)
    command = ("-m", "mypy", "--config-file", "mypy.ini", "--cache-dir", str(cache), "--no-error-summary", "wirings.py")
    lines = re.findall(r"^(.+?):(\d+): error: ", _run(folder, *command), re.MULTILINE)
    assert {file for file, _ in lines} <= {"wirings.py"}, lines
    return {int(line) for _, line in lines}


def _run(folder: Path, *arguments: str) -> str:
    shutil.copy(WIRINGS, folder)
    environment = {**os.environ, "MYPYPATH": str(SOURCE), "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"}
    result = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        encoding="utf-8",
        timeout=LIMIT_S,
        check=False,
    )
    assert result.returncode in (0, 1), f"{arguments}: exit {result.returncode}: {result.stdout}{result.stderr}"
    return result.stdout


def judged(folder: Path, cache: Path) -> str:
    """Return what both tools say, as the golden file holds it."""
    found = {"pyright": pyright_lines(folder), "mypy": mypy_lines(folder, cache)}
    source = WIRINGS.read_text(encoding="utf-8").splitlines()
    return "".join(
        f"{number:3d} {' '.join(tool for tool in found if number in found[tool]):12s} | {source[number - 1].strip()}\n"
        for number in sorted(found["pyright"] | found["mypy"])
    )


def golden_lines(tool: str) -> set[int]:
    rows = (row.split("|", 1)[0].split() for row in GOLDEN.read_text(encoding="utf-8").splitlines())
    return {int(number) for number, *tools in rows if tool in tools}


def need(tool: str) -> None:
    if importlib.util.find_spec(tool) is None:
        message = f"{tool} is not installed: pip install 'cupola[dev]'"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)


def marked_lines(mark: str) -> set[int]:
    source = WIRINGS.read_text(encoding="utf-8").splitlines()
    return {number for number, line in enumerate(source, 1) if mark in line}


def different(found: set[int], expected: set[int]) -> list[str]:
    source = WIRINGS.read_text(encoding="utf-8").splitlines()
    kinds = (("accepted but wrong", expected - found), ("refused but right", found - expected))
    return [f"{kind}: {line}: {source[line - 1].strip()}" for kind, lines in kinds for line in sorted(lines)]


@pytest.mark.feature("CORE-02")
def test_the_golden_file_has_at_least_thirty_wrong_wirings_and_each_is_marked() -> None:
    assert len(marked_lines(WRONG)) >= 30
    assert golden_lines("pyright") == marked_lines(WRONG)
    assert golden_lines("mypy") == marked_lines(WRONG) | marked_lines(LIMIT_OF_MYPY)


@pytest.mark.feature("CORE-02")
def test_pyright_refuses_each_wrong_wiring_and_no_right_one(tmp_path: Path) -> None:
    need("pyright")
    assert different(pyright_lines(tmp_path), golden_lines("pyright")) == []


@pytest.mark.feature("CORE-02")
def test_mypy_refuses_each_wrong_wiring_and_no_right_one(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    need("mypy")
    # Reading the types of scikit-learn takes half a minute once; the cache is kept between test runs.
    cache = pytestconfig.cache.mkdir("mypy") if pytestconfig.cache else tmp_path / "cache"
    assert different(mypy_lines(tmp_path, cache), golden_lines("mypy")) == []


@pytest.mark.feature("CORE-02")
def test_the_options_of_decorators_are_the_knobs_with_their_types() -> None:
    from cupola.authoring.arguments import PipelineArguments, StepArguments
    from cupola.entities.options import PipelineKnobs, StepKnobs

    assert set(StepArguments.__annotations__) == set(StepKnobs.__struct_fields__)
    assert set(PipelineArguments.__annotations__) == set(PipelineKnobs.__struct_fields__)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        GOLDEN.write_text(judged(Path(scratch), Path(scratch) / "cache"), encoding="utf-8")
