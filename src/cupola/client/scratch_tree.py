"""A copy of a source tree to run a pipeline in where it may do what it likes, and what it changed there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from cupola.artifacts.trees import stays_inside
from cupola.digest import blob_hasher, blob_of
from cupola.errors import CupolaError

LARGE_BYTES = 50 * 2**20
"""Files above this size, in bytes, are linked and not copied."""
MOST_BYTES = 2**30
"""How much is copied at most, in bytes."""
_LEFT_OUT = frozenset(
    {".git", ".hg", ".svn", "__pycache__", ".venv", "site-packages", "node_modules", ".tox", ".nox", ".mypy_cache",
     ".pytest_cache", ".ruff_cache", ".ipynb_checkpoints"}
)  # fmt: skip
_CHUNK = 1 << 20


class Content(msgspec.Struct, frozen=True):
    """What a file holds: its digest, size in bytes, and number of lines."""

    digest: str
    size_bytes: int
    lines: int


def copy_tree(root: Path, target: Path, *, without: Path) -> list[str]:
    """Copy a source tree; return the paths of large files that are only linked, relative to the root.

    Left out are version control, caches and environments, and the folder `without`.

    Raises:
        CupolaError: There is too much to copy, or it can't be read.
    """
    linked: list[str] = []
    total = 0
    without = Path(os.path.realpath(without))
    for folder, folders, files in os.walk(root):
        here = Path(folder)
        folders[:] = [name for name in folders if not _is_left_out(here / name, without)]
        place = target / here.relative_to(root)
        try:
            place.mkdir(parents=True, exist_ok=True)
            for name in [*files, *(name for name in folders if (here / name).is_symlink())]:
                size = _bring(root, here / name, place / name)
                total += size
                if size > LARGE_BYTES:
                    linked.append((here / name).relative_to(root).as_posix())
                    total -= size
        except OSError as error:
            raise CupolaError(f"the source tree can't be copied: {error}", where=str(root)) from error
        if total > MOST_BYTES:
            raise CupolaError(
                f"there is more than {MOST_BYTES >> 30} GiB below the source root, too much to copy for each run",
                where=str(root),
                fix="run `cupola init` in the folder that your imports start at, so that the root is that one",
            )
    return linked


def read_contents(root: Path) -> dict[str, Content]:
    """Return what the files below a folder hold, by path."""
    return dict(_contents(root, ""))


def differing(before: Mapping[str, Content], after: Mapping[str, Content]) -> dict[str, str]:
    """Return how files differ between two trees, in a few words, by path."""
    paths = sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))
    return {path: _difference(before.get(path), after.get(path)) for path in paths}


def _difference(before: Content | None, after: Content | None) -> str:
    if before is None:
        return "there only after kills"
    if after is None:
        return "missing after kills"
    if before.lines != after.lines:
        return f"{before.lines} lines, {after.lines} after kills"
    if before.size_bytes != after.size_bytes:
        return f"{before.size_bytes} bytes, {after.size_bytes} after kills"
    return "other content after kills"


def _is_left_out(folder: Path, without: Path) -> bool:
    if folder.name in _LEFT_OUT or (folder / "pyvenv.cfg").exists():
        return True
    return not folder.is_symlink() and os.path.realpath(folder) == str(without)


def _bring(root: Path, source: Path, target: Path) -> int:
    """Copy a file, or link it where it is large or no plain file; return its size in bytes."""
    if source.is_symlink():
        link = os.readlink(source)
        inside = not os.path.isabs(link) and stays_inside(source.relative_to(root).as_posix(), link)
        os.symlink(link if inside else os.path.realpath(source), target)
        return 0
    if not source.is_file():
        return 0
    size = source.stat().st_size
    if size > LARGE_BYTES:
        os.symlink(source, target)
    else:
        shutil.copy2(source, target)
    return size


def _contents(folder: Path, prefix: str) -> Iterator[tuple[str, Content]]:
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        path = os.fsencode(prefix + entry.name).decode(errors="replace")
        if entry.is_symlink():
            yield path, Content(f"link to {os.readlink(entry.path)}", 0, 0)
        elif entry.is_dir():
            if entry.name != "__pycache__":
                yield from _contents(Path(entry.path), f"{path}/")
        elif entry.is_file():
            yield path, _content(entry.path)


def _content(path: str) -> Content:
    hasher, size, lines = blob_hasher(), 0, 0
    with open(path, "rb", buffering=0) as file:
        while data := file.read(_CHUNK):
            hasher.update(data)
            size += len(data)
            lines += data.count(b"\n")
    return Content(blob_of(hasher), size, lines)
