"""What the system tells of processes, and how whole trees of them are ended.

Linux says it all in `/proc`; elsewhere `ps` says less. Nothing here knows of runs or steps.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress

import msgspec

PROC = "/proc"
GRACE_S = 2.0
"""How long processes get between SIGTERM and SIGKILL, in seconds."""
_LOOK_AGAIN_S = 0.05
"""How often is looked for processes that others of a tree start while it ends."""
_KILLED_S = 3.0
"""How long a killed process may take to be gone; one that waits for a disk can take longer."""
_ROUNDS = 50
"""How often a tree that grows while it is stopped is looked through; each round stops all that it finds."""
_SET_DEATH_SIGNAL, _SET_SUBREAPER = 1, 36  # of prctl(2)


class Reaped(msgspec.Struct, frozen=True):
    """How a child ended, and what it and its own ended children used.

    Attributes:
        pid: Its process id.
        exit_code: What it exited with; -1 when a signal ended it.
        signal: Name of that signal, else empty.
        cpu_s: Processor time in seconds.
        peak_bytes: The most memory it had at once. Linux counts what the process that started it had then as well.
    """

    pid: int
    exit_code: int
    signal: str
    cpu_s: float
    peak_bytes: int


def start_time(pid: int) -> str:
    """Return when a process started, in a form that tells it from a later one with the same id; empty if unknown."""
    found = _read(pid)
    return found.started if found else ""


def is_running(pid: int) -> bool:
    """Tell whether a process runs; one that has ended and was not reaped yet does not."""
    found = _read(pid)
    return found is not None and not _is_over(found)


def descendants(pid: int) -> set[int]:
    """Return the ids of all processes that descend from one, as far as the system tells.

    One whose parent has ended descends from whoever adopted it: the nearest subreaper above, or process 1.
    """
    return _below([pid])


def peak_bytes(pid: int) -> int:
    """Return the most memory that a running process had at once since its program began; 0 where nothing tells."""
    with suppress(OSError, ValueError, IndexError), open(f"{PROC}/{pid}/status", "rb") as file:
        return int(file.read().partition(b"VmHWM:")[2].split()[0]) * 1024
    return 0


def reap(pid: int, *, block: bool = True) -> Reaped | None:
    """Take the exit status of a child of this process, which lets the system forget it; -1 stands for any child.

    Returns:
        How it ended; None when it still runs and `block` is false.

    Raises:
        ChildProcessError: It is no child of this process, or was reaped already.
    """
    found, status, usage = os.wait4(pid, 0 if block else os.WNOHANG)
    if not found:
        return None
    code = os.waitstatus_to_exitcode(status)
    peak = usage.ru_maxrss if sys.platform == "darwin" else usage.ru_maxrss * 1024
    return Reaped(found, max(code, -1), _signal_name(-code) if code < 0 else "", usage.ru_utime + usage.ru_stime, peak)


def become_subreaper() -> bool:
    """Adopt every process below this one whose parent ends, daemons too; tell whether the system can do that.

    It holds until this process ends and is not inherited by its children.
    """
    return _prctl(_SET_SUBREAPER, 1)


def die_with_parent(parent: int, number: signal.Signals = signal.SIGKILL) -> bool:
    """Let the kernel send this process a signal when its parent ends, however that ends.

    The kernel means the thread of the parent that started this process: it must last as long as the parent.

    Args:
        parent: Process id of the parent; if it has ended already, the signal is sent at once.
        number: The signal.

    Returns:
        Whether the system can do that; otherwise watch for the end of a pipe from the parent.
    """
    can = _prctl(_SET_DEATH_SIGNAL, number)
    if can and os.getppid() != parent:
        os.kill(os.getpid(), number)
    return can


def end_tree(pids: Iterable[int], grace_s: float = GRACE_S) -> set[int]:
    """End processes and all that descend from them: SIGTERM, up to `grace_s` seconds, SIGKILL.

    Those in sessions of their own are ended too, and those that are started meanwhile. Daemons are found where a
    subreaper adopted them (`become_subreaper`). Never touched are process 1, a process that got the id of one that
    ended, and this process: where it is named, what it started is ended; where it only stands below one that is named,
    what it started is left alone as well.

    Returns:
        Those that still run: the system didn't let this process end them, or they wait for a device.
    """
    tree = _Tree(pids)
    try:
        tree.send(signal.SIGTERM)
        tree.wait(grace_s, signal.SIGTERM)
        tree.kill()
        tree.wait(_KILLED_S, signal.SIGKILL)
    finally:
        tree.close()
    return set(tree.running())


class _Stat(msgspec.Struct, frozen=True):
    """One process as the system describes it; `started` tells it from a later one with its id."""

    pid: int
    state: str
    parent: int
    group: int
    session: int
    started: str


class _Tree:
    """Processes that are being ended, by id, each held by a descriptor where the system has such."""

    def __init__(self, pids: Iterable[int]) -> None:
        self._me = os.getpid()
        self._roots = {pid for pid in pids if pid > 1}
        self._known: dict[int, _Stat] = {}
        self._files: dict[int, int] = {}
        self._others: set[int] = set()
        self._learn(self._roots)
        self._adopters = {self._me, *(known.parent for known in self._known.values())} - {0, 1}
        self.look()

    def send(self, number: signal.Signals) -> None:
        """Send a signal to all that are known and run, to the roots first: who sees a child end may start another."""
        for pid in self.running():
            self._send(pid, number)

    def wait(self, wait_s: float, number: signal.Signals) -> None:
        """Wait until all have ended, at most so long; what is started meanwhile gets the signal as well."""
        deadline = time.monotonic() + wait_s
        while running := self.running():
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return
            self._wait_for_one(running, min(left_s, _LOOK_AGAIN_S))
            for pid in self.look():
                self._send(pid, number)

    def kill(self) -> None:
        """Kill what runs. All are stopped first, so that none can start another while they are found."""
        for _round in range(_ROUNDS):
            self.send(signal.SIGSTOP)
            # Twice, since a list of children may lack one while another of them is reaped.
            if not self.look() and not self.look():
                break
        self.send(signal.SIGKILL)

    def running(self) -> list[int]:
        """Return the ids of those that still run, in the order in which they were found."""
        return [pid for pid, known in self._known.items() if _is_same(known)]

    def look(self) -> list[int]:
        """Add what belongs to the tree and wasn't known; return it."""
        anchors = {*self.running(), *({self._me} & self._roots)}
        return self._learn(_below(anchors, stop=self._me) | self._adopted())

    def close(self) -> None:
        """Give the descriptors back, and let the system forget ended processes that this one has adopted."""
        for file in self._files.values():
            os.close(file)
        for pid in self._others:
            found = _read(pid)
            if found and found.parent == self._me and _is_over(found):
                with suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)

    def _learn(self, pids: set[int]) -> list[int]:
        new: list[int] = []
        for pid in pids - {1, self._me}:
            stat, known = _read(pid), self._known.get(pid)
            if stat is None or _is_over(stat) or (known and known.started == stat.started):
                continue
            self._known[pid] = stat
            self._hold(pid)
            if stat.parent != self._me:
                self._others.add(pid)
            new.append(pid)
        return new

    def _adopted(self) -> set[int]:
        """Return processes that once belonged to the tree, by their process group or session.

        Who adopts them is this process or a parent of a root, where these are subreapers.
        """
        mine = _read(self._me)
        if mine is None:
            return set()
        children = {pid for adopter in self._adopters for pid in _children(adopter)} - self._known.keys()
        stats = [stat for stat in map(_read, children) if stat]
        # A root that has ended already was the leader of its group, if it had one of its own.
        own = {0, 1, mine.group, mine.session}
        groups = ({known.group for known in self._known.values()} | self._roots) - own
        sessions = ({known.session for known in self._known.values()} | self._roots) - own
        found = {stat.pid for stat in stats if stat.group in groups or stat.session in sessions}
        self._others |= found
        return found

    def _hold(self, pid: int) -> None:
        if pid in self._files:
            os.close(self._files.pop(pid))
        if hasattr(os, "pidfd_open"):
            with suppress(OSError):  # it has ended, or there are too many open files: its id and start must do
                self._files[pid] = os.pidfd_open(pid)

    def _send(self, pid: int, number: signal.Signals) -> None:
        with suppress(ProcessLookupError, PermissionError):
            if not _is_same(self._known[pid]):
                return
            if pid in self._files:
                signal.pidfd_send_signal(self._files[pid], number)
            else:
                os.kill(pid, number)

    def _wait_for_one(self, running: list[int], wait_s: float) -> None:
        poll = select.poll()
        for pid in self._files.keys() & running:
            poll.register(self._files[pid], select.POLLIN)
        poll.poll(wait_s * 1000)


def _below(pids: Iterable[int], stop: int = 0) -> set[int]:
    """Return all that descend from some processes; `stop` is not passed unless it is one of them."""
    found: set[int] = set()
    pending = list(pids)
    children = _children if _tells_children() else _children_by_parent()
    while pending:
        new = children(pending.pop()) - found - {stop}
        found |= new
        pending += new
    return found


def _tells_children() -> bool:
    return os.path.exists(f"{PROC}/self/task/{os.getpid()}/children")


def _children(pid: int) -> set[int]:
    """Return the children of a process."""
    if not _tells_children():
        return _children_by_parent()(pid)
    found: set[int] = set()
    with suppress(OSError):
        for thread in os.listdir(f"{PROC}/{pid}/task"):
            with suppress(OSError), open(f"{PROC}/{pid}/task/{thread}/children", "rb") as file:
                found.update(map(int, file.read().split()))
    return found


def _children_by_parent() -> Callable[[int], set[int]]:
    """Return a function from a process to its children, by one look at all processes."""
    children: dict[int, set[int]] = {}
    for stat in _read_all():
        children.setdefault(stat.parent, set()).add(stat.pid)
    return lambda pid: children.get(pid, set())


def _is_same(known: _Stat) -> bool:
    now = _read(known.pid)
    return now is not None and now.started == known.started and not _is_over(now)


def _is_over(stat: _Stat) -> bool:
    if stat.state != "Z":
        return stat.state in "Xx"
    # The first thread may end before the others; the process runs as long as one of them.
    try:
        return len(os.listdir(f"{PROC}/{stat.pid}/task")) < 2
    except OSError:
        return True


def _read(pid: int) -> _Stat | None:
    try:
        with open(f"{PROC}/{pid}/stat", "rb") as file:
            # The name in parentheses may hold spaces and parentheses itself, so count from its end.
            words = file.read().rpartition(b")")[2].split()
        return _Stat(pid, words[0].decode(), int(words[1]), int(words[2]), int(words[3]), words[19].decode())
    except (OSError, IndexError):
        return None if os.path.isdir(f"{PROC}/self") else next(iter(_ask_ps("-p", str(pid))), None)


def _read_all() -> list[_Stat]:
    if not os.path.isdir(f"{PROC}/self"):
        return _ask_ps("-A")
    return [stat for stat in map(_read, map(int, filter(str.isdigit, os.listdir(PROC)))) if stat]


def _ask_ps(*which: str) -> list[_Stat]:
    """Ask `ps`, which starts a process of its own and tells start times by the second only."""
    import subprocess  # only where there is no /proc

    words = ["ps", *which, "-o", "pid=,ppid=,pgid=,stat=,lstart="]
    try:
        said = subprocess.run(words, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"}, check=False)
    except OSError:  # there is no `ps` either: nothing is known
        return []
    lines = [line.split(None, 4) for line in said.stdout.splitlines()]
    return [_Stat(int(pid), stat[0], int(parent), int(group), 0, begun) for pid, parent, group, stat, begun in lines]


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # real-time signals have no names in Python
        return f"signal {number}"


def _prctl(option: int, value: int) -> bool:
    if sys.platform != "linux":
        return False
    import ctypes  # 5 ms: only where it is used

    return bool(ctypes.CDLL(None).prctl(option, value, 0, 0, 0) == 0)
