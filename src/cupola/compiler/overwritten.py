"""Finds modules that overwrite the name of a decorator that they imported: what is marked below it is no step then."""

from __future__ import annotations

import ast
import types
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from cupola.compiler.source import underlying
from cupola.errors import CompileError

_DECORATORS = ("step", "pipeline")


def refuse_overwritten(functions: Iterable[Callable[..., Any]]) -> None:
    """Check the modules of a pipeline's functions.

    Raises:
        CompileError: One imports `step` or `pipeline` from cupola and gives the name to something else.
    """
    modules = {id(names): names for function in functions if (names := _globals_of(function)) is not None}
    for names in modules.values():
        for name in _DECORATORS:
            value = names.get(name)
            if value is None or _is_decorator(value):
                continue
            if place := _overwritten_at(str(names.get("__file__") or ""), name):
                raise CompileError(
                    f"the name {name!r}, which is cupola's decorator, is given to something else in its module",
                    where=place,
                    fix=f"call that another name, or import the decorator as one: from cupola import {name} as …",
                )


def _globals_of(function: Callable[..., Any]) -> dict[str, Any] | None:
    return getattr(underlying(function), "__globals__", None)


def _is_decorator(value: object) -> bool:
    return isinstance(value, types.FunctionType) and value.__module__.startswith("cupola.")


def _overwritten_at(file: str, name: str) -> str:
    """Return `file:line` where a name that was imported from cupola gets another meaning; empty if it wasn't imported.

    Only read when the name does mean something else, so that ordinary modules cost nothing.
    """
    try:
        tree = ast.parse(Path(file).read_bytes())
    except (OSError, SyntaxError, ValueError):
        return ""
    is_imported = False
    for statement in tree.body:
        if isinstance(statement, ast.ImportFrom) and statement.module == "cupola":
            is_imported = is_imported or any((item.asname or item.name) == name for item in statement.names)
        elif is_imported and name in _bound_by(statement):
            return f"{file}:{statement.lineno}"
    return ""


def _bound_by(statement: ast.stmt) -> set[str]:
    """Return the names that a statement of a module gives a meaning, those inside of functions left out."""
    if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return {statement.name}
    if isinstance(statement, (ast.Import, ast.ImportFrom)):
        return {item.asname or item.name for item in statement.names}
    return {node.id for node in ast.walk(statement) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
