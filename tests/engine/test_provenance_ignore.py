"""`.gitignore` without git: what git itself says is what is right."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cupola.engine.provenance.ignore import IgnoreFile, is_ignored
from cupola.engine.provenance.tree import Place, read_tree

pytestmark = pytest.mark.feature("ENG-11")
needs_git = pytest.mark.skipif(not shutil.which("git"), reason="needs git")

RULES = """
# comment
*.log
!keep.log
/top.txt
build/
docs/*.html
**/deep/x.bin
a/**
!a/kept.py
foo/**/bar
*.qy[cod]
trailing\\ \nspaces
\\#hash
\\!bang
[[:digit:]]*
[!a-m]z
what?
noslash/
x\\*y
**
!*/
!*.py
!*.txt
"""
PATHS = (
    "one.log", "keep.log", "sub/keep.log", "sub/other.log", "top.txt", "sub/top.txt", "build/x", "sub/build/y",
    "docs/a.html", "docs/sub/a.html", "deep/x.bin", "p/q/deep/x.bin", "a/kept.py", "a/b/kept.py", "foo/bar",
    "foo/1/2/bar", "m.qyc", "trailing ", "spaces", "#hash", "!bang", "7up", "nz", "az", "whatx", "what", "noslash",
    "x*y", "xay", "plain.py", "r/s/t.py", "ü.txt",
)  # fmt: skip


def git(folder: Path, *words: str, **kwargs) -> subprocess.CompletedProcess[str]:
    names = ("-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "init.defaultBranch=main")
    return subprocess.run(
        ["git", *names, *words], cwd=folder, check=True, capture_output=True, encoding="utf-8", **kwargs
    )


def files_by_git(folder: Path) -> list[str]:
    listed = git(folder, "ls-files", "-o", "--exclude-standard", "-z").stdout
    return sorted(filter(None, listed.split("\0")))


def files_by_us(folder: Path) -> list[str]:
    found = read_tree(Place(root=str(folder), home=str(folder / "no home"), top=str(folder)))
    return [file.path for file in found.files]


def put(folder: Path, path: str, text: str = "") -> None:
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_text(text, encoding="utf-8", newline="")


@needs_git
@pytest.mark.parametrize("count", range(1, len(RULES.splitlines()) + 1))
def test_each_rule_hides_what_git_hides(tmp_path, count):
    put(tmp_path, ".gitignore", "\n".join(RULES.splitlines()[:count]))
    for path in PATHS:
        put(tmp_path, path)
    git(tmp_path, "init", "-q")
    assert files_by_us(tmp_path) == files_by_git(tmp_path)


@needs_git
def test_nested_files_of_rules_override_outer_ones(tmp_path):
    put(tmp_path, ".gitignore", "*.csv\n/out\nnotes/\n")
    put(tmp_path, "kept/.gitignore", "\ufeff!*.csv\r\n/only here\r\n")
    put(tmp_path, "notes/.gitignore", "!*\n")
    for path in (
        "x.csv",
        "kept/y.csv",
        "kept/z/w.csv",
        "kept/only here",
        "kept/z/only here",
        "notes/n",
        "out/o",
        "b/out",
    ):
        put(tmp_path, path)
    git(tmp_path, "init", "-q")
    put(tmp_path, ".git/info/exclude", "b/\n")
    assert files_by_us(tmp_path) == files_by_git(tmp_path)
    assert "kept/y.csv" in files_by_us(tmp_path)


@needs_git
def test_rules_above_the_source_root_hold_as_well(tmp_path):
    put(tmp_path, ".gitignore", "*.tmp\n/services/train/local.yaml\n")
    put(tmp_path, "services/.gitignore", "train/*.dat\n")
    root = tmp_path / "services" / "train"
    for name in ("run.py", "a.tmp", "local.yaml", "b.dat", "sub/local.yaml"):
        put(root, name)
    git(tmp_path, "init", "-q")
    found = read_tree(Place(root=str(root), home="/nowhere", top=str(tmp_path)))
    assert [file.path for file in found.files] == ["run.py", "sub/local.yaml"]


LETTERS = st.text("ab*?[]!-^/\\.# ", min_size=1, max_size=8)
NAMES = st.lists(
    st.text("ab.-", min_size=1, max_size=3).filter(lambda name: set(name) != {"."}), min_size=1, max_size=3
)


@needs_git
@settings(max_examples=int(os.environ.get("CUPOLA_TEST_SIZE") == "full") * 270 + 30, deadline=None)
@given(rules=st.lists(LETTERS, min_size=1, max_size=6), paths=st.lists(NAMES, min_size=1, max_size=8))
def test_any_rules_hide_what_git_hides(tmp_path_factory, rules, paths):
    folder = tmp_path_factory.mktemp("any")
    git(folder, "init", "-q")
    names = ["/".join(path) for path in paths]
    (folder / ".gitignore").write_text("\n".join(rules), encoding="utf-8", newline="")
    answers = subprocess.run(
        ["git", "check-ignore", "--no-index", "--stdin", "-z"],
        cwd=folder,
        input="\0".join(names) + "\0",
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    by_git = set(filter(None, answers.stdout.split("\0")))
    file = IgnoreFile("\n".join(rules))
    for name in names:
        parts = name.split("/")
        above = ["/".join(parts[:depth]) for depth in range(1, len(parts))]
        hidden = any(is_ignored([file], folder, is_folder=True) for folder in above)
        assert (hidden or is_ignored([file], name, is_folder=False)) == (name in by_git), (rules, name)
