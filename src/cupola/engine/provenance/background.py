"""Storing a large source tree in a process of its own, so that the run's own process goes on: `python -c … JSON`."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from cupola.artifacts.blobs import Blobs
from cupola.engine.provenance.archive import Stored, read_known, store_archive
from cupola.engine.provenance.process import Call
from cupola.engine.provenance.tree import Place, TooLarge, read_tree
from cupola.errors import CupolaError

LIMIT_S = 300.0
"""After so many seconds the process ends whatever it is at."""

_PACKAGES = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
# `-P`: modules of the user's with our names must not come first.
_PROGRAM = f"import sys; sys.path.append({_PACKAGES!r}); from {__name__} import main; sys.exit(main(sys.argv[1:]))"


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """What the process is told: which tree, and the process that waits for it."""

    place: Place
    sync: bool
    parent: int


def start_storing(place: Place, blobs: Blobs) -> Call:
    """Begin to store a tree in the background; `read_stored` reads the answer."""
    task = Task(place=place, sync=blobs.sync, parent=os.getpid())
    command = [sys.executable, "-P", "-c", _PROGRAM, msgspec.json.encode(task).decode()]
    return Call(command, "storing the source tree", explain=_explain, environment=os.environ)


def read_stored(output: bytes) -> Stored:
    """Read the answer of `start_storing`."""
    return msgspec.json.decode(output, type=Stored)


def main(arguments: Sequence[str]) -> int:
    """Store the tree that the only argument describes, and print what is stored."""
    task = msgspec.json.decode(arguments[0], type=Task)
    os.nice(10)
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: stopped.append(number))
    deadline = time.monotonic() + LIMIT_S

    def go_on() -> bool:
        return not stopped and os.getppid() == task.parent and time.monotonic() < deadline

    home = Path(task.place.home)
    try:
        tree = read_tree(task.place)
        stored = store_archive(tree, Blobs(home, sync=task.sync), read_known(home, tree.root), go_on)
    except (TooLarge, CupolaError, OSError) as error:
        sys.stderr.write(str(error) or "it was stopped")
        return 1
    sys.stdout.buffer.write(msgspec.json.encode(stored))
    return 0


def _explain(errors: str, status: int) -> str:
    lines = errors.strip().splitlines()
    return lines[-1] if lines else f"storing it ended with status {status}"
