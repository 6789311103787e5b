"""Facts about a run's code and surroundings, with real repositories; what can't be known is said to be unknown."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import msgspec
import pytest

from cupola.artifacts.blobs import Blobs
from cupola.engine.provenance import gather
from cupola.engine.provenance.archive import read_archive
from cupola.engine.provenance.facts import Facts
from cupola.engine.provenance.gather import start_gathering
from cupola.engine.provenance.surroundings import parse_distributions
from cupola.snapshot import Snapshot, StepOptions

pytestmark = pytest.mark.feature("ENG-11")
needs_git = pytest.mark.skipif(not shutil.which("git"), reason="needs git")
SNAPSHOT = Snapshot(pipeline="p", source="go:p", params={}, steps=())
SETTINGS = ("user.name=A", "user.email=a@example.org", "protocol.file.allow=always", "init.defaultBranch=main")


def git(folder: Path, *words: str) -> str:
    settings = [word for setting in SETTINGS for word in ("-c", setting)]
    done = subprocess.run(
        ["git", *settings, *words], cwd=folder, check=True, capture_output=True, encoding="utf-8", timeout=60
    )
    return done.stdout.strip()


def put(folder: Path, path: str, text: str = "x = 1\n") -> Path:
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_text(text, encoding="utf-8")
    return folder / path


def facts_of(root: Path, home: Path, snapshot: Snapshot = SNAPSHOT) -> Facts:
    program = root / "go.py"
    return start_gathering(root, Blobs(home), program=str(program), snapshot=snapshot).finish(60)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    put(folder, "go.py")
    put(folder, ".gitignore", "home/\n")
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "one")
    return folder


@needs_git
def test_a_clean_checkout_is_known_by_commit_branch_and_path(repository, home):
    git(repository, "remote", "add", "origin", "https://me:Tr0ub4dor@example.org/x.git")
    found = facts_of(repository, home)
    assert found.facts["commit"] == git(repository, "rev-parse", "HEAD")
    assert {name: found.facts[name] for name in ("branch", "dirty", "path", "remote")} == {
        "branch": "main",
        "dirty": "no",
        "path": "go.py",
        "remote": "https://***@example.org/x.git",
    }
    assert not [name for name in found.facts if name.startswith("unknown.")]
    assert set(found.blobs) == {"archive", "distributions"}


@needs_git
def test_a_changed_file_makes_it_dirty_and_the_difference_is_kept(repository, home):
    put(repository, "go.py", "x = 2\n")
    found = facts_of(repository, home)
    assert found.facts["dirty"] == "yes"
    assert found.facts["changes"] == "1 file changed, 0 not tracked"
    assert "+x = 2" in Blobs(home).open(found.blobs["diff"]).read_text()


@needs_git
def test_a_new_file_makes_it_dirty_but_not_what_is_no_source(repository, home):
    put(repository, "__pycache__/go.pyc")
    put(repository, ".cupola/config.yaml")
    put(repository, "data/x.csv")
    put(repository, "junk/__pycache__/x.pyc")
    assert facts_of(repository, home).facts["dirty"] == "no"
    put(repository, "helper.py")
    found = facts_of(repository, home)
    assert found.facts["changes"] == "0 files changed, 1 not tracked"
    assert "helper.py" in [file.path for file in read_archive(Blobs(home), found.blobs["archive"]).files]


@needs_git
def test_staged_renamed_and_deleted_files_make_it_dirty(repository, home):
    git(repository, "mv", "go.py", "went elsewhere.py")
    (repository / ".gitignore").unlink()
    found = facts_of(repository, home)
    assert found.facts["changes"] == "2 files changed, 0 not tracked"


@needs_git
def test_the_difference_holds_nothing_of_files_of_secrets(repository, home):
    put(repository, "conf/.env", "A=1\n")
    git(repository, "add", ".")
    git(repository, "commit", "-qm", "two")
    put(repository, "conf/.env", "A=Tr0ub4dor\n")
    put(repository, "go.py", "x = 3\n")
    text = Blobs(home).open(facts_of(repository, home).blobs["diff"]).read_text()
    assert "x = 3" in text
    assert "Tr0ub4dor" not in text


@needs_git
def test_a_root_in_a_folder_of_a_large_repository(repository, home):
    root = repository / "services" / "train"
    put(root, "go.py")
    put(root, ".cupola/config.yaml")
    git(repository, "add", "services/train/go.py")
    git(repository, "commit", "-qm", "two")
    found = facts_of(root, home)
    assert (found.facts["path"], found.facts["dirty"]) == ("services/train/go.py", "no")
    put(repository, "other service.py")
    assert facts_of(root, home).facts["dirty"] == "no"
    put(root, "helper.py")
    assert facts_of(root, home).facts["dirty"] == "yes"


@needs_git
def test_without_a_commit_the_commit_is_unknown(tmp_path, home):
    put(tmp_path, "go.py")
    git(tmp_path, "init", "-q")
    found = facts_of(tmp_path, home)
    assert found.facts["unknown.commit"] == "the branch has no commit yet"
    assert (found.facts["branch"], found.facts["dirty"]) == ("main", "yes")
    assert "archive" in found.blobs


@needs_git
def test_a_detached_head_has_a_commit_and_no_branch(repository, home):
    git(repository, "checkout", "-q", "--detach")
    found = facts_of(repository, home)
    assert found.facts["commit"] == git(repository, "rev-parse", "HEAD")
    assert found.facts["unknown.branch"] == "no branch is checked out (detached HEAD)"


@needs_git
@pytest.mark.parametrize("has_git", [True, False])
def test_linked_worktrees_submodules_and_shallow_clones_are_known(repository, home, tmp_path, monkeypatch, has_git):
    git(repository, "remote", "add", "origin", "https://example.org/x.git")
    put(repository, "go.py", "x = 2\n")
    git(repository, "commit", "-qam", "two")
    git(repository, "worktree", "add", "-q", "-b", "side", str(tmp_path / "linked"))
    git(tmp_path, "init", "-q", "outer")
    git(tmp_path / "outer", "submodule", "add", "-q", str(repository), "inner")
    git(tmp_path, "clone", "-q", "--depth", "1", repository.as_uri(), "shallow")
    commit = git(repository, "rev-parse", "HEAD")
    if not has_git:
        monkeypatch.setenv("PATH", str(tmp_path))
    for folder, branch in (("linked", "side"), ("outer/inner", "main"), ("shallow", "main")):
        found = facts_of(tmp_path / folder, home)
        assert (found.facts["commit"], found.facts["branch"], found.facts["path"]) == (commit, branch, "go.py")
        assert found.facts.get("dirty", found.facts.get("unknown.dirty")) == (
            "no" if has_git else "git is not installed"
        )
        assert ("shallow" in found.facts) == (folder == "shallow")
        assert found.facts["remote"]


@needs_git
def test_without_git_the_commit_is_read_from_its_files(repository, home, tmp_path, monkeypatch):
    commit = git(repository, "rev-parse", "HEAD")
    git(repository, "pack-refs", "--all")
    monkeypatch.setenv("PATH", str(tmp_path))
    found = facts_of(repository, home)
    assert (found.facts["commit"], found.facts["branch"]) == (commit, "main")
    assert found.facts["unknown.dirty"] == "git is not installed"


@needs_git
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to change the owner")
def test_a_repository_that_git_refuses_for_its_owner_is_unknown_until_it_is_trusted(
    repository, home, tmp_path, monkeypatch
):
    for path in (repository, *repository.rglob("*")):
        os.chown(path, 12345, 12345)
    monkeypatch.setenv("HOME", str(tmp_path))
    found = facts_of(repository, home)
    for name in ("commit", "branch", "dirty"):
        assert name not in found.facts
        assert "belongs to another user" in found.facts[f"unknown.{name}"]
    assert "archive" in found.blobs
    (tmp_path / ".gitconfig").write_text(f"[safe]\ndirectory = {repository}\n")
    assert facts_of(repository, home).facts["commit"]


def test_outside_of_repositories_only_the_commit_is_unknown(tmp_path, home):
    put(tmp_path, "go.py")
    found = facts_of(tmp_path, home)
    assert found.facts["unknown.commit"] == f"{tmp_path} is in no git repository"
    assert [name for name in found.facts if name.startswith("unknown.")] == ["unknown.commit"]
    assert read_archive(Blobs(home), found.blobs["archive"]).digest == found.facts["source"]


@needs_git
def test_the_environment_of_another_git_and_the_settings_of_the_repository_run_nothing(
    repository, home, tmp_path, monkeypatch
):
    ran = tmp_path / "ran"
    hook = put(tmp_path, "hook.sh", f"#!/bin/sh\ntouch {ran}\n")
    hook.chmod(0o755)
    for name in ("core.fsmonitor", "core.pager", "diff.external"):
        git(repository, "config", name, str(hook))
    put(repository, ".gitattributes", "*.py diff=mine\n")
    git(repository, "config", "diff.mine.textconv", str(hook))
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "nowhere"))
    monkeypatch.setenv("GIT_EXTERNAL_DIFF", str(hook))
    put(repository, "go.py", "x = 5\n")
    found = facts_of(repository, home)
    assert found.facts["dirty"] == "yes"
    assert "diff" in found.blobs
    assert not ran.exists()


@pytest.fixture
def slow_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = put(tmp_path, "bin/git", "#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")


@needs_git
def test_a_git_that_does_not_answer_delays_nothing_and_leaves_no_process(repository, home, slow_git):
    gathering = start_gathering(repository, Blobs(home), program="", snapshot=SNAPSHOT)
    assert gathering.poll() is None
    started = time.monotonic()
    found = gathering.finish(0.1)
    assert time.monotonic() - started < 5
    assert found.facts["unknown.dirty"] == "it wasn't found out within 0.1 s"
    assert found.facts["commit"]
    assert "archive" in found.blobs
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
    assert gathering.finish(0) is found
    assert gathering.poll() is found


@needs_git
@pytest.mark.parametrize(
    ("script", "reason"),
    [("echo 'fatal: it is broken' >&2; exit 128", "it is broken"), ("kill -9 $$", "git was ended by SIGKILL"),
     ("exit 3", "git ended with status 3")],
)  # fmt: skip
def test_a_git_that_fails_is_quoted(repository, home, slow_git, tmp_path, script, reason):
    put(tmp_path, "bin/git", f"#!/bin/sh\n{script}\n")
    assert facts_of(repository, home).facts["unknown.dirty"] == reason


def test_polling_ends_by_itself(tmp_path, home):
    put(tmp_path, "go.py")
    gathering = start_gathering(tmp_path, Blobs(home), program="", snapshot=SNAPSHOT)
    deadline = time.monotonic() + 30
    while gathering.poll() is None and time.monotonic() < deadline:
        os.sched_yield()
    assert gathering.poll() is not None


def test_a_large_tree_is_stored_by_a_process_of_its_own_with_the_same_result(tmp_path, home, monkeypatch):
    put(tmp_path, "go.py")
    for number in range(300):
        put(tmp_path, f"m/m{number}.py", f"n = {number}\n")
    gathering = start_gathering(tmp_path, Blobs(home), program="", snapshot=SNAPSHOT)
    assert gathering.poll() is None
    apart = gathering.finish(60)
    monkeypatch.setattr(gather, "SMALL_ENTRIES", 10_000)
    monkeypatch.setattr(gather, "SMALL_FILES", 10_000)
    gathering = start_gathering(tmp_path, Blobs(home), program="", snapshot=SNAPSHOT)
    assert gathering.poll() == apart
    assert apart.facts["source_files"].startswith("301 files")


def test_an_unwritable_store_is_a_reason_and_no_error(tmp_path):
    put(tmp_path, "project/go.py")
    put(tmp_path, "file", "no folder")
    found = facts_of(tmp_path / "project", tmp_path / "file")
    assert "can't be kept" in found.facts["unknown.source"]
    assert found.facts["interpreter"]


def test_distributions_are_named_with_their_versions(tmp_path, home):
    put(tmp_path, "go.py")
    found = facts_of(tmp_path, home)
    text = Blobs(home).open(found.blobs["distributions"]).read_text()
    assert parse_distributions(text)["msgspec"] == msgspec.__version__
    assert list(parse_distributions(text)) == sorted(parse_distributions(text), key=lambda name: name.replace("-", "_"))


def test_declared_variables_are_recorded_with_secrets_masked(tmp_path, home, monkeypatch):
    put(tmp_path, "go.py")
    monkeypatch.setenv("MODE", "fast")
    monkeypatch.setenv("API_KEY", "Tr0ub4dor")
    options = StepOptions(env={"OMP_NUM_THREADS": "2", "DB_PASSWORD": "Tr0ub4dor"}, cache_env=("MODE", "API_KEY", "NO"))
    found = facts_of(tmp_path, home, msgspec.structs.replace(SNAPSHOT, options=(options,)))
    assert msgspec.json.decode(found.facts["env"]) == {
        "API_KEY": "***", "DB_PASSWORD": "***", "MODE": "fast", "NO": None, "OMP_NUM_THREADS": "2",
    }  # fmt: skip
