"""Readers are never behind, and what a dead driver left is settled."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from histories import base_key, encoded, finished, record, started, whole, write_live

from cupola import ids, journal, runlock
from cupola.entities.run import RunStatus
from cupola.event import RunFinished, RunLost, RunSealed, StepStarted, encode_event
from cupola.store import OWNER, FindCached, Query, StepsOf
from cupola.stores import tail
from cupola.stores.sql import open_store

pytestmark = pytest.mark.feature("CORE-03")

DRIVER = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from histories import write_live, whole, started, finished, encoded
from cupola import journal
lock, writer = write_live(Path(sys.argv[1]), sys.argv[2], whole(sys.argv[2])[:{events}])
print("ready", flush=True)
sys.stdin.read()
"""


def start_driver(home: Path, run: str, events: int) -> subprocess.Popen[str]:
    """Start a process that writes the beginning of a run's journal and then only holds its lock."""
    program = DRIVER.format(tests=str(Path(__file__).parent), events=events)
    driver = subprocess.Popen(
        [sys.executable, "-c", program, str(home), run], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert driver.stdout is not None
    assert driver.stdout.readline() == "ready\n"
    return driver


def kill(driver: subprocess.Popen[str]) -> None:
    driver.send_signal(signal.SIGKILL)
    driver.wait()


def test_a_reader_sees_what_a_driver_wrote_without_the_driver_projecting(store):
    run = ids.new_id()
    _lock, writer = write_live(store.home, run, whole(run)[:2])
    assert [step.status for step in store.ask(StepsOf(run), who=OWNER)] == ["running"]
    writer.append(encoded(whole(run))[2])
    assert [step.status for step in store.ask(StepsOf(run), who=OWNER)] == ["completed"]
    assert store.get("run", run, who=OWNER).head == 3
    writer.append(encoded(whole(run))[3])
    assert store.find("run", Query(), who=OWNER).items[0].steps == {"completed": 1, "running": 1}


def test_the_driver_goes_on_where_a_reader_was(store):
    run = ids.new_id()
    events = encoded(whole(run))
    _lock, writer = write_live(store.home, run, [])
    driver = open_store(store.home)
    for seq, event in enumerate(events, 1):
        writer.append(event)
        if seq % 2:
            store.get("run", run, who=OWNER)
        else:
            assert driver.append(run, 1, seq - 1, events[seq - 2 : seq]).head == seq


def test_a_frame_that_is_being_written_is_waited_for(store):
    run = ids.new_id()
    _lock, _writer = write_live(store.home, run, whole(run)[:2])
    path = journal.live_folder(store.home, run) / "journal.1"
    frame = journal.frame(encoded(whole(run))[2])
    with open(path, "ab", buffering=0) as file:
        file.write(frame[:-3])
        assert store.get("run", run, who=OWNER).head == 2
        file.write(frame[-3:])
    assert store.get("run", run, who=OWNER).head == 3


@pytest.mark.parametrize("events", range(1, 6))
def test_a_killed_driver_is_seen_as_lost(store, events):
    run = ids.new_id()
    driver = start_driver(store.home, run, events)
    assert store.get("run", run, who=OWNER).status is RunStatus.RUNNING
    kill(driver)
    found = store.get("run", run, who=OWNER)
    assert (found.status, found.epoch) == (RunStatus.LOST, 2)
    assert f"process {driver.pid}" in found.failure.message
    steps = store.ask(StepsOf(run), who=OWNER)
    assert [step.status for step in steps] == [["lost", "completed"][n * 2 + 3 <= events] for n in range(events // 2)]
    assert journal.live_runs(store.home) == []
    assert [type(event) for event in store.events(run, events)] == [RunLost, RunSealed]


def test_the_results_of_a_killed_run_are_found_by_the_next(store, home):
    run = ids.new_id()
    kill(start_driver(home, run, 4))
    found = open_store(home).ask(FindCached((base_key("training", "load"), base_key("training", "fit"))), who=OWNER)
    assert [(entry.run, entry.step) for entry in found.values()] == [(run, 0)]


def test_a_bad_tail_of_a_killed_driver_is_left_alone(store):
    run = ids.new_id()
    lock, _writer = write_live(store.home, run, whole(run)[:3])
    path = journal.live_folder(store.home, run) / "journal.1"
    with open(path, "ab") as file:
        file.write(journal.frame(encoded(whole(run))[3])[:-1])
    lock.release()
    assert store.get("run", run, who=OWNER).status is RunStatus.LOST
    assert [type(event) for event in store.events(run, 3)] == [RunLost, RunSealed]
    assert journal.bad_tail(journal.finished_folder(store.home, run) / "journal.1") > 0


def test_a_driver_killed_before_the_seal_is_sealed_and_not_lost(store):
    run = ids.new_id()
    lock, _writer = write_live(store.home, run, whole(run))
    lock.release()
    assert store.get("run", run, who=OWNER).status is RunStatus.COMPLETED
    assert [type(event) for event in store.events(run, 5)] == [RunFinished, RunSealed]


def test_a_driver_killed_before_its_folder_moved_is_only_moved(store):
    run = ids.new_id()
    lock, writer = write_live(store.home, run, whole(run))
    store.append(run, 1, 1, encoded(whole(run)))
    writer.append(encode_event(store.seal(run)))
    lock.release()
    store.catch_up()
    assert journal.live_runs(store.home) == []
    assert journal.epochs(journal.finished_folder(store.home, run)) == [1]


def test_a_journal_that_a_power_cut_shortened_decides_what_has_happened(store):
    first = record(store, whole(run := ids.new_id()), run)
    run = ids.new_id()
    lock, _writer = write_live(store.home, run, whole(run)[:5])
    store.catch_up()
    path = journal.live_folder(store.home, run) / "journal.1"
    size = journal.HEADER_BYTES + sum(len(journal.frame(event)) for event in encoded(whole(run)[:3]))
    os.truncate(path, size)
    lock.release()
    found = store.get("run", run, who=OWNER)
    assert (found.number, found.status, found.steps) == (2, RunStatus.LOST, {"completed": 1, "pending": 1})
    assert [step.name for step in store.ask(StepsOf(run), who=OWNER)] == ["load"]
    names = [type(event).__name__ for event in store.events(run, 0)]
    assert names == ["RunStarted", "StepStarted", "StepFinished", "RunLost", "RunSealed"]
    assert store.get("version", "training/0/output:1", who=OWNER).run == first
    assert store.get("version", "training/0/output:2", who=OWNER).run == run


def test_a_settler_that_was_killed_is_followed_by_another(store):
    run = ids.new_id()
    lock, _writer = write_live(store.home, run, whole(run)[:2])
    folder = journal.live_folder(store.home, run)
    journal.JournalWriter(folder, 2, 2).close()
    (folder / "journal.4").write_bytes(b"")
    lock.release()
    store.catch_up()
    assert store.get("run", run, who=OWNER).status is RunStatus.LOST
    assert max(journal.epochs(journal.finished_folder(store.home, run))) == 5
    assert [type(event).__name__ for event in store.events(run, 1)] == ["StepStarted", "RunLost", "RunSealed"]


def test_a_folder_whose_driver_may_be_about_to_write_is_left_alone(store):
    folder = journal.live_folder(store.home, ids.new_id())
    folder.mkdir()
    store.catch_up()
    assert folder.exists()
    os.utime(folder, (1.0, 1.0))
    store.catch_up()
    assert not folder.exists()


def test_a_folder_with_an_empty_journal_goes_with_its_driver(store):
    run = ids.new_id()
    lock, _writer = write_live(store.home, run, [])
    store.catch_up()
    assert journal.live_runs(store.home) == [run]
    lock.release()
    store.catch_up()
    assert journal.live_runs(store.home) == []


def test_a_lock_that_was_moved_away_is_not_taken(store):
    run = ids.new_id()
    lock, _writer = write_live(store.home, run, whole(run))
    folder = journal.live_folder(store.home, run)
    lock.release()
    journal.archive(store.home, run)
    assert runlock.lock_run(folder) is None
    # Another folder of the same name, which nobody holds, is one that can be locked.
    folder.mkdir()
    again = runlock.lock_run(folder)
    assert again is not None
    again.release()


def test_of_many_settlers_one_acts(home, run_python):
    runs = [ids.new_id() for _ in range(10)]
    for run in runs:
        lock, _writer = write_live(home, run, whole(run)[:3])
        lock.release()
    program = (
        "import sys; from pathlib import Path; from cupola.stores.sql import open_store; open_store(Path(sys.argv[1]))"
    )
    settlers = [subprocess.Popen([sys.executable, "-c", program, str(home)], stderr=subprocess.PIPE) for _ in range(6)]
    for settler in settlers:
        _, errors = settler.communicate(timeout=60)
        assert (settler.returncode, errors) == (0, b"")
    store = open_store(home)
    for run in runs:
        names = [type(event).__name__ for event in store.events(run, 3)]
        assert names == ["RunLost", "RunSealed"]
        assert store.get("run", run, who=OWNER).status is RunStatus.LOST


def test_a_run_that_cannot_be_read_does_not_hide_the_others(store):
    bad, good = ids.new_id(), ids.new_id()
    folder = journal.live_folder(store.home, bad)
    folder.mkdir()
    (folder / "journal.1").write_bytes(b"NOT A JOURNAL AT ALL")
    write_live(store.home, good, whole(good)[:2])
    assert [run.id for run in store.find("run", Query(), who=OWNER).items] == [good]
    dead = store._database.reading().execute("SELECT run, reason FROM dead_letter").fetchall()
    assert dead[0][0] == bad
    assert "begins with" in dead[0][1]


MANY = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from histories import record, started, finished
from cupola import ids
from cupola.event import RunFinished
from cupola.entities.run import RunStatus
from cupola.stores.sql import open_store
store = open_store(Path(sys.argv[1]))
for _ in range(5):
    run = ids.new_id()
    record(store, [started(run), *(finished(n % 2, n) for n in range(2)), RunFinished(9.0, RunStatus.COMPLETED)], run)
"""


def test_eight_processes_begin_and_write_at_once(home):
    shutil.rmtree(home)
    program = MANY.format(tests=str(Path(__file__).parent))
    processes = [subprocess.Popen([sys.executable, "-c", program, str(home)], stderr=subprocess.PIPE) for _ in range(8)]
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert (process.returncode, errors.decode()) == (0, "")
    store = open_store(home)
    runs = store.find("run", Query(limit=100), who=OWNER).items
    assert sorted(run.number for run in runs) == list(range(1, 41))
    assert {run.status for run in runs} == {RunStatus.COMPLETED}
    versions = store.find("version", Query(limit=100), who=OWNER).items
    for artifact in ("training/0/output", "training/1/output"):
        assert sorted(int(v.version) for v in versions if v.artifact == artifact) == list(range(1, 41))


def test_a_forked_child_may_not_use_its_parents_store(store):
    record(store, whole(run := ids.new_id()), run)
    child = os.fork()
    if child == 0:
        try:
            store.get("run", run, who=OWNER)
        except Exception as error:  # the child must end here whatever happens
            os._exit(7 if "opened by process" in str(error) else 8)
        os._exit(9)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert store.get("run", run, who=OWNER).id == run


def test_a_reader_is_not_kept_waiting_by_a_writer(store, monkeypatch):
    run = ids.new_id()
    record(store, whole(run), run)
    live = ids.new_id()
    monkeypatch.setattr(tail, "READER_WAIT_S", 0.05)
    other = open_store(store.home)
    write_live(store.home, live, whole(live)[:2])
    with other._database.writing():
        begun = time.monotonic()
        with pytest.warns(RuntimeWarning, match="live runs are shown as they were recorded last"):
            found = open_store(store.home).find("run", Query(), who=OWNER).items
        assert time.monotonic() - begun < 5
    assert run in [item.id for item in found]
    assert store.get("run", live, who=OWNER).status is RunStatus.RUNNING


def test_events_of_a_live_and_of_a_finished_run_are_read_from_their_files(store):
    live, over = ids.new_id(), ids.new_id()
    write_live(store.home, live, whole(live)[:3])
    record(store, whole(over), over)
    assert list(store.events(live, 1)) == whole(live)[1:3]
    assert list(store.events(over, 0))[:6] == whole(over)
    assert list(store.events(ids.new_id(), 0)) == []
    assert next(type(event) for event in store.events(live, 1)) is StepStarted
    assert started(live) == whole(live)[0]
    assert finished(0) == whole(live)[2]
