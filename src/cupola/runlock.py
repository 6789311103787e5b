"""The lock of a run: the right to write its journal, and word for whoever holds it.

The file `lock` in a run's folder is held by the driver for as long as it lives; nothing else opens it. The file
`cancel` beside it tells the holder that somebody wants the run to stop.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import msgspec

from cupola.errors import Fenced, NotFound
from cupola.journal import cannot_write, finished_folder, live_folder, run_folder


class Holder(msgspec.Struct, frozen=True):
    """Who holds a run's lock.

    Attributes:
        pid: Process id.
        started: When that process started, in clock ticks since boot.
        host: Where it runs.
        takes_signals: Whether SIGTERM stops the run there, and not just the process.
    """

    pid: int
    started: str
    host: str
    takes_signals: bool


class RunLock:
    """The right to write a run's journal, held until `release` or the death of the process.

    It is an `flock`, so the kernel frees it at death whatever the death. Forked children close it, or one that outlives
    its parent would keep the run alive.
    """

    def __init__(self, file: int) -> None:
        self._file = file
        if not _held:
            _close_locks_in_children()
        _held[file] = self

    def is_lost(self) -> bool:
        """Tell whether another driver took the run over by force: it put a lock of its own in the place of this one."""
        return not os.fstat(self._file).st_nlink

    def release(self) -> None:
        """Let others write."""
        if _held.pop(self._file, None) is not None:
            os.close(self._file)


_held: dict[int, RunLock] = {}


def lock_run(folder: Path, *, takes_signals: bool = False, is_named: bool = True) -> RunLock | None:
    """Take a run's lock, or return None when a living process holds it.

    Args:
        folder: The run's folder.
        takes_signals: Whether this process stops the run when it gets SIGTERM.
        is_named: Whether this process writes itself into it; one that only settles what a dead driver left does not.

    Raises:
        Unreachable: The folder can't be written.
    """
    path = folder / "lock"
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise cannot_write(path, error) from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return None
    if not _is_at(path, file):
        # The run was sealed and moved away between the two calls: there is nothing left to hold.
        os.close(file)
        return None
    if is_named:
        _write_holder(path, file, takes_signals)
    return RunLock(file)


def _write_holder(path: Path, file: int, takes_signals: bool) -> None:
    holder = f"{os.getpid()} {process_start(os.getpid())} {os.uname().nodename} {int(takes_signals)}\n"
    try:
        os.ftruncate(file, 0)
        os.pwrite(file, holder.encode(), 0)
    except OSError as error:
        os.close(file)
        raise cannot_write(path, error) from error


def reopen(home: Path, run: str, *, takes_signals: bool = False) -> RunLock | None:
    """Take the lock of a run that has begun, and put its folder back among the live ones; None when it is held.

    Raises:
        NotFound: The run has no folder any more.
        Unreachable: The folder can't be written.
    """
    for _attempt in range(3):
        folder = run_folder(home, run)
        lock = lock_run(folder, takes_signals=takes_signals)
        if lock is not None:
            if folder != live_folder(home, run):
                _bring_back(folder, live_folder(home, run), lock)
            return lock
        if folder.is_dir():
            # Held, unless it was moved between the two looks.
            if folder == run_folder(home, run):
                return None
            continue
    raise NotFound(f"run {run} has no journal any more", where=str(live_folder(home, run)), fix="it can be run anew")


def _bring_back(folder: Path, live: Path, lock: RunLock) -> None:
    try:
        os.makedirs(live.parent, exist_ok=True)
        os.rename(folder, live)
    except OSError as error:
        lock.release()
        raise cannot_write(live, error) from error


def take_over(folder: Path) -> None:
    """Take a run from a driver that lives but is stuck: it finds itself fenced at its next write.

    Raises:
        Unreachable: The folder can't be written.
    """
    _remove(folder / "lock")


def _is_at(path: Path, file: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(file))
    except FileNotFoundError:
        return False


def read_holder(folder: Path) -> Holder | None:
    """Return who wrote itself into a run's lock last, or None when nobody did."""
    try:
        pid, started, host, takes_signals = (folder / "lock").read_text().split()
    except (OSError, ValueError):
        return None
    return Holder(int(pid), started, host, takes_signals == "1")


def is_alive(holder: Holder) -> bool:
    """Tell whether the process that a lock names is there, as far as this host can tell."""
    if holder.host != os.uname().nodename:
        return True
    return holder.started == process_start(holder.pid)


def ask_to_cancel(folder: Path, who: str) -> None:
    """Leave word in a live run's folder that somebody wants it to stop; its driver looks for that."""
    try:
        (folder / "cancel").write_text(who, encoding="utf-8")
    except FileNotFoundError:
        pass
    except OSError as error:
        raise cannot_write(folder / "cancel", error) from error


def asked_to_cancel(folder: Path) -> str:
    """Return who wants a run to stop; empty when nobody does."""
    try:
        return (folder / "cancel").read_text(encoding="utf-8")
    except OSError:
        return ""


def forget_cancel(folder: Path) -> None:
    """Take back what `ask_to_cancel` left for an earlier driver.

    Raises:
        Unreachable: The folder can't be written.
    """
    _remove(folder / "cancel")


def _remove(path: Path) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise cannot_write(path, error) from error


def fenced(folder: Path) -> Fenced:
    """Return the error of a driver whose run another one has taken over."""
    home, run = folder.parent.parent, folder.name
    # The other one may have finished the run meanwhile.
    winner = read_holder(folder) or read_holder(finished_folder(home, run))
    who = f"process {winner.pid} on {winner.host}" if winner else "another driver"
    return Fenced(
        f"run {run} was taken over by {who}: nothing of this process is recorded any more",
        where=str(folder),
        fix="let that one go on; `cupola ps` shows it",
    )


def process_start(pid: int) -> str:
    """Return when a process started, in a form that tells it from a later one with the same id; `0` if unknown."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The name in parentheses may hold spaces and parentheses itself, so count from its end.
            return file.read().rpartition(b")")[2].split()[19].decode()
    except (OSError, IndexError):
        return "0"


def _close_locks_in_children() -> None:
    if not _registered:
        _registered.append(True)
        os.register_at_fork(after_in_child=_forget_locks)


_registered: list[bool] = []


def _forget_locks() -> None:
    for file in list(_held):
        del _held[file]
        os.close(file)
