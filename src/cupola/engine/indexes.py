"""Where packages come from: the settings of indexes in the environment and in uv's configuration files.

uv reads its own settings itself; here they are only read to be counted, without credentials, and those of pip are
translated.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from cupola.credentials import mask_credentials

# What can change which versions are found. Paths in them start at the shell's folder; uv is started in another.
_COUNTED = (
    "UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS", "PIP_NO_INDEX",
    "UV_INDEX_STRATEGY", "UV_PRERELEASE", "UV_RESOLUTION", "UV_EXCLUDE_NEWER", "UV_CONSTRAINT", "UV_OVERRIDE",
    "UV_EXCLUDE", "UV_BUILD_CONSTRAINT", "UV_NO_SOURCES", "UV_TORCH_BACKEND", "UV_NO_CONFIG", "UV_CONFIG_FILE",
)  # fmt: skip
_FILES = ("UV_CONSTRAINT", "UV_OVERRIDE", "UV_EXCLUDE", "UV_BUILD_CONSTRAINT", "UV_CONFIG_FILE")
# What pip calls it, what uv calls it, and which of uv's settings say the same already.
_FROM_PIP = (
    ("PIP_INDEX_URL", "UV_INDEX_URL", ("UV_DEFAULT_INDEX",)),
    ("PIP_EXTRA_INDEX_URL", "UV_EXTRA_INDEX_URL", ("UV_INDEX",)),
    ("PIP_FIND_LINKS", "UV_FIND_LINKS", ()),
    ("PIP_TRUSTED_HOST", "UV_INSECURE_HOST", ()),
    ("PIP_CERT", "SSL_CERT_FILE", ()),
)
_SECTION = r"\s*\[+\s*(?P<name>[\w.\"' -]+?)\s*\]"


def pip_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """Return what variables of pip mean for uv, and uv's own with their relative paths made absolute."""
    said: dict[str, str] = {}
    for theirs, ours, instead in _FROM_PIP:
        value = environment.get(theirs, "")
        if value and not any(environment.get(name) for name in (ours, *instead)):
            said[ours] = ",".join(value.split()) if ours == "UV_FIND_LINKS" else value
    for name in _COUNTED:
        value = said.get(name) or environment.get(name, "")
        if value and name.startswith("UV_"):
            said[name] = re.sub(r"[^\s,]+", lambda found: _absolute(found[0]), value)
    return said


def _absolute(path: str) -> str:
    is_path = "://" not in path and not os.path.isabs(path) and os.path.exists(path)
    return os.path.abspath(path) if is_path else path


def index_settings(root: Path) -> Iterator[str]:
    """Yield all settings that decide which versions are found, without credentials."""
    said = {**os.environ, **pip_settings(os.environ)}
    for name in _COUNTED:
        if value := said.get(name):
            yield f"{name}={mask_credentials(value)}"
        if value and name in _FILES:
            yield from (mask_credentials(_read(path)) for path in re.split(r"[\s,]+", value) if path)
    if not said.get("UV_NO_CONFIG") and not said.get("UV_CONFIG_FILE"):
        yield mask_credentials(_project_settings(root))
        user = said.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
        for folder in (user, *(said.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(":"), "/etc"):
            yield mask_credentials(_read(os.path.join(folder, "uv", "uv.toml")))


def _project_settings(root: Path) -> str:
    """Return uv's settings of the nearest folder that has some, from the source root upwards."""
    for folder in (root, *root.parents):
        text = _read(folder / "uv.toml") or uv_sections(_read(folder / "pyproject.toml"))
        if text:
            return text
    return ""


def uv_sections(text: str) -> str:
    """Return the lines of a `pyproject.toml` that are uv's, so that no other change of the file counts."""
    if "uv" not in text:
        return ""
    kept: list[str] = []
    is_ours = False
    for line in text.splitlines():
        if found := re.match(_SECTION, line):
            is_ours = re.sub(r"[\"' ]", "", found["name"]).startswith("tool.uv")
        if is_ours:
            kept.append(line)
    return "\n".join(kept)


def _read(path: str | Path) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
