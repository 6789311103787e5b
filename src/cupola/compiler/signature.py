"""Signatures: what a step's or pipeline's function takes and what it gives.

Read from the function itself, without `inspect` (17 ms of every start), and only when a pipeline compiles. What can't
be wired (variable arguments, generators, callable objects) is refused here.
"""

from __future__ import annotations

import collections.abc
import functools
import sys
import types
import typing
from collections.abc import Callable, Sequence
from typing import Annotated, Any, cast
from weakref import WeakKeyDictionary

import msgspec

from cupola.compiler.annotations import NO_ANNOTATION, label_of, open_alias, place_of, resolve, type_text
from cupola.compiler.names import name_problem
from cupola.entities.options import ArtifactConfig
from cupola.errors import CompileError

LONGEST_OUTPUT_NAME = 200
_VAR_POSITIONAL, _VAR_KEYWORD, _GENERATOR, _ASYNC_GENERATOR = 0x04, 0x08, 0x20, 0x200  # co_flags
_NOTHING = (None, types.NoneType, typing.NoReturn, typing.Never)
_LAZY = (
    collections.abc.Iterator,
    collections.abc.Generator,
    collections.abc.AsyncIterator,
    collections.abc.AsyncIterable,
    collections.abc.AsyncGenerator,
)
_AWAITED = (collections.abc.Awaitable, collections.abc.Coroutine)


class Parameter(msgspec.Struct, frozen=True):
    """One parameter of a function.

    Attributes:
        name: Its name.
        annotation: Its type with all names resolved; `NO_ANNOTATION` when it has none.
        has_default: Whether it may be left out.
        default: Its default; None when it has none.
        keyword_only: Whether it can't be given by place.
        positional_only: Whether it can't be given by name.
    """

    name: str
    annotation: Any = NO_ANNOTATION
    has_default: bool = False
    default: Any = None
    keyword_only: bool = False
    positional_only: bool = False


class OutputDeclaration(msgspec.Struct, frozen=True):
    """One output that a function declares.

    Attributes:
        name: Name of the output, unique within the function.
        annotation: Its type; Any when nothing is said.
        text: The type for people.
        config: How it is recorded as an artifact, when that was said.
    """

    name: str
    annotation: Any
    text: str
    config: ArtifactConfig | None = None


class Signature(msgspec.Struct, frozen=True):
    """What a function takes and gives.

    Attributes:
        parameters: The parameters in order.
        outputs: The outputs in order; none for `-> None`.
        multiple: Whether a call gives a tuple of outputs, also when that has one item only.
        named_tuple: The NamedTuple class that the tuple is of, or None.
        names: Names of the parameters, in order.
        by_place: Names of the parameters that can be given by place, in order.
        by_name: Names of the parameters that can be given by name.
    """

    parameters: tuple[Parameter, ...]
    outputs: tuple[OutputDeclaration, ...]
    multiple: bool
    named_tuple: Any
    names: tuple[str, ...]
    by_place: tuple[str, ...]
    by_name: frozenset[str]


_known: WeakKeyDictionary[Any, Signature] = WeakKeyDictionary()


def read_signature(function: Callable[..., Any]) -> Signature:
    """Return what a function takes and gives; each function is read once.

    Raises:
        CompileError: An annotation can't be resolved, or the function is of a kind that can't be wired.
    """
    if isinstance(function, staticmethod):
        return read_signature(cast("staticmethod[..., Any]", function).__func__)
    _refuse_objects(function)
    known = _known.get(function)
    if known is None:
        parameters = tuple(_parameters(function, label_of(function)))
        outputs, multiple, named_tuple = _outputs(function)
        known = _known[function] = Signature(
            parameters=parameters,
            outputs=outputs,
            multiple=multiple,
            named_tuple=named_tuple,
            names=tuple(item.name for item in parameters),
            by_place=tuple(item.name for item in parameters if not item.keyword_only),
            by_name=frozenset(item.name for item in parameters if not item.positional_only),
        )
    return known


def _refuse_objects(function: Any) -> None:
    if isinstance(function, (types.FunctionType, functools.partial)):
        return
    if isinstance(function, types.MethodType):
        kind, fix = "a method bound to an object", "write a function that gets what it needs as parameters"
    elif isinstance(function, type):
        kind, fix = "a class", "write a function that makes the object and returns it"
    elif hasattr(function, "__wrapped__"):
        return
    elif isinstance(function, types.BuiltinFunctionType):
        kind, fix = "built in, so its parameters can't be read", "call it in a function of your own"
    else:
        kind, fix = "an object that can be called", "write a function that calls it"
    raise CompileError(f"{label_of(function)} can't be a step or pipeline: it is {kind}", fix=fix)


def _parameters(function: Any, label: str) -> list[Parameter]:
    """Read the parameters where a call is bound to names: below wrappers that pass on whatever they get."""
    if isinstance(function, functools.partial):
        partial = cast("functools.partial[Any]", function)
        return _bind_partial(partial, _parameters(partial.func, label), label)
    if isinstance(function, staticmethod):
        return _parameters(cast("staticmethod[..., Any]", function).__func__, label)
    code = getattr(function, "__code__", None)
    variable = isinstance(code, types.CodeType) and code.co_flags & (_VAR_POSITIONAL | _VAR_KEYWORD)
    if hasattr(function, "__wrapped__") and (variable or code is None):
        return _parameters(_wrapped(function), label)
    if not isinstance(function, types.FunctionType):
        _refuse_objects(function)
    if variable:
        _refuse_variable(function, label)
    return _own_parameters(function, label)


def _wrapped(function: Any) -> Any:
    return function.__wrapped__


def _refuse_variable(function: types.FunctionType, label: str) -> None:
    code = function.__code__
    end = code.co_argcount + code.co_kwonlyargcount
    stars = [star for flag, star in ((_VAR_POSITIONAL, "*"), (_VAR_KEYWORD, "**")) if code.co_flags & flag]
    names = " and ".join(star + name for star, name in zip(stars, code.co_varnames[end:], strict=False))
    raise CompileError(
        f"{label} takes {names}; each input of a step or pipeline needs a name of its own",
        where=place_of(function),
        fix="name the parameters, or take one list or dict; functools.wraps keeps those of what a decorator wraps",
    )


def _own_parameters(function: Any, label: str) -> list[Parameter]:
    code: types.CodeType = function.__code__
    positional = code.co_varnames[: code.co_argcount]
    defaults = dict(zip(reversed(positional), reversed(function.__defaults__ or ()), strict=False))
    defaults.update(function.__kwdefaults__ or {})
    said, owner = _annotations(function)
    parameters: list[Parameter] = []
    for place, name in enumerate(code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]):
        annotation = NO_ANNOTATION
        if name in said:
            annotation = resolve(said[name], owner, f"parameter {name!r} of {label}")
        parameters.append(
            Parameter(
                name,
                annotation,
                has_default=name in defaults,
                default=defaults.get(name),
                keyword_only=place >= code.co_argcount,
                positional_only=place < code.co_posonlyargcount,
            )
        )
    return parameters


def _annotations(function: Any) -> tuple[dict[str, Any], Any]:
    """Return a function's annotations and the function that they were written at, whose names they use."""
    try:
        said: dict[str, Any] = function.__annotations__
    except NameError as error:  # from Python 3.14 on annotations are evaluated when they are asked for
        raise CompileError(
            f"an annotation of {label_of(function)} names {error.name!r}, which isn't known at run time",
            where=place_of(function),
            fix=f"import {error.name!r} outside of `if TYPE_CHECKING:`, or define it at the top of the module",
        ) from error
    owner = function
    while hasattr(owner, "__wrapped__"):
        inner = _wrapped(owner)
        while isinstance(inner, (functools.partial, staticmethod)):
            inner = inner.func if isinstance(inner, functools.partial) else inner.__func__  # pyright: ignore[reportUnknownMemberType] — of any type
        if getattr(inner, "__annotations__", None) != said:
            break
        owner = inner
    return said, owner


def _bind_partial(partial: functools.partial[Any], parameters: list[Parameter], label: str) -> list[Parameter]:
    """Apply a partial: what it gives by place is gone, what it gives by name is a default, given by name only."""
    places = [parameter.name for parameter in parameters if not parameter.keyword_only]
    if len(partial.args) > len(places):
        raise CompileError(
            f"{label} is a partial with {len(partial.args)} arguments by place, but its function takes {len(places)}",
            where=place_of(partial.func),
        )
    left = parameters[len(partial.args) :]
    unknown = [key for key in partial.keywords if key not in {parameter.name for parameter in left}]
    if unknown:
        raise CompileError(
            f"{label} is a partial with {unknown[0]}=…, which its function doesn't take or already has by place",
            where=place_of(partial.func),
            fix=f"it takes: {', '.join(parameter.name for parameter in parameters) or 'nothing'}",
        )
    bound: list[Parameter] = []
    by_name = False
    for parameter in left:
        by_name = by_name or parameter.name in partial.keywords
        if parameter.name in partial.keywords:
            given = partial.keywords[parameter.name]
            parameter = msgspec.structs.replace(parameter, has_default=True, default=given)
        # Python gives later arguments by place to the same parameter again, and fails; so by name only.
        bound.append(msgspec.structs.replace(parameter, keyword_only=True) if by_name else parameter)
    return bound


def _outputs(function: Any) -> tuple[tuple[OutputDeclaration, ...], bool, Any]:
    label = label_of(function)
    inner = function
    while True:
        if isinstance(inner, functools.partial):
            inner = cast("functools.partial[Any]", inner).func
        elif isinstance(inner, staticmethod):
            inner = cast("staticmethod[..., Any]", inner).__func__
        elif hasattr(inner, "__wrapped__") and not _says_return(inner):
            inner = _wrapped(inner)
        else:
            break
    code = getattr(inner, "__code__", None)
    if isinstance(code, types.CodeType) and code.co_flags & (_GENERATOR | _ASYNC_GENERATOR):
        raise _refuse_lazy(label, "is a generator", inner)
    said, owner = _annotations(inner)
    if "return" not in said:
        return (OutputDeclaration("output", Any, "Any"),), False, None
    annotation = open_alias(resolve(said["return"], owner, f"what {label} returns"))
    if typing.get_origin(annotation) in _AWAITED:
        annotation = open_alias(typing.get_args(annotation)[-1])
    if typing.get_origin(annotation) in _LAZY or annotation in _LAZY:
        raise _refuse_lazy(label, f"returns {type_text(annotation)}", owner)
    if annotation in _NOTHING:
        return (), False, None
    return _declared(annotation, label, owner)


def _says_return(function: Any) -> bool:
    return isinstance(function, types.FunctionType) and "return" in _annotations(function)[0]


def _refuse_lazy(label: str, what: str, owner: Any) -> CompileError:
    return CompileError(
        f"{label} {what}; a step that gives its items one by one can't be stored yet",
        where=place_of(owner),
        fix="return a list, and annotate list[…]",
    )


def _declared(annotation: Any, label: str, owner: Any) -> tuple[tuple[OutputDeclaration, ...], bool, Any]:
    one = _declaration(annotation, "", label, owner)
    if one.name:
        return (one,), False, None
    plain = open_alias(typing.get_args(annotation)[0]) if typing.get_origin(annotation) is Annotated else annotation
    fields = _fields(plain, label, owner)
    if fields is None:
        return (msgspec.structs.replace(one, name="output"),), False, None
    outputs = [_declaration(item, name, label, owner) for name, item in fields]
    names = [output.name for output in outputs]
    for name in names:
        if names.count(name) > 1:
            raise CompileError(
                f"{label} declares two outputs named {name!r}", where=place_of(owner), fix="give each a name of its own"
            )
    cls = typing.get_origin(plain) or plain
    return tuple(outputs), True, None if cls is tuple else cls


def _fields(annotation: Any, label: str, owner: Any) -> Sequence[tuple[str, Any]] | None:
    """Return name and type of each item of a tuple that stands for several outputs; None for one value."""
    cls: Any = typing.get_origin(annotation) or annotation
    args = typing.get_args(annotation)
    if cls is tuple:
        if not args or Ellipsis in args or any(_is_unpacked(arg) for arg in args):
            return None
        return [(f"output_{place}", arg) for place, arg in enumerate(args)]
    names = getattr(cls, "_fields", None)
    if not names or tuple not in getattr(cls, "__mro__", ()):
        return None
    said: dict[str, Any] = getattr(cls, "__annotations__", {})
    home = _ClassScope(cls, owner)
    return [(name, resolve(said[name], home, f"{label}, field {name!r}") if name in said else Any) for name in names]


class _ClassScope:
    """A class seen as `resolve` sees functions: the annotations of its fields use the names of its own module."""

    def __init__(self, cls: type, owner: Any) -> None:
        module = sys.modules.get(cls.__module__)
        self.__globals__: dict[str, Any] = vars(module) if module else owner.__globals__
        self.__qualname__ = cls.__qualname__
        self.__code__ = owner.__code__
        self.__closure__ = owner.__closure__


def _is_unpacked(arg: Any) -> bool:
    return (
        typing.get_origin(arg) is typing.Unpack
        or isinstance(arg, typing.TypeVarTuple)
        or getattr(arg, "__unpacked__", False)
    )


def _declaration(annotation: Any, name: str, label: str, owner: Any) -> OutputDeclaration:
    """Read one output: `Annotated` may name it, by a text or by the artifact's name, and say how it is recorded."""
    annotation = open_alias(annotation)
    if typing.get_origin(annotation) is not Annotated:
        return OutputDeclaration(name, annotation, type_text(annotation))
    plain, *notes = typing.get_args(annotation)
    names = [note for note in notes if isinstance(note, str)]
    configs = [note for note in notes if isinstance(note, ArtifactConfig)]
    if len(names) > 1 or len(configs) > 1:
        said = ", ".join(map(repr, names if len(names) > 1 else configs))
        raise CompileError(
            f"{label} names one output of type {type_text(plain)} more than once: {said}",
            where=place_of(owner),
            fix="keep one name, and put other texts into ArtifactConfig(metadata={…})",
        )
    config = configs[0] if configs else None
    if names:  # without a slash: `pipeline/invocation/output` names its artifact
        _check_name(names[0], label, owner, "/")
    if config and config.name is not None:
        _check_name(config.name, label, owner, "")
    said_name = names[0] if names else (config.name if config else None)
    if config and not said_name:
        said_name = name or "output"
    return OutputDeclaration(said_name or name, plain, type_text(plain), config)


def _check_name(name: str, label: str, owner: Any, refused: str) -> None:
    if problem := name_problem(name, LONGEST_OUTPUT_NAME, refused):
        raise CompileError(
            f"{label} can't name an output {name[:80]!r}: {problem}", where=place_of(owner), fix="choose another name"
        )
