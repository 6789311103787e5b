"""`doctor` finds what is wrong with a store, and makes its database anew."""

from __future__ import annotations

import os
import sqlite3
import sys
from pathlib import Path

import pytest

import cupola
from cupola import ids, journal
from cupola.artifacts.blobs import Blobs
from cupola.client.doctor import check_store, rebuild
from cupola.entities.artifact import Manifest, OutputRecord, StoredFile
from cupola.entities.run import RunStatus
from cupola.event import RunFinished
from cupola.store import OWNER, Delete, OutputsOf
from cupola.stores.sql import open_store

sys.path.insert(0, str(Path(__file__).parent.parent / "stores"))
from histories import encoded, finished, record, started, whole, write_live

pytestmark = pytest.mark.feature("CORE-03", "CORE-12")


@pytest.fixture
def store(home):
    return open_store(home)


@pytest.fixture
def run(store):
    """A run with one output in a blob."""
    name, size = Blobs(store.home).put_bytes(b"x" * 5000)
    manifest = Manifest("value", 1, "bytes", "val:" + "1" * 40, size, None, (StoredFile("", name, size),))
    first = finished(0, outputs=(OutputRecord("output", "a", manifest),))
    events = [started(run := ids.new_id()), first, finished(1), RunFinished(9.0, RunStatus.COMPLETED)]
    return record(store, events, run)


def findings(home, **more):
    return [(finding.level, finding.what) for finding in check_store(home, **more).findings]


def test_a_store_that_is_well_is_clean(store, run):
    write_live(store.home, live := ids.new_id(), whole(live)[:3])
    report = check_store(store.home, rehash=True)
    assert report.findings == ()
    assert report.is_clean
    assert (report.runs, report.events, report.versions, report.blobs) == (2, 8, 3, 1)


def test_a_home_without_a_store_is_clean_and_stays_empty(tmp_path):
    assert check_store(tmp_path / "nothing").is_clean
    assert not (tmp_path / "nothing").exists()


def test_a_missing_and_a_damaged_blob_are_named_with_their_version(store, run):
    path = Path(Blobs(store.home).path(store.ask(OutputsOf(run, 0), who=OWNER)[0].manifest.files[0].blob))
    seal = path.stat()
    path.chmod(0o644)
    path.write_bytes(b"y" * 5000)
    os.utime(path, ns=(seal.st_atime_ns, seal.st_mtime_ns))
    assert findings(store.home) == []
    assert [what for _level, what in findings(store.home, rehash=True)] == ["a:1: its content is not what it was"]
    path.unlink()
    ((level, what),) = findings(store.home)
    assert level == "error"
    assert what.startswith("a:1: ")


def test_a_missing_journal_is_an_error_and_deleting_the_run_ends_it(store, run):
    folder = journal.finished_folder(store.home, run)
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    assert findings(store.home) == [("error", f"the journal of run {run} is missing")]
    store.write([Delete("run", run)], key="1", who=OWNER)
    assert findings(store.home) == []


def test_a_shortened_and_a_changed_journal_are_told_apart(store, run):
    path = journal.finished_folder(store.home, run) / "journal.1"
    data = path.read_bytes()
    path.write_bytes(data[:-1])
    assert [what for _level, what in findings(store.home)][1] == f"the journal of run {run} lacks its last 1 events"
    other = ids.new_id()
    frames = b"".join(journal.frame(event) for event in encoded(whole(other)))
    path.write_bytes(data[: journal.HEADER_BYTES] + frames)
    assert findings(store.home) == [("error", f"journal and database disagree about run {run}")]


def test_a_state_in_the_database_that_the_journal_does_not_say_is_an_error_until_a_rebuild(store, run):
    with sqlite3.connect(store.home / "cupola.db") as db:
        db.execute("UPDATE run SET status = 'failed' WHERE id = ?", (run,))
    steps = "with 2 completed"
    what = f"run {run} is failed {steps} in the database, and completed {steps} by its journal"
    assert findings(store.home) == [("error", what)]
    rebuild(store.home)
    assert findings(store.home) == []


def test_a_bad_tail_is_a_warning(store):
    run = ids.new_id()
    lock, _writer = write_live(store.home, run, whole(run)[:3])
    with open(journal.live_folder(store.home, run) / "journal.1", "ab") as file:
        file.write(b"abc")
    lock.release()
    report = check_store(store.home)
    assert [finding.what for finding in report.findings] == ["3 bytes at the end of a journal are no event"]
    assert report.is_clean


def test_a_run_that_the_database_does_not_have_comes_back_by_a_rebuild(store, run):
    for name in ("cupola.db", "cupola.db-wal", "cupola.db-shm"):
        (store.home / name).unlink(missing_ok=True)
    assert findings(store.home) == [("error", "the database is gone, but the records of runs are there")]
    done = rebuild(store.home)
    assert (done.runs, done.problems) == (1, ())
    assert findings(store.home) == []
    assert open_store(store.home).get("run", run, who=OWNER).number == 1


@pytest.mark.parametrize("damage", [b"not a database at all" * 300, b"", None])
def test_a_damaged_database_is_made_anew_and_kept_beside(store, run, damage):
    path = store.home / "cupola.db"
    before = store.get("run", run, who=OWNER), store.ask(OutputsOf(run), who=OWNER)
    store.close()
    if damage is None:
        path.unlink()
    else:
        path.write_bytes(damage)
        assert not check_store(store.home).is_clean
    done = rebuild(store.home)
    opened = open_store(store.home)
    assert (opened.get("run", run, who=OWNER), opened.ask(OutputsOf(run), who=OWNER)) == before
    assert check_store(store.home).is_clean
    if damage:
        assert done.kept is not None
        assert done.kept.read_bytes() == damage


def test_old_temporary_files_are_told(store, run):
    old = store.home / "cupola.db.host-1.new"
    old.write_bytes(b"")
    assert findings(store.home) == []
    os.utime(old, (1.0, 1.0))
    assert findings(store.home) == [("warning", "a temporary file of a process that ended")]


@pytest.mark.feature("CORE-03")
def test_a_database_that_is_gone_is_not_replaced_by_an_empty_one(home: Path, run_cupola) -> None:
    cupola.save_artifact([1, 2], "kept")
    for path in home.glob("cupola.db*"):
        path.unlink()
    listed = run_cupola("runs", "list")
    assert listed.returncode == 1
    assert "the database is gone" in listed.stderr
    assert "cupola doctor store --rebuild" in listed.stderr
    assert run_cupola("doctor", "store", "--rebuild").returncode == 0
    assert "save_artifact" in run_cupola("runs", "list").stdout
