"""Whose a name is: what a function or class binds itself, and which of those names are nobody else's business."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec

# These see local variables by their names.
_SEES_LOCALS = frozenset(
    {"locals", "vars", "dir", "eval", "exec", "_getframe", "currentframe", "stack", "query", "sql", "evaluate"}
)
_WORD = re.compile(r"[^\W\d]\w*")
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


class Import(msgspec.Struct, frozen=True):
    """What an import statement binds a name to: a module, or a name in one.

    Attributes:
        module: Dotted name of the module; with leading dots it is relative to the package.
        name: Name in the module; empty for the module itself.
        whole: For `import a.b` without `as`: the name is bound to `a`, and `a.b` is what was imported.
    """

    module: str
    name: str = ""
    whole: bool = False


class Scope(msgspec.Struct, eq=False):
    """The names of one function, class or comprehension.

    Attributes:
        names: All that it binds.
        local: Those whose spelling nobody outside sees; parameters and definitions aren't among them.
        types: Its type parameters.
        outer: Names it declares global or nonlocal.
        imports: What its import statements bind.
        is_class: Whether functions inside don't see its names.
        renamed: How local names are written, by name.
    """

    names: set[str] = set()
    local: set[str] = set()
    types: set[str] = set()
    outer: set[str] = set()
    imports: dict[str, Import] = {}
    is_class: bool = False
    renamed: dict[str, str] = {}


def chain_of(node: ast.AST) -> tuple[str, ...]:
    """Return a name and the attributes after it; empty for any other expression."""
    attributes: list[str] = []
    while isinstance(node, ast.Attribute):
        attributes.append(node.attr)
        node = node.value
    return (node.id, *reversed(attributes)) if isinstance(node, ast.Name) else ()


def chains_in(node: ast.AST) -> Iterator[tuple[str, ...]]:
    """Yield the names in an expression, each with the attributes after it."""
    chain = chain_of(node)
    if chain:
        yield chain
        return
    for child in ast.iter_child_nodes(node):
        yield from chains_in(child)


def imports_of(node: ast.Import | ast.ImportFrom) -> dict[str, Import]:
    """Return what an import statement binds, by name; `*` for a star."""
    bound: dict[str, Import] = {}
    if isinstance(node, ast.Import):
        for alias in node.names:
            if alias.asname:
                bound[alias.asname] = Import(alias.name)
            else:
                bound[alias.name.partition(".")[0]] = Import(alias.name, whole=True)
        return bound
    module = "." * node.level + (node.module or "")
    for alias in node.names:
        bound[alias.asname or alias.name] = Import(module, "" if alias.name == "*" else alias.name)
    return bound


def function_scope(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> Scope:
    """Return the scope of a function or lambda."""
    arguments = node.args
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
    parameters = {argument.arg for argument in every if argument is not None}
    scope = _collect([node.body] if isinstance(node, ast.Lambda) else node.body)
    scope.types = _type_parameters(node)
    scope.names |= parameters | scope.types
    scope.local -= parameters | scope.types
    return scope


def scope_of_class(node: ast.ClassDef) -> Scope:
    """Return the scope of a class body."""
    scope = _collect(node.body)
    scope.is_class = True
    scope.local = set()
    scope.types = _type_parameters(node)
    scope.names |= scope.types
    return scope


def _type_parameters(node: ast.AST) -> set[str]:
    return {parameter.name for parameter in getattr(node, "type_params", [])}


def _collect(body: Sequence[ast.AST]) -> Scope:
    scope = Scope()
    fixed: set[str] = set()
    nonlocals: set[str] = set()
    stack: list[ast.AST] = list(body)
    while stack:
        node = stack.pop()
        if isinstance(node, (*_FUNCTIONS, ast.ClassDef)):
            fixed.add(node.name)
            stack.extend(_evaluated_outside(node))
        elif isinstance(node, ast.Lambda):
            stack.extend(_evaluated_outside(node))
        elif isinstance(node, _COMPREHENSIONS):
            scope.local |= _assigned_within(node)
            stack.append(node.generators[0].iter)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            for name, target in imports_of(node).items():
                scope.imports[name] = target
                (fixed if target.whole and "." in target.module else scope.local).add(name)
        elif isinstance(node, ast.Global):
            scope.outer |= set(node.names)
        elif isinstance(node, ast.Nonlocal):
            nonlocals |= set(node.names)
        else:
            scope.local |= _bound_by(node)
            stack.extend(ast.iter_child_nodes(node))
    scope.local -= fixed | nonlocals | scope.outer
    scope.names = (scope.local | fixed) - nonlocals
    return scope


def _bound_by(node: ast.AST) -> set[str]:
    if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
        return {node.id}
    if isinstance(node, (ast.ExceptHandler, ast.MatchAs, ast.MatchStar)) and node.name:
        return {node.name}
    if isinstance(node, ast.MatchMapping) and node.rest:
        return {node.rest}
    return set()


def _assigned_within(comprehension: ast.AST) -> set[str]:
    """Return what `:=` inside a comprehension binds outside of it."""
    return {found.target.id for found in ast.walk(comprehension) if isinstance(found, ast.NamedExpr)}


def _evaluated_outside(node: ast.AST) -> Iterable[ast.AST]:
    yield from getattr(node, "decorator_list", [])
    yield from getattr(node, "bases", [])
    arguments = getattr(node, "args", None)
    if isinstance(arguments, ast.arguments):
        yield from arguments.defaults
        yield from (default for default in arguments.kw_defaults if default is not None)


def renameable(nodes: Sequence[ast.AST]) -> Callable[[str], bool]:
    """Return whether the spelling of a local variable can't matter in some code.

    It can where local variables are looked at by name: `locals()` and its like, and texts that name one, as
    `f"{rate=}"`, `frame.query("x > @limit")` and SQL over a frame do.
    """
    words: set[str] = set()
    stack: list[ast.AST] = list(nodes)
    while stack:
        node = stack.pop()
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue  # a docstring
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            words.update(_WORD.findall(node.value))
        name = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
        if name in _SEES_LOCALS:
            return lambda _: False
        stack.extend(ast.iter_child_nodes(node))
    return lambda name: name not in words
