"""Whose a module is: the project's, an installed distribution's, Python's or ours; and the versions of distributions.

Versions come from the names of `*.dist-info` folders, cached by their folder's time: `importlib.metadata` costs 47 ms.
Editable installs and packages installed from a folder change without a new version, so they are the project's code.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import msgspec

from cupola.compiler.source import is_installed, relative_path

PROJECT = "project"
LIBRARY = "library"
PYTHON = "python"
CUPOLA = "cupola"

_OWN_FOLDER = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_STANDARD = tuple(
    {os.path.dirname(os.path.abspath(os.__file__)) + os.sep, os.path.realpath(os.path.dirname(os.__file__)) + os.sep}
)
# Where the distribution's name doesn't resemble the import's; only the order of search depends on it.
_HINTS = {
    "sklearn": "scikit_learn", "yaml": "pyyaml", "PIL": "pillow", "bs4": "beautifulsoup4",
    "dateutil": "python_dateutil", "cv2": "opencv_python", "skimage": "scikit_image", "attr": "attrs",
    "dotenv": "python_dotenv",
}  # fmt: skip


class Origin(msgspec.Struct, frozen=True):
    """Whose a module is: `project`, `library`, `python` or `cupola`; of a library also its name and version."""

    kind: str
    name: str = ""
    version: str = ""


class _Distribution(msgspec.Struct, frozen=True):
    name: str
    version: str
    folder: str


class _DirectUrl(msgspec.Struct):
    url: str = ""


_IN_PYTHON = Origin(PYTHON)
_IN_CUPOLA = Origin(CUPOLA)
_IN_PROJECT = Origin(PROJECT)
_origins: dict[str, Origin] = {}
_folders: dict[str, tuple[int, dict[str, _Distribution]]] = {}
_records: dict[str, str] = {}


class Installed(msgspec.Struct, frozen=True):
    """A distribution that is installed: its name with `_`, its version, and the folder or file it came from, if any."""

    name: str
    version: str
    origin: str


def list_installed(folder: str) -> list[Installed]:
    """Return the distributions whose `*.dist-info` or `*.egg-info` lies in a folder of `sys.path`."""
    place = os.path.abspath(folder)
    if f"{place}/" in _STANDARD or not os.path.isdir(place):
        return []
    return [Installed(one.name, one.version, _came_from(one.folder)) for one in _distributions(place).values()]


def is_project_file(path: str | Path, root: str | Path) -> bool:
    """Whether a file is the user's own code: below the root, installed as editable or from a folder, or just there."""
    file = os.path.abspath(path)
    below = relative_path(file, root)
    return (bool(below) and not is_installed("/" + below)) or origin_of(file, "").kind == PROJECT


def origin_of(file: str, name: str) -> Origin:
    """Return whose a module is, by its file (empty for built-in ones) and dotted name."""
    if not file:
        return _IN_PYTHON if name.partition(".")[0] in sys.stdlib_module_names else _IN_PROJECT
    if file.startswith(_OWN_FOLDER):
        return _IN_CUPOLA
    site = _site_folder(file)
    if not site:
        return _IN_PYTHON if file.startswith(_STANDARD) else _IN_PROJECT
    distributions = _distributions(site)
    relative = file[len(site) + 1 :].replace(os.sep, "/")
    known = _origins.get(file)
    if known is None or known.name not in distributions or distributions[known.name].version != known.version:
        known = _origins[file] = _find_origin(relative, distributions)
    return known


def _site_folder(file: str) -> str:
    for mark in ("site-packages", "dist-packages"):
        head, found, _ = file.rpartition(f"{os.sep}{mark}{os.sep}")
        if found:
            return head + os.sep + mark
    return ""


def _distributions(site: str) -> dict[str, _Distribution]:
    try:
        changed = os.stat(site).st_mtime_ns
    except OSError:
        return {}
    known = _folders.get(site)
    if known is None or known[0] != changed:
        found: dict[str, _Distribution] = {}
        for entry in os.listdir(site):
            stem, suffix = os.path.splitext(entry)
            if suffix in (".dist-info", ".egg-info"):
                if suffix == ".egg-info":
                    # It ends in the version of Python as well: `thing-1.0-py3.11.egg-info`.
                    stem = re.sub(r"-py\d[\d.]*$", "", stem)
                name, _, version = stem.rpartition("-")
                normal = _normal(name)
                found[normal] = _Distribution(normal, version, f"{site}/{entry}")
        known = _folders[site] = changed, found
    return known[1]


def _normal(name: str) -> str:
    plain = name.replace("-", "_").replace(".", "_").lower()
    return re.sub("__+", "_", plain) if "__" in plain else plain


def _find_origin(relative: str, distributions: dict[str, _Distribution]) -> Origin:
    top = relative.partition("/")[0].partition(".")[0]
    likely = [_normal(top), _HINTS.get(top, ""), _normal("-".join(relative.split("/")[:2]))]
    for name in dict.fromkeys([*likely, *sorted(distributions)]):
        found = distributions.get(name)
        if found is not None and _holds(found, relative, top):
            return _IN_PROJECT if _from_folder(found.folder) else Origin(LIBRARY, found.name, found.version)
    # Put there by hand: nothing but its text says which version it is.
    return _IN_PROJECT


def _holds(distribution: _Distribution, relative: str, top: str) -> bool:
    record = _read(os.path.join(distribution.folder, "RECORD"))
    if record:
        return f"\n{relative}," in "\n" + record or f'\n"{relative}",' in "\n" + record
    listed = _read(os.path.join(distribution.folder, "top_level.txt"))
    return top in listed.split() if listed else _normal(top) == distribution.name


def _from_folder(info: str) -> bool:
    """Whether a distribution was installed from a folder of this machine, so that its version says nothing."""
    said = _read(os.path.join(info, "direct_url.json"))
    # Conda writes the folder that a package was built in.
    return '"dir_info"' in said and '"file:' in said and _read(os.path.join(info, "INSTALLER")).strip() != "conda"


def _came_from(info: str) -> str:
    """Return the address that a distribution was installed from; empty when an index gave it by name."""
    path = f"{info}/direct_url.json"
    # Asked first, since most have none, and an exception takes longer than the answer.
    if not os.access(path, os.R_OK):
        return ""
    try:
        return msgspec.json.decode(_read(path), type=_DirectUrl).url
    except msgspec.DecodeError:
        return ""


def _read(path: str) -> str:
    if path not in _records:
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                _records[path] = file.read()
        except OSError:
            _records[path] = ""
    return _records[path]
