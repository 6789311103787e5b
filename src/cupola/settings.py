"""Settings of the program itself: one table with name, environment variable, type, default and help.

A value comes from the environment, else from the default.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec

from cupola.errors import ConfigError


class Setting(msgspec.Struct, frozen=True):
    """One setting: its name, environment variable, default, help, and the words it may have (any when empty)."""

    name: str
    environment: str
    default: Callable[[], str]
    help: str
    choices: tuple[str, ...] = ()


def _platform_home() -> str:
    if sys.platform == "darwin":
        return str(Path.home() / "Library" / "Application Support" / "cupola")
    base = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return str(Path(base) / "cupola")


SETTINGS = (
    Setting("home", "CUPOLA_HOME", _platform_home, "Folder of the embedded store: database, journals, artifacts."),
    Setting("root", "CUPOLA_ROOT", str, "Source root of the project, instead of the nearest folder with `.cupola/`."),
    Setting("project", "CUPOLA_PROJECT", lambda: "default", "Project that runs are recorded in."),
    Setting("durability", "CUPOLA_DURABILITY", lambda: "process",
            "`process` survives the end of any process; `power` also a power cut, for a sync per record.",
            ("process", "power")),
    Setting("log_level", "CUPOLA_LOG_LEVEL", lambda: "info",
            "Lowest level that loggers of `get_logger` write: debug, info, warning, error.",
            ("debug", "info", "warning", "error")),
    Setting("progress", "CUPOLA_PROGRESS", lambda: "auto",
            "How a run shows itself: `live` redraws, `plain` prints lines, `off` nothing, `auto` fits the place.",
            ("auto", "live", "plain", "off")),
    Setting("workers", "CUPOLA_WORKERS", str,
            "How many steps of a run may go on at once in worker processes, one for each processor unless said;"
            " 0 runs all steps in the program's own process, as a debugger wants it."),
    Setting("gpus", "CUPOLA_GPUS", str,
            "How many graphics processors steps may use (`2`), or which, with commas (`0,3`), instead of those found."),
    Setting("slots", "CUPOLA_SLOTS", str,
            "Named slots of this host that steps may need, such as `licence=1,db=4`, above those that `slots` in the"
            " project's `.cupola/config.yaml` names; `cpu` and `memory` among them replace what the host has."),
)  # fmt: skip
BY_NAME = {setting.name: setting for setting in SETTINGS}


def read_setting(name: str) -> str:
    """Return the value of a setting.

    Raises:
        ConfigError: The environment has a word that the setting doesn't know.
    """
    setting = BY_NAME[name]
    value = os.environ.get(setting.environment) or setting.default()
    if setting.choices and value not in setting.choices:
        raise ConfigError(
            f"{setting.environment}={value!r} is not one of {', '.join(setting.choices)}",
            fix=f"unset it or set it to {setting.choices[0]!r}: {setting.help}",
        )
    return value


def home() -> Path:
    """Return the folder of the embedded store as an absolute path. Nothing is created."""
    return Path(os.path.abspath(os.path.expanduser(read_setting("home"))))
