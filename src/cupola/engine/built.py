"""Environments that were built: what is recorded of one, and whether it is ready for what a step asks for.

Only states of files are looked at here, in a few milliseconds; uv isn't called. Below `environments/` of the home:
`built/<key>.<host>.<random>` are environments, ready once they hold `complete`, which is written last; `requests/<key>`
names the one that belongs to a request; `locks/<key>` has what was resolved; `making/<key>` locks of those who build.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import msgspec

from cupola import digest
from cupola.compiler.requirements import Requirements
from cupola.engine.indexes import index_settings
from cupola.engine.sources import installed_cloudpickle, own_states, states_of
from cupola.ids import new_id

COMPLETE = "complete"
LOCK = "lock.txt"
_CONTENTS = "contents"
# Of the user's shell, and wrong for another interpreter.
_DROPPED = ("PYTHONHOME", "PYTHONPATH", "__PYVENV_LAUNCHER__")


class Environment(msgspec.Struct, frozen=True, kw_only=True):
    """A ready environment.

    Attributes:
        key: What it was made from: digest of lock, interpreter and Cupola.
        lock_digest: Digest of `read_lock()`.
        version: Version of its Python, `3.12.1`.
        folder: Its folder.
    """

    key: str
    lock_digest: str
    version: str
    folder: str

    @property
    def python(self) -> str:
        """Path of its interpreter."""
        return os.path.join(self.folder, "bin", "python")

    def read_lock(self) -> bytes:
        """Return the versions and hashes of all that is in it, as lines of a requirements file without credentials."""
        return Path(self.folder, LOCK).read_bytes()

    def variables(self, base: Mapping[str, str]) -> dict[str, str]:
        """Return the variables to start its interpreter with, from those of this process.

        Programs that the environment brings come first on PATH. `PYTHONPATH` is gone: packages for this process's
        Python must not hide those of the environment.
        """
        said = {name: value for name, value in base.items() if name not in _DROPPED}
        path = said.get("PATH", os.defpath)
        return {**said, "VIRTUAL_ENV": self.folder, "PATH": os.path.join(self.folder, "bin") + os.pathsep + path}


class Interpreter(msgspec.Struct, frozen=True, kw_only=True):
    """A Python that environments are made with: its path, version, and the state of its file."""

    path: str
    version: str
    size: int
    mtime_ns: int

    @property
    def minor(self) -> str:
        """`3.12` of `3.12.1`."""
        return ".".join(self.version.split(".")[:2])


class _Complete(msgspec.Struct, frozen=True):
    """What `complete` holds: the environment, its interpreter, and when each of its folders changed last."""

    key: str
    lock_digest: str
    interpreter: Interpreter
    folders: dict[str, int]


_Contents = dict[str, dict[str, tuple[int, int]]]


def environments_folder(home: Path) -> Path:
    """Return the folder of all environments of a home."""
    return home / "environments"


def running_interpreter() -> Interpreter:
    """Return the interpreter of this process, the one below if it is that of a virtual environment."""
    path = os.path.realpath(getattr(sys, "_base_executable", "") or sys.executable)
    return read_interpreter(path, ".".join(map(str, sys.version_info[:3])))


def read_interpreter(path: str, version: str) -> Interpreter:
    """Return an interpreter with the state of its file.

    Raises:
        OSError: It isn't there.
    """
    found = os.stat(path)
    return Interpreter(path=path, version=version, size=found.st_size, mtime_ns=found.st_mtime_ns)


def machine() -> str:
    """Return what decides besides the version of Python which wheels fit."""
    return f"{sys.implementation.name} {sys.platform} {os.uname().machine}"


def request_key(requirements: Requirements, python: str, root: Path) -> str:
    """Return the key of a request, from states of files where contents would take long.

    Args:
        requirements: What is asked for.
        python: Version of Python that is asked for; empty for the running one.
        root: Source root, whose index settings hold.
    """
    return digest.requirements(
        (
            *requirements.lines, "-c", *requirements.constraints, "local", *map(states_of, requirements.local),
            "indexes", *index_settings(root),
            "python", python or str(msgspec.structs.astuple(running_interpreter())), machine(),
            "cupola", own_states(), installed_cloudpickle(),
        )
    )  # fmt: skip


# Ready ones


def find_ready(home: Path, request: str) -> Environment | None:
    """Return the environment of a request if it is ready and whole."""
    try:
        name = Path(_request_path(home, request)).read_text()
    except OSError:
        return None
    return read_built(str(environments_folder(home) / "built" / name))


def note_request(home: Path, request: str, environment: Environment) -> None:
    """Note which environment belongs to a request."""
    write_whole(_request_path(home, request), os.path.basename(environment.folder).encode())


def _request_path(home: Path, request: str) -> Path:
    return environments_folder(home) / "requests" / request.partition(":")[2]


def read_built(folder: str) -> Environment | None:
    """Return the environment in a folder; None if it isn't complete, or no longer what it was."""
    try:
        complete = msgspec.msgpack.decode(Path(folder, COMPLETE).read_bytes(), type=_Complete)
    except (OSError, msgspec.DecodeError):
        return None
    environment = Environment(
        key=complete.key, lock_digest=complete.lock_digest, version=complete.interpreter.version, folder=folder
    )
    changed = _changed_folders(environment, complete)
    if changed is None:
        return None
    if changed:
        if _damage_in(folder, changed):
            return None
        _seal_again(folder, complete)
    return environment


def _changed_folders(environment: Environment, complete: _Complete) -> list[str] | None:
    """Return the folders in which something came or went; None if the environment can't be right any more."""
    try:
        found = os.stat(environment.python)
        os.stat(os.path.join(environment.folder, "pyvenv.cfg"))
        if (found.st_size, found.st_mtime_ns) != (complete.interpreter.size, complete.interpreter.mtime_ns):
            return None
        start = environment.folder + os.sep
        return [name for name, changed in complete.folders.items() if os.stat(start + name).st_mtime_ns != changed]
    except OSError:
        return None


def find_damage(environment: Environment) -> str:
    """Look at every file of an environment; return what is wrong, empty for nothing.

    To be called when its interpreter doesn't start or its packages don't import. A damaged environment is no longer
    taken for ready: the next `prepare` makes it anew.
    """
    damage = _damage_in(environment.folder, None)
    if damage:
        with suppress(OSError):
            os.unlink(os.path.join(environment.folder, COMPLETE))
    return damage


def _damage_in(folder: str, only: list[str] | None) -> str:
    try:
        contents = msgspec.msgpack.decode(Path(folder, _CONTENTS).read_bytes(), type=_Contents)
    except (OSError, msgspec.DecodeError):
        return f"{folder}/{_CONTENTS} is missing or damaged"
    for inner in contents if only is None else only:
        for name, state in contents.get(inner, {}).items():
            path = os.path.join(folder, inner, name)
            try:
                found = os.stat(path)
            except OSError:
                return f"{path} is missing"
            if (found.st_size, found.st_mtime_ns) != state:
                return f"{path} was changed"
    return ""


def seal(environment: Environment, interpreter: Interpreter) -> None:
    """Record what is in a new environment; from then on it is ready."""
    contents: _Contents = {}
    folders: dict[str, int] = {}
    pending = [entry.path for entry in os.scandir(environment.folder) if entry.is_dir(follow_symlinks=False)]
    while pending:
        path = pending.pop()
        inner = path[len(environment.folder) + 1 :]
        files: dict[str, tuple[int, int]] = {}
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    pending += [] if entry.name == "__pycache__" else [entry.path]
                elif entry.is_file():
                    files[entry.name] = entry.stat().st_size, entry.stat().st_mtime_ns
        if any(name.endswith(".py") for name in files):
            # So that the first imports don't change the time of the folder itself.
            os.makedirs(os.path.join(path, "__pycache__"), exist_ok=True)
        contents[inner] = files
        folders[inner] = os.stat(path).st_mtime_ns
    write_whole(Path(environment.folder, _CONTENTS), msgspec.msgpack.encode(contents))
    complete = _Complete(environment.key, environment.lock_digest, interpreter, folders)
    write_whole(Path(environment.folder, COMPLETE), msgspec.msgpack.encode(complete))


def _seal_again(folder: str, complete: _Complete) -> None:
    """Note the new times of folders in which something came that does no harm."""
    folders = {name: os.stat(os.path.join(folder, name)).st_mtime_ns for name in complete.folders}
    changed = msgspec.structs.replace(complete, folders=folders)
    with suppress(OSError):  # a home that can only be read: it takes a few milliseconds more each time
        write_whole(Path(folder, COMPLETE), msgspec.msgpack.encode(changed))


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that nobody ever meets a part of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{os.uname().nodename}.{new_id()}")
    draft.write_bytes(data)
    os.replace(draft, path)
