"""A source tree that is somewhere else now: where its paths are, and what is to be brought there."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from cupola.compiler.compile import Compiled
from cupola.compiler.source import add_path
from cupola.engine.fan import child_files


def moved(path: str, root: str, source: str) -> str:
    """Return where a path below the recorded source root is now; empty for one that isn't below it."""
    if path != root and not path.startswith(root.rstrip(os.sep) + os.sep):
        return ""
    return os.path.normpath(os.path.join(source, os.path.relpath(path, root)))


def move_paths(root: str, source: str, program: str) -> None:
    """Find a program's modules where they are now, also those that were found by other entries of `sys.path`."""
    sys.path[:] = [moved(entry, root, source) or entry for entry in sys.path]
    folder = moved(os.path.dirname(program), root, source)
    if folder:
        add_path(Path(folder), 0)


def bring_files(root: str, source: str, compiled: Compiled) -> None:
    """Copy the files and folders that steps are given and that the archive left out from where they were then."""
    steps = zip(compiled.steps, compiled.snapshot.steps, strict=True)
    whole = [child_files(live, spec) if live.spreads_files else live for live, spec in steps]
    paths = [path for live in whole for path in live.files.values()]
    paths += [path for options in compiled.snapshot.options for path in options.cache_files]
    for path in dict.fromkeys(paths):
        target, origin = os.path.join(source, path), os.path.join(root, path)
        if os.path.lexists(target) or not moved(target, source, source) or not os.path.exists(origin):
            continue
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if os.path.isdir(origin):
            shutil.copytree(origin, target, symlinks=True)
        else:
            shutil.copyfile(origin, target)
