"""What the system tells of processes, and that ending a tree leaves nothing of it and touches nothing else."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cupola.engine import processes
from cupola.engine.processes import descendants, end_tree, is_running, peak_bytes, reap, start_time

IS_LINUX = sys.platform == "linux"
needs_linux = pytest.mark.skipif(not IS_LINUX, reason="only Linux adopts daemons and tells of a parent's death")


def wait_for(check: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)


class Program:
    """A process that runs some Python; what it and others write by `say(pid)` are the ids in its folder."""

    HEAD = """
import os, pathlib, signal, subprocess, sys, time
from cupola.engine.processes import *
here = pathlib.Path(sys.argv[1])
def say(name, pid=None):
    (here / f"{name}.new").write_text(str(pid or os.getpid()))
    (here / f"{name}.new").rename(here / name)
"""

    def __init__(self, folder: Path, source: str) -> None:
        self.folder = folder
        self.process = subprocess.Popen([sys.executable, "-c", self.HEAD + source, str(folder)], process_group=0)

    def pid(self, name: str) -> int:
        wait_for((self.folder / name).exists)
        return int((self.folder / name).read_text())


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Callable[[str], Program]]:
    started: list[Program] = []

    def start(source: str) -> Program:
        started.append(Program(tmp_path, source))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.wait()
    for file in tmp_path.iterdir():
        with contextlib.suppress(ValueError, ProcessLookupError):
            os.kill(int(file.read_text()), signal.SIGKILL)


@pytest.fixture(params=["proc", "parents", "ps"])
def source(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """Say where the answers come from: all of /proc, /proc without lists of children, or `ps` as on macOS."""
    if request.param == "parents":
        monkeypatch.setattr(processes, "_tells_children", lambda: False)
    if request.param == "ps":
        monkeypatch.setattr(processes, "PROC", str(tmp_path / "nothing"))
    if request.param != "ps" and not IS_LINUX:
        pytest.skip("there is no /proc")
    return request.param


@pytest.mark.feature("ENG-02")
def test_a_process_is_known_by_its_id_and_its_start(source: str) -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        first = start_time(process.pid)
        assert first
        assert first == start_time(process.pid)
        assert is_running(process.pid)
        assert process.pid in descendants(os.getpid())
        process.kill()
        # It isn't reaped yet: there still is such a process, but it does nothing any more.
        wait_for(lambda: not is_running(process.pid))
    assert start_time(process.pid) == ""
    assert not is_running(process.pid)


@pytest.mark.feature("ENG-02")
def test_a_tree_ends_with_those_below_and_in_sessions_of_their_own(
    program: Callable[[str], Program], source: str
) -> None:
    root = program("""
if os.fork() == 0:
    os.setsid()
    say("session")
    if os.fork() == 0:
        say("below")
    time.sleep(60)
say("root")
time.sleep(60)
""")
    pids = {root.pid(name) for name in ("root", "session", "below")}
    assert descendants(root.process.pid) == pids - {root.process.pid}
    began = time.monotonic()
    assert end_tree([root.process.pid], 20) == set()
    assert time.monotonic() - began < 10, "they all heed SIGTERM: there is nothing to wait for"
    assert root.process.wait() == -signal.SIGTERM
    assert not any(map(is_running, pids))


@pytest.mark.feature("ENG-02")
def test_who_does_not_heed_sigterm_is_killed_after_the_grace(program: Callable[[str], Program], source: str) -> None:
    root = program("""
signal.signal(signal.SIGTERM, lambda *_: say("asked"))
if os.fork() == 0:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    say("deaf")
while True:
    time.sleep(60)
""")
    deaf = root.pid("deaf")
    assert end_tree([root.process.pid], 2) == set()
    assert root.process.wait() == -signal.SIGKILL
    assert (root.folder / "asked").exists()
    assert not is_running(deaf)


@pytest.mark.feature("ENG-02")
def test_children_that_are_born_while_the_tree_ends_are_ended_too(program: Callable[[str], Program]) -> None:
    root = program("""
def start_another(*_):
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if (child := os.fork()) == 0:
        time.sleep(60)
    say("newborn", child)
    os.waitpid(child, 0)
    os._exit(0)
signal.signal(signal.SIGTERM, start_another)
say("root")
time.sleep(60)
""")
    root.pid("root")
    assert end_tree([root.process.pid], 30) == set()
    assert not is_running(root.pid("newborn"))


@pytest.mark.feature("ENG-02")
def test_a_tree_that_grows_all_the_time_is_ended(program: Callable[[str], Program]) -> None:
    root = program("""
signal.signal(signal.SIGTERM, signal.SIG_IGN)
say("root")
while True:
    if os.fork() == 0:
        say(f"child-{os.getpid()}")
    time.sleep(0.3)
""")
    root.pid("root")
    wait_for(lambda: len(descendants(root.process.pid)) > 3)
    assert end_tree([root.process.pid], 0.1) == set()
    root.process.wait()
    pids = [int(file.read_text()) for file in root.folder.iterdir() if not file.suffix]
    assert len(pids) > 3
    assert not any(map(is_running, pids))


DAEMON = """
def daemon():
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            say("daemon")
            time.sleep(60)
        os._exit(0)
    os.wait()
"""


@needs_linux
@pytest.mark.feature("ENG-02")
def test_daemons_are_found_where_a_subreaper_adopted_them(program: Callable[[str], Program]) -> None:
    root = program(DAEMON + "become_subreaper(); daemon(); say('root'); time.sleep(60)")
    daemon = root.pid("daemon")
    assert daemon in descendants(root.process.pid)
    assert end_tree([root.process.pid], 5) == set()
    assert not is_running(daemon)


@needs_linux
@pytest.mark.feature("ENG-02")
def test_what_a_killed_worker_leaves_behind_is_ended_and_reaped_by_who_adopted_it(
    program: Callable[[str], Program],
) -> None:
    root = program("""
become_subreaper()
worker = subprocess.Popen(["sh", "-c", "sleep 60 & sleep 60 & wait"], process_group=0)
while len(descendants(worker.pid)) < 2: time.sleep(0.005)
left = descendants(worker.pid)
worker.kill()
worker.wait()
assert left <= descendants(os.getpid()), "they are adopted"
assert end_tree([worker.pid], 5) == set()
assert not any(map(start_time, left)), "they are reaped as well"
say("good")
""")
    assert root.process.wait(60) == 0
    assert root.pid("good")


@needs_linux
@pytest.mark.feature("ENG-02")
def test_a_sibling_ends_a_tree_whose_parent_adopts_what_is_born_meanwhile(program: Callable[[str], Program]) -> None:
    root = program("""
become_subreaper()
worker = os.fork()
if worker == 0:
    os.setsid()
    def leave_another(*_):
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if (child := os.fork()) == 0:
            time.sleep(60)
        say("newborn", child)
        os._exit(0)
    signal.signal(signal.SIGTERM, leave_another)
    say("worker")
    time.sleep(60)
while not (here / "worker").exists(): time.sleep(0.005)
if os.fork() == 0:
    assert end_tree([worker], 30) == set()
    say("ended")
    os._exit(0)
os.wait(), os.wait()
say("good")
time.sleep(60)
""")
    assert root.pid("good")
    assert root.pid("ended")
    assert not is_running(root.pid("newborn"))
    assert is_running(root.process.pid)


@pytest.mark.feature("ENG-02")
def test_ending_what_one_has_started_leaves_oneself_and_others_alone(
    program: Callable[[str], Program], source: str
) -> None:
    bystander = subprocess.Popen(["sleep", "60"])
    own = subprocess.Popen(["sh", "-c", "sleep 60 & wait"])
    wait_for(lambda: descendants(own.pid))
    below = descendants(own.pid)
    try:
        assert end_tree([0, 1, own.pid, 2**22 + 5], 5) == set()
        assert own.wait() == -signal.SIGTERM
        assert not any(map(is_running, below))
        assert is_running(1)
        assert is_running(bystander.pid)
    finally:
        bystander.kill()
        bystander.wait()


@pytest.mark.feature("ENG-02")
def test_a_process_can_end_all_below_it_and_go_on(program: Callable[[str], Program]) -> None:
    root = program("""
child = subprocess.Popen(["sleep", "60"])
assert end_tree([os.getpid()], 5) == set()
assert child.wait() == -signal.SIGTERM, "its exit status is still for its own parent"
say("good")
""")
    assert root.process.wait(60) == 0
    assert root.pid("good")


@pytest.mark.feature("ENG-02")
def test_a_process_that_got_the_id_of_an_ended_one_is_not_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        tree = processes._Tree([process.pid])
        read = processes._read

        def read_later(pid: int) -> object:
            stat = read(pid)
            return processes._Stat(stat.pid, "S", 1, 1, 1, stat.started + "1") if stat and pid == process.pid else stat

        monkeypatch.setattr(processes, "_read", read_later)
        tree.send(signal.SIGTERM)
        tree.kill()
        assert tree.running() == []
        tree.close()
        monkeypatch.undo()
        assert is_running(process.pid)
        process.kill()


@pytest.mark.feature("ENG-02")
def test_waiting_for_a_tree_takes_no_processor_time() -> None:
    code = "import signal, time; signal.signal(15, signal.SIG_IGN); print(flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        before = time.process_time()
        end_tree([process.pid], 1.0)
        assert time.process_time() - before < 0.2
        assert process.wait() == -signal.SIGKILL


@needs_linux
@pytest.mark.feature("ENG-02")
def test_a_child_dies_with_its_parent_even_when_that_is_killed(program: Callable[[str], Program]) -> None:
    root = program("""
if os.fork() == 0:
    assert die_with_parent(os.getppid())
    say("child")
    time.sleep(60)
time.sleep(60)
""")
    child = root.pid("child")
    root.process.kill()
    wait_for(lambda: not is_running(child))


@needs_linux
@pytest.mark.feature("ENG-02")
def test_a_child_whose_parent_has_died_already_dies_at_once() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", "from cupola.engine.processes import *; die_with_parent(1 << 22); print('alive')"],
        stdout=subprocess.PIPE,
    )
    assert process.communicate()[0] == b""
    assert process.returncode == -signal.SIGKILL


@pytest.mark.feature("ENG-02")
def test_a_reaped_child_says_how_it_ended_and_what_it_used() -> None:
    code = "x = bytearray(150 << 20)\nfor _ in range(1_000_000): pass\nprint(flush=True)\ninput()"
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout
    assert process.stdin
    process.stdout.readline()
    assert reap(process.pid, block=False) is None
    if IS_LINUX:
        assert 150 << 20 < peak_bytes(process.pid) < 250 << 20
    process.stdin.close()
    ended = reap(process.pid)
    assert ended
    assert (ended.pid, ended.exit_code, ended.signal) == (process.pid, 1, "")
    assert ended.peak_bytes > 150 << 20
    assert 0 < ended.cpu_s < 20
    with pytest.raises(ChildProcessError):
        reap(process.pid)
    process.returncode = ended.exit_code
    process.stdout.close()


@pytest.mark.feature("ENG-02")
def test_a_reaped_child_names_the_signal_that_ended_it() -> None:
    process = subprocess.Popen(["sleep", "60"])
    process.kill()
    ended = reap(process.pid)
    assert ended
    assert (ended.exit_code, ended.signal) == (-1, "SIGKILL")
    process.returncode = -9
