"""Whose a file is, and the versions of distributions from the names of their folders."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cupola.compiler import libraries
from cupola.compiler.libraries import is_project_file, origin_of

pytestmark = pytest.mark.feature("CORE-07")


@pytest.fixture
def site(tmp_path):
    folder = tmp_path / "lib" / "site-packages"
    folder.mkdir(parents=True)

    def install(name, version, *files, url=None, installer="pip"):
        info = folder / f"{name}-{version}.dist-info"
        info.mkdir()
        (info / "RECORD").write_text("".join(f"{file},,\n" for file in files))
        (info / "INSTALLER").write_text(installer)
        if url is not None:
            (info / "direct_url.json").write_text(json.dumps({"url": url, "dir_info": {}}))
        return folder / files[0]

    return install


def origin(path):
    found = origin_of(str(path), "x")
    return found.kind, found.name, found.version


def test_python_s_own_modules_are_python_s():
    assert origin_of("", "sys").kind == "python"
    assert origin_of(json.__file__, "json").kind == "python"


def test_our_own_modules_are_ours():
    assert origin_of(libraries.__file__, "cupola.compiler.libraries").kind == "cupola"


def test_distribution_is_found_by_its_files_whatever_it_is_called(site):
    assert origin(site("scikit_learn", "1.9", "sklearn/__init__.py")) == ("library", "scikit_learn", "1.9")
    assert origin(site("Some.Thing", "2.0rc1", "other/__init__.py")) == ("library", "some_thing", "2.0rc1")


def test_distributions_that_share_a_namespace_are_told_apart(site):
    one, two = site("google-a", "1", "google/a/x.py"), site("google-b", "2", "google/b/x.py")
    assert (origin(one), origin(two)) == (("library", "google_a", "1"), ("library", "google_b", "2"))


def test_another_version_is_seen_in_the_same_process(site):
    file = site("thing", "1.0", "thing/__init__.py")
    assert origin(file) == ("library", "thing", "1.0")
    info = file.parent.parent / "thing-1.0.dist-info"
    info.rename(info.with_name("thing-1.1.dist-info"))
    assert origin(file) == ("library", "thing", "1.1")


def test_what_was_installed_from_a_folder_is_the_project_s_code(site):
    file = site("thing", "1.0", "thing/__init__.py", url="file:///somewhere/thing")
    assert origin(file)[0] == "project"
    assert is_project_file(file, "/somewhere/else")


def test_what_conda_built_in_a_folder_is_a_library(site):
    assert (
        origin(site("thing", "1.0", "thing/__init__.py", url="file:///croot/thing", installer="conda"))[0] == "library"
    )


def test_file_without_a_distribution_is_the_project_s_code(site):
    folder = site("thing", "1.0", "thing/__init__.py").parent.parent
    assert origin(folder / "loose.py")[0] == "project"


def test_virtual_environment_below_the_root_is_not_the_project(site, tmp_path):
    file = site("thing", "1.0", "thing/__init__.py")
    assert not is_project_file(file, tmp_path)
    assert is_project_file(tmp_path / "run.py", tmp_path)
    assert not is_project_file(json.__file__, tmp_path)


def test_version_of_a_library_counts_for_the_steps_that_name_it(tmp_path, run_python, site):
    module = site("thing", "1.0", "thing/__init__.py")
    module.parent.mkdir()
    module.write_text("def use(): return 1\n")
    (tmp_path / "go.py").write_text(
        "from cupola.compiler.reach import code_parts\nimport thing\n"
        "def uses(): return thing.use()\ndef other(): return 1\nif __name__ == '__main__':\n    "
        "print([[p.text for p in code_parts(f).parts if p.kind == 'library'] for f in (uses, other)])\n"
    )
    result = run_python("go.py", PYTHONPATH=str(module.parent.parent))
    assert result.stdout.strip() == "[['1.0'], []]", result.stderr


def test_edit_of_an_editable_library_counts(tmp_path, run_python):
    library = tmp_path / "elsewhere" / "mylib"
    library.mkdir(parents=True)
    project = tmp_path / "project"
    project.mkdir()
    (project / "go.py").write_text(
        "from cupola.compiler.reach import code_parts\nimport mylib\ndef step(): return mylib.use()\n"
        "print([(p.kind, p.name, p.digest) for p in code_parts(step).parts if 'mylib' in p.name])\n"
    )
    seen = []
    for text in ("def use(): return 1\n", "def use(): return 2\n"):
        (library / "__init__.py").write_text(text)
        result = run_python("go.py", cwd=project, PYTHONPATH=str(library.parent), PYTHONDONTWRITEBYTECODE="1")
        assert result.returncode == 0, result.stderr
        seen.append(eval(result.stdout))
    assert [kind for kind, name, _ in seen[0]] == ["function"]
    assert seen[0][0][1] == "mylib:use"
    assert seen[0] != seen[1]


def test_distributions_of_this_interpreter_are_found():
    import msgspec

    assert origin_of(str(Path(msgspec.__file__)), "msgspec").version == msgspec.__version__
