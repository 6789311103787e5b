"""What was just stored is handed on from memory: few bytes, only within the run, each time as an object of its own."""

from __future__ import annotations

import copy
import os
import sys
from pathlib import Path

import pytest

from cupola.artifacts import blobs as blobs_module
from cupola.artifacts import recent
from cupola.artifacts.blobs import Blobs
from cupola.artifacts.materializer import load_value, store_value
from cupola.errors import Damaged

pytestmark = pytest.mark.feature("CORE-06")

LARGE = {f"field_{number}": "x" * 90 for number in range(100)}


def test_what_was_just_stored_is_read_without_opening_a_file(home, monkeypatch):
    blobs = Blobs(home)
    manifest = store_value(LARGE, None, blobs, path="step.output")
    assert manifest.inline is None
    monkeypatch.setattr(blobs, "_open", None)
    assert load_value(manifest, blobs) == LARGE


@pytest.mark.parametrize(
    "value",
    [LARGE, list(LARGE.values()), {"rows": [LARGE, LARGE]}, [1, [2] * 9000], [0.5] * 5000, {"big": 2**70, **LARGE}],
    ids=["dict", "list", "nested", "partly nested", "many items", "not packed as it is"],
)
def test_each_reader_gets_an_object_of_its_own(home, value):
    blobs = Blobs(home)
    expected, value = value, copy.deepcopy(value)
    manifest = store_value(value, None, blobs, path="step.output")
    assert manifest.inline is None
    change_deep(value)
    first, second = load_value(manifest, blobs), load_value(manifest, blobs)
    assert type(first) is type(expected)
    change_deep(first)
    assert second == expected == load_value(manifest, blobs) == load_value(manifest, Blobs(home))


def change_deep(value: object) -> None:
    """Change an object and all that it holds."""
    for item in value.values() if isinstance(value, dict) else value:
        if isinstance(item, dict | list):
            change_deep(item)
    value.clear()


def test_a_buffer_that_its_owner_changes_later_is_not_what_is_read(home):
    blobs = Blobs(home)
    data = bytearray(b"a" * 10_000)
    name, _ = blobs.put_bytes(data)
    data[:] = b"b" * 10_000
    assert blobs.read(name) == b"a" * 10_000


def test_only_so_many_bytes_are_kept_and_the_rest_comes_from_the_disk(home, monkeypatch):
    monkeypatch.setattr(recent, "KEPT_BYTES", 50_000)
    blobs = Blobs(home)
    stored = [blobs.put_bytes(bytes([number]) * 5000)[0] for number in range(100)]
    large, _ = blobs.put_bytes(b"z" * (blobs_module.BUFFERED_BYTES + 1))
    opened = []
    original = blobs._open
    monkeypatch.setattr(blobs, "_open", lambda name: opened.append(name) or original(name))
    assert [blobs.read(name)[:1] for name in stored] == [bytes([number]) for number in range(100)]
    assert set(stored[:79]) <= set(opened)
    assert not set(stored[91:]) & set(opened)
    assert len(blobs.read(large)) > blobs_module.BUFFERED_BYTES
    assert large in opened


def test_another_reader_sees_that_a_blob_is_damaged_or_gone(home):
    blobs = Blobs(home)
    manifest = store_value(LARGE, None, blobs, path="step.output")
    path = Path(blobs.path(manifest.files[0].blob))
    path.chmod(0o644)
    path.write_bytes(b"other")
    with pytest.raises(Damaged, match="not those that were stored"):
        load_value(manifest, Blobs(home))
    with pytest.raises(Damaged, match="is missing"):
        load_value(manifest, Blobs(home))


def test_temporary_files_are_told_apart_after_a_fork(home):
    blobs = Blobs(home)
    mine = blobs.temporary_path()
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.write(writer, blobs.temporary_path().encode())
        os._exit(0)
    os.waitpid(child, 0)
    theirs = os.read(reader, 4096).decode()
    os.close(reader), os.close(writer)
    assert f"-{child}-" in theirs
    assert len({mine, theirs, blobs.temporary_path()}) == 3


PROGRAM = """
import os
from cupola import pipeline, step

synced = []
original = os.fsync
os.fsync = lambda file: synced.append(os.readlink(f"/proc/self/fd/{file}")) or original(file)

@step(cache=False)
def big() -> str:
    return "x" * 10_000

@pipeline
def flow() -> str:
    return big()

if __name__ == "__main__":
    flow()
    blobs = sum(len(files) for _folder, _folders, files in os.walk(os.environ["CUPOLA_HOME"] + "/blobs"))
    # Each is synced itself, and then the folder that names it.
    print(sum("/blobs" in path for path in synced) >= 2 * blobs > 0, any("/blobs" in path for path in synced))
"""


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="names open files where the system lists them")
@pytest.mark.parametrize(("durability", "all_and_any"), [("process", ["False", "False"]), ("power", ["True", "True"])])
def test_a_run_syncs_its_blobs_only_when_power_may_fail(run_program, tmp_path, durability, all_and_any):
    (tmp_path / "flow.py").write_text(PROGRAM)
    done = run_program(sys.executable, "flow.py", CUPOLA_DURABILITY=durability)
    assert done.stdout.split()[-2:] == all_and_any, done.stderr
