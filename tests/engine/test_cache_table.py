# ruff: noqa: E501 — one line an edit reads as a table
"""Law 5 as a table: edits of a project, each run from a fresh process, and whether the step runs again, and why."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import msgspec
import pytest

PROJECT = {
    ".cupola/config.yaml": "",
    "helpers/deep.py": """
        SCALE = 2

        def scale(x):
            return x * SCALE

        def unrelated():
            return "nobody asks"
    """,
    "helpers/middle.py": """
        from helpers import deep

        def prepare(x):
            return deep.scale(x) + 1
    """,
    "models.py": """
        import dataclasses
        import enum
        import functools

        class Base:
            BIAS = 1

            def predict(self, x):
                return x + self.BIAS

        class Model(Base):
            def fit(self, x):
                return self.predict(x)

        @dataclasses.dataclass
        class Config:
            rate: float = 0.5
            depth: int = 3

        class Mode(enum.Enum):
            FAST = "fast"
            SLOW = "slow"

        THRESHOLD = 0.5
        LIMITS = {"low": 1, "high": 9}

        def add(a, b):
            return a + b

        add_seven = functools.partial(add, b=7)
        CHOICES = {"double": lambda x: x * 2, "triple": lambda x: x * 3}

        def make(offset):
            def shift(x):
                return x + offset
            return shift

        shifted = make(4)

        def timed(function):
            @functools.wraps(function)
            def inner(*args, **kwargs):
                return function(*args, **kwargs)
            return inner
    """,
    "run.py": """
        import os
        import sys

        import editable_lib
        import fakelib
        import models
        from cupola import CachePolicy, File, pipeline, step
        from helpers.middle import prepare


        @step(cache=CachePolicy(env=["REGION"], files=["table.csv"]))
        @models.timed
        def work(x: int, data: File, mode: str = "fast", factor: int = 1) -> float:
            \"\"\"Do the work.\"\"\"
            # a comment
            model = models.Model()
            config = models.Config()
            result = prepare(model.fit(x)) * factor
            if result > models.THRESHOLD:
                result += models.LIMITS["low"]
            result = models.add_seven(result) + models.CHOICES["double"](1) + models.shifted(1)
            result += editable_lib.extra() + fakelib.version_of_it() + config.rate
            return float(result + len(models.Mode.FAST.value) + len(data.path.read_text()))


        @step
        def load() -> int:
            return 5


        def unrelated_in_the_same_file():
            return 1


        @pipeline
        def table(data: File = File("data.txt")):
            work(load(), data)


        if __name__ == "__main__":
            table()
    """,
    "data.txt": "abc",
    "table.csv": "1,2",
    "../editable/editable_lib/__init__.py": "def extra():\n    return 1\n",
    "../site-packages/fakelib/__init__.py": "def version_of_it():\n    return 1\n",
    "../site-packages/fakelib-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: fakelib\nVersion: 1.0\n",
    "../site-packages/fakelib-1.0.dist-info/RECORD": "fakelib/__init__.py,,\n",
}


class Edit(msgspec.Struct, frozen=True):
    """An edit: a file, what is replaced by what, and the cause that must be named (None: the step is still cached)."""

    name: str
    file: str
    old: str
    new: str
    cause: tuple[str, str] | None = None


EDITS = (
    Edit("helper-two-modules-away", "helpers/deep.py", "return x * SCALE", "return x * SCALE + 0", ("function", "helpers.deep:scale")),
    Edit("constant-two-modules-away", "helpers/deep.py", "SCALE = 2", "SCALE = 3", ("constant", "helpers.deep:SCALE")),
    Edit("helper-one-module-away", "helpers/middle.py", "+ 1", "+ 2", ("function", "helpers.middle:prepare")),
    Edit("own-body", "run.py", "result = prepare(", "result = 1 + prepare(", ("function", "run:work")),
    Edit("base-class-method", "models.py", "return x + self.BIAS", "return x - self.BIAS", ("class", "models:Base")),
    Edit("class-attribute", "models.py", "BIAS = 1", "BIAS = 2", ("class", "models:Base")),
    Edit("method", "models.py", "return self.predict(x)", "return self.predict(x) + 1", ("class", "models:Model")),
    Edit("module-constant", "models.py", "THRESHOLD = 0.5", "THRESHOLD = 0.7", ("constant", "models:THRESHOLD")),
    Edit("constant-in-a-dict", "models.py", '"low": 1', '"low": 2', ("constant", "models:LIMITS")),
    Edit("decorator", "models.py", "return function(*args, **kwargs)", "return function(*args, **kwargs) + 1", ("*", "models:timed")),
    Edit("default-value", "run.py", "factor: int = 1", "factor: int = 2", ("*", "*")),
    Edit("default-text", "run.py", 'mode: str = "fast"', 'mode: str = "slow"', ("*", "*")),
    Edit("dataclass-field-default", "models.py", "rate: float = 0.5", "rate: float = 0.25", ("class", "models:Config")),
    Edit("dataclass-new-field", "models.py", "depth: int = 3", "depth: int = 3\n    width: int = 1", ("class", "models:Config")),
    Edit("enum-value", "models.py", 'FAST = "fast"', 'FAST = "faster"', ("class", "models:Mode")),
    Edit("closure-cell", "models.py", "shifted = make(4)", "shifted = make(5)", ("*", "*")),
    Edit("closure-code", "models.py", "return x + offset", "return x - offset", ("*", "*")),
    Edit("partial-argument", "models.py", "functools.partial(add, b=7)", "functools.partial(add, b=8)", ("*", "*")),
    Edit("function-in-a-partial", "models.py", "return a + b", "return a + b + 0", ("function", "models:add")),
    Edit("lambda-in-a-dict", "models.py", "lambda x: x * 2", "lambda x: x * 4", ("function", "models:<lambda>")),
    Edit("editable-library", "../editable/editable_lib/__init__.py", "return 1", "return 2", ("function", "editable_lib:extra")),
    Edit("file-input", "data.txt", "abc", "abcd", ("file", "data.txt")),
    Edit("file-of-the-policy", "table.csv", "1,2", "1,3", ("file", "table.csv")),
    Edit("upstream-result", "run.py", "return 5", "return 6", ("input", "x")),
    Edit("annotation", "run.py", "factor: int = 1) -> float", "factor: float = 1) -> float", ("function", "run:work")),
    Edit("comment", "run.py", "# a comment", "# another comment"),
    Edit("docstring", "run.py", "Do the work.", "Do all of the work."),
    Edit("docstring-of-a-helper", "helpers/deep.py", "def scale(x):", 'def scale(x):\n    """Scale."""'),
    Edit("reformatting", "run.py", "result = prepare(model.fit(x)) * factor", "result = (\n        prepare(\n            model.fit(x),\n        )\n        * factor\n    )"),
    Edit("rename-of-a-local", "run.py", "config", "settings"),
    Edit("unrelated-function-in-the-same-file", "run.py", "return 1\n", "return 2\n"),
    Edit("unrelated-function-elsewhere", "helpers/deep.py", "nobody asks", "still nobody asks"),
    Edit("new-function", "models.py", "THRESHOLD = 0.5", "THRESHOLD = 0.5\n\ndef brand_new():\n    return 1\n"),
    Edit("upstream-code-with-an-equal-result", "run.py", "return 5", "return 2 + 3"),
    Edit("retry-and-timeout", "run.py", '@step(cache=', '@step(retry=3, timeout=60, cache='),
    Edit("reordering", "helpers/deep.py", "def scale(x):\n    return x * SCALE\n\ndef unrelated():\n    return \"nobody asks\"\n", "def unrelated():\n    return \"nobody asks\"\n\ndef scale(x):\n    return x * SCALE\n"),
    Edit("unrelated-class", "models.py", "class Mode", "class Other:\n    x = 1\n\nclass Mode"),
)  # fmt: skip


def run(folder: Path, home: Path, **environment: str) -> dict[str, str]:
    """Run the project in a fresh process; return the status of each step."""
    path = os.pathsep.join(str(folder.parent / name) for name in ("editable", "site-packages"))
    env = {**os.environ, "CUPOLA_HOME": str(home), "PYTHONPATH": path, "REGION": "eu", **environment}
    code = (
        "import json, run; from cupola import Client\n"
        "done = run.table()\n"
        "print(json.dumps({name: str(one.status) for name, one in done.steps.items()}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def why(home: Path) -> dict:
    newest = max(os.listdir(next((home / "finished").iterdir())))
    done = subprocess.run(
        [Path(sys.executable).with_name("cupola"), "show", newest, "--why", "work", "--json"],
        cwd="/", env={**os.environ, "CUPOLA_HOME": str(home)}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def write(folder: Path) -> Path:
    for name, text in PROJECT.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text).lstrip("\n"))
    return folder


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that ran once, and its store."""
    top = tmp_path_factory.mktemp("table")
    write(top / "project")
    os.environ.pop("CUPOLA_PROGRESS", None)
    assert run(top / "project", top / "home") == {"load": "completed", "work": "completed"}
    assert run(top / "project", top / "home") == {"load": "cached", "work": "cached"}
    return top


def copy_of(warm: Path, tmp_path: Path) -> tuple[Path, Path]:
    shutil.copytree(warm, tmp_path / "copy", symlinks=True)
    return tmp_path / "copy" / "project", tmp_path / "copy" / "home"


@pytest.mark.feature("CORE-07")
@pytest.mark.parametrize("edit", EDITS, ids=[edit.name for edit in EDITS])
def test_an_edit_reruns_what_depends_on_it_and_is_named(warm: Path, tmp_path: Path, edit: Edit, rewrite) -> None:
    folder, home = copy_of(warm, tmp_path)
    path = folder / edit.file
    text = path.read_text()
    assert edit.old in text
    rewrite(path, text.replace(edit.old, edit.new))
    status = run(folder, home)["work"]
    report = why(home)
    if edit.cause is None:
        assert status == "cached", report
        assert report["hit"] is True
        return
    assert status == "completed"
    assert report["hit"] is False
    kind, name = edit.cause
    causes = [(cause["kind"], cause["name"]) for cause in report["causes"]]
    assert any(kind in ("*", found) and name in ("*", called) for found, called in causes), json.dumps(report)
    assert not any(found == "first" for found, _ in causes)
    for cause in report["causes"]:
        if cause["kind"] in ("function", "class", "constant"):
            assert cause["file"].endswith(".py"), cause
            assert cause["line"] > 0, cause
            assert cause["old"] != cause["new"], cause


@pytest.mark.feature("CORE-07")
def test_a_version_of_an_imported_distribution_counts(warm: Path, tmp_path: Path) -> None:
    folder, home = copy_of(warm, tmp_path)
    site = folder.parent / "site-packages"
    (site / "fakelib-1.0.dist-info").rename(site / "fakelib-2.0.dist-info")
    assert run(folder, home)["work"] == "completed"
    causes = why(home)["causes"]
    assert [(cause["kind"], cause["name"], cause["old"], cause["new"]) for cause in causes] == [
        ("library", "fakelib", "1.0", "2.0")
    ]


@pytest.mark.feature("CORE-07")
def test_a_declared_variable_counts(warm: Path, tmp_path: Path) -> None:
    folder, home = copy_of(warm, tmp_path)
    assert run(folder, home, REGION="us")["work"] == "completed"
    assert [(cause["kind"], cause["name"]) for cause in why(home)["causes"]] == [("env", "REGION")]


@pytest.mark.feature("CORE-07")
def test_a_constant_is_explained_with_both_values_and_its_place(warm: Path, tmp_path: Path, rewrite) -> None:
    folder, home = copy_of(warm, tmp_path)
    path = folder / "models.py"
    rewrite(path, path.read_text().replace("THRESHOLD = 0.5", "THRESHOLD = 0.7"))
    run(folder, home)
    (cause,) = why(home)["causes"]
    assert (cause["old"], cause["new"], cause["file"], cause["step"]) == ("0.5", "0.7", "models.py", "work")


@pytest.mark.feature("CORE-07")
def test_the_first_cause_upstream_is_named(warm: Path, tmp_path: Path, rewrite) -> None:
    folder, home = copy_of(warm, tmp_path)
    path = folder / "run.py"
    rewrite(path, path.read_text().replace("return 5", "return 6"))
    run(folder, home)
    causes = why(home)["causes"]
    assert [(cause["kind"], cause["name"], cause["step"]) for cause in causes] == [
        ("input", "x", "load"),
        ("function", "run:load", "load"),
    ]


@pytest.mark.feature("CORE-07")
def test_an_edit_taken_back_is_a_hit_again(warm: Path, tmp_path: Path, rewrite) -> None:
    folder, home = copy_of(warm, tmp_path)
    path = folder / "helpers/deep.py"
    text = path.read_text()
    rewrite(path, text.replace("SCALE = 2", "SCALE = 3"))
    assert run(folder, home)["work"] == "completed"
    rewrite(path, text)
    assert run(folder, home)["work"] == "cached"


@pytest.mark.feature("CORE-07")
@pytest.mark.parametrize("damage", ["delete", "truncate", "flip"])
def test_a_hit_with_a_damaged_blob_is_a_miss(home: Path, tmp_path: Path, damage: str) -> None:
    (tmp_path / "go.py").write_text(
        "from cupola import pipeline, step\n"
        "@step\ndef big() -> list[str]: return ['a' * 1000] * 100\n"
        "@pipeline\ndef p(): big()\n"
        "if __name__ == '__main__': print(p().steps['big'].status)\n"
    )

    def go() -> str:
        done = subprocess.run([sys.executable, "go.py"], cwd=tmp_path, capture_output=True, text=True, check=True)
        return done.stdout.splitlines()[-1]

    assert [go(), go()] == ["completed", "cached"]
    # The others are what the run was made from: its source and the list of distributions.
    blob = max((path for path in (home / "blobs").rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    blob.chmod(0o644)
    data = blob.read_bytes()
    if damage == "delete":
        blob.unlink()
    elif damage == "truncate":
        blob.write_bytes(data[:-1])
    else:
        blob.write_bytes(bytes([data[0] ^ 1]) + data[1:])
    assert [go(), go()] == ["completed", "cached"]
