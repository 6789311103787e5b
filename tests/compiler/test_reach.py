"""What a step's code reaches: a table of edits, each with the parts that it must change and no others."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytestmark = pytest.mark.feature("CORE-07")

PROJECT = {
    "work.py": '''
        """Steps."""
        import functools
        import logging
        import random
        import lib.deep as dp
        from lib import config, opened, shapes, wide
        from lib.config import LIMIT as HIGHEST
        from lib.marks import timed
        from lib.star import *
        from cupola import Retry, step
        import msgspec
        random.seed(1)
        logger = logging.getLogger(__name__)
        OPS = {"one": lambda x: x + 1, "two": lambda x: x + 2}
        PAIR = [lambda x: x * 10, lambda x: x * 20]
        half = functools.partial(pow, 2, 3)
        scaled = functools.partial(dp.scale, factor=3)
        COMPUTED = [config.LIMIT * n for n in range(3)]
        UNUSED = 1
        def make(factor, offset=1):
            @step
            def times(x: int) -> int:
                return x * factor + offset
            return times
        double = make(2)
        @step(retry=2)
        def fit(x: int, rate: float = 0.1) -> float:
            """Fit."""
            logger.info("fit %s", x)
            total = 0.0
            for item in range(x):
                total += dp.rows(item) * rate
            model = shapes.Square(side=HIGHEST)
            return total + model.area() + OPS["one"](x)
        @step
        @timed(3)
        def wrapped(x: int) -> int:
            return x
        @step
        def bound(x: int) -> int:
            return scaled(x) + half()
        @step
        def lazy(x: int) -> int:
            from lib.late import helper
            import lib.later as later
            return helper(x) + later.other(x)
        @step
        def starred(x: int) -> int:
            return from_star(x) + STAR
        @step
        def packed(x: shapes.Config) -> bytes:
            return msgspec.json.encode(x.depth)
        @step
        def nested(x: int) -> int:
            return double(x) + COMPUTED[0]
        @step
        def dynamic(x: int) -> int:
            return getattr(opened, "ro" + "ws")(x)
        @step
        def everything(x: int) -> int:
            return wide.look(x)
        @step
        def annotated(x: "shapes.Config", y: shapes.Colour = shapes.Colour.RED) -> None:
            return None
        def unrelated(): return 1
        if __name__ == "__main__":
            print("main")
    ''',
    "lib/config.py": '"""Settings."""\nLIMIT = 0.5\nOTHER = 2\nDEPTH = 4\n',
    "lib/deep.py": '''
        from lib.config import OTHER
        from . import inner
        def rows(n, extra=(1, 2)):
            return n * OTHER + inner.base(n) + len(extra)
        def scale(x, factor): return x * factor
        def unrelated(): return 3
    ''',
    "lib/inner.py": "def base(n): return n + 1\ndef other(n): return n + 2\n",
    "lib/late.py": "from lib.config import OTHER\nSMALL = 3\n"
    "def helper(x): return x + SMALL + OTHER\ndef away(): pass\n",
    "lib/later.py": "def other(x): return x\n",
    "lib/star.py": "STAR = 5\ndef from_star(x): return x\ndef unrelated_star(x): return x\n",
    "lib/opened.py": "def rows(x): return x\ndef unrelated(x): return x\n",
    "lib/wide.py": "def look(x): return globals()['other'](x)\ndef other(x): return x\n",
    "lib/marks.py": '''
        import functools
        def timed(times):
            def decorate(function):
                @functools.wraps(function)
                def wrapper(*args, **kwargs):
                    return function(*args, **kwargs) * times
                return wrapper
            return decorate
    ''',
    "lib/shapes.py": '''
        import dataclasses, enum
        from lib import config
        class Base:
            unit = "m"
            def area(self): return self.size() * 2
        class Square(Base):
            def __init__(self, side): self.side = side
            def size(self): return self.side ** 2
            @property
            def name(self): return "square"
        class Other(Base): pass
        @dataclasses.dataclass
        class Config:
            depth: int = 3
            name: str = "x"
            limit: int = config.DEPTH + 1
        class Colour(enum.Enum):
            RED = 1
            BLUE = 2
    ''',
}  # fmt: skip

# What is edited, how, and which parts of which steps change by that: `step: kind name, …`; nothing when all stay.
EDITS = [
    # A function that is reached, near and far.
    ("body of the step", "work.py", "return total + model", "return total - model", {"fit": {"function work:fit"}}),
    ("helper in another file", "lib/deep.py", "n * OTHER", "n + OTHER",
     {"fit": {"function lib.deep:rows"}}),
    ("helper two modules away", "lib/inner.py", "n + 1", "n + 3",
     {"fit": {"function lib.inner:base"}}),
    ("unrelated helper far away", "lib/inner.py", "n + 2", "n + 4", {}),
    ("helper imported inside", "lib/late.py", "x + SMALL", "x - SMALL", {"lazy": {"function lib.late:helper"}}),
    ("constant of one", "lib/late.py", "SMALL = 3", "SMALL = 4", {"lazy": {"constant lib.late:SMALL"}}),
    ("module imported inside", "lib/later.py", "return x", "return -x", {"lazy": {"function lib.later:other"}}),
    ("unrelated one there", "lib/late.py", "def away(): pass", "def away(): return 1", {}),
    ("helper from a star", "lib/star.py", "def from_star(x): return x", "def from_star(x): return -x",
     {"starred": {"function lib.star:from_star"}}),
    ("constant from a star", "lib/star.py", "STAR = 5", "STAR = 6", {"starred": {"constant lib.star:STAR"}}),
    ("unrelated one of a star", "lib/star.py", "unrelated_star(x): return x", "unrelated_star(x): return -x", {}),
    ("step that a step calls", "work.py", "x * factor + offset", "x * factor - offset",
     {"nested": {"function work:make.<locals>.times"}}),
    # Constants
    ("constant", "lib/config.py", "LIMIT = 0.5", "LIMIT = 0.7",
     {"fit": {"constant lib.config:LIMIT"}, "nested": {"constant work:COMPUTED"}}),
    ("the same written otherwise", "lib/config.py", "LIMIT = 0.5", "LIMIT = 1 / 2", {}),
    ("constant that a helper reads", "lib/config.py", "OTHER = 2", "OTHER = 3",
     {"fit": {"constant lib.config:OTHER"}, "lazy": {"constant lib.config:OTHER"}}),
    ("computed constant", "work.py", "for n in range(3)", "for n in range(4)", {"nested": {"constant work:COMPUTED"}}),
    ("unrelated constant", "work.py", "UNUSED = 1", "UNUSED = 2", {}),
    # Classes
    ("method", "lib/shapes.py", "self.side ** 2", "self.side ** 3", {"fit": {"class lib.shapes:Square"}}),
    ("method of a base class", "lib/shapes.py", "self.size() * 2", "self.size() * 3",
     {"fit": {"class lib.shapes:Base"}}),
    ("attribute of a base class", "lib/shapes.py", 'unit = "m"', 'unit = "km"', {"fit": {"class lib.shapes:Base"}}),
    ("unrelated class", "lib/shapes.py", "class Other(Base): pass", "class Other(Base): x = 1", {}),
    ("field of a data class", "lib/shapes.py", "depth: int = 3", "depth: int = 4",
     {"packed": {"class lib.shapes:Config"}, "annotated": {"class lib.shapes:Config"}}),
    ("computed field of a data class", "lib/config.py", "DEPTH = 4", "DEPTH = 5",
     {step: {"constant lib.shapes:Config.limit", "constant lib.config:DEPTH"} for step in ("packed", "annotated")}),
    ("decorator of a class", "lib/shapes.py", "@dataclasses.dataclass", "@dataclasses.dataclass(frozen=True)",
     {"packed": {"class lib.shapes:Config"}, "annotated": {"class lib.shapes:Config"}}),
    ("member of an enum", "lib/shapes.py", "BLUE = 2", "BLUE = 3", {"annotated": {"class lib.shapes:Colour"}}),
    # Defaults, closures, partials, lambdas, decorators
    ("default of the step", "work.py", "rate: float = 0.1", "rate: float = 0.2", {"fit": {"default work:fit(rate)"}}),
    ("default of a helper", "lib/deep.py", "extra=(1, 2)", "extra=(1, 3)",
     {"fit": {"default lib.deep:rows(extra)"}}),
    ("annotation", "work.py", "def bound(x: int)", "def bound(x: float)", {"bound": {"function work:bound"}}),
    ("closure", "work.py", "double = make(2)", "double = make(3)",
     {"nested": {"closure work:make.<locals>.times[factor]"}}),
    ("closure by a default", "work.py", "def make(factor, offset=1)", "def make(factor, offset=2)",
     {"nested": {"closure work:make.<locals>.times[offset]"}}),
    ("partial", "work.py", "dp.scale, factor=3", "dp.scale, factor=4", {"bound": {"constant work:scaled"}}),
    ("function under a partial", "lib/deep.py", "return x * factor", "return x / factor",
     {"bound": {"function lib.deep:scale"}}),
    ("lambda in a dict", "work.py", '"one": lambda x: x + 1', '"one": lambda x: x + 9',
     {"fit": {"function work:<lambda>"}}),
    ("its neighbour in the dict", "work.py", '"two": lambda x: x + 2', '"two": lambda x: x + 9',
     {"fit": {"function work:<lambda>"}}),
    ("lambda elsewhere", "work.py", "lambda x: x * 10", "lambda x: x * 11", {}),
    ("decorator", "lib/marks.py", "(*args, **kwargs) * times", "(*args, **kwargs) + times",
     {"wrapped": {"decorator lib.marks:timed"}}),
    ("argument of a decorator", "work.py", "@timed(3)", "@timed(4)",
     {"wrapped": {"function work:wrapped", "closure lib.marks:timed.<locals>.decorate.<locals>.wrapper[times]"}}),
    ("our decorator and its settings", "work.py", "@step(retry=2)", "@step(retry=Retry(attempts=5), timeout=3)", {}),
    # A whole file
    ("statement that defines nothing", "work.py", "random.seed(1)", "random.seed(2)", {"*": {"module work"}}),
    ("what `getattr` can reach", "lib/opened.py", "unrelated(x): return x", "unrelated(x): return -x",
     {"dynamic": {"module lib.opened", "function lib.opened:unrelated"}}),
    ("what `globals` can reach", "lib/wide.py", "def other(x): return x", "def other(x): return -x",
     {"everything": {"module lib.wide", "function lib.wide:other"}}),
    # What says nothing
    ("comment", "lib/deep.py", "from . import inner", "from . import inner  # why", {}),
    ("docstring", "work.py", '"""Fit."""', '"""Fit a model."""', {}),
    ("docstring where none was", "lib/inner.py", "base(n): return n", 'base(n):\n    """Add."""\n    return n', {}),
    ("formatting", "lib/inner.py", "base(n): return n + 1", "base(\n  n,\n):\n\n    return (n\n        + 1)", {}),
    ("quotes and line endings", "lib/shapes.py", '"square"', "'''square'''", {}),
    ("rename of a local", "work.py", "total", "amount", {}),
    ("rename of a variable of a loop", "work.py", "item", "row", {}),
    ("unrelated function", "work.py", "UNUSED = 1\n", "UNUSED = 1\ndef another(): return 7\n", {}),
    ("reordering", "lib/deep.py", "def unrelated(): return 3\n", "", {}),
    ("main block", "work.py", 'print("main")', 'print("other")', {}),
    ("logger", "work.py", "getLogger(__name__)", "getLogger('other')", {}),
    ("unrelated import", "work.py", "import logging\n", "import logging, json\n", {}),
]  # fmt: skip

DUMP = """
import importlib, json, os, sys
from pathlib import Path
from cupola.compiler.reach import code_parts
STEPS = ["fit", "wrapped", "bound", "lazy", "starred", "packed", "nested", "dynamic", "everything", "annotated"]
out = {}
before = set(sys.modules)
for folder in json.loads(sys.argv[1]):
    os.environ["CUPOLA_ROOT"] = folder
    sys.path.insert(0, folder)
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) is None or "/edits/" in sys.modules[name].__file__:
            del sys.modules[name]
    importlib.invalidate_caches()
    from cupola.compiler import modules
    modules._located.clear()
    import work
    trees = {name: code_parts(getattr(work, name).fn) for name in STEPS}
    out[folder] = {
        name: [tree.uncacheable, [[p.kind, p.name, p.digest, p.text, tree.places.get(p.name, "")] for p in tree.parts]]
        for name, tree in trees.items()
    }
    sys.path.remove(folder)
print(json.dumps(out))
"""


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text).lstrip("\n"))
    return folder


def dump(folders: list[Path], python: str = sys.executable, **environment: str) -> dict[str, dict]:
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **environment}
    command = [python, "-c", DUMP, json.dumps([str(folder) for folder in folders])]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    return {Path(folder).name: trees for folder, trees in json.loads(result.stdout).items()}


@pytest.fixture(scope="module")
def edited(tmp_path_factory):
    top = tmp_path_factory.mktemp("top") / "edits"
    folders = [write(top / "base", PROJECT)]
    for number, (_, file, old, new, _) in enumerate(EDITS):
        source = textwrap.dedent(PROJECT[file]).lstrip("\n")
        assert old in source, (file, old)
        folders.append(write(top / str(number), {**PROJECT, file: source.replace(old, new)}))
    return dump(folders)


def changed(before, after) -> set[str]:
    kinds: dict[str, set[str]] = {}
    for side, tree in (("before", before), ("after", after)):
        for kind, name, digest, *_ in tree[1]:
            kinds.setdefault(f"{kind} {name}", set()).add(f"{side} {digest}")
    return {
        part
        for part, seen in kinds.items()
        if {d.partition(" ")[2] for d in seen if d[0] == "b"} != {d.partition(" ")[2] for d in seen if d[0] == "a"}
    }


@pytest.mark.parametrize("number", range(len(EDITS)), ids=[edit[0] for edit in EDITS])
def test_edit_changes_the_parts_it_must_and_no_others(edited, number):
    expected = EDITS[number][4]
    found = {step: changed(edited["base"][step], tree) for step, tree in edited[str(number)].items()}
    if "*" in expected:
        assert all(expected["*"] <= parts for step, parts in found.items())
        return
    assert {step: parts for step, parts in found.items() if parts} == expected


def test_nothing_in_the_table_is_uncacheable(edited):
    assert {tree[0] for trees in edited.values() for tree in trees.values()} == {""}
