"""Law 4 over every materializer: equal values, equal digests, in processes that share nothing but the store."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

CORPUS = Path(__file__).with_name("corpus.py")


@pytest.mark.feature("CORE-05")
def test_values_are_equal_and_have_equal_digests_over_fresh_processes(run_python, home, tmp_path):
    answers = []
    for number, what in enumerate(("save", "load")):
        folder = tmp_path / f"temporary {number}"
        folder.mkdir()
        done = run_python(
            CORPUS, home, what, cwd=folder, timeout_s=120, PYTHONHASHSEED=str(number * 77 + 1), TMPDIR=str(folder),
            TZ=("Asia/Tokyo", "America/New_York")[number],
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        answers.append(json.loads(done.stdout))
    first, second = answers
    assert {name: (first[name], second[name]) for name in first if first[name] != second[name]} == {}
    assert len(first) > 100
    # A table cut into chunks is the same table; all others differ in type, layout or content.
    del first["tables: chunks"]
    assert len(set(first.values())) == len(first)
