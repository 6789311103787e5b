"""Laws 4 and 6 over fresh processes: equal bytes whatever hash seed, zone and folder; no class is imported."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cupola.values import encode

pytestmark = pytest.mark.feature("CORE-05")
HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
import value_corpus as corpus  # noqa: E402 — beside this file, which pytest's importlib mode doesn't put on the path

sys.path.pop(0)

READ_AGAIN = """
import json, sys
sys.path.insert(0, sys.argv[1])
import value_corpus as corpus
from cupola.values import encode, decode
given = json.load(open(sys.argv[2]))
wrong = [data for data in given["any"] if encode(decode(bytes.fromhex(data))).hex() != data]
own = {name: encode(value).hex() for name, value in corpus.VALUES.items()}
wrong += [name for name, data in given["named"].items() if own[name] != data]
for name, data in given["named"].items():
    if not corpus.same(decode(bytes.fromhex(data)), corpus.VALUES[name]):
        wrong.append(name)
print(json.dumps(wrong))
"""

READ_WITHOUT_CLASSES = """
import json, sys
from cupola.values import Record, decode, encode
given = json.load(open(sys.argv[1]))
before = set(sys.modules)
names = ("attrs", "pydantic", "value_corpus", "numpy")
for data in given["named"].values():
    value = decode(bytes.fromhex(data))
    assert encode(value).hex() == data, data
assert type(decode(bytes.fromhex(given["named"]["model"]))) is Record
print([name for name in names[:3] if name in sys.modules])
"""

members = st.sampled_from([*corpus.Color, *corpus.Size])
leaves = st.none() | st.integers() | st.floats() | st.text() | st.binary() | members
sets = st.recursive(
    leaves,
    lambda inner: (
        st.frozensets(inner, max_size=8)
        | st.tuples(inner, inner)
        | st.builds(corpus.Frozen, st.integers(), inner)
        | st.builds(corpus.Point, st.integers(), inner)
    ),
    max_leaves=30,
)


@pytest.fixture
def given_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("cupola.records._name_module", lambda namespace: namespace["__name__"])
    found: list[str] = []

    @given(st.sets(sets, max_size=8) | st.dictionaries(sets, sets, max_size=8))
    @settings(max_examples=150, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    def collect(value: Any) -> None:
        found.append(encode(value).hex())

    collect()
    named = {name: encode(value).hex() for name, value in corpus.VALUES.items()}
    path = tmp_path / "given.json"
    path.write_text(json.dumps({"any": found, "named": named}))
    return path


@pytest.mark.parametrize(("seed", "zone"), [("1", "Asia/Tokyo"), ("77", "America/St_Johns")])
def test_equal_values_give_equal_bytes_in_fresh_processes(run_python: Any, given_file: Path, seed: str, zone: str):
    other = given_file.with_name("other")
    other.mkdir()
    done = run_python("-c", READ_AGAIN, HERE, given_file, PYTHONHASHSEED=seed, TZ=zone, TMPDIR=str(other))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []


def test_a_process_without_the_classes_reads_records_and_imports_nothing(run_python: Any, given_file: Path):
    done = run_python("-c", READ_WITHOUT_CLASSES, given_file)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
