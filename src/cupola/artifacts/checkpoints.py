"""Checkpoints: how far a long step has come, kept in its run's folder for the next attempt of the same step.

`checkpoints/<step>/` has a record `last.<attempt>` for the last attempt that made one, and beside it a folder of blobs
where the value is too large for the record. A record is renamed into place when all that it names is there, so whatever
ends the process leaves the one before. Attempts are counted over all drivers of a run: what one that was taken over
still makes never stands before what a later one made. Nothing of this is in the journal: a checkpoint changes how soon
a step is done, never what the run's record says.
"""

from __future__ import annotations

import functools
import os
from _thread import allocate_lock
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from cupola import digest, ids
from cupola.artifacts.blobs import Blobs
from cupola.artifacts.materializer import load_value, store_value
from cupola.artifacts.materializers.files import content_digest
from cupola.entities.artifact import Manifest
from cupola.errors import CupolaError, Damaged, Fenced, MaterializerError
from cupola.journal import CHECKPOINTS, cannot_write, frame, frames
from cupola.snapshot import Collect, FromStep, Gather, Literal, Source

FORMAT = 1
_RECORD = "last."
_WAYS_OUT = (
    "pass plain values, data classes, arrays, tables, or a `File` that holds it; what can't be stored as an artifact "
    "can't be a checkpoint either"
)


class Record(msgspec.Struct, frozen=True, array_like=True):
    """The last checkpoint of an attempt.

    Attributes:
        format: `FORMAT`.
        inputs: Digest of what the step had read.
        folder: Name of the folder with its blobs.
        manifest: How the value is stored.
        at: When it was made, for people.
    """

    format: int
    inputs: str
    folder: str
    manifest: Manifest
    at: float


class StepCheckpoints:
    """The checkpoints of one step, as an attempt of it sees them.

    Threads of the step may save at once; a child process that it forked may as well.
    """

    def __init__(self, run: Path, step: str, attempt: int, inputs: Callable[[], str], *, sync: bool = False) -> None:
        """Prepare for an attempt of a step of the run in a folder; nothing is read or made yet.

        Args:
            run: The run's folder.
            step: Invocation name of the step.
            attempt: Number of the attempt.
            inputs: Returns the digest of what the step reads.
            sync: Whether what is saved survives a power cut.
        """
        self._run = run
        self._step = step
        self._attempt = attempt
        self._inputs = functools.cache(inputs)
        self._sync = sync
        self._folder = _step_folder(run, step)
        self._offered = ""
        self._saving = allocate_lock()

    def save(self, value: Any) -> None:
        """Store a value in the place of the last one.

        Raises:
            MaterializerError: The value can't be kept exactly.
            Unreachable: It can't be written; the last one is still there.
            Fenced: The run goes on elsewhere.
        """
        with self._saving:
            self._make_folders()
            name = f"{self._attempt}.{os.urandom(6).hex()}"
            try:
                manifest = self._store(value, Blobs(self._folder / name, sync=self._sync))
                before = _read(self._folder, self._attempt)
                self._commit(Record(FORMAT, self._inputs(), name, manifest, ids.now()))
            except BaseException:
                _remove(self._folder / name)
                raise
            self._forget_older(before.folder if before else "")

    def load(self, warn: Callable[[str], None]) -> Any:
        """Return the value saved last, an object of its own; None when there is none for what the step reads now.

        Args:
            warn: Is told when there is one that can't be used.
        """
        attempt = max(_attempts(self._folder), default=None)
        record = None if attempt is None else _read(self._folder, attempt)
        if record is None:
            if attempt is not None:
                warn("its last checkpoint can't be read: it begins anew")
            return None
        if record.inputs != self._inputs():
            return None
        self._offered = record.folder
        try:
            return load_value(record.manifest, Blobs(self._folder / record.folder))
        except Damaged as error:
            warn(f"its last checkpoint can't be used, so it begins anew: {error.what}")
            return None

    def _store(self, value: Any, blobs: Blobs) -> Manifest:
        try:
            return store_value(value, None, blobs, path=f"{self._step}.checkpoint")
        except MaterializerError as error:
            raise MaterializerError(error.what, where=error.where, fix=_WAYS_OUT) from error.__cause__

    def _make_folders(self) -> None:
        for folder in (self._folder.parent, self._folder):
            try:
                # Not with its parents: the run's own folder is elsewhere when the run is over.
                os.mkdir(folder)
            except FileExistsError:
                continue
            except FileNotFoundError:
                raise self._fenced() from None
            except OSError as error:
                raise cannot_write(folder, error) from error
        if max(_attempts(self._folder), default=0) > self._attempt:
            raise self._fenced()

    def _fenced(self) -> Fenced:
        return Fenced(
            f"attempt {self._attempt} of step {self._step!r} goes on although its run doesn't wait for it any more",
            where=str(self._run),
            fix="let it end; what it still does is not recorded",
        )

    def _commit(self, record: Record) -> None:
        target = self._folder / f"{_RECORD}{self._attempt}"
        try:
            _write(target, record, sync=self._sync)
            if self._sync:
                for folder in (self._folder, self._folder.parent, self._run):
                    _sync(folder)
        except FileNotFoundError:
            raise self._fenced() from None
        except OSError as error:
            raise cannot_write(target, error) from error

    def _forget_older(self, replaced: str) -> None:
        """Remove what the new one replaces; what the step was offered stays for as long as it runs."""
        for name in _names(self._folder):
            number = name.removeprefix("new.").removeprefix(_RECORD).partition(".")[0]
            is_older = number.isdigit() and int(number) < self._attempt
            if (is_older or name == replaced) and name != self._offered:
                _remove(self._folder / name)


def inputs_digest(
    inputs: Mapping[str, Source], manifests: Mapping[tuple[int, str], Manifest], files: Mapping[str, str], root: Path
) -> str:
    """Return the digest of what a step reads, which its checkpoints hold for.

    Args:
        inputs: Its inputs by name.
        manifests: The stored outputs that they come from.
        files: Paths of the files and folders among them, by a name for people, relative to the source root.
        root: The source root.
    """
    found: list[tuple[str, str]] = []
    pending = list(inputs.items())
    while pending:
        name, source = pending.pop()
        match source:
            case Literal():
                found.append((name, digest.blob(source.value)))
            case FromStep():
                found.append((name, manifests[source.step, source.output].digest))
            case Gather():
                pending += [(f"{name}[{place}]", item) for place, item in enumerate(source.items)]
            case Collect():
                raise AssertionError(f"the driver had to resolve what collects step {source.step}")
    for name, path in files.items():
        try:
            found.append((name, content_digest(root / path)))
        except (OSError, CupolaError):
            # The step itself says best what it misses; here a missing file is one that differs from all others.
            found.append((name, ""))
    return digest.inputs_key(found)


def forget(run: Path, steps: Iterable[str]) -> None:
    """Remove the checkpoints of steps of the run in a folder: they have finished, or are to begin anew."""
    known = set(_names(run / CHECKPOINTS))
    for step in steps if known else ():
        folder = _step_folder(run, step)
        if folder.name in known:
            _remove(folder)


def forget_all(run: Path) -> None:
    """Remove all checkpoints of the run in a folder."""
    if os.path.exists(run / CHECKPOINTS):
        _remove(run / CHECKPOINTS)


def take_over(earlier: Path, run: Path) -> None:
    """Give a run that is about to begin the checkpoints that another one has: links to its files.

    Raises:
        Unreachable: They can't be linked.
    """
    for name in _names(earlier / CHECKPOINTS):
        source, target = earlier / CHECKPOINTS / name, run / CHECKPOINTS / name
        # A driver that lives may put another in its place meanwhile.
        for _attempt in range(3):
            record = _read(source, max(_attempts(source), default=0))
            if record is None or _take_one(source, target, record):
                break


def _step_folder(run: Path, step: str) -> Path:
    # Names of steps may be longer than those of files, and hold slashes.
    return run / CHECKPOINTS / digest.checkpoint(step).partition(":")[2]


def _attempts(folder: Path) -> list[int]:
    """Return the numbers of the attempts that have a checkpoint in a step's folder."""
    return [int(name[len(_RECORD) :]) for name in _names(folder) if name.startswith(_RECORD)]


def _read(folder: Path, attempt: int) -> Record | None:
    """Return the record of an attempt; None when there is none or it can't be read."""
    try:
        data = (folder / f"{_RECORD}{attempt}").read_bytes()
    except OSError:
        return None
    content = next(frames(data, 0), (b"", 0))[0]
    try:
        record = msgspec.msgpack.decode(content, type=Record)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return record if record.format == FORMAT and os.path.basename(record.folder) == record.folder else None


def _write(target: Path, record: Record, *, sync: bool = False) -> None:
    temporary = target.with_name(f"new.{record.folder}")
    try:
        with open(temporary, "xb") as file:
            file.write(frame(msgspec.msgpack.encode(record)))
            if sync:
                file.flush()
                os.fsync(file.fileno())
        os.rename(temporary, target)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise


def _take_one(source: Path, target: Path, record: Record) -> bool:
    """Link a checkpoint; tell whether it was there to the end."""
    try:
        os.makedirs(target, exist_ok=True)
        _link_tree(source / record.folder, target / record.folder)
        _write(target / f"{_RECORD}0", record)
    except FileNotFoundError:
        _remove(target)
        return False
    except OSError as error:
        raise cannot_write(target, error) from error
    return True


def _link_tree(source: Path, target: Path) -> None:
    for folder, _folders, files in os.walk(source):
        there = target / os.path.relpath(folder, source)
        os.makedirs(there, exist_ok=True)
        for file in files:
            os.link(os.path.join(folder, file), there / file)


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _remove(path: Path) -> None:
    """Remove a file or a folder; what stays goes with the run's own folder."""
    if path.is_dir() and not path.is_symlink():
        import shutil  # here, since it brings three libraries of compression

        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            os.unlink(path)


def _sync(folder: Path) -> None:
    file = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
