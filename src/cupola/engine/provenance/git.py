"""Asking git without waiting for it: what is checked out, what changed since.

No pager, prompt, hook or lock; the user's own settings of filters hold, since they decide what counts as a change.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import msgspec

from cupola.engine.provenance.process import Call

_OPTIONS = ("--no-pager", "--no-optional-locks", "-c", "core.fsmonitor=false", "-c", f"core.hooksPath={os.devnull}")
_STATUS = ("status", "--porcelain=v2", "--branch", "-z", "--untracked-files=normal", "--ignore-submodules=untracked")
_DIFF = ("diff", "--no-color", "--no-ext-diff", "--no-textconv", "--src-prefix=a/", "--dst-prefix=b/", "HEAD", "--")
# What a hook or another program that git runs was told of its own repository isn't true for ours.
_KEPT = ("GIT_CONFIG_", "GIT_CEILING_", "GIT_DISCOVERY_", "GIT_EXEC_PATH")


class Changes(msgspec.Struct, frozen=True):
    """What `git status` says: commit and branch (empty where there is none), paths changed and not tracked."""

    commit: str
    branch: str
    changed: tuple[str, ...]
    untracked: tuple[str, ...]


def ask_status(folder: str) -> Call:
    """Ask what differs from the commit in the repository that a folder is in."""
    return _ask(folder, _STATUS)


def ask_diff(folder: str, without: Sequence[str] = ()) -> Call:
    """Ask how the tracked files differ from the commit, but for files of these names."""
    return _ask(folder, [*_DIFF, ":/", *(f":(top,exclude,glob)**/{name}" for name in without)])


def read_changes(output: bytes) -> Changes:
    """Read the answer of `ask_status`."""
    commit = branch = ""
    changed: list[str] = []
    untracked: list[str] = []
    fields = iter(output.decode(errors="surrogateescape").split("\0"))
    for field in fields:
        kind, _, rest = field.partition(" ")
        if kind == "#":
            name, _, value = rest.partition(" ")
            if name == "branch.oid":
                commit = "" if value == "(initial)" else value
            elif name == "branch.head":
                branch = "" if value == "(detached)" else value
        elif kind == "?":
            untracked.append(rest)
        elif kind in ("1", "2", "u"):
            changed.append(rest.split(" ", {"1": 7, "2": 8, "u": 9}[kind])[-1])
            if kind == "2":
                next(fields, None)  # what it was called before
    return Changes(commit, branch, tuple(changed), tuple(untracked))


def _ask(folder: str, words: Sequence[str]) -> Call:
    return Call(["git", *_OPTIONS, "-C", folder, *words], "git", explain=_trouble, environment=_environment())


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_") or name.startswith(_KEPT)}
    return {**kept, "LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "GIT_PAGER": "cat"}


def _trouble(errors: str, status: int) -> str:
    said = next((line for line in errors.splitlines() if line.startswith(("fatal:", "error:"))), errors.strip())
    if "dubious ownership" in errors or "safe.directory" in errors:
        return "git refuses the repository, which belongs to another user (see `git help config`, safe.directory)"
    return said.removeprefix("fatal: ") or f"git ended with status {status}"
