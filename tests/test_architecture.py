"""The shape of the program: its modules have an order, none is forgotten, and the base needs three libraries."""

from __future__ import annotations

import ast
import graphlib
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "src" / "cupola"
DOORS = ("cupola", "cupola.extend", "cupola.cli.main", "cupola.__main__")
BASE_LIBRARIES = {"msgspec", "blake3", "yaml"}
KNOW_A_LIBRARY = ("cupola.artifacts.materializers", "cupola.integrations")
GUIDE_LINES = 400


def module_name(path: Path) -> str:
    parts = ("cupola", *path.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


TREES = {module_name(path): ast.parse(path.read_text(encoding="utf-8"), str(path)) for path in PACKAGE.rglob("*.py")}


def imported(tree: ast.AST) -> Iterator[tuple[str, bool]]:
    """Yield each imported name in full, wherever it stands, and whether it stands inside a function."""
    inside = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        match node:
            case ast.Import():
                yield from ((alias.name, id(node) in inside) for alias in node.names)
            case ast.ImportFrom(level=0, module=str(source)):
                yield from ((f"{source}.{alias.name}", id(node) in inside) for alias in node.names)
            case _:
                pass


def modules_of(name: str, importer: str) -> set[str]:
    """Return the modules of ours that an import runs: the target, and packages above it that the importer isn't in."""
    parts = name.split(".")
    above = {".".join(parts[:count]) for count in range(2, len(parts) + 1)} & set(TREES)
    if name == "cupola" or not above:
        # `from cupola import step` inside of us would come in by the front door, which depends on everything.
        above.add("cupola")
    return {module for module in above if module != importer and not importer.startswith(f"{module}.")}


def imports_of(module: str) -> set[str]:
    return {
        target
        for name, _ in imported(TREES[module])
        if name.split(".")[0] == "cupola"
        for target in modules_of(name, module)
    }


def named_in_text(module: str) -> set[str]:
    """Return the modules that texts name, in full or beside this one, as tables of plugins, exports and commands do."""
    constants = (node.value for node in ast.walk(TREES[module]) if isinstance(node, ast.Constant))
    texts = {value.partition(":")[0] for value in constants if isinstance(value, str)}
    package = module.rpartition(".")[0]
    return (texts | {f"{package}.{text}" for text in texts}) & set(TREES)


@pytest.mark.feature("CORE-11")
def test_no_module_imports_itself_by_way_of_others_even_inside_functions():
    graph = {module: imports_of(module) for module in TREES}
    graphlib.TopologicalSorter(graph).prepare()


# Built and tested by themselves; the driver takes them into use one after the other. What is in use leaves this list.
NOT_YET_IN_USE = frozenset(
    {
        "cupola.engine.built",
        "cupola.engine.capacity",
        "cupola.engine.companions",
        "cupola.engine.environment",
        "cupola.engine.holders",
        "cupola.engine.indexes",
        "cupola.engine.installing",
        "cupola.engine.resources",
        "cupola.engine.uv",
        "cupola.engine.wheel",
    }
)


@pytest.mark.feature("CORE-11")
def test_every_module_is_reached_from_a_door():
    reached: set[str] = set()
    waiting = [door for door in DOORS if door in TREES]
    while waiting:
        module = waiting.pop()
        if module not in reached:
            reached.add(module)
            waiting.extend(imports_of(module) | named_in_text(module))
            # A package's own files come with it only when something names them, but its parents always do.
            waiting.extend(parent for parent in TREES if module.startswith(f"{parent}."))
    # Packages that later issues fill hold only a docstring.
    empty = {module for module, tree in TREES.items() if all(isinstance(node, ast.Expr) for node in tree.body)}
    assert set(TREES) - reached - empty - NOT_YET_IN_USE == set()


@pytest.mark.feature("CORE-11")
def test_the_base_imports_only_its_three_libraries():
    strangers = {
        f"{module} imports {name}"
        for module, tree in TREES.items()
        if not module.startswith(KNOW_A_LIBRARY)
        for name, inside in imported(tree)
        if not inside and name.split(".")[0] not in {"cupola", "__future__", *BASE_LIBRARIES, *sys.stdlib_module_names}
    }
    assert not strangers


@pytest.mark.feature("CORE-11")
def test_the_length_of_files_is_watched():
    for module, tree in TREES.items():
        lines = max((node.end_lineno or 0 for node in ast.walk(tree) if isinstance(node, ast.stmt)), default=0)
        if lines > GUIDE_LINES:
            warnings.warn(f"{module} has {lines} lines: it may have grown a second idea", stacklevel=1)
    assert TREES
