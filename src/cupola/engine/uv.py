"""Calling uv: where it is, what it is told, and what it said when it failed.

Credentials go to it by its environment, never by arguments, which everyone on the machine can read.
"""

from __future__ import annotations

import base64
import glob
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote

import msgspec

from cupola.compiler.requirements import Requirements
from cupola.credentials import MASK, mask_credentials
from cupola.engine.indexes import pip_settings
from cupola.errors import ConfigError, RunCancelled

_POLL_S = 0.1
# What would tie the new environment to the one that is active here, or to another folder.
_DROPPED = (
    "VIRTUAL_ENV", "CONDA_PREFIX", "CONDA_DEFAULT_ENV", "PYTHONPATH", "PYTHONHOME", "UV_PYTHON", "UV_PROJECT",
    "UV_PROJECT_ENVIRONMENT", "UV_SYSTEM_PYTHON", "UV_WORKING_DIR", "UV_VENV_SEED", "UV_VENV_CLEAR",
    "UV_VENV_RELOCATABLE", "UV_CUSTOM_COMPILE_COMMAND", "UV_COMPILE_BYTECODE", "FORCE_COLOR", "CLICOLOR_FORCE",
)  # fmt: skip


class UvFailed(Exception):
    """uv ended with an error.

    Args:
        said: What it said, without credentials.
    """

    def __init__(self, said: str) -> None:
        super().__init__(said)
        self.said = said


class Uv(msgspec.Struct, frozen=True, kw_only=True):
    """How uv is called for one set of requirements.

    Attributes:
        program: Path of uv.
        folder: Where it runs: the source root, so that relative paths and the project's index settings hold.
        environment: Its environment.
        secrets: What must not be seen in what it says.
        is_stopped: Tells whether the caller wants no more of it.
    """

    program: str
    folder: Path
    environment: Mapping[str, str]
    secrets: tuple[str, ...]
    is_stopped: Callable[[], bool]

    def run(self, *arguments: str, text: str = "") -> str:
        """Call uv with a text as its input; return what it printed.

        Raises:
            UvFailed: It ended with an error.
            RunCancelled: The caller wants no more of it.
        """
        process = subprocess.Popen(
            [self.program, *arguments],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # A group of its own, with the git and the build tools that it starts, so that all of it can be ended.
            start_new_session=True,
        )
        try:
            printed, said = self._wait(process, text.encode())
        except BaseException:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
        if process.returncode:
            words = said.decode("utf-8", "replace").strip() or f"it ended with exit code {process.returncode}"
            raise UvFailed(self.without_secrets(words))
        return printed.decode("utf-8", "replace")

    def _wait(self, process: subprocess.Popen[bytes], text: bytes) -> tuple[bytes, bytes]:
        given: bytes | None = text
        while True:
            try:
                return process.communicate(given, timeout=_POLL_S)
            except subprocess.TimeoutExpired:
                given = None  # it remembers what it has not sent yet
                if self.is_stopped():
                    raise RunCancelled("stopped while the environment of a step was being made") from None

    def without_secrets(self, text: str) -> str:
        """Return text without credentials: what looks like one, and those that are known."""
        text = mask_credentials(text)
        for secret in self.secrets:
            text = text.replace(secret, MASK)
        return text


def open_uv(requirements: Requirements, root: Path, where: str, is_stopped: Callable[[], bool]) -> Uv:
    """Return how uv is called for these requirements.

    Raises:
        ConfigError: There is no uv.
    """
    return Uv(
        program=find_uv(where),
        folder=root,
        environment=_environment(requirements),
        secrets=_secrets(requirements),
        is_stopped=is_stopped,
    )


def find_uv(where: str = "") -> str:
    """Return the path of uv: the one on PATH, else that of the installed package `uv`.

    Raises:
        ConfigError: There is none.
    """
    found = shutil.which("uv")
    if found:
        return os.path.abspath(found)
    try:
        import uv  # an optional dependency

        return os.fspath(uv.find_uv_bin())
    except (ImportError, FileNotFoundError) as error:
        raise ConfigError(
            "a step with requirements runs in an environment of its own, which uv makes; there is no uv",
            where=where,
            fix="pip install 'cupola[environments]', or put uv on PATH (https://docs.astral.sh/uv)",
        ) from error


def _environment(requirements: Requirements) -> dict[str, str]:
    said = dict(os.environ)
    said.update(pip_settings(said))
    for name in _DROPPED:
        said.pop(name, None)
    said.update(NO_COLOR="1", UV_NO_PROGRESS="1", PATH=_path_with_pythons(said.get("PATH", "")))
    said.update(requirements.credentials)
    _add_git_settings(said, requirements.logins)
    return said


def _path_with_pythons(path: str) -> str:
    """Return PATH with the Pythons of pyenv themselves instead of its stand-ins, at which uv gives up."""
    pyenv = os.environ.get("PYENV_ROOT") or os.path.expanduser("~/.pyenv")
    folders = [folder for folder in path.split(os.pathsep) if os.path.join(pyenv, "shims") != folder.rstrip(os.sep)]
    return os.pathsep.join([*folders, *sorted(glob.glob(os.path.join(glob.escape(pyenv), "versions", "*", "bin")))])


def _add_git_settings(environment: dict[str, str], logins: Mapping[str, str]) -> None:
    first = int(environment.get("GIT_CONFIG_COUNT") or 0)
    for number, (address, login) in enumerate(logins.items(), first):
        user, _, password = login.partition(":")
        plain = f"{unquote(user)}:{unquote(password)}".encode()
        environment[f"GIT_CONFIG_KEY_{number}"] = f"http.{address}.extraHeader"
        environment[f"GIT_CONFIG_VALUE_{number}"] = f"Authorization: Basic {base64.b64encode(plain).decode()}"
        environment["GIT_CONFIG_COUNT"] = str(number + 1)


def _secrets(requirements: Requirements) -> tuple[str, ...]:
    """Return the texts to keep out of messages, the longest first; very short ones would only spoil them."""
    whole = [*requirements.credentials.values(), *requirements.logins.values()]
    whole += [value for name, value in os.environ.items() if re.fullmatch(r"UV_INDEX_\w+_PASSWORD", name)]
    parts = [part for secret in whole for part in (secret, secret.rpartition(":")[2])]
    found = {text for part in parts for text in (part, unquote(part))}
    return tuple(sorted((text for text in found if len(text) >= 4), key=len, reverse=True))


def failure(what: str, error: UvFailed, where: str, fix: str) -> ConfigError:
    """Return the error for what uv could not do, in its own words."""
    return ConfigError(f"{what}; uv says:\n{error.said}", where=where, fix=fix)
