"""The source tree as it is kept: what belongs to it, that equal trees are equal, and that it comes back whole."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from cupola.artifacts.blobs import Blobs
from cupola.engine.provenance import archive as archives
from cupola.engine.provenance.archive import (
    Archive,
    Stored,
    changed_files,
    read_archive,
    read_known,
    restore_archive,
    store_archive,
)
from cupola.engine.provenance.tree import LARGE_BYTES, Place, TooLarge, read_tree
from cupola.errors import Damaged

pytestmark = pytest.mark.feature("ENG-11")


def put(folder: Path, path: str, text: str = "x = 1\n") -> Path:
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_text(text, encoding="utf-8")
    return folder / path


def place_of(root: Path, home: Path, program: str = "") -> Place:
    return Place(root=str(root), home=str(home), top=str(root), program=program)


def store(root: Path, home: Path, program: str = "") -> Stored:
    tree = read_tree(place_of(root, home, program))
    return store_archive(tree, Blobs(home), read_known(home, tree.root))


def listed(root: Path, home: Path, program: str = "") -> tuple[list[str], dict[str, str]]:
    tree = read_tree(place_of(root, home, program))
    return [file.path for file in tree.files], {entry.path: entry.why for entry in tree.left_out}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    put(folder, "run.py")
    put(folder, "steps/fit.py")
    put(folder, "configs/a.yaml", "rate: 1\n")
    return folder


def test_what_can_be_made_again_is_left_out(root, home):
    for path in (
        ".git/HEAD", ".venv/lib/x.py", "myenv/pyvenv.cfg", "myenv/lib/y.py", "cond/conda-meta/history",
        "__pycache__/a.pyc", "steps/__pycache__/b.pyc", "node_modules/z.js", ".pytest_cache/v",
        "own.egg-info/PKG-INFO",
        ".cupola/config.yaml", "mine/CACHEDIR.TAG", "mine/file", ".DS_Store", "old.pyc", ".ipynb_checkpoints/n.ipynb",
    ):  # fmt: skip
        put(root, path)
    assert listed(root, home) == (["configs/a.yaml", "run.py", "steps/fit.py"], {})


def test_data_is_left_out_aloud_but_not_code_that_is_called_data(root, home):
    put(root, "data/raw/big.csv")
    put(root, "datasets/x.parquet")
    put(root, "src/data/make.py")
    put(root, "src/data/names.txt")
    files, left_out = listed(root, home)
    assert left_out == {"data": "data", "datasets": "data"}
    assert {"src/data/make.py", "src/data/names.txt"} < set(files)


def test_files_that_hold_secrets_are_left_out_aloud_but_not_their_examples(root, home):
    for path in (".env", ".env.local", ".env.example", "keys/server.pem", ".aws/credentials", "id_rsa", ".netrc"):
        put(root, path)
    files, left_out = listed(root, home)
    assert ".env.example" in files
    assert left_out == dict.fromkeys([".aws", ".env", ".env.local", ".netrc", "id_rsa", "keys/server.pem"], "secret")


def test_large_files_are_listed_with_their_size_and_not_kept(root, home):
    os.truncate(put(root, "model.bin"), LARGE_BYTES + 1)
    os.truncate(put(root, "fits.bin"), 1000)
    stored = store(root, home)
    kept = read_archive(Blobs(home), stored.archive)
    assert [(entry.path, entry.why, entry.size_bytes) for entry in kept.left_out] == [
        ("model.bin", "large", LARGE_BYTES + 1)
    ]
    assert "fits.bin" in [file.path for file in kept.files]
    assert stored.summary == "4 files, 1.0 kB; 1 left out (large)"


def test_links_inside_stay_links_and_links_that_lead_outside_are_left_out(root, home, tmp_path):
    put(tmp_path, "elsewhere/secret.txt")
    (root / "inside").symlink_to("steps/fit.py")
    (root / "folder").symlink_to("steps")
    (root / "outside").symlink_to("../elsewhere")
    (root / "absolute").symlink_to(root / "run.py")
    (root / "loop").symlink_to("loop")
    files, left_out = listed(root, home)
    assert left_out == {"outside": "link", "absolute": "link", "loop": "link"} or left_out == {
        "outside": "link", "absolute": "link",
    }  # fmt: skip
    assert {"inside", "folder"} < set(files)
    assert "folder/fit.py" not in files


def test_what_is_no_file_and_names_that_are_no_text_are_left_out(root, home):
    os.mkfifo(root / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(root / "socket"))
    (root / os.fsdecode(b"bad\xff.txt")).write_text("x")
    files, left_out = listed(root, home)
    assert sorted(left_out.values()) == ["its name is no UTF-8", "special", "special"]
    assert files == ["configs/a.yaml", "run.py", "steps/fit.py"]


def test_the_store_itself_is_left_out_when_it_lies_inside(root):
    home = root / "store"
    put(home, "cupola.db")
    assert listed(root, home) == (["configs/a.yaml", "run.py", "steps/fit.py"], {})


def test_the_program_is_kept_although_it_is_ignored(root, home):
    put(root, ".gitignore", "scratch/\n*.local.py\n")
    put(root, "scratch/try.py")
    put(root, "scratch/other.py")
    files, _left_out = listed(root, home, "scratch/try.py")
    assert "scratch/try.py" in files
    assert "scratch/other.py" not in files


def test_from_a_folder_where_all_sorts_of_things_lie_only_code_is_taken(tmp_path, home, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    put(tmp_path, "train.py")
    put(tmp_path, "letters/private.odt")
    put(tmp_path, ".config/browser/state.json")
    assert listed(tmp_path, home) == (["train.py"], {})
    put(tmp_path, ".cupola/config.yaml")
    assert "letters/private.odt" in listed(tmp_path, home)[0]


def test_a_folder_with_too_much_in_it_is_refused(root, home):
    with pytest.raises(TooLarge, match="more than 3 files and folders"):
        read_tree(place_of(root, home), most=3)


def test_equal_trees_are_equal_whatever_their_times_order_and_umask(root, home, tmp_path):
    first = store(root, home)
    other = tmp_path / "other"
    before = os.umask(0o077)
    try:
        for path in ("steps/fit.py", "run.py"):
            put(other, path)
        put(other, "configs/a.yaml", "rate: 1\n")
    finally:
        os.umask(before)
    os.utime(other / "run.py", (1, 1))
    second = store(other, tmp_path / "other home")
    assert (first.source, first.archive) == (second.source, second.archive)


@pytest.mark.parametrize("change", ["text", "name", "executable", "link", "empty"])
def test_any_difference_of_trees_is_a_difference_of_digests(root, home, change):
    first = store(root, home)
    if change == "text":
        put(root, "run.py", "x = 2\n")
    elif change == "name":
        (root / "run.py").rename(root / "go.py")
    elif change == "executable":
        (root / "run.py").chmod(0o755)
    elif change == "link":
        (root / "run.py").unlink()
        (root / "run.py").symlink_to("steps/fit.py")
    else:
        put(root, "empty.py", "")
    assert store(root, home).source != first.source


def test_an_archive_comes_back_as_it_was(root, home, tmp_path):
    (root / "link").symlink_to("steps/fit.py")
    (root / "run.py").chmod(0o755)
    stored = store(root, home)
    kept = read_archive(Blobs(home), stored.archive)
    assert kept.digest == stored.source
    target = tmp_path / "restored"
    restore_archive(kept, Blobs(home), target)
    assert store(target, tmp_path / "home 2").source == stored.source
    assert os.readlink(target / "link") == "steps/fit.py"


def test_an_archive_that_isnt_one_is_damage(root, home):
    blobs = Blobs(home)
    name, _size = blobs.put_bytes(b"no archive")
    with pytest.raises(Damaged, match="is no source archive"):
        read_archive(blobs, name)


def test_a_file_of_an_archive_that_is_gone_is_damage(root, home, tmp_path):
    stored = store(root, home)
    blobs = Blobs(home)
    kept = read_archive(blobs, stored.archive)
    os.unlink(blobs.path(kept.files[0].blob))
    with pytest.raises(Damaged):
        restore_archive(kept, blobs, tmp_path / "restored")


def make_many(root: Path, count: int = 40) -> None:
    for number in range(count):
        put(root, f"many/m{number}.py", f"n = {number}\n")


def test_what_did_not_change_is_not_read_again(root, home, monkeypatch):
    monkeypatch.setattr(archives, "RACY_NS", 0)
    make_many(root)
    first = store(root, home)
    tree = read_tree(place_of(root, home))
    assert changed_files(tree, read_known(home, tree.root)) == []
    put(root, "many/m7.py", "n = 8\n")
    tree = read_tree(place_of(root, home))
    assert [found.path for found in changed_files(tree, read_known(home, tree.root))] == ["many/m7.py"]
    assert store(root, home).source != first.source


def test_what_changed_just_before_it_was_read_is_read_again(root, home):
    make_many(root)
    store(root, home)
    tree = read_tree(place_of(root, home))
    assert len(changed_files(tree, read_known(home, tree.root))) == len(tree.files)


def test_blobs_that_are_gone_are_stored_anew_although_the_tree_is_known(root, home, monkeypatch):
    monkeypatch.setattr(archives, "RACY_NS", 0)
    make_many(root)
    first = store(root, home)
    blobs = Blobs(home)
    kept = read_archive(blobs, first.archive)
    os.unlink(blobs.path(first.archive))
    os.unlink(blobs.path(kept.files[-1].blob))
    assert store(root, home) == first
    assert all(blobs.exists(file.blob) for file in kept.files)


def test_memory_of_a_tree_that_is_no_such_thing_is_forgotten(root, home):
    tree = read_tree(place_of(root, home))
    archives.write_known(home, tree.root, archives.Known(source="x", archive="y"))
    (entry,) = (home / "sources").iterdir()
    for bad in (b"", b"\x00\xff", b"\xc0"):
        entry.write_bytes(bad)
        assert read_known(home, tree.root) == archives.Known()


def test_a_stopped_reading_is_remembered_as_far_as_it_came(root, home, monkeypatch):
    monkeypatch.setattr(archives, "RACY_NS", 0)
    make_many(root, 100)
    tree = read_tree(place_of(root, home))
    answers = iter([True, False])
    with pytest.raises(InterruptedError):
        store_archive(tree, Blobs(home), archives.Known(), lambda: next(answers))
    assert len(changed_files(tree, read_known(home, tree.root))) == len(tree.files) - 64


def test_a_file_that_goes_away_meanwhile_is_left_out(root, home):
    tree = read_tree(place_of(root, home))
    (root / "run.py").unlink()
    stored = store_archive(tree, Blobs(home), archives.Known())
    kept = read_archive(Blobs(home), stored.archive)
    assert [file.path for file in kept.files] == ["configs/a.yaml", "steps/fit.py"]
    assert [entry.path for entry in kept.left_out] == ["run.py"]
    assert isinstance(kept, Archive)
