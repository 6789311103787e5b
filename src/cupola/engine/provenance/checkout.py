"""What git knows of a program: commit, branch, remote, and how the files differ from the commit."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

from cupola.artifacts.blobs import Blobs
from cupola.compiler.source import relative_path
from cupola.engine.provenance.archive import read_archive
from cupola.engine.provenance.facts import UNKNOWN, Facts
from cupola.engine.provenance.git import Changes, ask_diff, ask_status, read_changes
from cupola.engine.provenance.process import Call
from cupola.engine.provenance.repository import Head, Repository, is_shallow, read_head, read_remote
from cupola.engine.provenance.tree import SECRET_NAMES, Place, is_kept_name
from cupola.errors import CupolaError
from cupola.text import count

DIFF_BYTES = 8 * 2**20
"""Longest difference from the commit that is kept, in bytes."""


class Checkout:
    """What git knows, in the making: git is asked when this is made."""

    def __init__(self, place: Place, blobs: Blobs, repository: Repository, program: str) -> None:
        self._place = place
        self._blobs = blobs
        self._repository = repository
        self._program = program
        self._status = ask_status(place.root)
        self._diff: Call | None = None
        self._changes: Changes | None = None

    def wait(self, deadline: float) -> bool:
        """Tell whether all is known, at the latest at a moment of the monotonic clock."""
        answer = self._status.wait(max(0.0, deadline - time.monotonic()))
        if answer is None:
            return False
        if answer.trouble:
            return True
        if self._changes is None:
            self._changes = read_changes(answer.output)
            if self._changes.changed and self._changes.commit:
                self._diff = ask_diff(self._place.root, SECRET_NAMES)
        return self._diff is None or self._diff.wait(max(0.0, deadline - time.monotonic())) is not None

    def finish(self, why: str, archive: str) -> Facts:
        """Return what is known.

        Args:
            why: Why the rest is not.
            archive: Blob of the list of the tree's files, which says what of all that git doesn't track matters; empty
                where there is none.
        """
        repository = self._repository
        trouble = self._status.stop(why).trouble
        facts = _checked_out(repository, self._changes, trouble)
        if self._program:
            path = relative_path(self._program, repository.top)
            facts |= {"path": path} if path else {}
        if self._changes is None:
            return Facts({**facts, f"{UNKNOWN}dirty": trouble})
        untracked = self._untracked_source(repository, self._changes.untracked, archive)
        facts["dirty"] = "yes" if self._changes.changed or untracked else "no"
        if facts["dirty"] == "yes":
            facts["changes"] = f"{count(len(self._changes.changed), 'file')} changed, {len(untracked)} not tracked"
        return self._with_diff(facts, why)

    def _with_diff(self, facts: dict[str, str], why: str) -> Facts:
        if self._diff is None:
            return Facts(facts)
        answer = self._diff.stop(why)
        trouble = answer.trouble
        if len(answer.output) > DIFF_BYTES:
            trouble = f"it is longer than {DIFF_BYTES >> 20} MiB"
        if not trouble:
            try:
                return Facts(facts, {"diff": self._blobs.put_bytes(answer.output)[0]})
            except CupolaError as error:
                trouble = str(error)
        return Facts({**facts, f"{UNKNOWN}diff": trouble})

    def _untracked_source(self, repository: Repository, paths: Sequence[str], archive: str) -> list[str]:
        """Return the paths that belong to the program: below its root, and not made, ignored or data."""
        if not paths:
            return []
        root = os.path.realpath(self._place.root)
        try:
            files = [file.path for file in read_archive(self._blobs, archive).files] if archive else None
        except CupolaError:
            files = None
        found: list[str] = []
        for path in paths:
            place = os.path.join(repository.top, path.rstrip("/"))
            below = place[len(root) + 1 :] if place.startswith(root + os.sep) else ""
            if f"{root}/".startswith(f"{place}/") or (below and _is_kept(below, files)):
                found.append(path)
        return found


def _is_kept(path: str, files: Sequence[str] | None) -> bool:
    if files is None:
        return is_kept_name(path)
    return any(file == path or file.startswith(f"{path}/") for file in files)


def _checked_out(repository: Repository, changes: Changes | None, trouble: str) -> dict[str, str]:
    """Return commit, branch and remote: from git, or, where it said nothing, from the files of one's own repository."""
    if changes is not None:
        head = Head(changes.commit, changes.branch)
    elif repository.is_own:
        head = read_head(repository)
    else:
        return {f"{UNKNOWN}{name}": trouble for name in ("commit", "branch", "remote")}
    reasons = {"commit": "the branch has no commit yet", "branch": "no branch is checked out (detached HEAD)"}
    reasons |= head.unknown
    facts = {name: text for name, text in (("commit", head.commit), ("branch", head.branch)) if text}
    facts |= {f"{UNKNOWN}{name}": reason for name, reason in reasons.items() if name not in facts}
    if remote := read_remote(repository, head.branch):
        facts["remote"] = remote
    else:
        facts[f"{UNKNOWN}remote"] = "the repository has none"
    if is_shallow(repository):
        facts["shallow"] = "yes"
    return facts
