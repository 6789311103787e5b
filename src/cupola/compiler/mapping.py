"""What `step.map` and `step.product` do while a pipeline is traced: one node for all children of the step.

Which inputs are spread, and over what, is settled here; how many children that makes may be known only when the run
has come so far.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from math import prod
from typing import Any, Literal, cast

from cupola.compiler.annotations import type_text
from cupola.compiler.binding import call_bound, fill, match
from cupola.compiler.callsite import CallSite, call_site
from cupola.compiler.items import check_lengths, check_width, items_of
from cupola.compiler.nodes import Node, Output, Spread, StepDefinition, Unmapped
from cupola.compiler.signature import Signature, read_signature
from cupola.compiler.trace import Trace, claim_name, find_callee, outputs_of, waits_for, wire
from cupola.errors import CompileError, MaterializerError
from cupola.snapshot import Fan, Gather, Source
from cupola.text import cut

Kind = Literal["map", "product"]
BATCH = "batch"
"""Name of the argument that says how many children a worker gets at once; a parameter of the step goes before it."""


def add_map(trace: Trace, step: StepDefinition, kind: Kind, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Collect one mapped call of a step; return its outputs, each of which stands for a list.

    Raises:
        CompileError: An argument can't be spread, or those taken side by side have different lengths.
    """
    site = call_site()
    callee = find_callee(trace, step)
    label = f"{step.name}.{kind}"
    given, batch = split_batch(label, callee.signature, kwargs, site)
    arguments, over = spread_arguments(label, callee.signature, args, given, site)
    name = claim_name(trace, step, site)
    inputs: dict[str, Source] = {}
    for key, value in arguments.items():
        path = f"{name}.{key}"
        inputs[key] = _wire_spread(trace, value, path, site) if key in over else wire(trace, value, path, site)
    widths = {key: width for key in over if (width := _width(arguments[key])) is not None}
    if kind == "map":
        check_lengths(name, widths, str(site))
    passed = tuple(Spread(value) if key in over else value for key, value in arguments.items())
    width = _children(kind, widths, len(over))
    check_width(name, width or 0, str(site))
    node = Node(
        len(trace.nodes), name, step, callee, inputs, passed, waits_for(trace, step, name, site), site,
        Fan(kind, over, batch), width,
    )  # fmt: skip
    trace.nodes.append(node)
    return outputs_of(node)


def call_children(step: StepDefinition, kind: Kind, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Iterator[Any]:
    """Call the function of a step for each item, outside of a pipeline; yield what the calls return.

    Raises:
        CompileError: As `add_map`.
    """
    site = call_site()
    signature = read_signature(step.function)
    label = f"{step.name}.{kind}"
    given, _batch = split_batch(label, signature, kwargs, site)
    arguments, over = spread_arguments(label, signature, args, given, site)
    if kind == "map":
        check_lengths(step.name, {key: len(arguments[key]) for key in over}, str(site))
    columns = [arguments[key] for key in over]
    for row in product(*columns) if kind == "product" else zip(*columns, strict=True):
        yield call_bound(step.function, signature, list({**arguments, **dict(zip(over, row, strict=True))}.values()))


def each_output(step: StepDefinition, results: Sequence[Any]) -> list[Sequence[Any]]:
    """Return what calls of a step returned, one row for each of its outputs."""
    signature = read_signature(step.function)
    if not signature.multiple:
        return [results]
    return [[result[place] for result in results] for place in range(len(signature.outputs))]


def split_batch(
    label: str, signature: Signature, kwargs: Mapping[str, Any], site: CallSite
) -> tuple[dict[str, Any], int]:
    """Return the arguments without `batch`, and how many children a worker gets at once.

    Raises:
        CompileError: It is no number of children.
    """
    given = dict(kwargs)
    if BATCH not in given or BATCH in signature.names:
        return given, 1
    batch = given.pop(BATCH)
    if not isinstance(batch, int) or isinstance(batch, bool) or batch < 1:
        raise CompileError(
            f"{label}(…, batch={batch!r}) is no number of children that a worker gets at once",
            where=str(site),
            fix="pass a whole number from 1 on, such as batch=200",
        )
    return given, batch


def spread_arguments(
    label: str, signature: Signature, args: tuple[Any, ...], kwargs: Mapping[str, Any], site: CallSite
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return a value for each parameter, and the names of those that are spread: then an output or a list of items.

    Raises:
        CompileError: Arguments don't match the parameters, can't be spread, or nothing is.
    """
    passed = match(label, signature, args, kwargs)
    plain: dict[str, Any] = {key: _unwrapped(value) for key, value in passed.items()}
    arguments = dict(zip(signature.names, fill(label, signature, plain), strict=True))
    over = tuple(key for key in signature.names if key in passed and not isinstance(passed[key], Unmapped))
    if not over:
        raise CompileError(
            f"{label}(…) has nothing to run the step for each item of",
            where=str(site),
            fix="pass a list of items for at least one parameter, or call the step itself",
        )
    for key in over:
        if not isinstance(arguments[key], Output):
            arguments[key] = _taken_apart(label, key, arguments[key], site)
    return arguments, over


def _unwrapped(value: Any) -> Any:
    return cast("Unmapped[Any]", value).value if isinstance(value, Unmapped) else value


def _taken_apart(label: str, key: str, value: Any, site: CallSite) -> list[Any]:
    if isinstance(value, set | frozenset) and any(isinstance(item, Output) for item in cast("set[Any]", value)):
        raise CompileError(
            f"{label}(…) got a set of outputs for {key!r}, which has no order",
            where=str(site),
            fix="pass a list of them",
        )
    try:
        items = items_of(value)
    except MaterializerError as error:
        raise CompileError(
            f"{label}(…) can't put the items of {key!r} in order: {error.what}", where=str(site)
        ) from error
    if items is None:
        raise CompileError(
            f"{label}(…) got one value for {key!r} and no list of items: {_shown(value)}",
            where=str(site),
            fix=f"to pass it whole to each child: {key}=unmapped(…)",
        )
    return items


def _shown(value: Any) -> str:
    kind = f"of type {type_text(cast('object', type(value)))}"
    try:
        return f"{cut(' '.join(repr(value).split()), 80)}, {kind}"
    except Exception:  # `__repr__` is the user's code
        return f"an object {kind}"


def _wire_spread(trace: Trace, value: Any, path: str, site: CallSite) -> Source:
    if isinstance(value, Output):
        return wire(trace, value, path, site)
    return Gather("list", tuple([wire(trace, item, f"{path}[{index}]", site) for index, item in enumerate(value)]))


def _width(value: Any) -> int | None:
    """Return how many items a spread argument has, when that is known before the run."""
    if isinstance(value, Output):
        return value.node.width if value.is_mapped and not value.allow_failures else None
    return len(value)


def _children(kind: Kind, widths: Mapping[str, int], spread: int) -> int | None:
    if kind == "product":
        return prod(widths.values()) if len(widths) == spread or 0 in widths.values() else None
    return next(iter(widths.values()), None)
