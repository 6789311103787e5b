"""Matching the arguments of a call to the parameters of a step or pipeline, as Python itself would."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cupola.compiler.callsite import caller_place
from cupola.compiler.signature import Signature
from cupola.errors import CompileError
from cupola.suggest import nearest


def bind(name: str, signature: Signature, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return a value for each parameter, in their order, defaults included.

    Raises:
        CompileError: An argument is missing, unknown or given twice.
    """
    if not kwargs and len(args) == len(signature.by_place) == len(signature.names):
        return args
    return fill(name, signature, match(name, signature, args, kwargs))


def fill(name: str, signature: Signature, given: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return a value for each parameter, in their order: what was given, else the default.

    Raises:
        CompileError: A parameter without a default got none.
    """
    bound: list[Any] = []
    for parameter in signature.parameters:
        if parameter.name in given:
            bound.append(given[parameter.name])
        elif parameter.has_default:
            bound.append(parameter.default)
        else:
            raise CompileError(
                f"{name}() needs a value for {parameter.name!r}",
                where=caller_place(),
                fix=f"pass {parameter.name}=… or give the parameter a default",
            )
    return tuple(bound)


def match(name: str, signature: Signature, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Match arguments to parameters by place and name; what was not passed is left out.

    Raises:
        CompileError: An argument is unknown or given twice.
    """
    if len(args) > len(signature.by_place):
        raise CompileError(
            f"{name}() takes {len(signature.by_place)} positional arguments but got {len(args)}",
            where=caller_place(),
            fix=f"its parameters are: {', '.join(signature.names) or 'none'}",
        )
    given = dict(zip(signature.by_place, args, strict=False))
    for key, value in kwargs.items():
        if key in given or key not in signature.by_name:
            raise _wrong_name(name, key, signature, is_given=key in given)
        given[key] = value
    return given


def _wrong_name(name: str, key: str, signature: Signature, *, is_given: bool) -> CompileError:
    if is_given:
        return CompileError(f"{name}() got two values for {key!r}", where=caller_place(), fix="pass it once")
    if key in signature.by_place:
        return CompileError(
            f"{name}() takes {key!r} by place only", where=caller_place(), fix=f"write the value without {key}="
        )
    guess = nearest(key, signature.by_name)
    known = ", ".join(sorted(signature.by_name)) or "none"
    return CompileError(
        f"{name}() has no parameter {key!r}",
        where=caller_place(),
        fix=f"did you mean {guess!r}?" if guess else f"its parameters are: {known}",
    )


def call_bound(function: Callable[..., Any], signature: Signature, bound: Sequence[Any]) -> Any:
    """Call a function with a value for each of its parameters, in their order, by place where it wants that."""
    named = dict(zip(signature.names, bound, strict=True))
    places = [named.pop(parameter.name) for parameter in signature.parameters if parameter.positional_only]
    return function(*places, **named)
