"""What people can see is held here: a change of it must be meant, and documented."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

import pytest

import cupola
import cupola.errors
import cupola.extend
from cupola.settings import SETTINGS

REPOSITORY = Path(__file__).resolve().parent.parent
DOCS = REPOSITORY / "docs"
GOLDEN = Path(__file__).parent / "golden" / "exports.txt"

_spec = importlib.util.spec_from_file_location("reference", REPOSITORY / ".ci" / "reference.py")
assert _spec is not None
assert _spec.loader is not None
reference = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(reference)


def errors() -> list[type[Exception]]:
    found = vars(cupola.errors).values()
    return [value for value in found if isinstance(value, type) and issubclass(value, cupola.errors.CupolaError)]


@pytest.mark.feature("CORE-11")
def test_the_public_names_are_those_of_the_golden_list():
    names = [f"{door.__name__}.{name}" for door in (cupola, cupola.extend) for name in sorted(door.__all__)]
    assert names == GOLDEN.read_text(encoding="utf-8").split(), (
        "a public name was added or taken away; if it was meant, change the list"
    )


@pytest.mark.feature("CORE-11")
@pytest.mark.parametrize("door", [cupola, cupola.extend], ids=lambda door: door.__name__)
def test_every_public_name_can_be_imported_and_says_what_it_is(door):
    undocumented = [name for name in door.__all__ if name != "__version__" and not getattr(door, name).__doc__]
    assert undocumented == []
    assert set(door.__all__) <= set(dir(door))


@pytest.mark.feature("CORE-11")
def test_every_setting_is_documented_with_its_variable_and_help():
    page = (DOCS / "settings.md").read_text(encoding="utf-8")
    for setting in SETTINGS:
        row = re.search(rf"^\| `{setting.name}` \|.*$", page, re.MULTILINE)
        assert row, f"docs/settings.md has no row for {setting.name}"
        assert setting.environment in row[0]
        assert setting.help in row[0]


@pytest.mark.feature("CORE-11")
def test_every_error_is_exported_and_documented_with_its_exit_code():
    page = (DOCS / "errors.md").read_text(encoding="utf-8")
    for error in errors():
        assert error.__name__ in cupola.__all__
        row = re.search(rf"^\| `{error.__name__}` \| (`\w+`)? ?\| (\d+) \| (.*) \|$", page, re.MULTILINE)
        assert row, f"docs/errors.md has no row for {error.__name__}"
        assert row[2] == str(error.exit_code)
        assert row[3] == (error.__doc__ or "").partition("\n")[0]


@pytest.mark.feature("CORE-11")
@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="argparse words help differently from version to version")
@pytest.mark.parametrize("page", reference.PAGES)
def test_the_reference_says_what_the_program_says(page, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    written = (DOCS / page).read_text(encoding="utf-8")
    assert written == reference.PAGES[page](), "run `python .ci/reference.py`"


@pytest.mark.feature("CORE-11")
def test_every_command_has_help_that_names_itself():
    for words in reference.commands():
        assert f"usage: cupola {' '.join(words)}" in reference.help_of(words), words


@pytest.mark.feature("CORE-11")
def test_every_feature_has_a_row_whose_tests_exist_and_carry_its_mark():
    rows = re.findall(r"^\| (CORE-\d\d) \| .+? \| (.+?) \| .+? \|$", (DOCS / "features.md").read_text(), re.MULTILINE)
    assert [identifier for identifier, _ in rows] == [f"CORE-{number:02d}" for number in range(1, 13)]
    for identifier, tests in rows:
        for place in re.findall(r"`([^`]+)`", tests):
            path = REPOSITORY / place
            files = [path] if path.is_file() else sorted(path.rglob("test_*.py"))
            assert any(f'"{identifier}"' in file.read_text(encoding="utf-8") for file in files), (
                f"{identifier}: {place}"
            )
