"""A machine as tests of environments need it: an index of its own, and a uv that writes down how it is called."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.engine import local_index

from cupola import ConfigError
from cupola.engine.built import Environment
from cupola.engine.environment import prepare
from cupola.engine.uv import find_uv

try:
    UV = find_uv()
except ConfigError as error:
    if os.environ.get("CI"):
        raise
    pytest.skip(f"no environment of a step can be made: {error}", allow_module_level=True)

LOGIN = "robot:t0psecret"


@pytest.fixture(scope="session")
def own_wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with what Cupola itself needs in an environment."""
    folder = tmp_path_factory.mktemp("own")
    for name in local_index.OWN:
        local_index.copy_installed(folder, name)
    return folder


class Machine:
    """A machine with an index of its own, and a uv that writes down how it is called."""

    def __init__(self, folder: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.home = home
        self.root = folder / "project"
        self.root.mkdir()
        self.index = folder / "index"
        self.calls_path = folder / "calls"
        self.said: list[str] = []
        self.go = folder / "go"
        bin_folder = folder / "bin"
        bin_folder.mkdir()
        self.monkeypatch = monkeypatch
        uv = bin_folder / "uv"
        # `stop` holds the named command until `go` is there.
        uv.write_text(
            "#!/bin/sh\n"
            f'echo "$$ $@" >> {self.calls_path}\n'
            'case "$*" in "$UV_TEST_STOP"*) [ -z "$UV_TEST_STOP" ] || while [ ! -e "'
            + str(self.go)
            + '" ]; do sleep 0.02; done;; esac\n'
            f'exec {UV} "$@"\n'
        )
        uv.chmod(0o755)
        monkeypatch.setenv("PATH", f"{bin_folder}{os.pathsep}{os.environ['PATH']}")

    def prepare(self, *requirements: str, **options) -> Environment:
        return prepare(requirements, home=self.home, root=self.root, progress=self.said.append, **options)

    def calls(self) -> list[str]:
        """Return how uv was called since the last question."""
        text = self.calls_path.read_text() if self.calls_path.exists() else ""
        self.calls_path.unlink(missing_ok=True)
        return [line.partition(" ")[2] for line in text.splitlines()]

    def write(self, name: str, text: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def forget_built(self) -> None:
        shutil.rmtree(self.home / "environments" / "built")


@pytest.fixture
def machine(tmp_path, home, own_wheels, monkeypatch) -> Machine:
    for name in list(os.environ):
        if name.startswith(("UV_", "PIP_")):
            monkeypatch.delenv(name)
    made = Machine(tmp_path, home, monkeypatch)
    made.index.mkdir()
    for path in own_wheels.iterdir():
        os.link(path, made.index / path.name)
    local_index.make_wheel(made.index, "alpha", "1.0", requires=["beta>=1"])
    local_index.make_wheel(made.index, "alpha", "2.0", requires=["beta>=2"])
    local_index.make_wheel(made.index, "beta", "1.0")
    local_index.make_wheel(made.index, "beta", "2.0")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv cache"))
    monkeypatch.setenv("UV_NO_CONFIG", "1")
    monkeypatch.setenv("UV_FIND_LINKS", str(made.index))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("NETRC", os.devnull)
    return made


def tell(environment: Environment, expression: str) -> str:
    """Return what an expression is in an environment."""
    code = f"import alpha, beta, os, sys; print(({expression}))"
    done = subprocess.run(
        [environment.python, "-c", code], env=environment.variables(os.environ), capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def everything_below(*folders: Path) -> bytes:
    return b"\n".join(
        path.name.encode() + b"\n" + path.read_bytes()
        for folder in folders
        for path in folder.rglob("*")
        if path.is_file() and path.suffix not in (".so", ".whl")
    )


BACKEND = """
import zipfile
def build_wheel(folder, config_settings=None, metadata_directory=None):
    with zipfile.ZipFile(f"{folder}/delta-1.0-py3-none-any.whl", "w") as archive:
        archive.write("delta.py")
        metadata = "Metadata-Version: 2.1\\nName: delta\\nVersion: 1.0\\nRequires-Dist: alpha<2\\n"
        archive.writestr("delta-1.0.dist-info/METADATA", metadata)
        tags = "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"
        archive.writestr("delta-1.0.dist-info/WHEEL", tags)
        archive.writestr("delta-1.0.dist-info/RECORD", "")
    return "delta-1.0-py3-none-any.whl"
"""
"""A build backend that needs nothing, for a folder with `delta.py` in it."""
PROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[project]
name = "delta"
version = "1.0"
dependencies = ["alpha<2"]
"""
