"""What annotations say: their names resolved as late as possible, their aliases opened, and a text for people.

Annotations are only looked at when a pipeline compiles. Texts go into snapshots, so they hold no address, and no module
is called `__main__`.
"""

from __future__ import annotations

import re
import sys
import types
import typing
from collections.abc import Callable, Iterator
from enum import Enum
from typing import Annotated, Any, Union

from cupola.compiler.source import PROGRAM, canonical_module, file_of, is_installed
from cupola.errors import CompileError


class _NoAnnotation:
    def __repr__(self) -> str:
        return "NO_ANNOTATION"


NO_ANNOTATION: Any = _NoAnnotation()
"""Stands for the annotation of a parameter that has none."""

_UNIONS = (Union, types.UnionType)
_PLAIN = frozenset({"builtins", "typing", "typing_extensions", "collections.abc"})
_ADDRESS = r" at 0x[0-9a-fA-F]+"


def resolve(annotation: Any, function: Any, what: str) -> Any:
    """Return an annotation with the names in it looked up where its function was defined.

    Args:
        annotation: As it stands in `__annotations__`.
        function: The function whose globals and closure the names belong to.
        what: What is annotated, for the error, such as `parameter 'rate' of fit()`.

    Raises:
        CompileError: A name isn't known, or the annotation is no type.
    """
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        return annotation
    try:
        try:
            return _evaluate(annotation, function.__globals__, _names(function))
        except NameError:
            names = _names(function)
            for frame in _defining_frames(function.__code__):
                names = {**frame.f_locals, **names}
            return _evaluate(annotation, function.__globals__, names)
    except NameError as error:
        name = error.name or str(error)
        raise CompileError(
            f"the annotation {_written(annotation)} of {what} names {name!r}, which isn't known at run time",
            where=place_of(function),
            fix=f"import {name!r} outside of `if TYPE_CHECKING:`, or define it at the top of the module",
        ) from error
    except Exception as error:  # an annotation is code of the user's and may raise anything
        raise CompileError(
            f"the annotation {_written(annotation)} of {what} can't be read ({type(error).__name__}: {error})",
            where=place_of(function),
            fix="write a type there",
        ) from error


def place_of(function: Any) -> str:
    """Return `file:line` of a function's definition; empty where that isn't known."""
    code = getattr(function, "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if isinstance(code, types.CodeType) else ""


def _written(annotation: Any) -> str:
    return repr(annotation) if isinstance(annotation, str) else type_text(annotation)


def _evaluate(annotation: Any, names: dict[str, Any], local_names: dict[str, Any]) -> Any:
    # `get_type_hints` also finds the texts inside of `list["Row"]`; it asks its object for nothing but annotations.
    holder = types.SimpleNamespace(__annotations__={"it": annotation})
    try:
        found = typing.get_type_hints(holder, names, local_names, include_extras=True)["it"]
    except TypeError as error:
        # `Series[float]` means something to type checkers only: at run time it is a Series.
        plain = _without_brackets(annotation, str(error))
        if plain is None:
            raise
        return _evaluate(plain, names, local_names)
    open_alias(found)  # the value of a `type` statement is lazy as well: its unknown names belong to this annotation
    return found


def _without_brackets(annotation: Any, error: str) -> str | None:
    """Return the text of an annotation without the brackets behind a class that takes none; None if that isn't it."""
    named = re.search(r"type '([^']+)' is not subscriptable", error)
    start = annotation.find(f"{named[1]}[") if named and isinstance(annotation, str) else -1
    if named is None or start < 0:
        return None
    start += len(named[1])
    depth = 0
    for end in range(start, len(annotation)):
        depth += {"[": 1, "]": -1}.get(annotation[end], 0)
        if depth == 0:
            return annotation[:start] + annotation[end + 1 :]
    return None


def _names(function: Any) -> dict[str, Any]:
    """Return what a function sees besides its module: the classes it stands in, its closure and its type parameters."""
    names: dict[str, Any] = {}
    scope: Any = types.SimpleNamespace(**function.__globals__)
    for part in function.__qualname__.split(".")[:-1]:
        scope = getattr(scope, part, None)
        if not isinstance(scope, type):
            break
        names.update(vars(scope))
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            names[name] = cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    names.update({parameter.__name__: parameter for parameter in getattr(function, "__type_params__", ())})
    return names


def _defining_frames(code: types.CodeType) -> Iterator[types.FrameType]:
    """Yield the running frames that a function was defined in, innermost first: they know its local classes."""
    frame: types.FrameType | None = sys._getframe(1)  # pyright: ignore[reportPrivateUsage] — `inspect` costs 17 ms
    while frame is not None:
        if any(constant is code for constant in frame.f_code.co_consts):
            yield frame
            code = frame.f_code
        frame = frame.f_back


def open_alias(annotation: Any) -> Any:
    """Return what the name of a `type` statement stands for; other annotations as they are."""
    for _ in range(100):  # an alias may name itself
        if _is_alias(annotation):
            annotation = annotation.__value__
        elif _is_alias(typing.get_origin(annotation)):
            annotation = typing.get_origin(annotation).__value__[typing.get_args(annotation)]
        else:
            break
    return annotation


def _is_alias(annotation: Any) -> bool:
    return type(annotation).__name__ == "TypeAliasType"


def type_text(annotation: Any) -> str:
    """Return a short name of a type for people, the same in each process.

    Example:
        >>> type_text(list[int | None])
        'list[int | None]'
    """
    if annotation is NO_ANNOTATION:
        return "Any"
    if annotation is None or annotation is types.NoneType:
        return "None"
    if annotation is Ellipsis:
        return "..."
    origin = typing.get_origin(annotation)
    if origin is not None:
        return _generic_text(origin, typing.get_args(annotation))
    if isinstance(annotation, type):
        return _class_text(annotation)
    if isinstance(annotation, str):
        return annotation
    if isinstance(annotation, typing.ForwardRef):
        return annotation.__forward_arg__
    if isinstance(annotation, list):  # the parameters of a Callable
        return f"[{_joined(typing.cast(list[Any], annotation))}]"
    name = getattr(annotation, "__name__", None)
    return name if isinstance(name, str) else re.sub(_ADDRESS, "", repr(annotation))


def _joined(items: typing.Iterable[Any]) -> str:
    return ", ".join(map(type_text, items))


def _generic_text(origin: Any, args: tuple[Any, ...]) -> str:
    if origin in _UNIONS:
        return " | ".join(map(type_text, args))
    if origin is Annotated:
        return type_text(args[0])
    if origin is typing.Literal:
        return f"Literal[{', '.join(map(_literal_text, args))}]"
    if origin is typing.Unpack:
        return f"*{type_text(args[0])}"
    name = type_text(origin)
    if name == "numpy.ndarray" and len(args) == 2:  # how NDArray[float64] is spelt differs between versions of numpy
        return f"numpy.ndarray[{_joined(typing.get_args(args[1]) or args[1:])}]"
    if origin is tuple and not args:
        return "tuple"
    return f"{name}[{_joined(args)}]" if args else name


def _literal_text(value: Any) -> str:
    return f"{type(value).__name__}.{value.name}" if isinstance(value, Enum) else repr(value)


def _class_text(cls: type) -> str:
    module = cls.__module__
    name = cls.__qualname__.rpartition("<locals>.")[2]
    if module in _PLAIN:
        return name
    loaded = sys.modules.get(module)
    namespace = vars(loaded) if isinstance(loaded, types.ModuleType) else {}
    file = file_of(namespace) if namespace else ""
    top = module.partition(".")[0]
    if file and module not in PROGRAM and (is_installed(file) or top in sys.stdlib_module_names):
        return f"{_public_module(cls, module)}.{name}"
    try:
        module = canonical_module(namespace) if file else module
    except CompileError:  # a program without a file has no name for its module
        return name
    return name if module in PROGRAM else f"{module}.{name}"


def _public_module(cls: type, module: str) -> str:
    """Return the outermost package that shows a class: `pandas` rather than `pandas.core.frame`."""
    head = cls.__qualname__.partition(".")[0]
    for end in [place for place, letter in enumerate(module) if letter == "."]:
        try:
            shown = getattr(sys.modules.get(module[:end]), head, None)
        except Exception:  # packages may compute their names, and fail as they like
            continue
        if shown is cls:
            return module[:end]
    return module


def label_of(function: Callable[..., Any]) -> str:
    """Return how errors call a function, such as `fit()`."""
    name = getattr(function, "__name__", None) or getattr(getattr(function, "func", None), "__name__", None)
    return f"{name}()" if isinstance(name, str) else type_text(type(function))
