"""What the files of a git repository say without git: where it is, which commit and branch, where it came from.

Costs a tenth of a millisecond and works where git isn't installed. A repository of another user's is left to git, which
reads it only if its owner is trusted (`safe.directory`).
"""

from __future__ import annotations

import os
import re
from contextlib import suppress

import msgspec

from cupola.engine.provenance.masking import mask_url

_HEX = frozenset("0123456789abcdef")
_MOST_BYTES = 4 * 2**20


class Repository(msgspec.Struct, frozen=True, kw_only=True):
    """A repository that a folder is in.

    Attributes:
        top: Top folder of the work tree.
        folder: The git folder of this work tree.
        common: The git folder that linked work trees share; the same as `folder` otherwise.
        is_own: Whether it belongs to the user that runs this.
    """

    top: str
    folder: str
    common: str
    is_own: bool


class Head(msgspec.Struct, frozen=True):
    """What is checked out: commit and branch, empty where unknown, with the reasons by name."""

    commit: str = ""
    branch: str = ""
    unknown: dict[str, str] = {}


def find_repository(folder: str) -> Repository | None:
    """Return the repository that a folder is in; None when it is in none."""
    top = os.path.realpath(folder)
    while True:
        mark = os.path.join(top, ".git")
        if (found := _git_folder(mark)) is not None:
            common = _common_folder(found)
            return Repository(top=top, folder=found, common=common, is_own=_is_own(top, mark, found))
        parent = os.path.dirname(top)
        if parent == top:
            return None
        top = parent


def read_head(repository: Repository) -> Head:
    """Return what is checked out, as far as the files tell."""
    head = _read(os.path.join(repository.folder, "HEAD")).strip()
    if _is_commit(head):
        return Head(head, "", {"branch": "no branch is checked out (detached HEAD)"})
    name = head.removeprefix("ref:").strip()
    if not head.startswith("ref:") or not name.startswith("refs/") or ".." in name or name == "refs/heads/.invalid":
        reason = "the repository's HEAD can't be read"
        return Head(unknown={"commit": reason, "branch": reason})
    branch = name.removeprefix("refs/heads/")
    commit = _read_reference(repository, name)
    if not commit:
        return Head("", branch, {"commit": "the branch has no commit yet"})
    return Head(commit, branch)


def read_remote(repository: Repository, branch: str) -> str:
    """Return the address that a branch, or else the repository, came from, without credentials; empty if from none."""
    sections = _read_config(_read(os.path.join(repository.common, "config")))
    urls = {name: said["url"] for (kind, name), said in sections.items() if kind == "remote" and said.get("url")}
    chosen = sections.get(("branch", branch), {}).get("remote", "origin")
    url = urls.get(chosen) or (next(iter(urls.values())) if len(urls) == 1 else "")
    return mask_url(url)


def is_shallow(repository: Repository) -> bool:
    """Tell whether only the newest part of the history is here."""
    return os.path.exists(os.path.join(repository.common, "shallow"))


def _git_folder(mark: str) -> str | None:
    """Return what a `.git` is: the folder itself, or, in linked work trees and submodules, the one that it names."""
    if os.path.isfile(os.path.join(mark, "HEAD")):
        return mark
    if not os.path.isfile(mark):
        return None
    said = _read(mark).strip()
    if not said.startswith("gitdir:"):
        return None
    folder = os.path.normpath(os.path.join(os.path.dirname(mark), said.removeprefix("gitdir:").strip()))
    return folder if os.path.isdir(folder) else None


def _common_folder(folder: str) -> str:
    said = _read(os.path.join(folder, "commondir")).strip()
    return os.path.normpath(os.path.join(folder, said)) if said else folder


def _is_own(*paths: str) -> bool:
    """Apply git's own rule: it all belongs to this user, or to the one who became root by sudo."""
    user = os.geteuid()
    owners = {user}
    if user == 0 and (invoker := os.environ.get("SUDO_UID", "")).isdecimal():
        owners.add(int(invoker))
    try:
        return all(os.lstat(path).st_uid in owners for path in paths)
    except OSError:
        return False


def _read_reference(repository: Repository, name: str) -> str:
    for folder in dict.fromkeys((repository.folder, repository.common)):
        said = _read(os.path.join(folder, name)).strip()
        if _is_commit(said):
            return said
    for line in _read(os.path.join(repository.common, "packed-refs")).splitlines():
        commit, _, packed = line.partition(" ")
        if packed == name and _is_commit(commit):
            return commit
    return ""


_SECTION = r'\[\s*([\w.-]+)\s*(?:"((?:\\.|[^"\\])*)")?\s*\]'


def _read_config(text: str) -> dict[tuple[str, str], dict[str, str]]:
    """Return the variables of a configuration file by section and subsection; files that it includes are left out."""
    sections: dict[tuple[str, str], dict[str, str]] = {}
    current: dict[str, str] = {}
    for line in text.splitlines():
        line = line.strip()
        if found := re.match(_SECTION, line):
            name = re.sub(r"\\(.)", r"\1", found[2] or "")
            current = sections.setdefault((found[1].lower(), name), {})
            line = line[found.end() :].strip()
        name, equals, value = line.partition("=")
        if equals and not name.startswith(("#", ";")):
            current[name.strip().lower()] = _unquoted(value.strip())
    return sections


def _unquoted(value: str) -> str:
    if value.startswith('"'):
        return re.sub(r"\\(.)", r"\1", value[1:].rpartition('"')[0])
    return re.split(r"\s[#;]", value, maxsplit=1)[0].strip()


def _is_commit(text: str) -> bool:
    return len(text) in (40, 64) and _HEX.issuperset(text)


def _read(path: str) -> str:
    with suppress(OSError), open(path, encoding="utf-8", errors="replace") as file:
        return file.read(_MOST_BYTES)
    return ""
