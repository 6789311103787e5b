"""Blobs: what is put comes out, whole and verified; nothing half-written is ever seen."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cupola import digest
from cupola.artifacts import blobs as blobs_module
from cupola.artifacts.blobs import Blobs
from cupola.errors import Damaged, Unreachable

pytestmark = pytest.mark.feature("CORE-06")


@pytest.fixture
def blobs(home: Path) -> Blobs:
    return Blobs(home)


def files_below(home: Path) -> list[Path]:
    return [path for path in home.rglob("*") if path.is_file()]


def test_bytes_come_out_as_they_went_in_from_a_read_only_file_named_by_their_digest(blobs, home):
    name, size = blobs.put_bytes(b"hello")
    path = blobs.open(name)
    assert path.read_bytes() == b"hello"
    assert size == 5
    assert name == digest.blob(b"hello")
    assert path == home / "blobs" / name[5:7] / name[7:]
    assert path.stat().st_mode & 0o777 == 0o444


@settings(max_examples=40, deadline=None)
@given(parts=st.lists(st.binary(max_size=300), max_size=6))
def test_pieces_give_the_blob_of_the_whole(tmp_path_factory, monkeypatch_sizes, parts):
    blobs = Blobs(tmp_path_factory.mktemp("store"))
    with blobs.writer() as writer:
        for part in parts:
            writer.write(part)
        name, size = writer.finish()
    whole = b"".join(parts)
    assert (name, size) == (digest.blob(whole), len(whole))
    assert blobs.open(name).read_bytes() == whole
    assert not list((blobs.home / "blobs" / "tmp").glob("*"))


@pytest.fixture(scope="module")
def monkeypatch_sizes():
    """Make buffers, chunks and the size from which a thread hashes so small that all ways are taken."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blobs_module, "BUFFERED_BYTES", 100)
        patch.setattr(blobs_module, "CHUNK_BYTES", 64)
        patch.setattr(blobs_module, "THREADED_BYTES", 400)
        yield


def test_a_large_blob_is_hashed_beside_the_write(blobs):
    data = os.urandom(1 << 20) * 20
    with blobs.writer() as writer:
        writer.write(data[: 1 << 22])
        writer.write(data[1 << 22 :])
        name, _ = writer.finish()
    assert name == digest.blob(data)
    assert blobs.open(name).read_bytes() == data


def test_a_file_of_any_name_is_stored_by_its_content(blobs, tmp_path):
    source = tmp_path / "a b\n漢 %20#.bin"
    source.write_bytes(b"x" * 3_000_000)
    name, size = blobs.put_file(source)
    source.unlink()
    assert size == 3_000_000
    assert blobs.open(name).read_bytes() == b"x" * 3_000_000


def test_equal_bytes_are_stored_once_and_a_hit_renews_them(blobs):
    name, _ = blobs.put_bytes(b"again")
    path = Path(blobs.path(name))
    seal = path.stat().st_mtime_ns
    os.utime(path, ns=(0, seal))
    inode = path.stat().st_ino
    assert blobs.put_bytes(b"again")[0] == name
    assert path.stat().st_ino == inode
    assert path.stat().st_mtime_ns == seal
    assert path.stat().st_atime > time.time() - 60


def test_an_intact_blob_is_not_hashed_again_and_a_touched_one_is(blobs, monkeypatch):
    name, _ = blobs.put_bytes(b"seal")
    hashed = []
    original = blobs_module.read_chunks
    monkeypatch.setattr(blobs_module, "read_chunks", lambda path: hashed.append(path) or original(path))
    assert Blobs(blobs.home).open(name)
    assert hashed == []
    os.utime(blobs.path(name))
    assert Blobs(blobs.home).open(name)
    assert Blobs(blobs.home).open(name)
    assert len(hashed) == 1


@pytest.mark.parametrize("damage", [b"other", b"long" * 9, b""])
def test_a_damaged_blob_is_moved_away_and_named_and_never_returned(blobs, home, damage):
    name, _ = blobs.put_bytes(b"right")
    path = Path(blobs.path(name))
    path.chmod(0o644)
    path.write_bytes(damage)
    assert not blobs.exists(name)
    with pytest.raises(Damaged) as caught:
        blobs.open(name)
    assert name in caught.value.what
    assert "quarantine" in caught.value.where
    assert "run the pipeline" in caught.value.fix
    (kept,) = (home / "quarantine").iterdir()
    assert kept.read_bytes() == damage
    assert not path.exists()
    with pytest.raises(Damaged, match="is missing"):
        blobs.open(name)


def test_putting_the_right_bytes_again_heals_a_damaged_blob(blobs):
    name, _ = blobs.put_bytes(b"right")
    path = Path(blobs.path(name))
    path.chmod(0o644)
    path.write_bytes(b"wrong")
    blobs.put_bytes(b"right")
    assert blobs.open(name).read_bytes() == b"right"


@pytest.mark.parametrize(
    "name", ["blob:../../../etc/passwd", "val:" + "0" * 40, "blob:" + "/" * 40, "blob:", "", "blob:" + "é" * 40]
)
def test_a_name_that_is_no_digest_leads_nowhere(blobs, name):
    with pytest.raises(Damaged, match="is not the digest of a blob"):
        blobs.open(name)


def test_writing_fails_clearly_and_leaves_nothing_when_a_file_may_not_grow(home, run_python):
    program = """
import resource, sys
from pathlib import Path
from cupola.artifacts.blobs import Blobs
from cupola.errors import Unreachable
import signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
blobs = Blobs(Path(sys.argv[1]))
for size in (2 << 20, 40 << 20):
    try:
        blobs.put_bytes(b"x" * size)
    except Unreachable as error:
        print(error)
try:
    with blobs.writer() as writer:
        writer.write(b"y" * (40 << 20))
        writer.finish()
except Unreachable as error:
    print(error)
"""
    done = run_python("-c", program, home)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("ulimit -f") == 3
    assert files_below(home) == []


def test_a_full_disk_is_named_and_nothing_half_written_stays(tmp_path):
    disk = tmp_path / "small disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True)
    if mounted.returncode:
        pytest.skip("only the administrator can mount a small file system")
    try:
        blobs = Blobs(disk)
        kept, _ = blobs.put_bytes(b"small")
        with pytest.raises(Unreachable, match="free some space"):
            blobs.put_bytes(os.urandom(2 << 20))
        assert [path.name for path in files_below(disk)] == [blobs.open(kept).name]
        blobs.put_bytes(os.urandom(1 << 19))
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_home_that_is_no_folder_is_named(tmp_path):
    (tmp_path / "home").write_text("")
    with pytest.raises(Unreachable, match="CUPOLA_HOME"):
        Blobs(tmp_path / "home").put_bytes(b"x")


def test_many_writers_of_one_blob_and_a_reader_never_meet_half_of_it(home):
    program = """
import sys
from pathlib import Path
from cupola.artifacts.blobs import Blobs
from cupola import digest
blobs = Blobs(Path(sys.argv[1]))
for number in range(60):
    data = str(number % 7).encode() * 300_000
    name, _ = blobs.put_bytes(data)
    assert blobs.open(name).read_bytes() == data
    for other in range(7):
        name = digest.blob(str(other).encode() * 300_000)
        if blobs.exists(name):
            assert digest.blob(blobs.open(name).read_bytes()) == name
"""
    running = [subprocess.Popen([sys.executable, "-c", program, home], stderr=subprocess.PIPE) for _ in range(4)]
    errors = [process.communicate(timeout=60)[1] for process in running]
    assert [process.returncode for process in running] == [0] * 4, errors
    assert not (home / "quarantine").exists()
    assert not list((home / "blobs" / "tmp").iterdir())


def test_power_durability_syncs_file_and_folder(home, monkeypatch):
    synced = []
    original = os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(file) or original(file))
    Blobs(home).put_bytes(b"a" * 10_000)
    assert synced == []
    Blobs(home, sync=True).put_bytes(b"b" * 10_000)
    assert len(synced) == 3


def test_an_interrupted_write_leaves_no_file(blobs, home):
    def write_a_part() -> None:
        with blobs.writer() as writer:
            writer.write(b"x" * 3_000_000)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_a_part()
    assert files_below(home) == []


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts open files where the system lists them")
def test_no_file_stays_open(blobs):
    before = len(os.listdir("/proc/self/fd"))
    for number in range(50):
        blobs.put_bytes(str(number).encode() * 200_000)
    assert len(os.listdir("/proc/self/fd")) <= before


def test_what_a_killed_writer_left_is_never_a_blob_and_the_next_process_removes_it(home, monkeypatch):
    program = """
import os, signal, sys
from pathlib import Path
from cupola.artifacts.blobs import Blobs
writer = Blobs(Path(sys.argv[1])).writer()
writer.write(b"x" * 1_000_000)
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", program, home], check=False)
    (left,) = files_below(home)
    assert left.parent.name == "tmp"
    mine = home / "blobs" / "tmp" / left.name.replace(left.name.split("-")[-2], str(os.getpid()))
    mine.write_text("of a living process")
    Blobs(home).put_bytes(b"young ones are left alone")
    assert left.exists()
    monkeypatch.setattr("cupola.artifacts.leftovers.OLD_S", -1.0)
    name, _ = Blobs(home).put_bytes(b"y" * 1_000_000)
    assert not left.exists()
    assert mine.exists()
    assert Blobs(home).exists(name)
