"""Tells a file outside of the store when steps begin and end, for `cupola chaos`: what it says no kill takes back.

Each line is one write to a file opened with O_APPEND. Around the step as a whole: it begins before its inputs are
loaded, and has ended when its outputs are stored. Where a folder is named as well, the end says which of its files
changed since the beginning. `client.chaos_report.Line` is a line.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

import msgspec

from cupola.middleware.attempt import Attempt, Proceed

FILE = "CUPOLA_CHAOS_WITNESS"
FOLDER = "CUPOLA_CHAOS_FOLDER"


def applies(attempt: Attempt) -> bool:  # noqa: ARG001 — the port gives it to every middleware
    """Tell whether anybody wants to know: a variable of the process says so."""
    return FILE in os.environ


def wrap(proceed: Proceed) -> Proceed:
    """Return `proceed` with a line before and after it."""

    def run(attempt: Attempt) -> Any:
        before = _stamps()
        _tell(attempt, "begin")
        try:
            returned = proceed(attempt)
        except BaseException:
            _tell(attempt, "fail", _changed(before))
            raise
        _tell(attempt, "end", _changed(before))
        return returned

    return run


def _tell(attempt: Attempt, word: str, changed: tuple[str, ...] = ()) -> None:
    line = attempt.context.step.name, attempt.number, word, time.time(), changed
    file = os.open(os.environ[FILE], os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.write(file, msgspec.json.encode(line) + b"\n")
    finally:
        os.close(file)


def _changed(before: dict[str, tuple[int, int, int]]) -> tuple[str, ...]:
    after = _stamps()
    return tuple(sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path)))


def _stamps() -> dict[str, tuple[int, int, int]]:
    folder = os.environ.get(FOLDER)
    return dict(_walk(folder, "")) if folder else {}


def _walk(folder: str, prefix: str) -> Iterator[tuple[str, tuple[int, int, int]]]:
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return
    for entry in entries:
        path = os.fsencode(prefix + entry.name).decode(errors="replace")
        try:
            if entry.is_dir(follow_symlinks=False):
                if entry.name != "__pycache__":
                    yield from _walk(entry.path, f"{path}/")
            else:
                found = entry.stat(follow_symlinks=False)
                yield path, (found.st_ino, found.st_size, found.st_mtime_ns)
        except OSError:
            continue
