"""Making the environment of a step with uv: what to install is resolved once and kept, then installed into a folder.

Whoever makes one holds a lock of the kernel, so that the others wait, and that nothing keeps them when it dies. What it
leaves then has no `complete` in it, is taken for nothing, and goes away with the next attempt.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
import tomllib
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from cupola import digest
from cupola.compiler.requirements import Requirements, distribution_of
from cupola.credentials import mask_credentials
from cupola.engine.built import (
    LOCK,
    Environment,
    Interpreter,
    environments_folder,
    find_ready,
    machine,
    note_request,
    read_built,
    read_interpreter,
    running_interpreter,
    seal,
    write_whole,
)
from cupola.engine.companions import find_missing
from cupola.engine.indexes import index_settings
from cupola.engine.sources import content_of, installed_cloudpickle
from cupola.engine.uv import Uv, UvFailed, failure, open_uv
from cupola.engine.wheel import Wheel, make_wheel
from cupola.errors import RunCancelled
from cupola.ids import new_id
from cupola.journal import cannot_write
from cupola.runlock import lock_run, read_holder
from cupola.text import count, duration

_POLL_S = 0.05
_TELL_VERSION = "import sys; print('.'.join(map(str, sys.version_info[:3])))"
_RESOLVE = ("pip", "compile", "-", "--generate-hashes", "--no-header", "--no-annotate", "--no-emit-package", "cupola")


class Making(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked for beside the requirements, and who is told; see `environment.prepare`."""

    home: Path
    root: Path
    where: str
    progress: Callable[[str], None]
    is_stopped: Callable[[], bool]
    request: str
    python: str

    @property
    def folder(self) -> Path:
        """The folder of all environments."""
        return environments_folder(self.home)


class _Job(msgspec.Struct, frozen=True, kw_only=True):
    """What one environment is made from.

    Attributes:
        uv: How uv is called.
        making: What is asked for, and who is told.
        requirements: What is asked for in requirements.
        interpreter: The Python.
        wheel: Cupola itself.
        key: Key of what is resolved: of all that decides it.
    """

    uv: Uv
    making: Making
    requirements: Requirements
    interpreter: Interpreter
    wheel: Wheel
    key: str

    @property
    def lock_path(self) -> Path:
        """Where what was resolved is kept."""
        return self.making.folder / "locks" / f"{self.key.partition(':')[2]}.txt"


def make(requirements: Requirements, making: Making) -> Environment:
    """Return the environment of a request, made unless another process was faster."""
    uv = open_uv(requirements, making.root, making.where, making.is_stopped)
    try:
        wheel = make_wheel(making.folder / "wheels")
        interpreter = _interpreter(uv, making)
        key = _lock_key(requirements, interpreter, wheel, making.root)
        job = _Job(uv=uv, making=making, requirements=requirements, interpreter=interpreter, wheel=wheel, key=key)
        with _alone(key, making):
            environment = find_ready(making.home, making.request)
            if environment is None:
                environment = _with_lock(job, _lock(job))
                note_request(making.home, making.request, environment)
            return environment
    except OSError as error:
        raise cannot_write(making.folder, error) from error


@contextmanager
def _alone(key: str, making: Making) -> Generator[None]:
    """Hold the lock of what is being made; say so where another process holds it, and wait."""
    folder = making.folder / "making" / key.partition(":")[2]
    folder.mkdir(parents=True, exist_ok=True)
    lock = lock_run(folder)
    if lock is None:
        holder = read_holder(folder)
        by = f"process {holder.pid}" if holder else "another process"
        making.progress(f"waiting for {by}, which is making the environment")
    while lock is None:
        if making.is_stopped():
            raise RunCancelled("stopped while another process was making the environment of a step")
        time.sleep(_POLL_S)
        lock = lock_run(folder)
    try:
        yield
    finally:
        lock.release()


# The interpreter


def _interpreter(uv: Uv, making: Making) -> Interpreter:
    if not making.python:
        return running_interpreter()
    search = ("python", "find", "--no-project", "--system", making.python)
    try:
        try:
            path = uv.run(*search).strip()
        except UvFailed:
            making.progress(f"looking for Python {making.python}")
            uv.run("python", "install", "--no-bin", making.python)
            path = uv.run(*search).strip()
    except UvFailed as error:
        raise failure(
            f"there is no Python {making.python}",
            error,
            making.where,
            f"install Python {making.python}, or ask for the running one, {running_interpreter().minor}",
        ) from error
    told = subprocess.run([path, "-I", "-c", _TELL_VERSION], capture_output=True, text=True, check=True, timeout=60)
    return read_interpreter(os.path.realpath(path), told.stdout.strip())


# What is to be installed


def _lock_key(requirements: Requirements, interpreter: Interpreter, wheel: Wheel, root: Path) -> str:
    return digest.requirements(
        (
            *requirements.lines, "-c", *requirements.constraints, "local", *map(content_of, requirements.local),
            "indexes", *index_settings(root), "python", interpreter.minor, machine(),
            "cupola", *wheel.requires, installed_cloudpickle(),
        )
    )  # fmt: skip


def _lock(job: _Job) -> str:
    """Return all versions but Cupola's own, with the hashes of what may be installed: known, or resolved and kept."""
    if job.lock_path.exists():
        return job.lock_path.read_text(encoding="utf-8")
    lock = _resolve(job)
    write_whole(job.lock_path, lock.encode())
    return lock


def _resolve(job: _Job) -> str:
    making, lines = job.making, job.requirements.lines
    number = sum(not line.startswith("-") or line.startswith("-e") for line in lines)
    making.progress(f"resolving {count(number, 'requirement')} for Python {job.interpreter.minor}")
    text = [*_no_index(), *lines, f"cupola @ {job.wheel.path.as_uri()}"]
    if (version := installed_cloudpickle()) and "cloudpickle" not in map(distribution_of, lines):
        text.append(f"cloudpickle=={version}")
    arguments = [*_RESOLVE, "--python", job.interpreter.path, *_told_by_arguments(lines)]
    constraints = making.folder / f".constraints.{os.uname().nodename}.{new_id()}"
    try:
        if job.requirements.constraints:
            write_whole(constraints, "\n".join(job.requirements.constraints).encode())
            arguments += ["--constraints", str(constraints)]
        lock = job.uv.run(*arguments, text="\n".join(text))
        asked = frozenset(map(distribution_of, lines))
        while missing := [line for line in find_missing(lock, asked) if line not in text]:
            making.progress(f"resolving again with {', '.join(missing)}")
            text += missing
            lock = job.uv.run(*arguments, text="\n".join(text))
    except UvFailed as error:
        own = ", ".join(line for line in job.wheel.requires if "extra ==" not in line)
        raise failure(
            "the requirements can't be resolved",
            error,
            making.where,
            f"change what uv names; Cupola itself is in the environment and needs {own}",
        ) from error
    finally:
        constraints.unlink(missing_ok=True)
    lock = _with_demanded_hashes(lock, job.requirements.hashes)
    return f"# Python {job.interpreter.minor}, {machine()}\n{lock}"


def _no_index() -> list[str]:
    said = os.environ.get("PIP_NO_INDEX", "").lower()
    return ["--no-index"] if said in ("1", "true", "yes", "on") else []


def _told_by_arguments(lines: Sequence[str]) -> list[str]:
    """Return the arguments for options of requirements files that uv takes only as arguments."""
    arguments: list[str] = []
    for line in lines:
        option, _, value = line.partition(" ")
        if option == "--pre":
            arguments.append("--prerelease=allow")
        elif option == "--trusted-host":
            arguments += ["--allow-insecure-host", value]
    return arguments


def _with_demanded_hashes(lock: str, demanded: Mapping[str, Sequence[str]]) -> str:
    """Put the hashes that the user demands in the place of those that the index says."""
    if not demanded:
        return lock
    kept: list[str] = []
    for entry in re.split(r"\n(?=\S)", lock.rstrip("\n")):
        hashes = demanded.get(distribution_of(entry), ())
        head = entry.partition(" \\\n")[0]
        kept.append(" \\\n".join([head, *(f"    --hash={text}" for text in hashes)]) if hashes else entry)
    return "\n".join(kept) + "\n"


# Installing


def _with_lock(job: _Job, lock: str) -> Environment:
    """Return the environment that a lock, an interpreter and a wheel make, built unless it is there."""
    folders = [path for path in job.requirements.local if os.path.isdir(path)]
    interpreter = job.interpreter
    parts = [lock, interpreter.path, interpreter.version, job.wheel.digest, *folders, *map(content_of, folders)]
    key = digest.environment(part.encode(errors="surrogateescape") for part in parts)
    name, built = key.partition(":")[2], job.making.folder / "built"
    with _alone(key, job.making):
        for path in built.glob(f"{name}.*"):
            found = read_built(str(path))
            if found is not None:
                return found
            # A build that was killed, or an environment that was damaged: nobody is building it.
            shutil.rmtree(path, ignore_errors=True)
        host = re.sub(r"[^A-Za-z0-9-]", "_", os.uname().nodename)
        folder = built / f"{name}.{host}.{new_id()[-8:]}"
        record = mask_credentials(lock).encode()
        environment = Environment(
            key=key, lock_digest=digest.blob(record), version=interpreter.version, folder=str(folder)
        )
        _install(job, lock, folder, folders)
        write_whole(folder / LOCK, record)
        seal(environment, interpreter)
        return environment


def _install(job: _Job, lock: str, folder: Path, local: Sequence[str]) -> None:
    started = time.monotonic()
    entries = [line for line in lock.splitlines() if line and not line.startswith((" ", "#"))]
    job.making.progress(f"installing {count(len(entries) + 1, 'distribution')}")
    indexes = [line for line in job.requirements.lines if re.match(r"-f |--(?!requirement|constraint|editable)", line)]
    wheel = f"cupola @ {job.wheel.path.as_uri()} --hash=sha256:{job.wheel.sha256}"
    text = "\n".join([*_no_index(), *indexes, lock, wheel])
    command = ["pip", "install", "--no-deps", "--python", str(folder), "--requirements", "-"]
    command += [*_told_by_arguments(indexes), *_refreshed(local)]
    try:
        job.uv.run("venv", "--no-project", "--python", job.interpreter.path, str(folder))
        try:
            # What is in uv's cache needs no index, which may be slow, or out of reach.
            job.uv.run(*command, "--offline", text=text)
        except UvFailed:
            job.uv.run(*command, text=text)
    except UvFailed as error:
        raise failure(
            "the environment can't be made",
            error,
            job.making.where,
            f"what to install was resolved before and is in {job.lock_path}: remove it to resolve again",
        ) from error
    job.making.progress(f"installed in {duration(time.monotonic() - started)}")


def _refreshed(folders: Sequence[str]) -> list[str]:
    """Return the arguments that make uv build local folders anew: it looks at their `pyproject.toml` only."""
    arguments: list[str] = []
    for folder in folders:
        try:
            name = tomllib.loads(Path(folder, "pyproject.toml").read_text(encoding="utf-8"))["project"]["name"]
        except (OSError, ValueError, KeyError, TypeError):
            return ["--refresh"]
        arguments += ["--refresh-package", str(name)]
    return arguments
