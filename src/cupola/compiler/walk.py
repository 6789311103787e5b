"""What a walk over code has found, and what it still has to follow.

The walk is a loop over names that wait (`resolve.py`), not a recursion, so that long chains of helpers are no problem.
Here are its state, and how definitions and whole files of source are added.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import msgspec

from cupola.compiler.libraries import LIBRARY, Origin
from cupola.compiler.modules import CodeModule
from cupola.compiler.normalize import Reference
from cupola.compiler.parsed import first_line
from cupola.compiler.source import relative_path


class Found(msgspec.Struct, frozen=True):
    """One thing that was reached.

    Attributes:
        kind, name, text: As in `CodePart`.
        content: What its digest is made from.
        place: Where it stands.
        node: The definition, by `id`; 0 for others.
        around: The definitions that this one stands in, by `id`.
    """

    kind: str
    name: str
    content: bytes
    text: str = ""
    place: str = ""
    node: int = 0
    around: tuple[int, ...] = ()


class Waiting(msgspec.Struct, frozen=True, eq=False):
    """A name that is still to be followed.

    Attributes:
        module: The module whose code uses it: one of the project, or one that an object holds.
        reference: The use.
        cells: What the function that uses it has in its closure.
    """

    module: CodeModule | ModuleType
    reference: Reference
    cells: dict[str, Any] = {}


class Walk:
    """One walk: what one step function reaches.

    Attributes:
        root: The source root.
        found: What was reached, each maybe several times.
        waiting: What is still to be followed.
        reason: Why the step can't be cached; empty if it can.
        step: The step's own function, whose defaults are inputs; None where nothing is known of it.
    """

    def __init__(self, root: Path, step: Any = None) -> None:
        self.root = root
        self.step = step
        self.found: list[Found] = []
        self.waiting: list[Waiting] = []
        self.reason = ""
        self._seen: set[tuple[Any, ...]] = set()
        self._kept: list[Any] = []

    def first_time(self, *key: Any, keep: Any = None) -> bool:
        """Return True for the first of equal keys; `keep` holds what the key knows by its address."""
        if key in self._seen:
            return False
        self._seen.add(key)
        self._kept.append(keep)
        return True

    def place(self, module: CodeModule | None, line: int) -> str:
        """Return `path:line`, relative to the root where the file is below it."""
        if module is None or not module.file:
            return ""
        return f"{relative_path(module.file, self.root) or module.file}:{line}"

    def add_library(self, whose: Origin) -> None:
        """Add the version of a distribution; nothing for code of others."""
        if whose.kind == LIBRARY:
            self.found.append(Found("library", whose.name, whose.version.encode(), whose.version))

    def refuse(self, reason: str, place: str) -> None:
        """Say why the step can't be cached; the first reason is kept."""
        self.reason = self.reason or reason + (f" ({place})" if place else "")


def add_definition(
    walk: Walk,
    module: CodeModule,
    node: ast.AST,
    name: str,
    kind: str,
    function: FunctionType | None = None,
    cells: dict[str, Any] | None = None,
) -> None:
    """Add a definition or statement of the source; the names that it uses wait to be followed.

    Args:
        walk: The walk.
        module: Its module.
        node: The definition or statement.
        name: Its name in records.
        kind: Kind of the part.
        function: The function that was made from it, whose defaults and closure count by value.
        cells: What enclosing functions bind, by name.
    """
    key = (id(node), module.names is None, *((id(function),) if cells else ()))
    if module.parsed is None or not walk.first_time("node", *key, keep=(node, function)):
        return
    described = module.parsed.describe(node, closed=cells or (), defaults=function is None)
    around = module.parsed.around.get(id(node), ())
    place = walk.place(module, first_line(node))
    walk.found.append(Found(kind, name, described.content, "", place, id(node), around))
    add_effects(walk, module)
    walk.waiting.extend(Waiting(module, reference, cells or {}) for reference in described.references)


def add_effects(walk: Walk, module: CodeModule) -> None:
    """Add what a module does when it is imported besides defining names, but starting runs and printing."""
    if module.parsed is None or not walk.first_time("effects", module.file, module.names is None):
        return
    if not module.parsed.effects:
        return
    runs = _runs_of(module)
    in_node = module.parsed.names_in
    effects = [node for node in module.parsed.effects if runs.isdisjoint(in_node(node)) and not _only_prints(node)]
    if effects:
        described = module.parsed.describe(*effects)
        walk.found.append(
            Found("module", module.name, described.content, "", walk.place(module, first_line(effects[0])))
        )
        _wait_softly(walk, module, described.references)


def add_whole(walk: Walk, module: CodeModule) -> None:
    """Add everything in a file."""
    if not walk.first_time("whole", module.file, module.names is None):
        return
    if module.parsed is None:
        walk.found.append(Found("module", module.name, _bytes_of(module.file), "", walk.place(module, 1)))
        return
    described = module.parsed.describe(*module.parsed.statements)
    walk.found.append(Found("module", module.name, described.content, "", walk.place(module, 1)))
    # That all names of the file count is what the whole file means.
    _wait_softly(walk, module, [reference for reference in described.references if reference.role != "file"])
    _wait_softly(walk, module, [Reference((name,), "code", 1) for name in module.parsed.bindings])


def _wait_softly(walk: Walk, module: CodeModule, references: Iterable[Reference]) -> None:
    """Let names wait; those that can't be resolved don't widen to the file, which counts already."""
    for reference in references:
        soft = "annotation" if reference.role == "code" else reference.role
        walk.waiting.append(Waiting(module, msgspec.structs.replace(reference, role=soft)))


def _bytes_of(file: str) -> bytes:
    try:
        with open(file, "rb") as source:
            return source.read()
    except OSError as error:
        return f"unreadable: {error.strerror}".encode()


def _only_prints(node: ast.AST) -> bool:
    calls = [found for found in ast.walk(node) if isinstance(found, ast.Call)]
    called = calls[0].func if len(calls) == 1 else None
    return isinstance(node, ast.Expr) and isinstance(called, ast.Name) and called.id == "print"


def _runs_of(module: CodeModule) -> set[str]:
    """Return the names of a module's pipelines and of what is computed from them: starting a run changes no step."""
    names = {
        name
        for name, held in (module.names or {}).items()
        if type(held).__module__.partition(".")[0] == "cupola" and type(held).__qualname__ == "Pipeline"
    }
    if module.parsed is not None:
        for name, bound in module.parsed.bindings.items():
            values = (module.parsed.names_in(binding.node) for binding in bound if binding.kind == "value")
            if not all(names.isdisjoint(used) for used in values):
                names.add(name)
    return names
