"""Which environment a step wants: its requirements and its Python, and the digest of both for the cache."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import msgspec

from cupola import digest, values
from cupola.compiler.requirements import read_requirements
from cupola.engine.sources import content_of, states_of
from cupola.errors import ConfigError
from cupola.snapshot import StepOptions
from cupola.suggest import nearest

SETTING = "environment"
_KEYS = ("python",)
_VERSION = r"3\.(\d+)(\.\d+)?t?"
_OLDEST_MINOR = 11


class WantedEnvironment(msgspec.Struct, frozen=True):
    """What a step asks for.

    Attributes:
        requirements: Lines of requirements, as the snapshot has them.
        python: Version of Python; empty for the running one.
    """

    requirements: tuple[str, ...] = ()
    python: str = ""


def wanted_environment(options: StepOptions) -> WantedEnvironment | None:
    """Return what a step asks for by `requirements` and `settings={"environment": {"python": "3.12"}}`.

    Returns:
        None where the step runs in the environment of the run.

    Raises:
        ConfigError: The settings make no sense.
    """
    python = asked_python(options.settings)
    return WantedEnvironment(options.requirements, python) if options.requirements or python else None


def asked_python(settings: bytes) -> str:
    """Return the version of Python that a step's settings ask for; empty for the running one.

    Raises:
        ConfigError: They make no sense.
    """
    if not settings:
        return ""
    said = cast("Mapping[str, Any]", values.decode(settings)).get(SETTING, {})
    if not isinstance(said, Mapping):
        raise ConfigError(
            f"settings[{SETTING!r}]={said!r} must be a mapping",
            fix=f"write settings={{{SETTING!r}: {{'python': '3.12'}}}}",
        )
    given = cast("Mapping[str, Any]", said)
    for key in given:
        if key not in _KEYS:
            guess = nearest(str(key), _KEYS)
            raise ConfigError(
                f"settings[{SETTING!r}] has no key {key!r}",
                fix=f"did you mean {guess!r}?" if guess else f"known are: {', '.join(_KEYS)}",
            )
    return _version(given.get("python", ""))


def _version(python: Any) -> str:
    if python == "":
        return ""
    found = re.fullmatch(_VERSION, python) if isinstance(python, str) else None
    if found is None:
        raise ConfigError(
            f"settings[{SETTING!r}]['python']={python!r} is no version of Python", fix="write it as text: '3.12'"
        )
    if int(found[1]) < _OLDEST_MINOR:
        raise ConfigError(
            f"a step can't run in Python {python}: Cupola itself is in its environment and needs 3.{_OLDEST_MINOR}",
            fix=f"ask for '3.{_OLDEST_MINOR}' or later",
        )
    running = ".".join(map(str, sys.version_info[:3]))
    return "" if python in (running, running.rpartition(".")[0]) else python


_digests: dict[tuple[object, ...], tuple[tuple[str, ...], str]] = {}


def requirements_digest(requirements: Sequence[str], python: str, root: Path) -> str:
    """Return the digest of what a step asks for: lines of lists and files, contents of wheels and folders, Python.

    Remembered until a file changes; credentials and indexes by name of host only.

    Raises:
        ConfigError: A file is missing.
    """
    key = (tuple(requirements), python, str(root))
    known = _digests.get(key)
    if known is not None and known[0] == _states(known[0]):
        return known[1]
    found = read_requirements(requirements, root)
    parts = (*found.lines, "-c", *found.constraints, "local", *map(content_of, found.local), "python", python)
    states = tuple(text for path in (*found.files, *found.local) for text in (path, states_of(path)))
    _digests[key] = states, digest.requirements(parts)
    return _digests[key][1]


def _states(known: tuple[str, ...]) -> tuple[str, ...]:
    """Return paths with their states now, from paths with their states before."""
    try:
        return tuple(text for path in known[::2] for text in (path, states_of(path)))
    except OSError:
        return ()
