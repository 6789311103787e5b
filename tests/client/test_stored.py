"""Downloads: what is stored comes out whole, or not at all, and never lands outside of where it was asked for."""

from __future__ import annotations

import os

import pytest

from cupola import Client, Conflict, Damaged, Unreachable, pipeline, register_artifact, save_artifact, step
from cupola.client.connect import connect
from cupola.client.stored import default_file_name, download_version
from cupola.entities.artifact import Manifest, StoredFile, VersionRecord


def version_of(*files: StoredFile, name: str = "thing") -> VersionRecord:
    manifest = Manifest("folder", 1, "cupola.Folder", "val:00", 3, None, files)
    return VersionRecord(
        id="r.0.0", artifact=name, version="1", project="default", run="r", step=0, position=0, output="o",
        manifest=manifest,
    )  # fmt: skip


@pytest.fixture
def blob() -> str:
    return connect().blobs.put_bytes(b"abc")[0]


@pytest.mark.feature("CORE-09")
def test_a_folder_comes_out_as_it_went_in(tmp_path):
    source = tmp_path / "source"
    (source / "ü 漢 %20" / "empty").mkdir(parents=True)
    (source / "run.sh").write_text("#!/bin/sh\n")
    (source / "run.sh").chmod(0o755)
    (source / "ü 漢 %20" / "a#b.txt").write_text("hello")
    os.symlink("run.sh", source / "link")
    register_artifact(source, "kept")
    target = Client().artifacts.get("kept").download(tmp_path / "out")
    assert sorted(str(path.relative_to(target)) for path in target.rglob("*")) == sorted(
        str(path.relative_to(source)) for path in source.rglob("*")
    )
    assert (target / "ü 漢 %20" / "a#b.txt").read_text() == "hello"
    assert os.access(target / "run.sh", os.X_OK)
    assert os.readlink(target / "link") == "run.sh"
    (target / "run.sh").write_text("changed")
    assert (Client().artifacts.get("kept").download(tmp_path / "again") / "run.sh").read_text() == "#!/bin/sh\n"


@pytest.mark.feature("CORE-09")
def test_a_file_comes_out_as_it_went_in(tmp_path):
    (tmp_path / "data.bin").write_bytes(bytes(range(256)) * 100)
    register_artifact(tmp_path / "data.bin", "data")
    target = Client().artifacts.get("data").download(tmp_path / "out.bin")
    found = next(target.rglob("*.bin")) if target.is_dir() else target
    assert found.read_bytes() == bytes(range(256)) * 100


@pytest.mark.feature("CORE-09")
def test_large_plain_values_come_out_as_json(tmp_path):
    save_artifact(list(range(5000)), "numbers")
    target = Client().artifacts.get("numbers").download(tmp_path / "numbers.json")
    assert target.read_text().startswith("[\n  0,\n  1,")


@pytest.mark.feature("CORE-09", "CORE-12")
def test_nothing_is_overwritten_and_nothing_is_left_when_it_fails(tmp_path, blob):
    record = version_of(StoredFile("a", blob, 3))
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(Conflict, match="exists already"):
        download_version(connect(), record, tmp_path / "taken")
    assert (tmp_path / "taken").read_text() == "mine"
    with pytest.raises(Damaged):
        download_version(connect(), version_of(StoredFile("a", "blob:" + "0" * 40, 3)), tmp_path / "gone")
    with pytest.raises(Unreachable, match="nowhere"):
        download_version(connect(), record, tmp_path / "nowhere" / "x")
    assert sorted(os.listdir(tmp_path)) == ["taken"]


@pytest.mark.feature("CORE-12")
@pytest.mark.parametrize(
    "entries",
    [
        [("../evil", "f")],
        [("a/../../evil", "f")],
        [("/etc/evil", "f")],
        [("link", "l", "../.."), ("link/evil", "f")],
        [("link", "l", "/tmp")],
        [("sub/link", "l", "../../x")],
        [("sub", "l", "."), ("sub/../../evil", "f")],
    ],
)
def test_a_stored_folder_never_reaches_outside_of_the_target(tmp_path, blob, entries):
    files = [StoredFile(path, target[0] if target else blob, 3, kind) for path, kind, *target in entries]
    inside = tmp_path / "inside"
    inside.mkdir()
    with pytest.raises(Damaged, match="outside"):
        download_version(connect(), version_of(*files), inside / "out")
    assert os.listdir(inside) == []
    assert sorted(os.listdir(tmp_path)) == ["inside"]


@pytest.mark.feature("CORE-12")
@pytest.mark.parametrize(
    ("artifact", "name"),
    [
        ("training/fit/model", "model"),
        ("../../etc", "etc"),
        ("..", "artifact"),
        ("a b\x1b/c d\n", "c_d_"),
        ("x" * 500, "x" * 100),
    ],
)
def test_the_name_of_a_download_is_one_plain_file_name(artifact, name):
    assert default_file_name(version_of(name=artifact)) == name


@pytest.mark.feature("CORE-09")
def test_a_version_whose_bytes_are_gone_still_has_a_page():
    @step(cache=False)
    def numbers() -> list[int]:
        return list(range(5000))

    @pipeline
    def losing() -> list[int]:
        return numbers()

    version = losing().output
    for path in (connect().home / "blobs").rglob("*"):
        if path.is_file():
            path.chmod(0o644)
            path.unlink()
    assert "no preview" in str(version)
    with pytest.raises(Damaged):
        version.load()
