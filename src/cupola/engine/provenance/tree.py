"""The files that make up a program: what lies below the source root and was written, not made, installed or secret.

Left out silently is what `.gitignore` names and what can be made again (environments, caches, version control); what
could matter to the program is left out aloud. The list depends on the tree alone, not on git or the machine.
"""

# No `annotations` from `__future__`: msgspec would compile each one when a decoder is made, in each run.

import os
import stat
from collections.abc import Iterator
from contextlib import suppress

import msgspec

from cupola.artifacts.trees import stays_inside
from cupola.engine.provenance.ignore import IgnoreFile, is_ignored
from cupola.text import storable_text

LARGE_BYTES = 50 * 2**20
"""Files above this size, in bytes, are listed and not kept."""
MOST_ENTRIES = 50_000
"""How much of a folder is looked at; one with more is no source tree."""

_MADE = frozenset(
    {".git", ".hg", ".svn", ".bzr", ".jj", "_darcs", "CVS", ".cupola", "__pycache__", ".venv", "site-packages",
     "node_modules", ".tox", ".nox", ".eggs", ".ipynb_checkpoints", ".mypy_cache", ".pytest_cache", ".ruff_cache",
     ".hypothesis", ".cache", ".import_linter_cache", ".pyre", ".pytype", ".terraform", ".gradle", "__MACOSX",
     "mlruns", "wandb", "lightning_logs", "catboost_info"}
)  # fmt: skip
_MADE_ENDINGS = (".pyc", ".pyo", ".egg-info", ".dist-info", ".swp")
_MADE_FILES = frozenset({".DS_Store", ".coverage", "Thumbs.db"})
# What says of itself that it is an environment or a cache.
_MARKS = frozenset({"pyvenv.cfg", "conda-meta", "CACHEDIR.TAG"})
_DATA = frozenset({"data", "datasets"})
_SECRET = frozenset(
    {".env", ".envrc", ".netrc", "_netrc", ".pypirc", ".npmrc", ".pgpass", ".my.cnf", ".htpasswd", ".git-credentials",
     ".ssh", ".aws", ".gnupg", ".kube", ".docker", "id_rsa", "id_dsa", "id_ecdsa", "id_ed25519"}
)  # fmt: skip
_SECRET_ENDINGS = (".pem", ".p12", ".pfx", ".keystore", ".jks", ".kdbx")
SECRET_NAMES = (*sorted(_SECRET), ".env.*", *(f"*{ending}" for ending in _SECRET_ENDINGS))
"""Patterns of the names of files that hold secrets."""
_EXAMPLES = (".example", ".sample", ".template", ".dist")
# Where people keep all sorts of things: only what looks like code is taken from there.
_SHARED = ("", "Desktop", "Documents", "Downloads")
_CODE = (".py", ".pyi", ".pyx", ".sql", ".sh", ".yaml", ".yml", ".toml", ".json", ".cfg", ".ini")


class Found(msgspec.Struct, frozen=True, gc=False):
    """A file or link to keep: its path with `/` between the parts, kind as in `StoredFile`, and what `stat` says."""

    path: str
    kind: str
    size_bytes: int
    signature: tuple[int, int, int, int]
    """Size, time of change, time of change of its entry (both in nanoseconds), and inode."""


class LeftOut(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Something that is not kept although it may matter: `why` says so in a word or two."""

    path: str
    why: str
    size_bytes: int = 0


class Tree(msgspec.Struct, frozen=True):
    """What lies below a source root, sorted by path."""

    root: str
    files: tuple[Found, ...]
    left_out: tuple[LeftOut, ...]


class TooLarge(Exception):
    """There is more below the root than a source tree has; the text says how much."""


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Which tree to read.

    Attributes:
        root: The source root.
        home: Folder of the store, which is left out if it lies inside.
        top: Top of the repository that the root is in, whose rules hold as well; the root itself without one.
        program: Path of the program's file relative to the root, which is kept whatever the rules say; or empty.
    """

    root: str
    home: str
    top: str
    program: str = ""


def read_tree(place: Place, most: int = MOST_ENTRIES) -> Tree:
    """Return what is to be kept of a source root.

    Args:
        place: Which one.
        most: How many entries are looked at.

    Raises:
        TooLarge: There are more.
        OSError: The root itself can't be read.
    """
    return _Walk(place, most).read()


def is_kept_name(path: str) -> bool:
    """Tell whether a relative path may belong to a tree as far as its names say."""
    return all(_reason(name) is None for name in path.strip("/").split("/"))


class _Walk:
    """One walk through a tree."""

    def __init__(self, place: Place, most: int) -> None:
        self._root = os.path.realpath(place.root)
        self._home = os.path.realpath(place.home)
        self._program = place.program
        self._only_code = _is_shared(self._root)
        self._prefix, self._rules = _rules_above(self._root, os.path.realpath(place.top))
        self._most = most
        self._seen = 0
        self._files: list[Found] = []
        self._left_out: list[LeftOut] = []

    def read(self) -> Tree:
        waiting = [("", self._rules)]
        while waiting:
            folder, rules = waiting.pop()
            waiting += self._read_folder(folder, rules)
        self._add_program()
        self._files.sort(key=lambda file: file.path)
        self._left_out.sort(key=lambda entry: entry.path)
        return Tree(self._root, tuple(self._files), tuple(self._left_out))

    def _read_folder(self, folder: str, rules: list[IgnoreFile]) -> Iterator[tuple[str, list[IgnoreFile]]]:
        place = os.path.join(self._root, folder)
        try:
            with os.scandir(place) as scanned:
                entries = list(scanned)
        except OSError as error:
            if not folder:
                raise
            self._leave_out(folder, f"unreadable: {error.strerror}")
            return
        self._seen += len(entries)
        if self._seen > self._most:
            raise TooLarge(f"it has more than {self._most} files and folders")
        names = {entry.name for entry in entries}
        if folder and not _MARKS.isdisjoint(names):
            return
        if folder and folder.rstrip("/").rpartition("/")[2].lower() in _DATA and not _has_code(names):
            self._leave_out(folder, "data")
            return
        rules = self._rules_of(folder, names, rules)
        for entry in entries:
            path = folder + entry.name
            is_folder = entry.is_dir(follow_symlinks=False)
            if is_ignored(rules, self._prefix + path, is_folder=is_folder):
                continue
            if (why := _reason(entry.name)) is not None:
                if why:
                    self._leave_out(path, why)
            elif is_folder:
                if entry.path != self._home and not (self._only_code and entry.name.startswith(".")):
                    yield path + "/", rules
            else:
                self._keep(path, entry)

    def _add_program(self) -> None:
        path = self._program
        if not path or any(file.path == path for file in self._files):
            return
        with suppress(OSError), os.scandir(os.path.join(self._root, os.path.dirname(path))) as entries:
            for entry in entries:
                if entry.name == os.path.basename(path):
                    self._keep(path, entry)

    def _rules_of(self, folder: str, names: set[str], rules: list[IgnoreFile]) -> list[IgnoreFile]:
        if folder and ".git" in names:
            rules = []  # a repository of its own, whose files the rules of the outer one don't know
        if ".gitignore" not in names:
            return rules
        text = _read_rules(os.path.join(self._root, folder, ".gitignore"))
        return [*rules, IgnoreFile(text, self._prefix + folder)] if text else rules

    def _keep(self, path: str, entry: os.DirEntry[str]) -> None:
        try:
            said = entry.stat(follow_symlinks=False)
            kind = self._kind(path, entry, said)
        except OSError as error:
            self._leave_out(path, f"unreadable: {error.strerror}")
            return
        if self._only_code and not path.endswith(_CODE):
            return
        if storable_text(path) != path:
            self._leave_out(path, "its name is no UTF-8")
        elif len(kind) > 1:
            self._leave_out(path, kind)
        elif kind != "l" and said.st_size > LARGE_BYTES:
            self._leave_out(path, "large", said.st_size)
        else:
            signature = (said.st_size, said.st_mtime_ns, said.st_ctime_ns, said.st_ino)
            self._files.append(Found(path, kind, 0 if kind == "l" else said.st_size, signature))

    def _kind(self, path: str, entry: os.DirEntry[str], said: os.stat_result) -> str:
        """Return the kind as in `StoredFile`, or why it can't be kept."""
        if stat.S_ISLNK(said.st_mode):
            target = os.readlink(entry.path)
            place = os.path.realpath(entry.path)
            inside = stays_inside(path, target) and place.startswith(self._root + os.sep)
            return "l" if inside and storable_text(target) == target else "link"
        if not stat.S_ISREG(said.st_mode):
            return "special"
        return "x" if said.st_mode & stat.S_IXUSR else "f"

    def _leave_out(self, path: str, why: str, size_bytes: int = 0) -> None:
        self._left_out.append(LeftOut(storable_text(path.rstrip("/")), why, size_bytes))


def _reason(name: str) -> str | None:
    """Return why a file or folder of this name is left out; empty for what nobody misses, None to keep it."""
    if name in _MADE or name in _MADE_FILES or name.endswith(_MADE_ENDINGS):
        return ""
    is_secret = name in _SECRET or name.startswith(".env.") or name.endswith(_SECRET_ENDINGS)
    return "secret" if is_secret and not name.endswith(_EXAMPLES) else None


def _has_code(names: set[str]) -> bool:
    return any(name.endswith(".py") for name in names)


def _is_shared(root: str) -> bool:
    """Tell whether a root is no project's folder but one where all sorts of things lie."""
    if any(os.path.lexists(os.path.join(root, mark)) for mark in (".cupola", ".git", ".gitignore")):
        return False
    home = os.path.expanduser("~")
    shared = {os.path.realpath(os.path.join(home, name)) for name in _SHARED}
    return root in shared or root in (os.sep, os.path.realpath(os.environ.get("TMPDIR") or "/tmp"))


def _rules_above(root: str, top: str) -> tuple[str, list[IgnoreFile]]:
    """Return where the root lies below the top, ending in `/` unless empty, and the rules of the folders above it."""
    if root != top and not root.startswith(top + os.sep):
        top = root
    prefix = root[len(top) + 1 :].replace(os.sep, "/")
    rules: list[IgnoreFile] = []
    if text := _read_rules(os.path.join(top, ".git", "info", "exclude")):
        rules.append(IgnoreFile(text))
    parts = prefix.split("/") if prefix else []
    for depth in range(len(parts)):
        folder = "".join(part + "/" for part in parts[:depth])
        if text := _read_rules(os.path.join(top, folder, ".gitignore")):
            rules.append(IgnoreFile(text, folder))
    return prefix + "/" if prefix else "", rules


def _read_rules(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
            return file.read()
    except OSError:
        return ""
