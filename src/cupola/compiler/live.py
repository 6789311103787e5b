"""Following objects in memory to the code and values they are made of: functions, classes, and what code holds.

Functions are traced to the definition they were compiled from; wrappers, partials and methods down to the function
below. What such a definition uses by name waits for `resolve.py`.
"""

from __future__ import annotations

import ast
import collections
import functools
import os
import sys
from collections.abc import Collection, Iterable
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any, cast

from cupola import compiler
from cupola.compiler.libraries import CUPOLA, PROJECT
from cupola.compiler.modules import CodeModule, attributes, is_rewritten, loaded_module, origin
from cupola.compiler.normalize import Reference
from cupola.compiler.parsed import code_content, plain_qualname
from cupola.compiler.scopes import chain_of
from cupola.compiler.walk import Found, Waiting, Walk, add_definition
from cupola.errors import CodeChanged
from cupola.files import File

# Those whose content can't come back by putting something in.
CONTAINERS = frozenset({list, dict, set, collections.deque, collections.defaultdict, collections.Counter})


def follow(walk: Walk, value: Any, kind: str = "function") -> None:
    """Follow anything that can be called, down through wrappers, partials and methods."""
    for _ in range(100):  # a wrapper may wrap itself
        if isinstance(value, FunctionType):
            follow_function(walk, value, kind)
            value = value.__dict__.get("__wrapped__")
        elif isinstance(value, type):
            follow_class(walk, cast("type[Any]", value))
            return
        elif isinstance(value, functools.partial):
            value = _partial(walk, cast("functools.partial[Any]", value))
        elif isinstance(value, MethodType):
            _bound(walk, f"{_named(value.__func__)}(self)", value.__self__)
            value = value.__func__
        else:
            value = _other_callable(walk, value)
        if value is None:
            return


def _other_callable(walk: Walk, value: Any) -> Any:
    if isinstance(value, BuiltinFunctionType):
        return None
    if is_own(value):
        return getattr(value, "fn", None)
    below = getattr(value, "__wrapped__", None) or getattr(value, "__func__", None)
    if below is None:
        _bound(walk, f"{type(value).__qualname__}()", value)
    return below


def _partial(walk: Walk, part: functools.partial[Any]) -> Any:
    named = _named(part.func)
    for place, value in enumerate(part.args):
        _bound(walk, f"{named}({place})", value)
    for name, value in part.keywords.items():
        _bound(walk, f"{named}({name})", value)
    return part.func


def _bound(walk: Walk, name: str, value: Any) -> None:
    follow_value(walk, "closure", name, value)


def _named(value: Any) -> str:
    return getattr(value, "__qualname__", None) or type(value).__qualname__


def is_own(value: Any) -> bool:
    """Whether an object is one of Cupola's, such as a step."""
    return type(value).__module__.partition(".")[0] == "cupola"


def follow_function(walk: Walk, function: FunctionType, kind: str = "function") -> None:
    """Follow a function: its definition, its defaults and its closure."""
    whose = origin(function.__globals__)
    if whose.kind != PROJECT:
        walk.add_library(whose)
        if whose.kind != CUPOLA and walk.first_time("cells", id(function), keep=function):
            for value in cells_of(function).values():
                if isinstance(value, (FunctionType, type)):
                    follow(walk, value)
        return
    if not walk.first_time("function", id(function), keep=function):
        return
    module = loaded_module(function.__globals__, walk.root)
    # Of the code, since `functools.wraps` gives a wrapper the name of what it wraps.
    code = function.__code__
    name = f"{module.name}:{plain_qualname(code.co_qualname)}"
    node = _node_of(function, module)
    unread: set[str] = set()
    if node is not None:
        unread = _unread_cells(function, module, node)
        add_definition(walk, module, node, name, kind, function, cells_of(function))
    else:
        # Made by `exec`, a data class or a library: its bytecode is all there is. It depends on the version of Python,
        # which is a part of its own.
        walk.found.append(Found("function", name, b"bytecode " + code_content(code).encode("utf-8", "surrogatepass")))
        walk.waiting.extend(Waiting(module, Reference((used,), "annotation", 0)) for used in code.co_names)
    _follow_bound_values(walk, function, name, module, unread)


def _unread_cells(function: FunctionType, module: CodeModule, node: ast.AST) -> set[str]:
    """Return which containers and counters in a closure the function only puts something into."""
    cells = cells_of(function)
    if not cells or module.parsed is None:
        return set()
    described = module.parsed.describe(node, closed=cells, defaults=False)
    read = {reference.chain[0] for reference in described.references if reference.role == "closure"}
    return {
        name for name, held in cells.items() if name not in read and (type(held) in CONTAINERS or type(held) is int)
    }


def _node_of(function: FunctionType, module: CodeModule) -> ast.AST | None:
    """Return the definition of a function; None if its code isn't that of its module's file.

    Raises:
        CodeChanged: The file says something else.
    """
    code = function.__code__
    if module.parsed is None or not _same_path(code.co_filename, module.file):
        return None
    node, same = module.parsed.find(code)
    if not same and not is_rewritten(module):
        raise CodeChanged(
            f"{function.__qualname__} was loaded before its file was changed: what would run is not what the file says",
            where=f"{module.file}:{code.co_firstlineno}",
            fix="start the program again, or reload the module",
        )
    return node


def _same_path(one: str, other: str) -> bool:
    return one == other or os.path.realpath(one) == os.path.realpath(other)


def _follow_bound_values(
    walk: Walk, function: FunctionType, name: str, module: CodeModule, unread: Collection[str] = ()
) -> None:
    code = function.__code__
    defaults = function.__defaults__ or ()
    names = code.co_varnames[: code.co_argcount]
    pairs = [
        *zip(names[len(names) - len(defaults) :], defaults, strict=False),
        *(function.__kwdefaults__ or {}).items(),
    ]
    for parameter, value in pairs:
        if isinstance(value, File) and function is walk.step:
            continue  # an input like any other: its path is in the base key, its content in the inputs key
        follow_value(walk, "default", f"{name}({parameter})", value, module, code.co_firstlineno)
    for variable, value in cells_of(function).items():
        # A module counts by what is used of it, which the names of the definition say.
        if variable != "__class__" and variable not in unread and not isinstance(value, ModuleType):
            follow_value(walk, "closure", f"{name}[{variable}]", value, module, code.co_firstlineno)


def cells_of(function: FunctionType) -> dict[str, Any]:
    """Return the closure of a function by name; None for what isn't filled yet."""
    found: dict[str, Any] = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
        try:
            found[name] = cell.cell_contents
        except ValueError:
            found[name] = None
    return found


def follow_class(walk: Walk, value: type[Any]) -> None:
    """Follow a class: its definition, its bases of the project, and what its body computed."""
    module = sys.modules.get(value.__module__)
    if not isinstance(module, ModuleType):
        return
    whose = origin(attributes(module))
    if whose.kind != PROJECT:
        walk.add_library(whose)
        return
    if not walk.first_time("class", id(value), keep=value):
        return
    home = loaded_module(attributes(module), walk.root)
    qualname = plain_qualname(value.__qualname__)
    nodes = home.parsed.definitions.get(qualname, []) if home.parsed is not None else []
    nodes = [node for node in nodes if isinstance(node, ast.ClassDef)]
    methods = list(_methods(value))
    written = _spelled_out(home, qualname) if not nodes else []
    for statement in written:
        add_definition(walk, home, statement, f"{home.name}:{qualname}", "constant")
    if nodes or written:
        _know_made(walk, value)
    cells = {name: held for method in methods for name, held in cells_of(method).items()}
    for node in nodes:
        add_definition(walk, home, node, f"{home.name}:{qualname}", "class", None, cells)
        _follow_computed(walk, value, node, home)
    for method in methods:
        _follow_method(walk, method, home, has_source=bool(nodes))
    for base in (*value.__mro__[1:], type(value)):
        found = sys.modules.get(base.__module__)
        if isinstance(found, ModuleType) and origin(attributes(found)).kind == PROJECT:
            follow_class(walk, base)


def _spelled_out(module: CodeModule, name: str) -> list[ast.AST]:
    """Return the statement that has a library make a class, such as a `namedtuple`, of what stands there alone."""
    parsed, bindings = module.parsed, module.parsed.bindings.get(name, []) if module.parsed is not None else []
    if parsed is None or module.names is None or len(bindings) != 1 or not isinstance(bindings[0].value, ast.Call):
        return []
    call = bindings[0].value
    maker = module.names.get("".join(chain_of(call.func)[:1]))
    home = sys.modules.get(getattr(maker, "__module__", None) or getattr(maker, "__name__", ""))
    if not isinstance(home, ModuleType) or origin(attributes(home)).kind == PROJECT:
        return []
    given = (*call.args, *(keyword.value for keyword in call.keywords))
    return [bindings[0].node] if all(parsed.is_literal(each) for each in given) else []


def _methods(value: type[Any]) -> Iterable[FunctionType]:
    for held in vars(value).values():
        parts: list[Any] = [held]
        if isinstance(held, property):
            parts = [held.fget, held.fset, held.fdel]
        elif isinstance(held, (staticmethod, classmethod)):
            parts = [cast("Any", held).__func__]
        elif isinstance(held, functools.cached_property):
            parts = [cast("functools.cached_property[Any]", held).func]
        yield from (part for part in parts if isinstance(part, FunctionType))


def _follow_method(walk: Walk, method: FunctionType, home: CodeModule, *, has_source: bool) -> None:
    code = method.__code__
    if not has_source or method.__globals__ is not home.names or not _same_path(code.co_filename, home.file):
        follow(walk, method)
    elif walk.first_time("method", id(method), keep=method):
        _node_of(method, home)
        _follow_bound_values(walk, method, f"{home.name}:{plain_qualname(code.co_qualname)}", home)


def _know_made(walk: Walk, value: type[Any]) -> None:
    """Leave out what was made at run time for a class, whose source says all of it."""
    for method in _methods(value):
        below: Any = method
        while isinstance(below, FunctionType) and walk.first_time("made", id(below), keep=below):
            if below.__code__.co_filename.startswith("<"):
                walk.first_time("function", id(below), keep=below)
            below = below.__dict__.get("__wrapped__")


def _follow_computed(walk: Walk, value: type[Any], node: ast.ClassDef, home: CodeModule) -> None:
    """Follow what the body of a class computed: the definition says how, not what came out."""
    for statement in node.body:
        target = statement.targets[0] if isinstance(statement, ast.Assign) else getattr(statement, "target", None)
        if not isinstance(target, ast.Name) or home.parsed is None:
            continue
        if home.parsed.is_literal(getattr(statement, "value", None)):
            continue
        held = vars(value).get(target.id)
        if isinstance(held, (int, float, complex, str, bytes, list, dict, set, tuple)):
            name = f"{home.name}:{plain_qualname(value.__qualname__)}.{target.id}"
            follow_value(walk, "constant", name, held, home, statement.lineno, texts=())


def follow_value(
    walk: Walk,
    kind: str,
    name: str,
    value: Any,
    module: CodeModule | None = None,
    line: int = 0,
    *,
    texts: Collection[str] | None = None,
) -> None:
    """Follow a value that code holds: by its content, and by the code that hangs on it.

    Args:
        walk: The walk.
        kind: Kind of the part.
        name: Its name in records.
        value: The value.
        module: The module that holds it, and the line.
        line: Line in that module.
        texts: The texts that stand in the source where the value is made at run time; None when it stands there as it
            is.
    """
    if isinstance(value, (FunctionType, type)):
        follow(walk, value)
        return
    if isinstance(value, ModuleType):
        walk.waiting.append(Waiting(value, Reference((), "members", line)))
        return
    try:
        content = compiler.objects.read_content(value, walk.root)
    except compiler.objects.Unhashable as error:
        reason = f"{name} holds a {type(value).__qualname__} that can't be hashed: {error}"
        walk.refuse(reason, walk.place(module, line))
        return
    if content.text not in compiler.objects.NO_CONTENT:
        data = content.text.encode("utf-8", "surrogatepass")
        text = compiler.shown.shown(content, name, value, texts)
        walk.found.append(Found(kind, name, data, text, walk.place(module, line)))
    for code in content.code:
        if isinstance(code, ModuleType):
            walk.waiting.append(Waiting(code, Reference((), "members", line)))
        else:
            follow(walk, code)
    for code in content.inner:
        home = sys.modules.get(getattr(code, "__module__", None) or "")
        if isinstance(home, ModuleType) and origin(attributes(home)).kind == PROJECT:
            follow(walk, code)
