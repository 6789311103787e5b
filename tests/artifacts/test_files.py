"""Files and folders: stored by content, loaded as copies, and never outside of where they belong."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from cupola import files, values
from cupola.artifacts.blobs import Blobs
from cupola.artifacts.materializer import load_value, preview_value, store_value
from cupola.artifacts.materializers.files import content_digest
from cupola.entities.artifact import StoredFile
from cupola.errors import CupolaError, Damaged, MaterializerError
from cupola.files import File, Folder

pytestmark = pytest.mark.feature("CORE-05")


@pytest.fixture
def blobs(home: Path) -> Blobs:
    return Blobs(home)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "data"
    (made / "sub").mkdir(parents=True)
    (made / "sub" / "a.csv").write_text("a,b\n")
    return made


def store(value: object, blobs: Blobs):
    return store_value(value, None, blobs, path="make.output")


def test_a_file_outlives_its_source_and_keeps_its_name(blobs, tmp_path):
    source = tmp_path / "table ü.csv"
    source.write_text("a,b\n1,2\n")
    manifest = store(File(source), blobs)
    source.unlink()
    loaded = load_value(manifest, blobs)
    assert loaded.name == "table ü.csv"
    assert Path(loaded).read_text() == "a,b\n1,2\n"
    assert "a,b" in preview_value(manifest, blobs)
    assert isinstance(loaded, os.PathLike)


def test_each_reader_has_a_copy_of_its_own(blobs, folder):
    manifest = store(Folder(folder), blobs)
    first, second = load_value(manifest, blobs), load_value(manifest, blobs)
    (first.path / "sub" / "a.csv").write_text("changed")
    (first.path / "new").write_text("")
    assert [path.name for path in second.path.rglob("*")] == ["sub", "a.csv"]
    assert (second.path / "sub" / "a.csv").read_text() == "a,b\n"


def test_nothing_is_copied_before_the_path_is_asked_for(blobs, folder, home):
    loaded = load_value(store(Folder(folder), blobs), blobs)
    assert not (home / "views").exists()
    assert loaded.path.is_dir()
    assert str(loaded.path).startswith(str(home / "views"))


def test_copies_go_when_the_process_ends_and_those_of_killed_ones_with_the_next(run_python, home, tmp_path):
    (tmp_path / "f").write_text("x")
    program = """
import os, signal, sys
from pathlib import Path
from cupola.artifacts.blobs import Blobs
from cupola.artifacts.materializer import load_value, store_value
from cupola.files import File
blobs = Blobs(Path(sys.argv[1]))
path = load_value(store_value(File(Path("f").absolute()), None, blobs, path="x"), blobs).path
assert path.exists()
if sys.argv[2] == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
print(len(list((Path(sys.argv[1]) / "views").iterdir())))
"""
    assert run_python("-c", program, home, "kill").returncode < 0
    assert len(list((home / "views").iterdir())) == 1
    assert run_python("-c", program, home, "end").stdout.strip() == "1"
    assert list((home / "views").iterdir()) == []


@pytest.mark.parametrize(
    "target", ["/etc/passwd", "../../outside", "sub/../../outside", "../data/sub", "loop/../../../x"]
)
def test_a_link_that_leads_outside_is_refused_by_name(blobs, folder, target):
    (folder / "bad link").symlink_to(target)
    with pytest.raises(MaterializerError, match="'bad link' leads outside"):
        store(Folder(folder), blobs)


def test_links_inside_stay_links_also_dangling_ones(blobs, folder):
    (folder / "good").symlink_to("sub/a.csv")
    (folder / "sub" / "up").symlink_to("../sub")
    (folder / "dangling").symlink_to("not there")
    loaded = load_value(store(Folder(folder), blobs), blobs).path
    assert os.readlink(loaded / "good") == "sub/a.csv"
    assert os.readlink(loaded / "sub" / "up") == "../sub"
    assert os.readlink(loaded / "dangling") == "not there"


def test_a_socket_or_pipe_in_a_folder_is_refused(blobs, folder):
    os.mkfifo(folder / "pipe")
    with pytest.raises(MaterializerError, match="'pipe' in the folder is no file"):
        store(Folder(folder), blobs)


@pytest.mark.parametrize(
    "entry",
    [
        StoredFile("../up", "blob:" + "0" * 40, 1),
        StoredFile("/tmp/absolute", "blob:" + "0" * 40, 1),
        StoredFile("a//b", "blob:" + "0" * 40, 1),
        StoredFile("", "blob:" + "0" * 40, 1),
        StoredFile("link", "../../up", 0, "l"),
        StoredFile("link", "/etc/passwd", 0, "l"),
        StoredFile("a/../../b", "", 0, "d"),
    ],
)
def test_a_changed_record_leads_nowhere_outside(blobs, folder, home, entry):
    manifest = msgspec.structs.replace(store(Folder(folder), blobs), files=(entry,))
    with pytest.raises(Damaged):
        load_value(manifest, blobs).path
    assert not list(home.rglob("*up*"))


def test_nothing_is_written_through_a_link_of_a_changed_record(blobs, folder, tmp_path):
    blob, _ = blobs.put_bytes(b"evil")
    entries = (StoredFile("d", "sub", 0, "l"), StoredFile("d/x", blob, 4), StoredFile("sub", "", 0, "d"))
    manifest = msgspec.structs.replace(store(Folder(folder), blobs), files=entries)
    with pytest.raises(CupolaError):
        load_value(manifest, blobs).path


def test_missing_and_mistaken_files_are_named(blobs, folder):
    with pytest.raises(MaterializerError, match="doesn't exist"):
        store(File("nowhere.csv"), blobs)
    with pytest.raises(MaterializerError, match="which is a folder"):
        store(File(folder), blobs)
    with pytest.raises(MaterializerError, match="which is no folder"):
        store(Folder(folder / "sub" / "a.csv"), blobs)


def test_files_inside_of_another_value_keep_content_and_name(blobs, folder):
    value = {"files": [1, File(folder / "sub" / "a.csv")], "all": Folder(folder)}
    manifest = store(value, blobs)
    loaded = load_value(manifest, blobs)
    assert loaded["files"][1].path.read_bytes() == (folder / "sub" / "a.csv").read_bytes()
    assert loaded["files"][1].name == "a.csv"
    assert (loaded["all"].path / "sub" / "a.csv").exists()
    assert store(loaded, blobs).digest == manifest.digest
    with pytest.raises(
        MaterializerError, match=r"make\.output\['files'\]\[1\] is File\('nowhere'\), which doesn't exist"
    ):
        store({"files": [1, File("nowhere")]}, blobs)


def test_a_relative_file_starts_at_the_source_root(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_source_root", [])
    (tmp_path / "elsewhere").mkdir()
    files.set_source_root(tmp_path)
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert File("data.csv").path == tmp_path / "data.csv"
    assert File("data.csv").text == "data.csv"
    assert values.decode(values.encode({"f": File("data.csv")})) == {"f": File("data.csv")}


def test_content_counts_and_not_the_name(tmp_path, folder):
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text("same")
    two.write_text("same")
    assert content_digest(one) == content_digest(two)
    before = content_digest(folder)
    (folder / "sub" / "a.csv").write_text("A,b\n")
    changed = content_digest(folder)
    (folder / "sub" / "a.csv").chmod(0o755)
    assert len({before, changed, content_digest(folder)}) == 3


def test_a_content_digest_is_remembered_until_the_file_changes(tmp_path, monkeypatch):
    from cupola.artifacts.materializers import files as forms

    path = tmp_path / "f"
    path.write_text("one")
    hashed = []
    original = forms.file_digest
    monkeypatch.setattr(forms, "file_digest", lambda name: hashed.append(name) or original(name))
    assert content_digest(path) == content_digest(path)
    assert len(hashed) == 1
    path.write_text("two")
    content_digest(path)
    assert len(hashed) == 2


def test_a_damaged_file_is_seen_when_it_is_loaded(blobs, folder):
    manifest = store(Folder(folder), blobs)
    place = Path(blobs.path(manifest.files[0].blob))
    place.chmod(0o644)
    place.write_text("evil")
    with pytest.raises(Damaged, match="is damaged"):
        load_value(manifest, blobs)
