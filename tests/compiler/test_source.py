"""Root, module names and loading: the same program has the same names however it is started."""

from __future__ import annotations

import json
import os
import sys
import textwrap
import types
from pathlib import Path

import pytest

from cupola.compiler import source
from cupola.compiler.source import canonical_module, find_root, module_file, module_name, relative_path, source_name
from cupola.errors import CompileError, ConfigError

pytestmark = pytest.mark.feature("CORE-01")

# Stands in for the decorators, which lie above the compiler.
DECORATOR = """
from cupola.compiler.source import adopt, enter_project, source_name
enter_project()
def step(function):
    adopt(function)
    return function
"""
PART = "from mark import step\n@step\ndef part(): return 7\n"
LOAD = """
import sys
from pathlib import Path
from cupola.compiler.loading import importing, load_target
from cupola.compiler.source import source_name
from cupola.errors import CupolaError
assert importing() == ""
try:
    module, name = load_target(sys.argv[1], Path.cwd())
except CupolaError as error:
    sys.exit(f"{type(error).__name__}: {error}")
assert importing() == ""
print(source_name(module.flow), name, module.flow())
"""


@pytest.fixture
def library(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("library")
    (folder / "mark.py").write_text(DECORATOR)
    (folder / "load.py").write_text(LOAD)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return folder


def put(root: Path, **files: str) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def said(result) -> str:
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_root_is_the_nearest_marker_above_the_script(tmp_path):
    (tmp_path / ".cupola").mkdir()
    (tmp_path / "inner" / ".cupola").mkdir(parents=True)
    (tmp_path / "inner" / "deep").mkdir()
    assert find_root(tmp_path / "run.py") == tmp_path
    assert find_root(tmp_path / "inner" / "deep" / "run.py") == tmp_path / "inner"
    assert find_root(tmp_path / "other" / "run.py") == tmp_path


def test_root_without_marker_is_the_folder_of_the_script(tmp_path):
    assert find_root(tmp_path / "a" / "run.py") == tmp_path / "a"


def test_root_from_the_environment_beats_the_marker(tmp_path, monkeypatch):
    (tmp_path / "inner" / ".cupola").mkdir(parents=True)
    monkeypatch.setenv("CUPOLA_ROOT", str(tmp_path))
    assert find_root(tmp_path / "inner" / "run.py") == tmp_path
    monkeypatch.setenv("CUPOLA_ROOT", str(tmp_path / "gone"))
    with pytest.raises(ConfigError, match=r"CUPOLA_ROOT=.*gone.* is no folder"):
        find_root(tmp_path / "run.py")


def test_root_of_no_file_says_that_a_file_is_needed(monkeypatch):
    with pytest.raises(CompileError, match=r"must stand in a file.*\n.*python run.py"):
        find_root(None)


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("run.py", "run"), ("flows/train.py", "flows.train"),
        ("flows/__init__.py", "flows"), ("__init__.py", "__init__"),
        ("my-run.py", "my-run"), ("2026 05/rün.py", "2026 05.rün"), ("fast.cpython-311-x86_64-linux-gnu.so", "fast"),
        ("script", "script"),
    ],
)  # fmt: skip
def test_module_name_is_the_path_below_the_root(tmp_path, file, name):
    assert module_name(tmp_path / file, tmp_path) == name


def test_module_outside_the_root_has_no_name_below_it(tmp_path):
    assert module_name(tmp_path / "other" / "a.py", tmp_path / "root") == ""
    assert module_name(tmp_path / "rooted" / "a.py", tmp_path / "root") == ""


def test_linked_folder_belongs_to_the_project_under_the_name_of_the_link(tmp_path):
    (tmp_path / "root").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "root" / "lib").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "way").symlink_to(tmp_path / "root")
    assert module_name(tmp_path / "root" / "lib" / "a.py", tmp_path / "root") == "lib.a"
    assert module_name(tmp_path / "way" / "a.py", tmp_path / "root") == "a"


def test_loop_of_links_disturbs_nothing(tmp_path):
    (tmp_path / "one").symlink_to(tmp_path / "two")
    (tmp_path / "two").symlink_to(tmp_path / "one")
    assert find_root(tmp_path / "one" / "run.py") == tmp_path / "one"
    assert relative_path(tmp_path / "one" / "a.py", tmp_path) == "one/a.py"


def test_strange_modules_disturb_nothing():
    class Angry(types.ModuleType):
        def __getattr__(self, name):
            raise RuntimeError("do not look at me")

    ghost = types.ModuleType("ghost")
    ghost.__file__ = None
    relative = types.ModuleType("relative")
    relative.__file__ = "relative.py"
    assert [module_file(module) for module in (Angry("angry"), ghost, None, object())] == ["", "", "", ""]
    assert module_file(relative) == os.path.abspath("relative.py")


def test_program_without_a_file_is_told(run_python, library):
    code = "from mark import *\nfrom cupola.errors import CompileError\n@step\ndef f(): pass\n"
    code += "try: print(source_name(f))\nexcept CompileError as e: print('told', e)"
    assert said(run_python("-c", code)).startswith("told steps and pipelines must stand in a file")


def test_program_has_one_name_however_it_is_started(tmp_path, run_python, library):
    root = tmp_path / "proj"
    program = "from mark import step, source_name\nfrom lib.deep.prep import part\n@step\ndef flow(): return part()\n"
    program += "if __name__ == '__main__': print(source_name(flow), source_name(part))\n"
    put(root, **{"lib/deep/main.py": program, "lib/deep/prep.py": PART, ".cupola/keep": ""})
    (tmp_path / "way").symlink_to(root)
    starts = [
        ((root / "lib/deep/main.py",), Path("/")),
        (("main.py",), root / "lib/deep"),
        (("deep/main.py",), root / "lib"),
        (("-m", "lib.deep.main"), root),
        (("-m", "deep.main"), root / "lib"),
        (("lib/deep/main.py",), tmp_path / "way"),
    ]
    assert {said(run_python(*args, cwd=cwd)) for args, cwd in starts} == {"lib.deep.main:flow lib.deep.prep:part"}


def test_target_has_the_name_that_the_program_has(tmp_path, run_python, library):
    program = "from mark import step\nfrom lib.deep.prep import part\n@step\ndef flow(): return part()\n"
    program += "if __name__ == '__main__': raise SystemExit('the main block ran')\n"
    root = tmp_path / "proj"
    put(root, **{"lib/deep/main.py": program, "lib/deep/prep.py": PART, ".cupola/keep": "", "other/keep": ""})
    targets = [
        ("lib/deep/main.py", root), ("main.py", root / "lib/deep"),
        ("../proj/lib/deep/main.py", root / "../proj/other/.."),
        (root / "lib/deep/main.py", Path("/")), ("lib.deep.main", root),
        ("main.py:flow", root / "lib/deep"), ("lib.deep.main:flow", root), ("lib.deep.main:flow", root / "other"),
    ]  # fmt: skip
    outputs = [said(run_python(library / "load.py", target, cwd=cwd)) for target, cwd in targets]
    assert outputs == ["lib.deep.main:flow None 7"] * 5 + ["lib.deep.main:flow flow 7"] * 3


def test_script_outside_any_root_has_its_folder_as_root(tmp_path, run_python, library):
    program = "from mark import step, source_name\n@step\ndef flow(): return 1\n"
    program += "if __name__ == '__main__': print(source_name(flow), 'None 1')\n"
    put(tmp_path, **{"pkg/my-run.py": program, "pkg/run.py": program})
    names = [
        said(run_python("pkg/my-run.py")),
        said(run_python(library / "load.py", "pkg/my-run.py")),
        said(run_python("pkg/run.py")),
        said(run_python("-m", "pkg.run")),
        said(run_python(library / "load.py", "pkg/run.py")),
        said(run_python(library / "load.py", "pkg.run")),
    ]
    assert names == ["my-run:flow None 1"] * 2 + ["run:flow None 1"] * 4


def test_program_and_its_module_are_one(tmp_path, run_python, library):
    put(
        tmp_path,
        **{
            "run.py": "from mark import step\nimport helper\n@step\ndef flow(): pass\n"
            "print(helper.same(flow), __name__)\n",
            "helper.py": "def same(f):\n    import run\n    return run.flow is f\n",
        },
    )
    assert said(run_python("run.py")) == "True __main__"
    assert said(run_python("-m", "run")) == "True __main__"


def test_file_under_two_names_is_an_error_with_both(tmp_path, run_python, library):
    put(
        tmp_path,
        **{"flows/parts.py": PART, ".cupola/keep": "", "flows/train.py": "import mark, parts\nimport flows.parts\n"},
    )
    result = run_python("flows/train.py")
    assert "one file is imported under two names, 'parts' and 'flows.parts'" in result.stderr
    put(
        tmp_path,
        **{"late.py": "import back\nfrom mark import step\n@step\ndef f(): pass\n", "back.py": "import late\n"},
    )
    result = run_python("late.py")
    assert "under two names, 'late' and '__main__' (the program)" in result.stderr
    assert "goes into a module of its own" in result.stderr


def test_user_modules_named_like_ours_are_the_users(tmp_path, run_python, library):
    names = ("client", "store", "engine", "server", "cli", "artifacts", "worker", "compiler")
    put(tmp_path, **{f"{name}.py": f"WHO = {name!r}\n" for name in names}, **{"cupola/run.yaml": ""})
    program = f"import {', '.join(names)}\nfrom mark import step\n@step\ndef flow(): return engine.WHO + worker.WHO\n"
    put(tmp_path, **{"go.py": program + "if __name__ == '__main__': print(flow())\n"})
    assert said(run_python("go.py")) == "engineworker"
    assert said(run_python(library / "load.py", "go.py")) == "go:flow None engineworker"


def test_package_that_shadows_ours_is_named(tmp_path, run_python, library):
    put(tmp_path, **{"go.py": "def flow(): pass\n", "cupola/__init__.py": ""})
    result = run_python(library / "load.py", "go.py")
    assert result.stderr.startswith("CompileError: a package of yours is called cupola")
    assert str(tmp_path / "cupola/__init__.py") in result.stderr


@pytest.mark.parametrize(
    ("target", "text"),
    [
        ("gone.py", "NotFound: there is no file 'gone.py' (looked in {cwd})"),
        ("gone.py:flow", "NotFound: there is no file 'gone.py' (looked in {cwd})"),
        ("a/b:flow", "NotFound: there is no file 'a/b'"),
        ("gone.deep:flow", "NotFound: there is no module 'gone.deep'"),
        ("folder", "ConfigError: 'folder' is a folder"),
        ("a::b", "ConfigError: 'a::b' names neither a file nor a module"),
        ("os.py", "CompileError: os.py would be imported as 'os', but that name belongs to another module"),
    ],
)
def test_target_that_names_nothing_is_told(tmp_path, run_python, library, target, text):
    put(tmp_path, **{"folder/keep": "", "os.py": "def flow(): pass\n"})
    result = run_python(library / "load.py", target)
    assert text.format(cwd=tmp_path) in result.stderr


def test_script_in_a_folder_named_like_a_standard_module_loads(tmp_path, run_python, library):
    put(
        tmp_path, **{"code/go.py": "def flow(): return 1\n", "test/go.py": "def flow(): return 1\n", ".cupola/keep": ""}
    )
    assert said(run_python(library / "load.py", "code/go.py")) == "code.go:flow None 1"
    assert said(run_python(library / "load.py", "test/go.py")) == "test.go:flow None 1"


def test_error_of_the_file_itself_passes_through(tmp_path, run_python, library):
    put(tmp_path, **{"go.py": "import missing_of_mine\n"})
    assert "ModuleNotFoundError: No module named 'missing_of_mine'" in run_python(library / "load.py", "go.py").stderr
    assert "ModuleNotFoundError: No module named 'missing_of_mine'" in run_python(library / "load.py", "go:flow").stderr


def test_import_by_a_command_can_be_told_from_running(tmp_path, run_python, library):
    code = "from cupola.compiler.loading import importing\nSEEN = importing()\ndef flow(): return SEEN\n"
    put(tmp_path, **{"go.py": code})
    assert said(run_python(library / "load.py", "go.py")) == f"go:flow None {tmp_path / 'go.py'}"
    assert said(run_python(library / "load.py", "go:flow")) == f"go:flow flow {tmp_path / 'go.py'}"


def test_spawned_children_import_helpers_of_a_loaded_file(tmp_path, run_python, library):
    program = """
        import multiprocessing
        from cupola.compiler.loading import importing
        SEEN = importing()
        def square(x): return x * x, SEEN != ""
        def flow():
            with multiprocessing.get_context("spawn").Pool(1) as pool: return pool.map(square, [2, 3])
        if __name__ == "__main__": print(flow())
    """
    put(tmp_path, **{"pooled.py": textwrap.dedent(program)})
    (library / "load.py").write_text("if __name__ == '__main__':\n" + textwrap.indent(LOAD, "    "))
    # In a child that imports the program again, its import can be told from running as well.
    assert said(run_python("pooled.py")) == "[(4, True), (9, True)]"
    assert said(run_python(library / "load.py", "pooled.py")).startswith("pooled:flow None [(4, ")


def test_names_of_wrapped_functions_are_those_of_the_function_below():
    import functools

    def plain():
        pass

    @functools.wraps(plain)
    def wrapper():
        return plain()

    class Call:
        def __call__(self):
            pass

    here = "test_names_of_wrapped_functions_are_those_of_the_function_below.<locals>"
    own = canonical_module(sys.modules[__name__].__dict__)
    assert own.endswith("test_source")
    assert source_name(wrapper) == source_name(functools.partial(wrapper)) == f"{own}:{here}.plain"
    assert source_name(Call()) == f"{own}:{here}.Call.__call__"
    assert source_name(lambda: 1) == f"{own}:{here}.<lambda>"
    assert source_name(len) == "builtins:len"


def test_adopting_a_function_costs_microseconds():
    import timeit

    def function():
        pass

    source.adopt(function)
    assert min(timeit.repeat(lambda: source.adopt(function), number=1000, repeat=5)) / 1000 < 20e-6


@pytest.mark.feature("CORE-01")
def test_a_file_named_beyond_ascii_runs_alike_under_every_locale(home: Path, tmp_path: Path, run_python, run_cupola):
    (tmp_path / "größe.py").write_text(
        "from cupola import pipeline, step\n@step\ndef f() -> int: return 1\n@pipeline\ndef p(): f()\n"
        "if __name__ == '__main__': print(p().snapshot.id)\n",
        encoding="utf-8",
    )
    ascii_only = {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    for environment in ({}, ascii_only):
        assert run_python("größe.py", **environment).returncode == 0
        assert run_cupola("run", "größe.py", **environment).returncode == 0
    runs = json.loads(run_cupola("runs", "list", "--json").stdout)
    assert len(runs) == 4
    assert len({run["snapshot"] for run in runs}) == 1
