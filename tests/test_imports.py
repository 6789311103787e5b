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


PROGRAM = """
import json, sys
from cupola import pipeline, step

@step
def one() -> int:
    return 1

@pipeline
def small() -> int:
    return one()

small()
print(json.dumps(sorted(name for name in sys.modules if name.startswith("cupola."))))
"""
LIST = """
import json, sys
from cupola.cli.main import main

main(["ps"])
print(json.dumps(sorted(name for name in sys.modules if name.startswith("cupola."))))
"""
SHOWS = {f"cupola.client.{name}" for name in ("describe", "draw", "lineage", "page", "plain", "stored")}
EXPLAINS = {"cupola.engine.explain", "cupola.engine.live", "cupola.engine.plan"}
SELDOM = {"cupola.compiler.shown", "cupola.compiler.yaml_tree", "cupola.artifacts.materializers.containers"}
WRITES = {f"cupola.stores.{name}" for name in ("batches", "changes", "ledger", "projection", "questions", "tail")}


@pytest.mark.feature("CORE-04")
def test_a_run_loads_nothing_that_only_shows_or_explains_it(run_python, home, tmp_path):
    (tmp_path / "small.py").write_text(PROGRAM)
    done = run_python(tmp_path / "small.py")
    assert done.returncode == 0, done.stderr
    loaded = set(json.loads(done.stdout.splitlines()[-1]))
    assert "cupola.worker" in loaded
    assert loaded & (SHOWS | EXPLAINS | SELDOM) == set()


@pytest.mark.feature("CORE-09")
def test_a_list_loads_nothing_that_runs_or_writes(run_python, home):
    done = run_python("-c", LIST)
    assert done.returncode == 0, done.stderr
    loaded = set(json.loads(done.stdout.splitlines()[-1]))
    assert "cupola.stores.statements" in loaded
    assert loaded & (SHOWS | WRITES | {"cupola.worker", "cupola.artifacts.blobs", "cupola.cli.delete"}) == set()
    assert not [name for name in loaded if name.startswith(("cupola.authoring", "cupola.compiler", "cupola.engine"))]
