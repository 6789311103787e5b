"""Downloads: what is stored comes out whole, or not at all, and never lands outside of where it was asked for."""

from __future__ import annotations

import datetime
import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from cupola import (
    Client,
    Conflict,
    Damaged,
    File,
    MaterializerError,
    Unreachable,
    pipeline,
    register_artifact,
    save_artifact,
    step,
    values,
)  # fmt: skip
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


def downloaded(value: object, name: str, folder) -> Path:
    save_artifact(value, name)
    version = Client().artifacts.get(name)
    return version.download(folder / version.file_name)


@pytest.mark.feature("CORE-09")
def test_plain_values_that_json_cant_say_come_out_as_they_are_stored(tmp_path):
    assert downloaded({"a": [1, "x", None, 2.5]}, "exact", tmp_path).name == "exact.json"
    for number, value in enumerate(
        [(1, 2), {1: "a"}, [float("nan")], "\udc80", {"a": datetime.date(2026, 1, 2)}, 2**70]
    ):
        path = downloaded(value, f"odd{number}", tmp_path)
        assert path.name == f"odd{number}.msgpack"
        assert values.decode(path.read_bytes()) == pytest.approx(value, nan_ok=True)
    shown = Client().artifacts.get("odd0").download(tmp_path / "view.json")
    assert json.loads(shown.read_text()) == [1, 2]


@pytest.mark.feature("CORE-09")
@pytest.mark.parametrize("rows", [3, 5000])
def test_arrays_and_tables_come_out_as_files_of_their_libraries(tmp_path, rows):
    path = downloaded(np.arange(rows, dtype=">f4").reshape(-1, 1), "array", tmp_path)
    assert path.name == "array.npy"
    assert np.load(path).dtype == ">f4"
    assert np.load(path).shape == (rows, 1)
    index = pd.date_range("2026-10-24", periods=rows, freq="h", tz="Europe/Zurich", name="at")
    frame = pd.DataFrame({"x": range(rows), "t": ["a", "b", None] + ["c"] * (rows - 3)}, index=index)
    path = downloaded(frame, "frame", tmp_path)
    assert path.name == "frame.arrow"
    pd.testing.assert_frame_equal(pd.read_feather(path), frame, check_freq=False)
    parquet = Client().artifacts.get("frame").download(tmp_path / "frame.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(parquet), frame, check_freq=False)
    assert pd.read_feather(downloaded(frame["x"], "series", tmp_path))["x"].tolist() == list(range(rows))
    assert len(pd.read_feather(downloaded(frame.index, "index", tmp_path))) == rows
    table = pa.table({"a": range(rows)})
    assert pa.ipc.open_file(downloaded(table, "table", tmp_path)).read_all().equals(table)


@pytest.mark.feature("CORE-09")
def test_a_frame_that_arrow_cant_name_comes_out_as_it_is_stored(tmp_path):
    twice = pd.DataFrame([[1, 2]], columns=["x", "x"])
    assert pd.read_feather(downloaded(twice, "twice", tmp_path)).shape[0] == 1
    with pytest.raises(MaterializerError, match=r"can't be written as Parquet"):
        Client().artifacts.get("twice").download(tmp_path / "twice.parquet")
    assert sorted(os.listdir(tmp_path)) == ["twice.arrow"]


@pytest.mark.feature("CORE-09")
def test_a_value_with_arrays_inside_comes_out_as_a_folder(tmp_path):
    source = tmp_path / "notes.txt"
    source.write_text("hello")
    folder = downloaded({"w": [np.arange(3)], "f": File(source), "t": pd.DataFrame({"x": [1]})}, "mixed", tmp_path)
    view = json.loads((folder / "value.json").read_text())
    assert np.load(folder / view["w"][0].strip("<>")).tolist() == [0, 1, 2]
    assert (folder / view["f"].strip("<>")).read_text() == "hello"
    assert pd.read_feather(folder / view["t"].strip("<>"))["x"].tolist() == [1]


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
    assert default_file_name(connect(), version_of(name=artifact)) == name


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
