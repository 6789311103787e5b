"""The schema: made at once, brought up to date, refused when newer, told when damaged."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from histories import record, whole, write_live

from cupola import ids
from cupola.entities.run import RunStatus
from cupola.errors import ConfigError, Damaged, StoreTooNew, Unreachable
from cupola.store import OWNER
from cupola.stores import filesystems, migrations
from cupola.stores.sql import open_store

pytestmark = pytest.mark.feature("CORE-03", "CORE-12")


def schema_of(db: sqlite3.Connection) -> list[tuple[str, str]]:
    rows = db.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name").fetchall()
    return [(name, " ".join(sql.split())) for name, sql in rows]


def files_of(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_the_generated_schema_is_what_the_migrations_add_up_to():
    assert migrations.SCHEMA.read_text() == migrations.schema_text()
    assert [item.number for item in migrations.list_migrations()] == list(range(1, migrations.VERSION + 1))


def test_a_fresh_database_is_a_migrated_one(store):
    migrated = sqlite3.connect(":memory:", isolation_level=None)
    assert migrations.migrate(migrated) == list(range(1, migrations.VERSION + 1))
    assert schema_of(migrated) == schema_of(store._database.reading())
    assert migrated.execute("PRAGMA user_version").fetchone() == (migrations.VERSION,)


def test_the_version_stands_in_the_file_itself(store):
    assert migrations.read_version(store.home / "cupola.db") == migrations.VERSION
    assert store._database.reading().execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_an_older_database_gets_what_it_lacks_and_keeps_what_it_has(store, tmp_path):
    record(store, whole(run := ids.new_id()), run)
    folder = tmp_path / "migrations"
    shutil.copytree(migrations.FOLDER, folder)
    (folder / "0002_more.sql").write_text(
        "CREATE TABLE more (a); -- with a; in a comment\nINSERT INTO more VALUES (';');\n"
    )
    db = store._database.reading()
    assert migrations.migrate(db, folder, target=2) == [2]
    assert migrations.migrate(db, folder, target=2) == []
    assert db.execute("SELECT a FROM more").fetchall() == [(";",)]
    assert db.execute("SELECT count(*) FROM run").fetchone() == (1,)
    assert migrations.read_version(store.home / "cupola.db") == 2


def test_a_migration_that_fails_changes_nothing(store, tmp_path):
    folder = tmp_path / "migrations"
    shutil.copytree(migrations.FOLDER, folder)
    (folder / "0002_bad.sql").write_text("CREATE TABLE more (a);\nCREATE TABLE run (a);\n")
    db = store._database.reading()
    before = schema_of(db)
    with pytest.raises(sqlite3.OperationalError):
        migrations.migrate(db, folder, target=2)
    assert schema_of(db) == before
    assert db.execute("PRAGMA user_version").fetchone() == (1,)


def test_a_newer_store_is_refused_by_both_versions_and_not_a_byte_is_changed(home):
    store = open_store(home)
    record(store, whole(run := ids.new_id()), run)
    db = store._database.reading()
    db.execute("PRAGMA user_version = 99")
    db.execute("UPDATE meta SET value = '7.3' WHERE key = 'cupola'")
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    store.close()
    lock, _writer = write_live(home, ids.new_id(), whole(run)[:1])
    lock.release()
    before = files_of(home)
    with pytest.raises(StoreTooNew) as caught:
        open_store(home)
    assert str(caught.value) == (
        f"the store has schema 99, written by Cupola 7.3; this is Cupola {migrations.CUPOLA}, which knows up to schema"
        f" {migrations.VERSION} ({home / 'cupola.db'})\n"
        "install cupola >= 7.3, or set CUPOLA_HOME to another folder; nothing was changed"
    )
    assert caught.value.exit_code == 3
    assert files_of(home) == before


@pytest.mark.parametrize("damage", ["text", "short", "zeros", "middle", "empty"])
def test_a_damaged_database_is_told_with_the_way_out(home, damage):
    store = open_store(home)
    for _ in range(20):
        record(store, whole(run := ids.new_id()), run)
    store.checkpoint()
    store.close()
    path = home / "cupola.db"
    data = path.read_bytes()
    broken = {
        "text": b"this is no database" * 100,
        "short": data[:50],
        "zeros": bytes(len(data)),
        "middle": data[:100] + os.urandom(4000) + data[4100:],
        "empty": b"",
    }[damage]
    for name in ("cupola.db-wal", "cupola.db-shm"):
        (home / name).unlink(missing_ok=True)
    path.write_bytes(broken)
    with pytest.raises(Damaged) as caught:
        open_store(home)
    assert str(path) in str(caught.value)
    assert "cupola doctor store --rebuild" in str(caught.value)
    assert path.read_bytes() == broken


def test_a_home_that_cannot_be_made_names_itself_and_the_setting(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(Unreachable) as caught:
        open_store(tmp_path / "file" / "home")
    assert str(tmp_path / "file" / "home") in str(caught.value)
    assert "CUPOLA_HOME" in str(caught.value)


def test_a_home_with_a_strange_name_works(tmp_path):
    home = tmp_path / "with space, ü, %20, #, ?, ' and \n newline"
    store = open_store(home)
    record(store, whole(run := ids.new_id()), run)
    assert open_store(home).get("run", run, who=OWNER).status is RunStatus.COMPLETED


def test_eight_processes_make_one_store(tmp_path):
    home = tmp_path / "home"
    program = (
        "import sys; from pathlib import Path; from cupola.stores.sql import open_store; open_store(Path(sys.argv[1]))"
    )
    processes = [subprocess.Popen([sys.executable, "-c", program, str(home)], stderr=subprocess.PIPE) for _ in range(8)]
    for process in processes:
        _, errors = process.communicate(timeout=60)
        assert (process.returncode, errors) == (0, b"")
    assert not list(home.glob("*.new*"))


MOUNTS = r"""
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
40 27 0:50 / /home rw shared:5 master:2 - nfs4 server:/home rw
41 40 0:51 / /home/ann/local\040disk rw - xfs /dev/vdb rw
42 27 0:52 / /mnt/a rw - {kind} x rw
43 27 0:53 / /mnt/b rw - nfs x rw
44 27 0:54 / /mnt/b rw - ext4 x rw
"""


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "9p", "lustre", "gpfs", "ceph", "afs"])
def test_a_network_file_system_is_refused_by_name_with_both_remedies(kind):
    with pytest.raises(ConfigError) as caught:
        filesystems.refuse_network(Path("/mnt/a/home"), MOUNTS.format(kind=kind))
    text = str(caught.value)
    assert f"network file system ({kind})" in text
    assert "set CUPOLA_HOME to a folder on a local disk" in text
    assert "CUPOLA_SERVER" in text


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/lib", "ext4"), ("/home/ann", "nfs4"), ("/homework", "ext4"), ("/home/ann/local disk/x", "xfs"),
        ("/mnt/b/x", "ext4"), ("/proc/1", "proc"), ("/", "ext4"),
    ],
)  # fmt: skip
def test_the_mount_that_a_path_is_on_is_found(path, kind):
    assert filesystems.kind_of(path, MOUNTS.format(kind="tmpfs")) == kind


def test_opening_on_a_network_file_system_makes_nothing(tmp_path, monkeypatch):
    mounts = tmp_path / "mounts"
    mounts.write_text(f"1 1 0:1 / {str(tmp_path).replace(' ', chr(92) + '040')} rw - nfs4 x rw\n")
    monkeypatch.setattr(filesystems, "MOUNTS", mounts)
    with pytest.raises(ConfigError, match="network file system"):
        open_store(tmp_path / "home")
    assert not (tmp_path / "home").exists()


def test_importing_a_store_opens_nothing_and_needs_no_database(run_python):
    program = "import sys, cupola.store, cupola.kinds, cupola.journal; assert 'sqlite3' not in sys.modules"
    assert run_python("-c", program).returncode == 0
