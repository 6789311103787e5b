"""Gathering what a run was made from, beside its steps: begun when the first has started, complete before the run ends.

The driver calls `start_gathering` once, `poll` when it has nothing to do, and `finish` before it ends the run. Small
trees are read in place, in less time than a process takes to start; git, and large trees, work in processes of their
own. Nothing here raises: what can't be known is said to be unknown, with the reason.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from cupola.artifacts.blobs import Blobs
from cupola.compiler.source import relative_path
from cupola.engine import provenance
from cupola.engine.provenance.archive import Stored, changed_files, read_known, store_archive
from cupola.engine.provenance.facts import UNKNOWN, Facts
from cupola.engine.provenance.repository import Repository, find_repository
from cupola.engine.provenance.surroundings import read_declared, read_distributions, read_machine
from cupola.engine.provenance.tree import Place, TooLarge, is_kept_name, read_tree
from cupola.errors import CupolaError
from cupola.snapshot import Snapshot
from cupola.text import count, storable_text

if TYPE_CHECKING:
    from cupola.engine.provenance.checkout import Checkout
    from cupola.engine.provenance.process import Answer, Call

PATIENCE_S, PATIENCE_STOPPED_S = 10.0, 0.5
"""How long the end of a run waits for the facts, and that of a run that is to stop, in seconds."""
_LOOK_S = 0.1
SMALL_ENTRIES = 1000
"""Files and folders that are looked at in place."""
SMALL_FILES, SMALL_BYTES = 100, 4 * 2**20
"""How many new or changed files, and how many bytes of them, are read in place."""


def start_gathering(root: Path, blobs: Blobs, *, program: str, snapshot: Snapshot) -> Gathering:
    """Begin to gather; takes about as long as a process takes to be started where there is a repository, else less.

    Args:
        root: The source root.
        blobs: Where archive and difference are stored.
        program: Absolute path of the program's file, or empty.
        snapshot: The graph of the run.
    """
    repository = find_repository(os.fspath(root))
    place = Place(
        root=os.fspath(root),
        home=os.fspath(blobs.home),
        top=repository.top if repository else os.fspath(root),
        program=relative_path(program, root) if program else "",
    )
    return Gathering(place, blobs, repository, snapshot, program)


class Gathering:
    """Facts in the making; used by the driver's thread only."""

    def __init__(
        self, place: Place, blobs: Blobs, repository: Repository | None, snapshot: Snapshot, program: str
    ) -> None:
        self._blobs = blobs
        self._snapshot = snapshot
        self._folder = _working_folder()
        self._done: Facts | None = None
        self._code: Checkout | None = None
        self._nowhere = f"{place.root} is in no git repository"
        if repository is not None:
            self._code = provenance.checkout.Checkout(place, blobs, repository, program)
        self._source = Source(place, blobs)

    def poll(self) -> Facts | None:
        """Return the facts when all are there, without waiting; in between, do what has to be done in place."""
        return self._gather_safely(0.0)

    def wait(self, is_stopped: Callable[[], bool]) -> Facts:
        """Return the facts at the end of a run, sooner when it is to stop; what isn't known by then is unknown."""
        began = time.monotonic()
        while (found := self._gather_safely(_LOOK_S)) is None:
            patience_s = PATIENCE_STOPPED_S if is_stopped() else PATIENCE_S
            if time.monotonic() - began > patience_s:
                return self._complete(f"it wasn't found out within {patience_s:g} s")
        return found

    def finish(self, timeout_s: float) -> Facts:
        """Return the facts; what isn't known after so many seconds is unknown."""
        found = self._gather_safely(timeout_s)
        return found or self._complete(f"it wasn't found out within {timeout_s:g} s")

    def _gather_safely(self, timeout_s: float) -> Facts | None:
        try:
            return self._gather(timeout_s)
        except Exception as error:  # whatever it is, no run may fail because something about it isn't known
            self._done = Facts({f"{UNKNOWN}{name}": f"unexpected {error!r}" for name in ("commit", "source")})
            return self._done

    def _gather(self, timeout_s: float) -> Facts | None:
        if self._done is not None:
            return self._done
        deadline = time.monotonic() + timeout_s
        is_source_done = self._source.wait(0.0)
        is_code_done = self._code is None or self._code.wait(deadline)
        if not is_code_done or not (is_source_done or self._source.wait(deadline)):
            return None
        return self._complete("")

    def _complete(self, why: str) -> Facts:
        if self._done is not None:
            return self._done
        source = self._source.finish(why)
        if self._code is None:
            code = Facts({f"{UNKNOWN}commit": self._nowhere})
        else:
            code = self._code.finish(why, source.blobs.get("archive", ""))
        folder = Facts({"folder": self._folder} if self._folder else {})
        parts = (code, source, folder, gather_surroundings(self._blobs, self._snapshot))
        self._done = Facts(
            # By name, as encoded events have them, so that a rebuilt store shows them in the same order.
            dict(sorted((name, storable_text(text)) for part in parts for name, text in part.facts.items())),
            dict(sorted((name, blob) for part in parts for name, blob in part.blobs.items())),
        )
        return self._done


class Source:
    """The archive of the source tree in the making."""

    def __init__(self, place: Place, blobs: Blobs) -> None:
        self._place = place
        self._blobs = blobs
        self._call: Call | None = None
        self._stored: Stored | None = None
        self._trouble = ""
        if _is_large(place):
            self._store_apart()

    def wait(self, deadline: float) -> bool:
        """Tell whether all is known, at the latest at a moment of the monotonic clock."""
        if self._call is None and self._stored is None and not self._trouble:
            self._store_here()
        if self._call is None:
            return True
        answer = self._call.wait(max(0.0, deadline - time.monotonic()))
        if answer is None:
            return False
        self._take(answer)
        return True

    def finish(self, why: str) -> Facts:
        """Return what is known; `why` says why the rest is not."""
        if self._call is not None:
            self._take(self._call.stop(why, signal.SIGTERM))
        if self._stored is None:
            return Facts({f"{UNKNOWN}source": self._trouble or why})
        return Facts(
            {"source": self._stored.source, "source_files": self._stored.summary}, {"archive": self._stored.archive}
        )

    def _store_here(self) -> None:
        try:
            tree = read_tree(self._place, SMALL_ENTRIES)
            known = read_known(self._blobs.home, tree.root)
            changed = changed_files(tree, known)
            if len(changed) > SMALL_FILES or sum(found.size_bytes for found in changed) > SMALL_BYTES:
                raise TooLarge
            self._stored = store_archive(tree, self._blobs, known)
        except TooLarge:
            self._store_apart()
        except (CupolaError, OSError) as error:
            self._trouble = f"the source tree can't be kept: {error}"

    def _store_apart(self) -> None:
        self._call = provenance.background.start_storing(self._place, self._blobs)

    def _take(self, answer: Answer) -> None:
        self._call = None
        if answer.trouble:
            self._trouble = f"the source tree can't be kept: {answer.trouble}"
            return
        self._stored = provenance.background.read_stored(answer.output)


def gather_surroundings(blobs: Blobs, snapshot: Snapshot) -> Facts:
    """Return interpreter, platform, distributions and declared variables."""
    facts = read_machine()
    kept: dict[str, str] = {}
    if declared := read_declared(snapshot, os.environ):
        facts["env"] = declared
    try:
        text = read_distributions()
        kept["distributions"] = blobs.put_bytes(text.encode())[0]
        facts["distributions"] = count(text.count("\n"), "distribution")
    except (CupolaError, OSError) as error:
        facts[f"{UNKNOWN}distributions"] = str(error)
    return Facts(facts, kept)


def _working_folder() -> str:
    try:
        return os.getcwd()
    except OSError:
        return ""  # it was deleted


def _is_large(place: Place) -> bool:
    """Tell whether a tree is likely to take longer than a process takes to start, by a look at its top."""
    known = read_known(Path(place.home), place.root)
    if known.archive:
        return len(known.files) > SMALL_ENTRIES
    seen, waiting = 0, [place.root]
    while waiting and seen <= SMALL_ENTRIES // 4:
        folder = waiting.pop()
        with suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                seen += 1
                if is_kept_name(entry.name) and entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
    return seen > SMALL_ENTRIES // 4
