"""How a worker gets a step's function: by name where it can be imported, else by value.

By name the worker imports the module as the driver did and checks that its code is what was compiled. By value go
closures, lambdas, functions of notebooks, and functions whose module holds other values now than after its import.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from types import FunctionType, ModuleType
from typing import Any, cast

import msgspec

from cupola import digest
from cupola.artifacts.blobs import Blobs
from cupola.compiler.loading import import_for_worker
from cupola.compiler.nodes import StepDefinition
from cupola.compiler.objects import instance_attributes
from cupola.compiler.reach import code_parts
from cupola.compiler.signature import read_signature
from cupola.compiler.source import is_installed, module_file
from cupola.compiler.stepcompile import LiveStep
from cupola.engine.wire import Recipe
from cupola.errors import CodeChanged, CupolaError
from cupola.records import PROGRAM
from cupola.snapshot import StepSpec

INLINE_BYTES = 64 * 1024
"""What is larger than this goes by the blob store instead of the pipe."""
_VALUES = frozenset({"constant", "default", "closure"})
"""Kinds of code parts that a program may change after import: such a step goes by value."""


def make_recipe(key: int, live: LiveStep, spec: StepSpec, blobs: Blobs, *, by_value: bool = False) -> Recipe:
    """Return how a worker gets the function of a step.

    Raises:
        CupolaError: It can neither be imported nor be sent by value.
    """
    place = None if by_value else _place_of(live.function)
    if place is not None:
        module, file, qualname = place
        return Recipe(key, spec.source, module, file, qualname, spec.code_digest, _names_of(live.retry_on))
    pickled = _by_value(live, spec)
    if len(pickled) > INLINE_BYTES:
        return Recipe(key, spec.source, blob=blobs.put_bytes(pickled)[0])
    return Recipe(key, spec.source, pickled=pickled)


def follow_recipe(recipe: Recipe, blobs: Blobs) -> LiveStep | tuple[tuple[str, str, str], ...]:
    """Return the step in this worker, or the parts of its code where they aren't what was compiled.

    Raises:
        Exception: Whatever the user's module raises when it is imported; `RunAtImport` when it starts a run.
    """
    if not recipe.module:
        import pickle

        return pickle.loads(recipe.pickled or blobs.read(recipe.blob))
    function = _function_of(_look_up(recipe.module, recipe.file, recipe.qualname))
    if recipe.code_digest:
        tree = code_parts(function)
        if tree.uncacheable or digest.code(part.digest for part in tree.parts) != recipe.code_digest:
            return tuple((part.kind, part.name, part.digest) for part in tree.parts)
    signature = read_signature(function)
    return LiveStep(
        function=function,
        annotations={parameter.name: parameter.annotation for parameter in signature.parameters},
        positional=tuple(parameter.name for parameter in signature.parameters if parameter.positional_only),
        declarations=signature.outputs,
        multiple=signature.multiple,
        retry_on=recipe.retry_on,
        hooks={},
        files={},
    )


def changed_code(live: LiveStep, spec: StepSpec, parts: tuple[tuple[str, str, str], ...]) -> CodeChanged | None:
    """Return the error for code that a worker found to be other code; None where only values differ."""
    mine = {(part.kind, part.name): part.digest for part in code_parts(live.function).parts}
    theirs = {(kind, name): hashed for kind, name, hashed in parts}
    differ = sorted(key for key in mine.keys() | theirs.keys() if mine.get(key) != theirs.get(key))
    code = [name for kind, name in differ if kind not in _VALUES]
    if not code:
        return None
    shown = ", ".join(code[:5]) + (" …" if len(code) > 5 else "")
    return CodeChanged(
        f"the code of step {spec.name!r} changed while the run went on: {shown}",
        where=spec.source,
        fix="start the run again; what had finished is reused",
    )


def _place_of(function: Any) -> tuple[str, str, str] | None:
    """Return module, file and qualified name that a function can be had by in another process; None if it can't."""
    name, qualname = getattr(function, "__module__", None), getattr(function, "__qualname__", "")
    module = sys.modules.get(name) if isinstance(name, str) else None
    if module is None or "<" in qualname or not isinstance(name, str):
        return None
    file = module_file(module)
    # What no file holds can't be imported elsewhere; modules of archives and the like are found by their name.
    if not file or (name in PROGRAM and not os.path.isfile(file)):
        return None
    return (name, file, qualname) if _function_of(_attribute(module, qualname)) is function else None


def _look_up(module: str, file: str, qualname: str) -> Any:
    return _attribute(import_for_worker(module, file), qualname)


def _attribute(module: ModuleType, qualname: str) -> Any:
    found: Any = module
    for part in qualname.split("."):
        found = getattr(found, part, None)
    return found


def _function_of(found: Any) -> Any:
    """Return the function of a step, or what else was found."""
    definition = getattr(found, "definition", None)
    return definition.function if isinstance(definition, StepDefinition) else found


def _names_of(retry_on: tuple[type[BaseException] | str, ...]) -> tuple[str, ...]:
    # The program's module has another name in a worker.
    return tuple(
        cls if isinstance(cls, str) else cls.__qualname__ if cls.__module__ in PROGRAM else _full_name(cls)
        for cls in retry_on
    )


def _full_name(cls: type[BaseException]) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _by_value(live: LiveStep, spec: StepSpec) -> bytes:
    buffer = io.BytesIO()
    try:
        _make_pickler(buffer).dump(msgspec.structs.replace(live, hooks={}, files={}))
    except Exception as error:  # what a closure holds may refuse in any way
        raise CupolaError(
            f"step {spec.name!r} can't be sent to a worker process: {error}",
            where=spec.source,
            fix="make it a function at the top of a module, and what it holds a parameter; or run with --in-process",
        ) from error
    return buffer.getvalue()


def _make_pickler(buffer: io.BytesIO) -> Any:
    import cloudpickle  # here, since few runs send anything by value

    class Pickler(cloudpickle.Pickler):
        """Pickles by value what has no name elsewhere; the user's own modules by name and file."""

        def reducer_override(self, obj: Any) -> Any:
            if isinstance(obj, (type, FunctionType)):
                place = _own_place(obj)
                if place is not None:
                    return _look_up, place
            elif isinstance(instance_attributes(obj).get("definition"), StepDefinition):
                place = _own_place(obj)
                return (_look_up, place) if place is not None else (_make_again, (type(obj), obj.definition))
            inherited: Callable[[Any], Any] = cast("Any", super()).reducer_override
            return inherited(obj)

    return Pickler(buffer)


def _own_place(value: Any) -> tuple[str, str, str] | None:
    """Return where the user's own modules have a class, function or step, so that it has one identity in a worker."""
    qualname = getattr(value, "__qualname__", "<")
    module = sys.modules.get(getattr(value, "__module__", None) or "")
    file = module_file(module)
    if module is None or not file or is_installed(file) or "<" in qualname:
        return None
    if module.__name__.partition(".")[0] in ("cupola", *sys.stdlib_module_names):
        return None
    return (module.__name__, file, qualname) if _attribute(module, qualname) is value else None


def _make_again(kind: Any, definition: StepDefinition) -> Any:
    return kind(definition)
