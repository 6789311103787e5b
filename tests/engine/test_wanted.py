"""Which environment a step wants, and that all of it counts for the cache."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from tests.engine import local_index

from cupola import ConfigError, values
from cupola.engine.cache import read_inputs
from cupola.engine.wanted import WantedEnvironment, requirements_digest, wanted_environment
from cupola.snapshot import StepOptions, StepSpec

pytestmark = pytest.mark.feature("ENG-10")
RUNNING = f"{sys.version_info[0]}.{sys.version_info[1]}"


def options(*requirements: str, **settings: object) -> StepOptions:
    return StepOptions(requirements=requirements, settings=values.encode(settings) if settings else b"")


def test_a_step_without_wishes_wants_no_environment():
    assert wanted_environment(options()) is None
    assert wanted_environment(options(other={"python": "3.12"})) is None
    assert wanted_environment(options(environment={})) is None
    assert wanted_environment(options(environment={"python": RUNNING})) is None


def test_requirements_and_python_are_wanted():
    assert wanted_environment(options("pandas")) == WantedEnvironment(("pandas",), "")
    assert wanted_environment(options("pandas", environment={"python": RUNNING})) == WantedEnvironment(("pandas",), "")
    assert wanted_environment(options(environment={"python": "3.98"})) == WantedEnvironment((), "3.98")


@pytest.mark.parametrize(
    ("said", "word"),
    [
        ("3.12", "must be a mapping"), ({"pyhton": "3.12"}, "did you mean 'python'"), ({"cpu": 1}, "known are: python"),
        ({"python": 3.1}, "as text: '3.12'"), ({"python": "new"}, "as text: '3.12'"), ({"python": "3.8"}, "needs 3.11"),
    ],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused(said, word):
    with pytest.raises(ConfigError) as caught:
        wanted_environment(options(environment=said))
    assert word in str(caught.value)


def key(root: Path, chosen: StepOptions) -> str:
    spec = StepSpec("fit", "m:fit", (), "codes:1", "", {}, (), (), 0, "base:1")
    return read_inputs(spec, chosen, {}, {}, root).key


def test_all_that_is_wanted_counts_for_the_cache(tmp_path):
    plain = key(tmp_path, options())
    listed = key(tmp_path, options("pandas==1.5"))
    assert (
        len(
            {
                plain,
                listed,
                key(tmp_path, options("pandas==2.2")),
                key(tmp_path, options(environment={"python": "3.98"})),
            }
        )
        == 4
    )
    assert key(tmp_path, options("pandas==1.5")) == listed


def test_the_content_of_files_wheels_and_folders_counts_and_not_their_time(tmp_path):
    (tmp_path / "lib").mkdir()
    wheel = local_index.make_wheel(tmp_path, "gamma", "1.0")
    for name, text in (("r.txt", f"./{wheel.name}\n-r s.txt\n./lib\n"), ("s.txt", "a\n"), ("lib/m.py", "x = 1\n")):
        (tmp_path / name).write_text(text)
    chosen = options("-r r.txt")
    keys = [key(tmp_path, chosen)]
    os.utime(tmp_path / "s.txt", (1, 1))
    assert key(tmp_path, chosen) == keys[0]
    for name, text in (("r.txt", f"./{wheel.name}\n-r s.txt\n./lib\nb\n"), ("s.txt", "c\n"), ("lib/m.py", "x = 22\n")):
        (tmp_path / name).write_text(text)
        keys.append(key(tmp_path, chosen))
    local_index.make_wheel(tmp_path, "gamma", "1.0", requires=["d"])
    keys.append(key(tmp_path, chosen))
    (tmp_path / "lib" / "__pycache__").mkdir()
    (tmp_path / "lib" / "__pycache__" / "m.pyc").write_text("")
    assert key(tmp_path, chosen) == keys[-1]
    assert len(set(keys)) == 5


def test_credentials_do_not_count(tmp_path, monkeypatch):
    first = requirements_digest(["--index-url https://a:b@c.example/simple", "d"], "", tmp_path)
    assert requirements_digest(["--index-url https://a:renewed@c.example/simple", "d"], "", tmp_path) == first
    assert requirements_digest(["--index-url https://a:b@e.example/simple", "d"], "", tmp_path) != first
