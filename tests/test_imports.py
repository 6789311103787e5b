"""What importing Cupola loads, and what it leaves alone."""

from __future__ import annotations

import json

import pytest

HEAVY = {
    "inspect", "dataclasses", "importlib.metadata", "tempfile", "asyncio", "http", "logging", "sqlite3", "yaml",
    "numpy", "pandas", "pyarrow", "sklearn", "pydantic", "attr", "subprocess", "socket", "urllib.request", "argparse",
    "multiprocessing", "unittest",
}  # fmt: skip
# What msgspec loads itself depends on what else is installed (typing_extensions brings inspect), so it comes first
# where it is needed at all.
LOADED = """
import sys
{first}
before = set(sys.modules)
{statement}
after = set(sys.modules)
import json
print(json.dumps(sorted(after - before)))
"""
CHANGED = """
import json, logging.handlers, os, signal, sys, threading

def world():
    root = logging.getLogger()
    return root.handlers[:], root.level, dict(os.environ), signal.getsignal(signal.SIGINT), sys.excepthook, sys.path[:]

before = world()
{statement}
print(json.dumps([before == world(), threading.active_count(), sys.stdout is sys.__stdout__]))
"""


@pytest.mark.feature("CORE-11")
@pytest.mark.parametrize(
    ("first", "statement"), [("", "import cupola"), ("import msgspec", "from cupola import step, pipeline")]
)
def test_importing_loads_nothing_heavy(run_python, first, statement):
    done = run_python("-c", LOADED.format(first=first, statement=statement))
    assert done.returncode == 0, done.stderr
    loaded = json.loads(done.stdout)
    assert [name for name in loaded if name in HEAVY or name.split(".")[0] in HEAVY] == []
    assert first or "msgspec" not in loaded


@pytest.mark.feature("CORE-11")
def test_importing_changes_nothing(run_python, home):
    done = run_python("-c", CHANGED.format(statement="from cupola import *; from cupola import step, pipeline, Client"))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [True, 1, True]
    assert list(home.iterdir()) == []


@pytest.mark.feature("CORE-11")
def test_a_misspelt_export_names_the_nearest(run_python):
    done = run_python("-c", "from cupola import pipelin")
    assert done.returncode == 1
    assert "pipelin" in done.stderr
