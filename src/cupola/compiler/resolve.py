"""Following names: from the use of a name in code to what it stands for.

In a loaded module a name is what the module holds under it; where that came from, an import, a definition, a value, is
read from the source, so that each thing is named where it was made. In a module that isn't loaded, because the import
stands inside a function, the source alone decides, whether it was loaded meanwhile or not.
"""

from __future__ import annotations

import ast
import builtins
import sys
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

from cupola import compiler
from cupola.compiler.libraries import PROJECT, Origin
from cupola.compiler.live import CONTAINERS, follow, follow_value, is_own
from cupola.compiler.modules import CodeModule, attributes, loaded_module, origin, read_module
from cupola.compiler.parsed import Binding, first_line
from cupola.compiler.scopes import Import
from cupola.compiler.walk import Found, Waiting, Walk, add_definition, add_whole

_MISSING = object()
# What each module has; its name in records stands in each part already.
_OF_EACH_MODULE = frozenset(
    {
        "__name__",
        "__file__",
        "__spec__",
        "__package__",
        "__path__",
        "__loader__",
        "__cached__",
        "__class__",
        "__builtins__",
    }
)


def resolve_all(walk: Walk) -> None:
    """Follow all names that wait, and those that come up meanwhile."""
    while walk.waiting:
        waiting = walk.waiting.pop()
        if isinstance(waiting.module, ModuleType):
            _module(walk, waiting.module, waiting.reference.chain, waiting.reference.role)
        else:
            _resolve(walk, waiting, waiting.module)


def _resolve(walk: Walk, waiting: Waiting, module: CodeModule) -> None:
    reference = waiting.reference
    if reference.role == "file":
        add_whole(walk, module)
    elif reference.imported is not None:
        _imported(walk, module, reference.imported, reference.chain[1:], reference.role)
    elif reference.role == "closure":
        held = waiting.cells.get(reference.chain[0])
        if isinstance(held, ModuleType):
            _module(walk, held, reference.chain[1:], "code")
    elif reference.chain[0] not in _OF_EACH_MODULE:
        _name(walk, module, reference.chain, reference.role)


def _name(walk: Walk, module: CodeModule, chain: tuple[str, ...], role: str) -> None:
    name = chain[0]
    bindings = _bindings(module, name)
    held = module.names.get(name, _MISSING) if module.names is not None else _MISSING
    if role == "put":
        if type(held) in CONTAINERS:
            return
        role = "code"
    if held is not _MISSING:
        _held(walk, module, chain, held, role)
    elif bindings:
        for binding in bindings:
            _in_source(walk, module, binding, chain, role)
    elif not hasattr(builtins, name) and not _from_star(walk, module, chain, role) and role != "annotation":
        add_whole(walk, module)


def _bindings(module: CodeModule, name: str) -> list[Binding]:
    return module.parsed.bindings.get(name, []) if module.parsed is not None else []


def _held(walk: Walk, module: CodeModule, chain: tuple[str, ...], held: Any, role: str) -> None:
    """Follow a name of a loaded module to what it holds, by way of the module it was imported from."""
    if isinstance(held, ModuleType):
        _module(walk, held, chain[1:], role)
        return
    name = chain[0]
    # Imports may go in a circle, and a name may be imported from a module that imported it.
    for _ in range(100):
        source = _source_of(module, name, held)
        if source is None:
            break
        names, name = source
        whose = origin(names)
        walk.add_library(whose)
        if whose.kind != PROJECT:
            return
        module = loaded_module(names, walk.root)
    _made_here(walk, module, name, held, role)


def _source_of(module: CodeModule, name: str, held: Any) -> tuple[dict[str, Any], str] | None:
    """Return the globals of the module that a name was imported from and its name there; None if it was made here."""
    bindings = _bindings(module, name)
    targets = [binding.target for binding in bindings if binding.target is not None and binding.target.name]
    if not bindings and module.parsed is not None:
        targets = [Import(star.module, name) for star in module.parsed.stars]
    for target in targets:
        source = sys.modules.get(_absolute(target.module, module.package))
        names = attributes(source) if isinstance(source, ModuleType) else {}
        if names.get(target.name, _MISSING) is held and names is not module.names:
            return names, target.name
    return None


def _made_here(walk: Walk, module: CodeModule, name: str, held: Any, role: str) -> None:
    bindings = _bindings(module, name)
    definitions = [binding.node for binding in bindings if binding.kind == "definition"]
    kind = "decorator" if role == "decorator" else "function"
    if isinstance(held, (FunctionType, type, MethodType, BuiltinFunctionType)) or (
        is_own(held) and hasattr(held, "fn")
    ):
        follow(walk, held, kind)
        if isinstance(held, type) and not definitions:
            _statements(walk, module, name, bindings)
    elif definitions:
        # A decorator put something else in its place; the definition counts as well as what hangs on that.
        for node in definitions:
            add_definition(walk, module, node, f"{module.name}:{name}", "function")
        if callable(held):
            follow(walk, held, kind)
    elif walk.first_time("constant", module.file, name, id(held), keep=held):
        line = first_line(bindings[-1].node) if bindings else 1
        parsed = module.parsed
        written = parsed is not None and bool(bindings) and all(parsed.is_literal(each.value) for each in bindings)
        texts = None if written else {text for binding in bindings for text in compiler.shown.texts_in(binding.node)}
        follow_value(walk, "constant", f"{module.name}:{name}", held, module, line, texts=texts)


def _statements(walk: Walk, module: CodeModule, name: str, bindings: list[Binding]) -> None:
    for binding in bindings:
        add_definition(walk, module, binding.node, f"{module.name}:{name}", "constant")


def _in_source(walk: Walk, module: CodeModule, binding: Binding, chain: tuple[str, ...], role: str) -> None:
    """Follow a name of a module that isn't loaded, as its source binds it."""
    name = f"{module.name}:{chain[0]}"
    if binding.target is not None:
        _imported(walk, module, binding.target, chain[1:], role)
    elif binding.kind == "definition":
        kind = "class" if isinstance(binding.node, ast.ClassDef) else "function"
        add_definition(walk, module, binding.node, name, "decorator" if role == "decorator" else kind)
    elif binding.value is not None and module.parsed is not None and module.parsed.is_literal(binding.value):
        if walk.first_time("literal", id(binding), keep=binding):
            held = ast.literal_eval(binding.value)
            follow_value(walk, "constant", name, held, module, first_line(binding.node))
    else:
        _statements(walk, module, chain[0], [binding])


def _from_star(walk: Walk, module: CodeModule, chain: tuple[str, ...], role: str) -> bool:
    for star in module.parsed.stars if module.parsed is not None else ():
        source = read_module(_absolute(star.module, module.package), walk.root)
        if isinstance(source, CodeModule) and _bindings(source, chain[0]):
            _name(walk, source, chain, role)
            return True
    return False


def _module(walk: Walk, module: ModuleType, chain: tuple[str, ...], role: str) -> None:
    """Follow the attributes of a loaded module."""
    names = attributes(module)
    whose = origin(names)
    if whose.kind != PROJECT:
        walk.add_library(whose)
        return
    held = names.get(chain[0], _MISSING) if chain else _MISSING
    if isinstance(held, ModuleType):
        _module(walk, held, chain[1:], role)
    elif not names.get("__file__"):
        # A folder without __init__.py has nothing of its own.
        if chain:
            _imported(walk, None, Import(f"{names.get('__name__')}.{chain[0]}"), chain[1:], role)
    elif role == "members" or held is _MISSING:
        add_whole(walk, loaded_module(names, walk.root))
    else:
        _name(walk, loaded_module(names, walk.root), chain, role)


def _imported(walk: Walk, module: CodeModule | None, target: Import, chain: tuple[str, ...], role: str) -> None:
    """Follow what an import statement names, in the source alone: it may not have run yet."""
    name = _absolute(target.module, module.package if module is not None else "")
    if target.whole:
        name = name.partition(".")[0]
    if target.name:
        chain = (target.name, *chain)
    source = read_module(name, walk.root)
    while isinstance(source, CodeModule) and chain and not _bindings(source, chain[0]):
        inner = read_module(f"{name}.{chain[0]}", walk.root)
        if inner is None:
            break
        name, source, chain = f"{name}.{chain[0]}", inner, chain[1:]
    if source is None:
        # Code may do without a library, and would do something else with it.
        walk.found.append(Found("library", name.partition(".")[0], b"absent", "not installed"))
    elif isinstance(source, Origin):
        walk.add_library(source)
    elif not chain or role == "members":
        if source.file:
            add_whole(walk, source)
    else:
        _name(walk, source, chain, "code" if role == "closure" else role)


def _absolute(module: str, package: str) -> str:
    name = module.lstrip(".")
    level = len(module) - len(name)
    if not level:
        return name
    parts = package.split(".")
    base = ".".join(parts[: len(parts) - level + 1])
    return f"{base}.{name}" if name and base else base or name
