"""What importing Cupola loads, and what it leaves alone."""

from __future__ import annotations

import json

import pytest

HEAVY = {
    "inspect", "dataclasses", "importlib.metadata", "tempfile", "asyncio", "http", "logging", "sqlite3", "yaml",
    "numpy", "pandas", "pyarrow", "sklearn", "pydantic", "attr", "subprocess", "socket", "urllib.request", "argparse",
    "multiprocessing", "unittest",
}  # fmt: skip
REPORT = """
import json, logging.handlers, os, signal, sys, threading
root = logging.getLogger()
before = (list(root.handlers), root.level, dict(os.environ), signal.getsignal(signal.SIGINT), sys.excepthook, list(sys.path))
{statement}
after = (list(root.handlers), root.level, dict(os.environ), signal.getsignal(signal.SIGINT), sys.excepthook, list(sys.path))
print(json.dumps([before == after, threading.active_count(), sys.stdout is sys.__stdout__]))
"""


@pytest.mark.feature("CORE-11")
@pytest.mark.parametrize("statement", ["import cupola", "from cupola import step, pipeline"])
def test_importing_loads_nothing_heavy(run_python, statement):
    loaded = run_python(
        "-c",
        f"import sys; before = set(sys.modules)\n{statement}\nimport json\nprint(json.dumps(sorted(set(sys.modules) - before)))",
    )
    assert loaded.returncode == 0, loaded.stderr
    heavy = {
        name
        for name in json.loads(loaded.stdout)
        if name in HEAVY or name.split(".")[0] in HEAVY - {"importlib.metadata"}
    }
    assert heavy == set()


@pytest.mark.feature("CORE-11")
def test_importing_changes_nothing(run_python, home):
    done = run_python("-c", REPORT.format(statement="from cupola import *; from cupola import step, pipeline, Client"))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [True, 1, True]
    assert list(home.iterdir()) == []


@pytest.mark.feature("CORE-11")
def test_a_misspelt_export_names_the_nearest(run_python):
    done = run_python("-c", "from cupola import pipelin")
    assert done.returncode == 1
    assert "pipelin" in done.stderr
