"""Completion, asked by real shells."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cupola import pipeline, step
from cupola.cli.completion import SCRIPTS, complete

CUPOLA = Path(sys.executable).with_name("cupola")


@step
def fit() -> int:
    return 1


@pipeline
def training() -> int:
    return fit()


def in_shell(shell: str, program: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    found = shutil.which(shell)
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{shell} is missing; .ci/run installs it")
        pytest.skip(f"{shell} is not on this machine")
    path = f"{CUPOLA.parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        [found, "-c", program],
        env={**os.environ, "PATH": path},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def in_bash(words: list[str], cwd: Path) -> list[str]:
    listed = " ".join(f"'{word}'" for word in ["cupola", *words])
    program = f"""
        eval "$(cupola completion bash)"
        COMP_WORDS=({listed}); COMP_CWORD={len(words)}
        _cupola
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = in_shell("bash", program, cwd)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.split("\n")[:-1]


@pytest.mark.feature("CORE-09")
def test_bash_completes_commands_options_runs_steps_and_files(tmp_path):
    run = training()
    (tmp_path / "go.py").touch()
    assert in_bash(["sh"], tmp_path) == ["show"]
    assert in_bash(["runs", "l"], tmp_path) == ["list"]
    assert in_bash(["runs", "list", "--st"], tmp_path) == ["--status"]
    assert in_bash(["runs", "list", "--status", "comp"], tmp_path) == ["completed"]
    assert in_bash(["show", "tr"], tmp_path) == [run.name]
    assert in_bash(["logs", run.name, "f"], tmp_path) == ["fit"]
    assert in_bash(["show", "last", "--why", ""], tmp_path) == ["fit"]
    assert in_bash(["artifacts", "show", "training/"], tmp_path) == ["training/fit/output"]
    assert in_bash(["pipelines", "show", ""], tmp_path) == ["training"]
    assert in_bash(["run", "g"], tmp_path) == ["go.py"]
    assert in_bash(["nonsense", ""], tmp_path) == [""] or in_bash(["nonsense", ""], tmp_path) == []


@pytest.mark.feature("CORE-09", "CORE-12")
def test_a_hostile_name_is_never_run_by_the_shell(tmp_path):
    mark = tmp_path / "ran"

    @pipeline(name="x$(touch ran) `touch ran`;touch ran")
    def hostile() -> int:
        return fit()

    hostile()
    (found,) = in_bash(["pipelines", "show", "x"], tmp_path)
    assert found.startswith("x\\$\\(touch")
    assert not mark.exists()


@pytest.mark.feature("CORE-09")
@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_script_is_accepted_by_its_shell(shell, tmp_path):
    (tmp_path / "script").write_text(SCRIPTS[shell])
    done = in_shell(
        shell, "autoload -Uz compinit 2>/dev/null; source ./script" if shell == "zsh" else "source ./script", tmp_path
    )
    assert "parse error" not in done.stderr
    assert "Unknown" not in done.stderr


@pytest.mark.feature("CORE-09")
def test_bash_parses_its_script(tmp_path):
    (tmp_path / "script").write_text(SCRIPTS["bash"])
    assert in_shell("bash", "bash -n ./script", tmp_path).returncode == 0


@pytest.mark.feature("CORE-09")
def test_every_command_lists_its_options(home):
    from cupola.cli.completion import VERBS
    from cupola.cli.main import COMMANDS

    for name in COMMANDS:
        for words in [[name, verb] for verb in VERBS[name]] if name in VERBS else [[name]]:
            found = complete([*words, "--"])
            assert "--help" in found, words
            assert all(option.startswith("--") for option in found)


@pytest.mark.feature("CORE-09")
def test_without_a_store_nothing_is_completed_and_nothing_is_said(monkeypatch):
    monkeypatch.setenv("CUPOLA_HOME", "/proc/none")
    assert complete(["show", ""]) == []
