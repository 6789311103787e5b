"""One source file, parsed once: what each name of its module is bound by, and where each definition stands.

Also the proof that a function in memory is what the file says: its code object is one of those the file compiles to.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from types import CodeType
from typing import cast

import msgspec

from cupola.compiler.normalize import Description, describe, says_nothing
from cupola.compiler.scopes import Import, chain_of, imports_of

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)
# Python 3.12 runs comprehensions in place; before, they show in the names of what is defined inside.
_COMPREHENSION = r"<(?:listcomp|setcomp|dictcomp|genexpr)>\.<locals>\."


class Binding(msgspec.Struct, frozen=True, eq=False):
    """What binds a name of a module: a definition, an import, or a statement that computes a value.

    Attributes:
        kind: `definition`, `import` or `value`.
        node: The definition or statement.
        target: What an import names.
        value: The expression that is assigned as it is; None for others.
    """

    kind: str
    node: ast.AST
    target: Import | None = None
    value: ast.expr | None = None


class ParsedFile:
    """A source file.

    Attributes:
        path: Its absolute path.
        bindings: What binds each name of the module, in the order of the file.
        effects: Statements of the module that define nothing; the `__main__` block is none of them.
        stars: Modules of star imports.
        statements: All statements but the `__main__` block.
        code: What the file compiles to.
        definitions: All definitions by qualified name.
        around: The definitions that each one stands in, outermost first, both by `id`.
    """

    def __init__(self, path: str, data: bytes) -> None:
        self.path = path
        self.tree = ast.parse(data, path)
        self.code = compile(self.tree, path, "exec", dont_inherit=True)
        self.bindings: dict[str, list[Binding]] = {}
        self.effects: list[ast.AST] = []
        self.stars: list[Import] = []
        self.statements = [statement for statement in self.tree.body if not _is_main_block(statement)]
        self._read(self.statements, effects=True)
        self.definitions: dict[str, list[Definition]] = {}
        self.around: dict[int, tuple[int, ...]] = {}
        self._index(self.tree, "", ())
        self._codes: dict[str, list[CodeType]] = {}
        self._index_code(self.code)
        self._described: dict[tuple[tuple[int, ...], tuple[str, ...], bool], Description] = {}
        self._names: dict[int, frozenset[str]] = {}
        self._literals: dict[int, bool] = {}
        self._found: dict[int, tuple[CodeType, Definition | None, bool]] = {}

    def describe(self, *nodes: ast.AST, closed: Iterable[str] = (), defaults: bool = True) -> Description:
        """Describe a definition or statements of the file; done once for each."""
        key = tuple(map(id, nodes)), tuple(sorted(closed)), defaults
        known = self._described.get(key)
        if known is None:
            known = describe(nodes, is_own=self.is_own_decorator, closed=closed, defaults=defaults)
            self._described[key] = known
        return known

    def names_in(self, node: ast.AST) -> frozenset[str]:
        """Return all names in a statement of the file."""
        known = self._names.get(id(node))
        if known is None:
            known = frozenset(found.id for found in ast.walk(node) if isinstance(found, ast.Name))
            self._names[id(node)] = known
        return known

    def is_own_decorator(self, chain: tuple[str, ...]) -> bool:
        """Whether a decorator, by its name and attributes, was imported from Cupola."""
        for binding in self.bindings.get(chain[0], ()) if chain else ():
            if binding.target is not None and binding.target.module.partition(".")[0] == "cupola":
                return True
        return False

    def find(self, code: CodeType) -> tuple[Definition | None, bool]:
        """Return the definition that a code object comes from, and whether it says the same as the code object."""
        known = self._found.get(id(code))
        if known is None:
            known = self._found[id(code)] = code, *self._find(code)
        return known[1], known[2]

    def is_literal(self, node: ast.AST | None) -> bool:
        """Whether an expression of the file is a plain value, written down."""
        known = self._literals.get(id(node))
        if known is None:
            known = self._literals[id(node)] = isinstance(node, ast.expr) and _is_literal(node)
        return known

    def _find(self, code: CodeType) -> tuple[Definition | None, bool]:
        name = plain_qualname(code.co_qualname)
        compiled = self._codes.get(name, [])
        equal = [other for other in compiled if same_code(other, code)]
        # The same code may stand there twice; the line decides.
        best = sorted(equal or compiled, key=lambda other: abs(other.co_firstlineno - code.co_firstlineno))
        nodes = self.definitions.get(name, [])
        for other in best[:1]:
            on_line = [node for node in nodes if first_line(node) == other.co_firstlineno]
            return _by_column(on_line, other), bool(equal)
        return None, False

    def _read(self, statements: Iterable[ast.AST], *, effects: bool) -> None:
        for statement in statements:
            self._read_one(statement, effects=effects)

    def _read_one(self, node: ast.AST, *, effects: bool) -> None:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            self._bind(node.name, Binding("definition", node))
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            for name, target in imports_of(node).items():
                if name == "*":
                    self.stars.append(target)
                else:
                    self._bind(name, Binding("import", node, target))
        elif (
            isinstance(node, (ast.If, ast.Try, ast.With, ast.AsyncWith, ast.Match)) or type(node).__name__ == "TryStar"
        ):
            self._read_block(node, effects=effects)
        else:
            names = list(_assigned(node))
            whole = node.targets[0] if isinstance(node, ast.Assign) and len(node.targets) == 1 else None
            whole = node.target if isinstance(node, ast.AnnAssign) else whole
            value = getattr(node, "value", None) if isinstance(whole, ast.Name) else None
            for name in names:
                self._bind(name, Binding("value", node, value=value))
            if effects and not says_nothing(node) and (not names or not _only_assigns(node)):
                self.effects.append(node)

    def _read_block(self, node: ast.AST, *, effects: bool) -> None:
        if isinstance(node, ast.If) and _is_main_block(node):
            self._read(node.orelse, effects=effects)
            return
        if isinstance(node, ast.If) and chain_of(node.test)[-1:] == ("TYPE_CHECKING",):
            self._read(node.body, effects=False)
            self._read(node.orelse, effects=effects)
            return
        before = len(self.effects)
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.stmt):
                self._read_one(child, effects=effects)
            elif isinstance(child, (ast.ExceptHandler, ast.match_case)):
                self._read(child.body, effects=effects)
            elif isinstance(child, ast.withitem) and child.optional_vars is not None:
                for name in _assigned(child.optional_vars):
                    self._bind(name, Binding("value", node))
        if len(self.effects) > before:
            # What decides whether an effect happens is part of it.
            self.effects[before:] = [node]

    def _bind(self, name: str, binding: Binding) -> None:
        self.bindings.setdefault(name, []).append(binding)

    def _index(self, node: ast.AST, prefix: str, around: tuple[int, ...]) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, _DEFINITIONS):
                name = prefix + getattr(child, "name", "<lambda>")
                self.definitions.setdefault(name, []).append(child)
                self.around[id(child)] = around
                inner = name + ("." if isinstance(child, ast.ClassDef) else ".<locals>.")
                self._index(child, inner, (*around, id(child)))
            else:
                self._index(child, prefix, around)

    def _index_code(self, code: CodeType) -> None:
        for constant in code.co_consts:
            if isinstance(constant, CodeType):
                self._codes.setdefault(plain_qualname(constant.co_qualname), []).append(constant)
                self._index_code(constant)


def plain_qualname(name: str) -> str:
    """Return a qualified name without the comprehensions in it."""
    return re.sub(_COMPREHENSION, "", name) if "<" in name else name


def first_line(node: ast.AST) -> int:
    """Return the first line of a definition, decorators included."""
    decorators = getattr(node, "decorator_list", [])
    return min([getattr(node, "lineno", 1), *(decorator.lineno for decorator in decorators)])


def same_code(one: CodeType, other: CodeType) -> bool:
    """Whether two code objects do the same, wherever they stand."""
    return one == other or code_content(one) == code_content(other)


def code_content(code: CodeType) -> str:
    """Return what a code object does as text: without files and lines, equal over processes of one Python version."""
    constants = [
        code_content(constant) if isinstance(constant, CodeType)
        else f"{type(constant).__name__}:{_written(constant)}"
        for constant in code.co_consts
    ]  # fmt: skip
    counts = code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags
    names = code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars
    return repr((code.co_name, counts, names, constants, code.co_code, code.co_exceptiontable))


def _written(constant: object) -> str:
    return (
        repr(sorted(map(repr, cast("frozenset[object]", constant)))) if type(constant) is frozenset else repr(constant)
    )


def _by_column(nodes: list[Definition], code: CodeType) -> Definition | None:
    """Return the definition that a code object was compiled from, among those that begin on one line."""
    if len(nodes) < 2:
        return nodes[0] if nodes else None
    columns = [(line, column) for line, _, column, _ in code.co_positions() if line is not None and column]
    start, end = min(columns, default=(0, 0)), max(columns, default=(0, 0))
    within = [node for node in nodes if _covers(node, start) and _covers(node, end)]
    # Constants have no column, and Python may have been told to keep none.
    return min(within, key=_extent) if within else _by_code(nodes, code)


def _by_code(nodes: list[Definition], code: CodeType) -> Definition | None:
    """Return the lambda that compiles to a code object; None if none does, and the bytecode has to count."""
    for node in nodes:
        if not isinstance(node, ast.Lambda):
            continue
        frame = ast.parse("def _():\n " + "".join(f"{name} = " for name in code.co_freevars) + "0\n return 0")
        cast("ast.Return", cast("ast.FunctionDef", frame.body[0]).body[1]).value = node
        outer = next(each for each in compile(frame, "", "exec").co_consts if isinstance(each, CodeType))
        inner = next(each for each in outer.co_consts if isinstance(each, CodeType))
        if code_content(inner) == code_content(code):
            return node
    return None


def _covers(node: Definition, place: tuple[int, int]) -> bool:
    body = node.body if isinstance(node, ast.Lambda) else node
    return (body.lineno, body.col_offset) <= place <= (body.end_lineno or body.lineno, body.end_col_offset or 0)


def _extent(node: Definition) -> tuple[int, int]:
    lines = (node.end_lineno or node.lineno) - node.lineno
    return lines, (node.end_col_offset or 0) - node.col_offset


def _assigned(node: ast.AST) -> Iterator[str]:
    """Yield the names that a statement of a module binds; those of functions and comprehensions are their own."""
    stack: list[tuple[ast.AST, bool]] = [(node, False)]
    while stack:
        found, inner = stack.pop()
        if isinstance(found, _DEFINITIONS):
            if found is not node and not isinstance(found, ast.Lambda):
                yield found.name
            continue
        if isinstance(found, ast.NamedExpr):
            yield found.target.id
        elif isinstance(found, ast.Name) and isinstance(found.ctx, ast.Store) and not inner:
            yield found.id
        elif isinstance(found, (ast.Import, ast.ImportFrom)):
            yield from (name for name in imports_of(found) if name != "*")
        inner = inner or isinstance(found, ast.comprehension)
        stack.extend((child, inner) for child in ast.iter_child_nodes(found))


def _is_literal(node: ast.expr) -> bool:
    try:
        ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return False
    return True


def _only_assigns(node: ast.AST) -> bool:
    """Whether a statement does nothing but bind names, as far as it says."""
    if isinstance(node, ast.Assign):
        return all(isinstance(target, (ast.Name, ast.Tuple, ast.List)) for target in node.targets)
    return isinstance(node, (ast.AnnAssign, ast.AugAssign)) or type(node).__name__ == "TypeAlias"


def _is_main_block(node: ast.AST) -> bool:
    if not isinstance(node, ast.If) or not isinstance(node.test, ast.Compare) or len(node.test.ops) != 1:
        return False
    sides = [node.test.left, node.test.comparators[0]]
    names = any(isinstance(side, ast.Name) and side.id == "__name__" for side in sides)
    program = any(isinstance(side, ast.Constant) and side.value == "__main__" for side in sides)
    return names and program and isinstance(node.test.ops[0], ast.Eq)
