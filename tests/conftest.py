"""What all tests share: a store of their own, and the book of which capability was shown by a test that really ran.

A test says `@pytest.mark.feature("CORE-07")`. In CI, when the whole suite runs, each id of docs/features.md must have
been shown by at least one test that passed; otherwise the session fails.
"""

from __future__ import annotations

import functools
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# A test run in the background of a script ignores Ctrl-C, and so would all programs that the tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Programs that the tests start buffer their output and keep their bytecode as they do for users.
for setting in ("PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE"):
    os.environ.pop(setting, None)

REPOSITORY = Path(__file__).resolve().parent.parent
FEATURE_ROW = re.compile(r"^\|\s*([A-Z]+-\d+)\s*\|", re.MULTILINE)
shown: dict[str, list[str]] = {}


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of a store of the test's own, empty, which CUPOLA_HOME names."""
    for name in list(os.environ):
        if name.startswith("CUPOLA_") and name != "CUPOLA_TEST_SIZE":
            monkeypatch.delenv(name)
    folder = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("CUPOLA_HOME", str(folder))
    return folder


@pytest.fixture(autouse=True)
def _same_folder() -> Iterator[None]:
    before = os.getcwd()
    yield
    os.chdir(before)


@pytest.fixture
def run_program(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return a function that runs a program in a fresh process, by default in the test's own folder."""

    def run(*command: object, cwd: Path = tmp_path, timeout_s: float = 60, **environment: str):
        return subprocess.run(
            list(map(str, command)),
            cwd=cwd,
            env={**os.environ, **environment},
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=timeout_s,
            stdin=subprocess.DEVNULL,
            check=False,
        )

    return run


@pytest.fixture
def rewrite() -> Callable[[Path, str], None]:
    """Return a function that changes a source file so that Python notices, however soon it is.

    Bytecode is taken for fresh while the size and the whole second of the file's time are those it was made from.
    """

    def write(path: Path, text: str) -> None:
        later = os.stat(path).st_mtime + 2
        path.write_text(text, encoding="utf-8")
        os.utime(path, (later, later))

    return write


@pytest.fixture
def run_python(run_program: Callable[..., subprocess.CompletedProcess[str]]):
    """Return a function that runs `python <arguments>` with the interpreter of the tests."""
    return functools.partial(run_program, sys.executable)


@pytest.fixture
def run_cupola(run_program: Callable[..., subprocess.CompletedProcess[str]]):
    """Return a function that runs `cupola <arguments>` as a user does, from the environment of the tests."""
    return functools.partial(run_program, Path(sys.executable).with_name("cupola"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Properties travel with the reports of xdist's workers; markers don't.
    for item in items:
        for mark in item.iter_markers("feature"):
            item.user_properties.extend(("feature", identifier) for identifier in mark.args)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "call" and report.passed:
        for kind, identifier in report.user_properties:
            if kind == "feature":
                shown.setdefault(str(identifier), []).append(report.nodeid)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if not _must_show_all(config):
        return
    for identifier in _listed():
        terminalreporter.write_line(f"{identifier}: shown by {len(shown.get(identifier, ()))} tests")


def pytest_sessionfinish(session: pytest.Session) -> None:
    if _must_show_all(session.config) and session.exitstatus == pytest.ExitCode.OK:
        missing = [identifier for identifier in _listed() if identifier not in shown]
        unknown = sorted(set(shown) - set(_listed()))
        for identifier in missing:
            print(f"\n{identifier} of docs/features.md was shown by no test that ran")
        for identifier in unknown:
            print(f"\n{identifier} has tests but no row in docs/features.md")
        if missing or unknown:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _must_show_all(config: pytest.Config) -> bool:
    whole = config.args_source is pytest.Config.ArgsSource.TESTPATHS and not config.option.keyword
    return whole and bool(os.environ.get("CI")) and not hasattr(config, "workerinput")


def _listed() -> list[str]:
    return FEATURE_ROW.findall((REPOSITORY / "docs" / "features.md").read_text(encoding="utf-8"))
