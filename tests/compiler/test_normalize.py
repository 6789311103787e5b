"""The text of normalized code: equal over versions of Python, blind for what can't matter, and for nothing else."""

from __future__ import annotations

import ast
import json
import os
import random
import textwrap
from pathlib import Path

import pytest

from cupola import digest
from cupola.compiler.normalize import describe
from cupola.compiler.parsed import ParsedFile
from cupola.compiler.scopes import chain_of

pytestmark = pytest.mark.feature("CORE-07")
GOLDEN = Path(__file__).parent.parent / "golden"


def described(text):
    return describe(ast.parse(textwrap.dedent(text)).body, is_own=lambda chain: chain == ("step",))


def content(text):
    return described(text).content


def chains(text):
    return {reference.chain for reference in described(text).references}


def test_digests_of_the_corpus_are_those_of_every_version_of_python():
    # Written by Python 3.11; `WRITE_GOLDEN=1` writes them anew after a change of the format number.
    file = GOLDEN / "corpus.py"
    parsed = ParsedFile(str(file), file.read_bytes())
    digests = {}
    for number, statement in enumerate(parsed.statements):
        found = parsed.describe(statement)
        text = repr([(reference.chain, reference.role, reference.line) for reference in found.references])
        name = getattr(statement, "name", f"statement {number}")
        digests[name] = [digest.blob(found.content), digest.blob(text.encode())]
    golden = GOLDEN / "corpus.json"
    if os.environ.get("WRITE_GOLDEN"):
        golden.write_text(json.dumps(digests, indent=1) + "\n")
    assert digests == json.loads(golden.read_text())


SAME = [
    ("def f(x):\n  '''Doc.'''\n  return x", "def f(x):\n\n  # why\n  return (x)"),
    ("def f(a):\n  total = a\n  return total", "def f(a):\n  summed = a\n  return summed"),
    ("def f(a):\n  for row in a: yield row", "def f(a):\n  for item in a: yield item"),
    ("f = lambda a: [x for x in a]", "f = lambda a: [y for y in a]"),
    ("def f(a):\n  with a as b: return b", "def f(a):\n  with a as c: return c"),
    ("def f(a):\n  try: a()\n  except E as e: raise e", "def f(a):\n  try: a()\n  except E as error: raise error"),
    ("def f(a):\n  import numpy as np\n  return np.x", "def f(a):\n  import numpy as n\n  return n.x"),
    ("def f(a):\n  b = 1\n  def g(): return b\n  return g", "def f(a):\n  c = 1\n  def g(): return c\n  return g"),
    ("def f(a):\n  if (b := a): return b", "def f(a):\n  if (c := a): return c"),
    ("def f(a):\n  match a:\n    case [b, *c]: return b, c", "def f(a):\n  match a:\n    case [d, *e]: return d, e"),
    ("@step\ndef f(): pass", "@step(retry=3)\ndef f(): ..."),
    ("x = f'{a}' 'b'", "x = f'{a}b'"),
    ("x = 'a' 'b'", "x = \"ab\""),
    ("x = 0x10", "x = 1_6"),
]  # fmt: skip
DIFFERENT = [
    ("x = 1", "x = True"), ("x = 1", "x = 1.0"), ("x = 0.0", "x = -0.0"), ("x = 'a'", "x = b'a'"),
    ("x = (1,)", "x = [1]"),
    ("def f(a): return a", "def f(b): return b"),
    ("def f(a):\n  b, c = a\n  return b", "def f(a):\n  b, c = a\n  return c"),
    ("def f(a):\n  b = 1\n  return locals()", "def f(a):\n  c = 1\n  return locals()"),
    ("def f(a):\n  b = 1\n  return f'{b=}'", "def f(a):\n  c = 1\n  return f'{c=}'"),
    ("def f(a):\n  b = 1; c = 2\n  return a.where('x > @b')", "def f(a):\n  c = 1; b = 2\n  return a.where('x > @b')"),
    ("def f(a):\n  b = 1; c = 2\n  return a.query(Q)", "def f(a):\n  c = 1; b = 2\n  return a.query(Q)"),
    ("def f(a):\n  b = 1\n  return c", "def f(a):\n  c = 1\n  return c"),
    ("def f(a):\n  def g(): return 1\n  return g", "def f(a):\n  def h(): return 1\n  return h"),
    ("def f(a):\n  b = [b for b in a]\n  return b", "def f(a):\n  c = [b for b in a]\n  return b"),
    ("def f(a):\n  global b\n  b = 1", "def f(a):\n  global c\n  c = 1"),
    ("def f(a): return a.b", "def f(a): return a.c"), ("def f(a): return a(b=1)", "def f(a): return a(c=1)"),
    ("@other\ndef f(): pass", "def f(): pass"), ("def f(x: int): pass", "def f(x: str): pass"),
    ("async def f(): pass", "def f(): pass"), ("def f(*, a): pass", "def f(a): pass"),
    ("def f(a, /): pass", "def f(a): pass"),
    ("def f(a=1): pass", "def f(a=2): pass"), ("f'{a}'", "f'{a!r}'"), ("f'{a:3}'", "f'{a:4}'"),
    ("x = f'{a}'", "x = f'{a!s}'"),
    ("import a.b", "import a"), ("import a.b as c", "import a.d as c"), ("from . import a", "from .. import a"),
    ("class A:\n  x: int", "class A:\n  y: int"), ("x = a if b else c", "x = c if b else a"),
    ("for a in b: pass\nelse: c", "for a in b: pass\nc"), ("try: a\nfinally: b", "try: a\nexcept: b"),
]  # fmt: skip


@pytest.mark.parametrize(("one", "other"), SAME)
def test_code_that_does_the_same_is_the_same_text(one, other):
    assert content(one) == content(other)


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_code_that_does_something_else_is_another_text(one, other):
    assert content(one) != content(other)


def test_names_from_outside_are_found_with_their_attributes():
    text = """
        def f(a: A.B, b: "C.D" = E) -> "F | None":
            g = G.x.y(a.h)
            with H() as i, J(i): pass
            def inner(k=K): return g, L
            class M(N, metaclass=O): p = P
            return [Q for q in R if S(q)], inner, M, (T := 1), T, U[V:W], f"{X:{Y}}", {**Z}
    """
    names = {chain[0] for chain in chains(text)}
    assert names == set("ABCDEFGHJKLNOPQRSUVWXYZ") - {"B", "D"}
    assert ("G", "x", "y") in chains(text)
    assert ("A", "B") in chains(text)
    assert ("C", "D") in chains(text)


@pytest.mark.parametrize(
    ("text", "role", "chain"),
    [
        ("def f(): return globals()", "file", ()),
        ("def f(x): exec(x)", "file", ()),
        ("def f(x): return importlib.import_module(x)", "file", ()),
        ("def f(x): return sys.modules[x]", "file", ()),
        ("def f(x): return getattr(helper, x)", "members", ("helper",)),
        ("def f(x): return vars(helper)", "members", ("helper",)),
        ("def f(x, y): return getattr(x, y)", "file", ()),
        ("def f(x): return getattr(helper, 'rows')", "code", ("helper", "rows")),
    ],
)
def test_what_looks_up_names_at_run_time_says_how_far_it_reaches(text, role, chain):
    assert (role, chain) in {(reference.role, reference.chain) for reference in described(text).references}


@pytest.mark.parametrize("text", ["def f(self, n): return getattr(self, n)", "def f(x): return getattr(x, 'rows')"])
def test_looking_into_a_known_object_widens_nothing(text):
    assert not {reference.role for reference in described(text).references} - {"code"}


def test_renaming_every_local_of_the_corpus_changes_nothing():
    # Each local of a plain function is renamed by the interpreter's own symbol table, not by our scopes.
    import symtable

    source = (GOLDEN / "corpus.py").read_text()
    table = symtable.symtable(source, "corpus.py", "exec")
    tree = ast.parse(source)
    rng = random.Random(1)
    for function in [
        node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name in ("comprehensions", "control")
    ]:
        scope = next(child for child in table.get_children() if child.get_name() == function.name)
        names = [
            s.get_name() for s in scope.get_symbols() if s.is_local() and not s.is_parameter() and not s.is_namespace()
        ]
        before = describe([function], is_own=lambda chain: False).content
        new = {name: f"renamed_{rng.randrange(10**9)}" for name in names}
        for node in ast.walk(function):
            if isinstance(node, ast.Name) and node.id in new:
                node.id = new[node.id]
            elif isinstance(node, ast.ExceptHandler) and node.name in new:
                node.name = new[node.name]
        assert names
        assert describe([function], is_own=lambda chain: False).content == before


def test_chain_of_anything_but_a_name_is_empty():
    assert chain_of(ast.parse("f().x", mode="eval").body) == ()
