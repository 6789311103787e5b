"""What environments are made from on this machine: the running Cupola, and wheels and folders that requirements name.

States of files (size and time) are looked at in each run, contents only where something is made or a step's key is due.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

from cupola import digest
from cupola.artifacts.materializers.files import content_digest

PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
"""The folder of the running Cupola."""
# Made from the sources, or beside them.
_NO_SOURCE = frozenset({"__pycache__", "build", "dist", "node_modules", "venv"})


def own_files() -> Iterator[tuple[str, os.stat_result]]:
    """Yield the path, relative to the package, and the state of each file of the running Cupola."""
    return _files(PACKAGE, frozenset({"__pycache__"}))


def own_states() -> str:
    """Return the states of the files of the running Cupola as text."""
    return _text(PACKAGE, own_files())


def states_of(path: str) -> str:
    """Return the states of a file, or of the files of a folder, as text."""
    if os.path.isdir(path):
        return _text(path, _files(path, _NO_SOURCE))
    return _text(path, [("", os.stat(path))])


def content_of(path: str) -> str:
    """Return the digest of what is in a file, or in the files of a folder."""
    if os.path.isdir(path):
        names = sorted(name for name, _ in _files(path, _NO_SOURCE))
        return digest.folder((name, "f", content_digest(os.path.join(path, name))) for name in names)
    return content_digest(path)


def _text(path: str, files: Iterator[tuple[str, os.stat_result]] | list[tuple[str, os.stat_result]]) -> str:
    return repr([path, *sorted((name, found.st_size, found.st_mtime_ns) for name, found in files)])


def _files(folder: str, skipped: frozenset[str]) -> Iterator[tuple[str, os.stat_result]]:
    pending = [folder]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                if entry.name in skipped or entry.name.startswith(".") or entry.name.endswith((".pyc", ".egg-info")):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
                elif entry.is_file():
                    yield entry.path[len(folder) + 1 :], entry.stat()


def installed_cloudpickle() -> str:
    """Return the version of cloudpickle that is installed here; empty if there is none."""
    for folder in sys.path:
        if os.path.isfile(os.path.join(folder, "cloudpickle", "__init__.py")):
            for name in os.listdir(folder):
                if name.startswith("cloudpickle-") and name.endswith(".dist-info"):
                    return name.removesuffix(".dist-info").partition("-")[2]
    return ""
