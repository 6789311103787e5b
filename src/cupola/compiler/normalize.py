"""Our own walk over a syntax tree: what a definition says, and which names from outside it uses.

The text it writes is equal for equal code under every supported Python: comments, docstrings, formatting, positions and
the names of local variables don't show in it. `scopes.py` tells whose a name is; what a name stands for is `reach.py`.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

import msgspec

from cupola.compiler.scopes import (
    Import,
    Scope,
    chain_of,
    chains_in,
    function_scope,
    imports_of,
    renameable,
    scope_of_class,
)

# Fields that say nothing about what the code does, or that only some versions of Python fill.
_IGNORED = frozenset({"ctx", "type_comment", "type_ignores", "kind", "simple"})
# What `exec`, `globals()` and their like use can't be seen.
_DYNAMIC = frozenset({"globals", "exec", "eval", "__import__", "__builtins__"})
# What only puts something into a container: its content can't come back by that.
_PUTS = frozenset({"append", "add", "extend", "update", "insert", "appendleft", "clear", "discard"})
_SCOPED = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


class Reference(msgspec.Struct, frozen=True):
    """A use of a name that a definition doesn't bind itself.

    Attributes:
        chain: The name and the attributes after it: `helper.rows` is `("helper", "rows")`.
        role: `code`, `annotation` (counts if it can be resolved), `decorator`, `closure` (bound by an enclosing
            function), `members` (any attribute of it), `put` (a container that something is only put into), or `file`
            (anything in the file, the chain is empty).
        line: Where.
        imported: What an import statement inside the definition binds the name to.
    """

    chain: tuple[str, ...]
    role: str
    line: int
    imported: Import | None = None


class Description(msgspec.Struct, frozen=True):
    """What a definition says, and the names from outside that it uses, in the order of the code."""

    content: bytes
    references: tuple[Reference, ...]


def describe(
    nodes: Sequence[ast.AST],
    *,
    is_own: Callable[[tuple[str, ...]], bool],
    closed: Iterable[str] = (),
    defaults: bool = True,
) -> Description:
    """Describe a definition, or statements that belong together.

    Args:
        nodes: The definition, or statements.
        is_own: Whether a decorator, by its name and attributes, is one of Cupola's; such decorators don't count.
        closed: Names that enclosing functions bind.
        defaults: Whether defaults of the definition's own parameters count by their expressions.
    """
    writer = _Writer(is_own, frozenset(closed), renameable(nodes))
    writer.skipped_defaults = None if defaults or not isinstance(nodes[0], _SCOPED) else nodes[0].args
    writer.statements(nodes)
    return Description("".join(writer.out).encode("utf-8", "surrogatepass"), tuple(dict.fromkeys(writer.references)))


def says_nothing(statement: ast.AST) -> bool:
    """Whether a statement does nothing: `pass`, a docstring, another constant."""
    return isinstance(statement, ast.Pass) or (
        isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    )


class _Writer:
    def __init__(
        self, is_own: Callable[[tuple[str, ...]], bool], closed: frozenset[str], may_rename: Callable[[str], bool]
    ) -> None:
        self.is_own = is_own
        self.closed = closed
        self.may_rename = may_rename
        self.out: list[str] = []
        self.references: list[Reference] = []
        self.scopes: list[Scope] = []
        self.role = "code"
        self.renamed = 0
        self.put: set[int] = set()
        self.skipped_defaults: ast.arguments | None = None

    # Structure

    def statements(self, nodes: Iterable[ast.AST]) -> None:
        self.out.append("[")
        for node in nodes:
            if not says_nothing(node):
                self.node(node)
        self.out.append("]")

    def node(self, node: ast.AST) -> None:
        special = getattr(self, "write_" + type(node).__name__.lower(), None)
        if special is not None:
            special(node)
        else:
            self.plain(node)

    def plain(self, node: ast.AST, *skipped: str) -> None:
        self.out.append(type(node).__name__ + "(")
        for field in node._fields:
            if field not in _IGNORED and field not in skipped:
                self.field(field, getattr(node, field, None))
        self.out.append(")")

    def field(self, name: str, value: Any) -> None:
        # Empty fields are left out: newer versions of Python have more of them.
        if value is None or value == []:
            return
        self.out.append(name + "=")
        if isinstance(value, ast.AST):
            self.node(value)
        elif isinstance(value, list):
            items = cast("list[Any]", value)
            if isinstance(items[0], ast.stmt):
                self.statements(items)
            else:
                self.out.append("[")
                for item in items:
                    self.node(item) if isinstance(item, ast.AST) else self.out.append(repr(item) + ",")
                self.out.append("]")
        else:
            self.out.append(repr(value))
        self.out.append(",")

    def within(self, role: str, name: str, value: Any) -> None:
        before, self.role = self.role, role
        self.field(name, value)
        self.role = before

    # Names

    def owner(self, name: str) -> Scope | None:
        """Return the scope inside the definition that binds a name; None if none does."""
        for scope in reversed(self.scopes):
            # The names of a class are seen in its own body only.
            if scope.is_class and scope is not self.scopes[-1]:
                continue
            if name in scope.outer:
                return None
            if name in scope.names:
                return scope
        return None

    def spelled(self, name: str, scope: Scope | None) -> str:
        if scope is None or name not in scope.local or not self.may_rename(name):
            return name
        if name not in scope.renamed:
            scope.renamed[name] = f"\0{self.renamed}"
            self.renamed += 1
        return scope.renamed[name]

    def bound(self, name: str) -> str:
        return self.spelled(name, self.owner(name))

    def refer(self, chain: tuple[str, ...], line: int, role: str = "") -> None:
        scope = self.owner(chain[0])
        role = role or self.role
        if scope is not None and chain[0] in scope.imports:
            self.references.append(Reference(chain, role, line, scope.imports[chain[0]]))
        elif scope is not None and scope.is_class and chain[0] not in scope.types:
            # `rate = rate` in a class reads the global on its right side.
            self.references.append(Reference(chain, "annotation", line))
        elif scope is None and chain[0] in self.closed:
            if role != "put":
                self.references.append(Reference(chain, "closure", line))
        elif scope is None:
            self.references.append(Reference(chain, role, line))

    def write_name(self, node: ast.Name) -> None:
        if node.id in _DYNAMIC and self.owner(node.id) is None:
            self.references.append(Reference((), "file", node.lineno))
        elif not isinstance(node.ctx, ast.Store):
            self.refer((node.id,), node.lineno, "put" if id(node) in self.put else "")
        self.out.append(f"Name({self.bound(node.id)!r})")

    def write_attribute(self, node: ast.Attribute) -> None:
        chain = chain_of(node)
        if not chain:
            self.plain(node)
            return
        if chain[:2] == ("sys", "modules"):
            self.references.append(Reference((), "file", node.lineno))
        self.refer(chain, node.lineno, "put" if id(node) in self.put else "")
        self.out.append(f"Name({self.bound(chain[0])!r})." + ".".join(chain[1:]))

    def write_expr(self, node: ast.Expr) -> None:
        called = node.value.func if isinstance(node.value, ast.Call) else None
        if isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name) and called.attr in _PUTS:
            self.put.add(id(called))
        self.plain(node)

    def write_subscript(self, node: ast.Subscript) -> None:
        if isinstance(node.value, ast.Name) and isinstance(node.ctx, ast.Store):
            self.put.add(id(node.value))
        self.plain(node)

    def write_constant(self, node: ast.Constant) -> None:
        self.out.append(f"{type(node.value).__name__}:{node.value!r}")
        if self.role == "annotation" and isinstance(node.value, str):
            # `x: "Config"` names Config as well.
            try:
                parsed = ast.parse(node.value.strip(), mode="eval")
            except (SyntaxError, ValueError):
                return
            for chain in chains_in(parsed):
                self.refer(chain, node.lineno)

    def write_call(self, node: ast.Call) -> None:
        chain = chain_of(node.func)
        if chain and chain[-1] in ("getattr", "vars", "import_module", "__import__"):
            self._dynamic_call(node, chain)
        self.plain(node)

    def _dynamic_call(self, node: ast.Call, chain: tuple[str, ...]) -> None:
        first = node.args[0] if node.args else None
        second = node.args[1] if len(node.args) > 1 else None
        if chain[-1] in ("import_module", "__import__"):
            if isinstance(first, ast.Constant) and isinstance(first.value, str) and not first.value.startswith("."):
                self.references.append(Reference((), "members", node.lineno, Import(first.value)))
            else:
                self.references.append(Reference((), "file", node.lineno))
            return
        base = chain_of(first) if first is not None else ()
        if len(chain) > 1 or not base or (self.scopes and base[0] in ("self", "cls")):
            return
        if isinstance(second, ast.Constant) and isinstance(second.value, str):
            self.refer((*base, second.value), node.lineno)
        elif self.owner(base[0]) is None or base[0] in cast("Scope", self.owner(base[0])).imports:
            self.refer(base, node.lineno, "members")
        elif chain == ("getattr",):
            self.references.append(Reference((), "file", node.lineno))

    # Statements that bind names by text

    def write_import(self, node: ast.Import) -> None:
        self._import(node, "")

    def write_importfrom(self, node: ast.ImportFrom) -> None:
        self._import(node, "." * node.level + (node.module or ""))

    def _import(self, node: ast.Import | ast.ImportFrom, module: str) -> None:
        self.out.append(f"Import({module!r},")
        for alias in node.names:
            dotted = not module and alias.asname is None and "." in alias.name
            name = "" if dotted else self.bound(alias.asname or alias.name)
            self.out.append(f"{alias.name!r}:{name!r},")
        self.out.append(")")
        for name, target in imports_of(node).items():
            if name == "*":
                self.references.append(Reference((), "members", node.lineno, target))

    def write_excepthandler(self, node: ast.ExceptHandler | ast.MatchAs | ast.MatchStar) -> None:
        self._named(node, "name")

    write_matchas = write_matchstar = write_excepthandler

    def write_matchmapping(self, node: ast.MatchMapping) -> None:
        self._named(node, "rest")

    def _named(self, node: Any, field: str) -> None:
        name = getattr(node, field)
        self.out.append(f"{self.bound(name)!r}=" if name else "")
        self.plain(node, field)

    def write_nonlocal(self, node: ast.Nonlocal) -> None:
        names = [self.bound(name) for name in node.names]
        self.out.append(f"Nonlocal({names!r})")

    def write_global(self, node: ast.Global) -> None:
        self.out.append(f"Global({node.names!r})")

    def write_annassign(self, node: ast.AnnAssign) -> None:
        self.out.append("AnnAssign(")
        self.field("target", node.target)
        self.within("annotation", "annotation", node.annotation)
        self.field("value", node.value)
        self.out.append(")")

    # Texts with values in them

    def write_joinedstr(self, node: ast.JoinedStr) -> None:
        # Where constant pieces are cut differs between versions of Python.
        text = ""
        self.out.append("f(")
        for piece in node.values:
            if isinstance(piece, ast.Constant):
                text += str(piece.value)
                continue
            if text:
                self.out.append(repr(text))
                text = ""
            self.node(piece)
        self.out.append(repr(text) + ")" if text else ")")

    def write_formattedvalue(self, node: ast.FormattedValue) -> None:
        self.out.append(f"{{{node.conversion}:")
        self.node(node.value)
        if isinstance(node.format_spec, ast.JoinedStr) and node.format_spec.values:
            self.node(node.format_spec)
        self.out.append("}")

    # Definitions and their scopes

    def write_functiondef(self, node: Function) -> None:
        self.out.append(f"{type(node).__name__}({getattr(node, 'name', '')!r},")
        self._decorators(getattr(node, "decorator_list", []))
        self._defaults(node.args)
        scope = function_scope(node)
        self.scopes.append(scope)
        self.field("type_params", getattr(node, "type_params", None))
        self._parameters(node.args)
        self.within("annotation", "returns", getattr(node, "returns", None))
        self.field("body", node.body)
        self.scopes.pop()
        self.out.append(")")

    write_asyncfunctiondef = write_lambda = write_functiondef

    def _decorators(self, decorators: Sequence[ast.expr]) -> None:
        for decorator in decorators:
            called = decorator.func if isinstance(decorator, ast.Call) else decorator
            if not self.is_own(chain_of(called)):
                self.within("decorator", "decorator", decorator)

    def _defaults(self, arguments: ast.arguments) -> None:
        # Evaluated outside of the function; of the definition itself they count by value, beside it.
        if arguments is self.skipped_defaults:
            self.out.append(f"defaults={len(arguments.defaults)},")
            return
        self.field("defaults", arguments.defaults)
        for default in arguments.kw_defaults:
            self.out.append("none," if default is None else "kw=")
            if default is not None:
                self.node(default)

    def _parameters(self, arguments: ast.arguments) -> None:
        for kind in ("posonlyargs", "args", "vararg", "kwonlyargs", "kwarg"):
            self.field(kind, getattr(arguments, kind))

    def write_arg(self, node: ast.arg) -> None:
        self.out.append(f"arg({node.arg!r},")
        self.within("annotation", "annotation", node.annotation)
        self.out.append(")")

    def write_classdef(self, node: ast.ClassDef) -> None:
        self.out.append(f"ClassDef({node.name!r},")
        self._decorators(node.decorator_list)
        scope = scope_of_class(node)
        self.field("type_params", getattr(node, "type_params", None))
        self.scopes.append(Scope(names=scope.types, types=scope.types))
        self.field("bases", node.bases)
        self.field("keywords", node.keywords)
        self.scopes[-1] = scope
        self.field("body", node.body)
        self.scopes.pop()
        self.out.append(")")

    def write_listcomp(self, node: Any) -> None:
        self.out.append(type(node).__name__ + "(")
        # The first iterable is evaluated outside.
        self.field("iter", node.generators[0].iter)
        names = {
            found.id
            for generator in node.generators
            for found in ast.walk(generator.target)
            if isinstance(found, ast.Name) and isinstance(found.ctx, ast.Store)
        }
        self.scopes.append(Scope(names=names, local=names))
        for place, generator in enumerate(node.generators):
            self.plain(generator, *(("iter",) if place == 0 else ()))
        for result in ("key", "value", "elt"):
            self.field(result, getattr(node, result, None))
        self.scopes.pop()
        self.out.append(")")

    write_setcomp = write_dictcomp = write_generatorexp = write_listcomp
