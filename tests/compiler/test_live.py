"""What is digested is what was loaded: values, generated code, stale files; and what can't be digested says why."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import textwrap
import time

import pytest

from cupola.compiler.reach import code_parts
from cupola.errors import CodeChanged, CompileError

pytestmark = pytest.mark.feature("CORE-07")


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Return a function that writes a module of a project and imports it."""
    monkeypatch.setenv("CUPOLA_ROOT", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    loaded = []

    def load(text, name="subject"):
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(text))
        importlib.invalidate_caches()
        loaded.append(name)
        return importlib.import_module(name)

    yield load
    for name in loaded:
        sys.modules.pop(name, None)


def names(tree):
    return {f"{part.kind} {part.name}" for part in tree.parts}


def texts(tree):
    return {part.name: part.text for part in tree.parts}


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("threading.Lock()", "cannot pickle '_thread.lock' object"),
        ("open(__file__)", "cannot pickle "),
        ("[{'deep': threading.Lock()}]", "cannot pickle '_thread.lock' object"),
        ("(n for n in range(3))", "cannot pickle 'generator' object"),
        ("File('data.csv')", "files count by their content as inputs only; pass it to the step as a parameter"),
        ("Angry()", "do not look at me"),
    ],
)
def test_what_cannot_be_hashed_makes_the_step_uncacheable_with_the_reason(load, value, reason):
    module = load(
        f"""
        import threading
        from cupola import File
        class Angry:
            def __reduce_ex__(self, protocol): raise RuntimeError("do not look at me")
        HELD = {value}
        def step(): return HELD
        def other(): return 1
        def make(held):
            def inner(): return held
            return inner
        closure = make(HELD)
        """
    )
    tree = code_parts(module.step)
    assert tree.uncacheable.startswith("subject:HELD holds a ")
    assert f"that can't be hashed: {reason}" in tree.uncacheable
    assert tree.uncacheable.endswith("(subject.py:6)")
    assert code_parts(module.closure).uncacheable.startswith("subject:make.<locals>.inner[held] holds a ")
    assert code_parts(module.other).uncacheable == ""


def test_values_count_as_they_are_when_the_pipeline_is_compiled(load):
    module = load("TABLE = {'a': 1}\nRATE = 0.5\ndef step(): return TABLE['a'] * RATE\n")
    before = code_parts(module.step)
    assert texts(before)["subject:TABLE"] == "{'a': 1}"
    module.TABLE["b"] = 2
    module.RATE = 0.7
    after = code_parts(module.step)
    assert {part.name for part in set(after.parts) - set(before.parts)} == {"subject:TABLE", "subject:RATE"}
    assert texts(after)["subject:RATE"] == "0.7"


def test_containers_that_are_only_filled_do_not_count(load):
    module = load(
        """
        CALLS, COUNT, READ = [], {"n": 0}, []
        NUMBER = 0
        def step():
            global NUMBER
            CALLS.append(1)
            COUNT["n"] += 1
            NUMBER += 1
        def reader():
            READ.append(1)
            return len(READ)
        def make():
            seen, count = [], 0
            def inner():
                nonlocal count
                count += 1
                seen.append(count if False else 1)
            return inner
        def keep():
            seen = []
            def inner():
                seen.append(1)
                return seen
            return inner
        filled, kept = make(), keep()
        """
    )
    functions = (module.step, module.reader, module.filled, module.kept)
    before = [code_parts(function) for function in functions]
    for function in functions:
        function()
    same = [code_parts(function) == tree for function, tree in zip(functions, before, strict=True)]
    # The third reads its counter.
    assert same == [True, False, False, False]


def test_closures_that_are_only_filled_do_not_count(load):
    module = load(
        """
        def make():
            seen, count = [], 0
            def inner():
                nonlocal count
                count += 1
                seen.append(1)
            return inner
        inner = make()
        """
    )
    before = code_parts(module.inner)
    module.inner()
    assert code_parts(module.inner) == before


def test_function_put_in_the_place_of_another_counts_as_it_is(load):
    module = load("def one(): return 1\ndef two(): return 2\ndef step(): return one()\n")
    module.one = module.two
    assert "function subject:two" in names(code_parts(module.step))


def test_two_closures_of_one_function_differ_by_what_they_hold(load):
    module = load(
        "def make(factor):\n    def step(x): return x * factor\n    return step\ntwo, three = make(2), make(3)\n"
    )
    two, three = code_parts(module.two), code_parts(module.three)
    assert [(part.name, part.text) for part in set(two.parts) - set(three.parts)] == [
        ("subject:make.<locals>.step[factor]", "2")
    ]


def test_partials_bound_methods_and_callable_objects_count_with_what_is_bound(load):
    module = load(
        """
        import functools
        class Scale:
            def __init__(self, by): self.by = by
            def apply(self, x): return x * self.by
            def __call__(self, x): return self.apply(x)
        def tag(a, b): return a + b
        partial_1, partial_2 = functools.partial(tag, b=1), functools.partial(tag, b=2)
        method_1, method_2 = Scale(1).apply, Scale(2).apply
        object_1, object_2 = Scale(1), Scale(2)
        """
    )
    for kind, expected in (
        ("partial", "function subject:tag"),
        ("method", "class subject:Scale"),
        ("object", "class subject:Scale"),
    ):
        one, two = (code_parts(getattr(module, f"{kind}_{number}")) for number in (1, 2))
        assert expected in names(one)
        assert {part.kind for part in set(one.parts) ^ set(two.parts)} == {"closure"}


def test_lambdas_on_one_line_are_told_apart(load):
    module = load("one, two, three = lambda x: x + 1, lambda x: x + 2, [lambda: (lambda y: y), lambda: 4, lambda: 5]\n")
    digests = [
        [part.digest for part in code_parts(function).parts if part.kind == "function"]
        for function in (module.one, module.two, module.three[0], module.three[0](), module.three[1], module.three[2])
    ]
    assert len({tuple(digest) for digest in digests}) == 6


def test_helpers_of_one_name_in_two_scopes_stay_apart(load):
    module = load(
        """
        def first():
            def helper(): return 1
            def step(): return helper()
            return step
        def second():
            def helper(): return 2
            def step(): return helper()
            return step
        one, two = first(), second()
        """
    )
    assert "function subject:first.<locals>.helper" in names(code_parts(module.one))
    assert names(code_parts(module.one)).isdisjoint(names(code_parts(module.two)) - {"python python"})


def test_classes_that_libraries_make_count_by_what_the_project_says(load):
    pytest.importorskip("attrs")
    pytest.importorskip("pydantic")
    module = load(
        """
        import collections, dataclasses, enum, functools, typing
        import attrs, msgspec, pydantic
        @dataclasses.dataclass
        class A: x: int = 1
        @attrs.define
        class B: x: int = 1
        class C(msgspec.Struct): x: int = 1
        class D(pydantic.BaseModel): x: int = 1
        class E(enum.Enum): X = 1
        class F(typing.NamedTuple): x: int = 1
        G = collections.namedtuple("G", "x")
        class H(typing.TypedDict): x: int
        def step():
            return A, B, C, D, E, F, G, H
        """
    )
    tree = code_parts(module.step)
    assert {f"class subject:{name}" for name in "ABCDEFH"} | {"constant subject:G"} <= names(tree)
    assert {"library attrs", "library msgspec", "library pydantic"} <= names(tree)
    assert tree.uncacheable == ""


def test_code_that_was_made_at_run_time_counts_by_its_bytecode(load):
    text = (
        "scope = {{'HELPER': lambda: 1}}\nexec('def made(): return {} + HELPER()', scope)\n"
        "made = scope['made']\ndef step(): return made()\n"
    )
    one = code_parts(load(text.format(1)).step)
    sys.modules.pop("subject")
    two = code_parts(load(text.format(2)).step)
    assert one.parts != two.parts
    assert not one.uncacheable


def test_cached_and_wrapped_helpers_are_followed(load):
    module = load(
        """
        import functools
        def deep(): return 1
        @functools.lru_cache
        def cached(): return deep()
        @functools.singledispatch
        def chosen(x): return deep()
        class Thing:
            @functools.cached_property
            def late(self): return deep()
        def by_cache(): return cached()
        def by_choice(): return chosen(1)
        def by_property(): return Thing().late
        """
    )
    for name in ("by_cache", "by_choice", "by_property"):
        assert "function subject:deep" in names(code_parts(getattr(module, name)))


def test_async_and_generator_steps_are_followed(load):
    module = load("def deep(): return 1\nasync def step(): return deep()\ndef items():\n    yield deep()\n")
    assert "function subject:deep" in names(code_parts(module.step)) & names(code_parts(module.items))


def test_recursion_circles_and_long_chains_end(load):
    chain = "\n".join(f"def f{n}(): return f{n + 1}()" for n in range(3000))
    module = load(f"{chain}\ndef f3000(): return f0()\nLOOP = []\nLOOP.append(LOOP)\ndef step(): return f0(), LOOP\n")
    tree = code_parts(module.step)
    assert len(tree.parts) == 3005
    assert not tree.uncacheable


def test_name_that_is_found_nowhere_widens_to_the_file(load):
    module = load("def step(): return not_yet()\ndef other(): return 1\n")
    assert {"module subject", "function subject:other"} <= names(code_parts(module.step))


def test_annotation_that_is_found_nowhere_widens_nothing(load):
    module = load("from __future__ import annotations\ndef step(x: Gone) -> 'Away': return 1\ndef other(): return 1\n")
    assert names(code_parts(module.step)) == {"function subject:step", "python python"}


def test_library_that_is_missing_counts_as_missing(load):
    module = load(
        "def step():\n    try:\n        import not_there.at_all\n    except ImportError: pass\n    not_there.x()\n"
    )
    assert texts(code_parts(module.step))["not_there"] == "not installed"


def test_runs_started_in_the_file_are_no_code_of_its_steps(load):
    text = """
        from cupola import pipeline, step
        def helper(): return 1
        @step
        def one() -> int: return 1
        @step
        def two() -> int: return helper()
        @pipeline
        def flow(): one(); two()
        print("started")
        if False:
            run = flow()
            print(run.status, {})
            flow.with_options(tags=["x"])
        """
    first = code_parts(load(text.replace("{}", "1")).one.fn)
    assert names(first) == {"function subject:one", "python python"}


def test_secrets_and_texts_made_at_run_time_are_not_shown(load):
    module = load(
        """
        import os
        API_TOKEN = "hunter2"
        HOME = os.environ["HOME"] + "/hunter3"
        NESTED = {"password": os.environ["HOME"] + "hunter4"}
        PLAIN = "shown"
        def step(): return API_TOKEN, HOME, NESTED, PLAIN
        """
    )
    tree = code_parts(module.step)
    assert "hunter" not in repr(tree)
    assert texts(tree)["subject:PLAIN"] == "'shown'"


def test_loggers_cupola_s_objects_and_the_clock_of_the_module_widen_nothing(load):
    module = load(
        """
        import logging
        from cupola import Client, Retry, get_logger
        one = logging.getLogger(__name__)
        two = get_logger(__name__)
        def step():
            one.info("x"); two.info("y")
            return __name__, __file__
        """
    )
    assert names(code_parts(module.step)) == {"function subject:step", "python python"}


def test_edit_after_the_import_is_told(load, tmp_path):
    module = load("def helper(): return 1\ndef step(): return helper()\n")
    (tmp_path / "subject.py").write_text("def helper(): return 2\ndef step(): return helper()\n")
    with pytest.raises(
        CodeChanged, match=r"helper was loaded before its file was changed.*\(.*subject.py:1\)\nstart the"
    ):
        code_parts(module.step)


def test_edit_after_the_first_run_changes_nothing_until_the_module_is_loaded_again(load, tmp_path):
    module = load("def helper(): return 1\ndef step(): return helper()\n")
    before = code_parts(module.step)
    (tmp_path / "subject.py").write_text("def helper(): return 2\ndef step(): return helper()\n")
    assert code_parts(module.step) == before
    assert module.step() == 1
    importlib.reload(module)
    assert {part.name for part in set(code_parts(module.step).parts) - set(before.parts)} == {"subject:helper"}


def test_comment_written_after_the_import_is_no_change(load, tmp_path):
    module = load("def step(): return 1\n")
    (tmp_path / "subject.py").write_text("# why\n\ndef step(): return 1\n")
    assert names(code_parts(module.step)) == {"function subject:step", "python python"}


def test_stale_bytecode_is_told(tmp_path):
    program = "from cupola.compiler.reach import code_parts\nimport helper\ndef step(): return helper.LIST\n"
    program += "print(helper.LIST)\ncode_parts(step)\n"
    (tmp_path / "go.py").write_text(program)
    helper = tmp_path / "helper.py"
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
    second = int(time.time()) - 100
    results = []
    for text in ("LIST = [n for n in (1, 2)]\n", "LIST = [n for n in (1, 3)]\n"):
        helper.write_text(text)
        os.utime(helper, (second, second))
        results.append(
            subprocess.run([sys.executable, "go.py"], cwd=tmp_path, env=environment, capture_output=True, text=True)
        )
    assert results[0].returncode == 0, results[0].stderr
    # Python itself takes the old bytecode.
    assert results[1].stdout.strip() == "[1, 2]"
    assert "CodeChanged: the bytecode that was loaded is not what the file says" in results[1].stderr


def test_helper_under_two_names_is_told(load, tmp_path, monkeypatch):
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "parts.py").write_text("def part(): return 1\n")
    monkeypatch.syspath_prepend(str(tmp_path / "inner"))
    module = load("import parts, inner.parts\ndef step(): return parts.part() + inner.parts.part()\n")
    with pytest.raises(CompileError, match=r"imported under two names, '(inner\.)?parts' and '(inner\.)?parts'"):
        code_parts(module.step)
    for name in ("parts", "inner.parts", "inner"):
        sys.modules.pop(name)


def test_program_has_the_same_parts_however_it_is_started(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / ".cupola").mkdir()
    (tmp_path / "sub" / "go.py").write_text(
        textwrap.dedent(
            """
            from pathlib import Path
            from cupola import step
            import dataclasses, enum, hashlib
            HERE = Path(__file__).resolve().parent / "data"
            TEXT = str(HERE)
            NAME = __name__
            class Kind(enum.Enum): ONE = {"a", "b", "c"}
            @dataclasses.dataclass
            class Made: x: set
            MADE = Made({"x", "y", "z"})
            @step
            def work(kind: Kind = Kind.ONE): return HERE, TEXT, NAME, MADE
            def show():
                from cupola.compiler.reach import code_parts
                tree = code_parts(work.fn)
                assert "go.py" in tree.places["sub.go:work"]
                print(hashlib.sha256(repr(tree).encode()).hexdigest())
            if __name__ == "__main__": show()
            """
        )
    )
    load = "from cupola.compiler.loading import load_target; from pathlib import Path\n"
    load += "load_target('sub/go.py', Path.cwd())[0].show()"
    shown = set()
    for seed, arguments in enumerate(
        (["sub/go.py"], ["-m", "sub.go"], ["-c", load], ["-c", "import sub.go; sub.go.show()"])
    ):
        environment = {**os.environ, "PYTHONHASHSEED": str(seed)}
        result = subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert result.returncode == 0, result.stderr
        shown.add(result.stdout)
    assert len(shown) == 1
