"""A fault at every single write of a small run: a kill, a torn write, EIO, a full disk; and a clock that jumps.

CUPOLA_TEST_SIZE=full takes every write for each kind of fault; otherwise kills of a plain pipeline take every one, the
rest every fourth, and a mapped pipeline every eighth.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from kill_and_resume import Case, project

from cupola import Client
from cupola.client.doctor import check_store

IS_FULL = os.environ.get("CUPOLA_TEST_SIZE") == "full"
Order = Callable[..., list[dict[str, Any]]]

# Small pipelines of `pipelines/`, and how many of their steps may be in progress at once.
CASES = {"few": 1, "few_mapped": 1, "few_checkpoints": 1}
STRIDES = dict.fromkeys(CASES, 1) if IS_FULL else {"few": 4, "few_mapped": 8, "few_checkpoints": 8}
"""Of how many writes one is tried."""


@pytest.fixture
def tmp_path(tmp_path: Path) -> Iterator[Path]:
    """Return a folder in memory where there is one: nothing here depends on a disk, and it is done sooner."""
    if not os.access("/dev/shm", os.W_OK):
        yield tmp_path
        return
    folder = tempfile.mkdtemp(prefix="cupola-faults-", dir="/dev/shm")
    yield Path(folder)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def order(faults: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Order]:
    """Return what has a case's run driven in a forked child of a process that has all imported."""
    name = request.getfixturevalue("name") if "name" in request.fixturenames else "few"
    environment = {**os.environ, "LD_PRELOAD": str(faults), "CUPOLA_HOME": os.devnull, "WITNESS": os.devnull}
    server = subprocess.Popen(
        [sys.executable, project(tmp_path, name) / "forking.py", name],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
    assert server.stdin is not None
    assert server.stdout is not None

    def give(case: Case, act: str, **options: Any) -> list[dict[str, Any]]:
        home, witness = str(case.home), str(case.witness)
        what = {"home": home, "witness": witness, "act": act, "pipeline": name, **options}
        server.stdin.write(json.dumps(what) + "\n")
        server.stdin.flush()
        answer = server.stdout.readline()
        assert answer, "the process that forks has died"
        return json.loads(answer)

    yield give
    server.stdin.close()
    server.wait(30)


def said_by(case: Case) -> str:
    path = Path(f"{case.witness}.said")
    return path.read_text(errors="replace") if path.exists() else ""


def check_clean(case: Case) -> None:
    report = check_store(case.home)
    errors = [finding for finding in report.findings if finding.level == "error"]
    assert errors == [], errors
    assert not list((case.home / "blobs" / "quarantine").glob("*"))


def count_writes(order: Order, case: Case) -> tuple[int, dict[str, dict[str, str]]]:
    (told,) = order(case, "run", mode="count", at=0)
    assert told["code"] == 0, said_by(case)
    assert told["count"] > 20, "too few writes were seen: does the library stand before the C library?"
    return told["count"], case.outputs()


@pytest.mark.feature("ENG-05", "ENG-07")
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("mode", ["kill", "torn"])
def test_a_kill_at_any_write_of_the_driver_is_resumed_to_the_same_result(name, mode, tmp_path, monkeypatch, order):
    count, outputs = count_writes(order, Case(name, tmp_path / "quiet", monkeypatch))
    killed = 0
    stride = 1 if (mode, name) == ("kill", "few") else STRIDES[name]
    for at in range(1, count + 1, stride):
        case = Case(name, tmp_path / f"{at}", monkeypatch, in_progress=CASES[name])
        (told,) = order(case, "run", mode=mode, at=at)
        killed += told["code"] == -9
        assert told["code"] in (-9, 0), f"write {at} of {count}: {told} {said_by(case)}"
        case.kills = 1
        case.check_record()
        (told,) = order(case, "go on") if not case.is_complete() else [{"code": 0}]
        assert told["code"] == 0, f"write {at} of {count}: {told} {said_by(case)}"
        case.check_record()
        assert case.outputs() == outputs, f"write {at} of {count}"
        check_clean(case)
        left = [path for path in case.home.glob("*/**/checkpoints/**/*") if path.is_file()]
        assert not left, f"write {at} of {count}"
    # What a thread does besides, which finds out about the code, may come to more or less.
    assert killed > count * 0.8 / stride


@pytest.mark.feature("ENG-05")
@pytest.mark.parametrize("name", CASES)
def test_a_kill_at_any_write_of_a_resume_is_resumed_too(name, tmp_path, monkeypatch, order):
    count, outputs = count_writes(order, Case(name, tmp_path / "quiet", monkeypatch))
    for at in range(1, count + 1, STRIDES[name]):
        case = Case(name, tmp_path / f"{at}", monkeypatch, in_progress=CASES[name])
        order(case, "run", mode="kill", at=count // 2)
        case.kills = 1
        case.check_record()
        (told,) = order(case, "go on", mode="torn", at=at)
        case.kills = 2
        case.check_record()
        if not case.is_complete():
            (told,) = order(case, "go on")
            assert told["code"] == 0, f"write {at} of the resume: {told} {said_by(case)}"
        case.check_record()
        assert case.outputs() == outputs
        check_clean(case)


@pytest.mark.feature("ENG-05", "CORE-12")
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("mode", ["eio once", "eio always", "short", "full"])
def test_a_write_that_fails_leaves_no_corrupt_state(name, mode, tmp_path, monkeypatch, order):
    count, outputs = count_writes(order, Case(name, tmp_path / "quiet", monkeypatch))
    for at in range(1, count + 1, STRIDES[name]):
        case = Case(name, tmp_path / f"{at}", monkeypatch, in_progress=CASES[name])
        (told,) = order(case, "run", mode=mode, at=at)
        place = f"write {at} of {count}: {told} {said_by(case)}"
        assert told["code"] in (0, 1, 3), place
        assert "Traceback" not in told["said"], place
        check_clean(case)
        if not case.is_complete():
            (told,) = order(case, "go on")
            assert told["code"] == 0, f"{place}; then {told}"
        assert case.outputs() == outputs, place
        check_clean(case)


@pytest.mark.feature("CORE-03", "ENG-05")
@pytest.mark.parametrize("mode", ["torn", "eio once"])
def test_a_reader_that_dies_or_fails_while_it_settles_a_run_is_in_nobodys_way(mode, tmp_path, monkeypatch, order):
    _count, outputs = count_writes(order, Case("few", tmp_path / "quiet", monkeypatch))
    seen = Case("few", tmp_path / "seen", monkeypatch)
    order(seen, "run", die=True)
    (told,) = order(seen, "look", mode="count", at=0)
    assert told["count"] > 3
    for at in range(1, told["count"] + 1, STRIDES["few"]):
        case = Case("few", tmp_path / f"{at}", monkeypatch)
        order(case, "run", die=True)
        case.kills = 1
        (looked,) = order(case, "look", mode=mode, at=at)
        assert looked["code"] in (-9, 0, 3), f"write {at}: {looked} {said_by(case)}"
        (told_on,) = order(case, "go on")
        assert told_on["code"] == 0, f"write {at}: {told_on} {said_by(case)}"
        case.check_record()
        assert case.outputs() == outputs
        check_clean(case)


@pytest.mark.feature("ENG-05", "CORE-12")
@pytest.mark.parametrize("mode", ["eio once", "full"])
def test_a_write_that_fails_in_a_resume_leaves_no_corrupt_state(mode, tmp_path, monkeypatch, order):
    count, outputs = count_writes(order, Case("few", tmp_path / "quiet", monkeypatch))
    for at in range(1, count // 2, 2 * STRIDES["few"]):
        case = Case("few", tmp_path / f"{at}", monkeypatch)
        order(case, "run", die=True)
        (told,) = order(case, "resume", mode=mode, at=at)
        place = f"write {at}: {told} {said_by(case)}"
        assert told["code"] in (0, 1, 3), place
        check_clean(case)
        if not case.is_complete():
            (told,) = order(case, "go on")
            assert told["code"] == 0, f"{place}; then {told}"
        assert case.outputs() == outputs, place
        check_clean(case)


@pytest.mark.feature("ENG-06")
def test_of_fifty_double_resumes_exactly_one_wins_each_time(tmp_path, monkeypatch, order):
    _count, outputs = count_writes(order, Case("few", tmp_path / "quiet", monkeypatch))
    for number in range(50):
        case = Case("few", tmp_path / f"{number}", monkeypatch)
        (told,) = order(case, "run", die=True)
        assert told["code"] == -9
        case.kills = 1
        case.check_record()
        # Who wins waits in its last step until the other one has ended.
        both = order(case, "resume", twins=2, go=f"{case.folder}/go")
        assert sorted(one["code"] for one in both) == [0, 1], f"{both} {said_by(case)}"
        winner, loser = sorted(both, key=lambda one: one["code"])
        assert f"is being driven by process {winner['pid']} on {os.uname().nodename}" in loser["said"], loser
        case.check_record()
        assert case.outputs() == outputs
        check_clean(case)


@pytest.mark.feature("ENG-05", "CORE-03")
@pytest.mark.parametrize("period", [1, 7, 60])
def test_a_clock_that_jumps_an_hour_back_and_forth_changes_no_record(period, tmp_path, monkeypatch, order):
    count, outputs = count_writes(order, Case("few", tmp_path / "quiet", monkeypatch))
    for at in range(1, count, count // 8):
        case = Case("few", tmp_path / f"{at}", monkeypatch)
        order(case, "run", mode="kill", at=at, clock=period)
        case.kills = 1
        case.check_record()
        if not case.is_complete():
            (told,) = order(case, "go on", clock=period)
            assert told["code"] == 0, f"{told} {said_by(case)}"
        case.check_record()
        assert case.outputs() == outputs
        check_clean(case)
        run = Client().runs.list(limit=1)[0]
        assert all(one.duration is None or one.duration >= timedelta() for one in (run, *run.steps.values()))
