"""Mapping in a dynamic pipeline: a call of the step for each item, made at once, since the items are there.

The items of a list that a step made are stored one by one, and wired to the calls as outputs of that step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any, cast

import msgspec

from cupola.artifacts.materializer import store_value
from cupola.compiler.callsite import CallSite, call_site
from cupola.compiler.items import check_lengths, check_width, item_type, items_of
from cupola.compiler.mapping import split_batch, spread_arguments
from cupola.compiler.nodes import Node, Output, StepDefinition
from cupola.compiler.signature import OutputDeclaration
from cupola.compiler.trace import Trace, claim_name, collecting, find_callee, grouped, waits_for, wire
from cupola.engine.futures import Call, Future, FutureList, Waiter
from cupola.errors import CompileError
from cupola.snapshot import Source


def make_nodes(
    trace: Trace, step: StepDefinition, kind: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], waiter: Waiter
) -> list[Node]:
    """Collect the calls that a step is mapped to.

    Raises:
        CompileError: An argument can't be spread, or those taken side by side have different lengths.
        StepFailed: A step that made one of the lists failed.
    """
    site = call_site()
    signature = find_callee(trace, step).signature
    label = f"{step.name}.{kind}"
    given, _batch = split_batch(label, signature, kwargs, site)
    arguments, over = spread_arguments(label, signature, args, given, site)
    columns = {key: _items(arguments[key], f"{label}(…)", key, site, waiter) for key in over}
    if kind == "map":
        check_lengths(step.name, {key: len(column) for key, column in columns.items()}, str(site))
    rows = list(product(*columns.values()) if kind == "product" else zip(*columns.values(), strict=True))
    check_width(step.name, len(rows), str(site))
    with collecting:
        name = claim_name(trace, step, site)
        return [
            _node(trace, step, f"{name}[{index}]", {**arguments, **dict(zip(over, row, strict=True))}, site)
            for index, row in enumerate(rows)
        ]


def _node(trace: Trace, step: StepDefinition, name: str, arguments: Mapping[str, Any], site: CallSite) -> Node:
    inputs: dict[str, Source] = {key: wire(trace, value, f"{name}.{key}", site) for key, value in arguments.items()}
    after = waits_for(trace, step, name, site)
    callee = find_callee(trace, step)
    node = Node(len(trace.nodes), name, step, callee, inputs, tuple(arguments.values()), after, site)
    trace.nodes.append(node)
    return node


def _items(value: Any, label: str, key: str, site: CallSite, waiter: Waiter) -> Sequence[Any]:
    """Return the items of an argument: values, or outputs that stand for them."""
    if isinstance(value, FutureList):
        return cast("FutureList[Any]", value).parts
    if not isinstance(value, Future):
        return cast("list[Any]", value)
    future = cast("Future[Any]", value)
    items = items_of(future.load())
    if items is None or future.declaration is None:
        raise CompileError(
            f"{label} got an output of step {future.node.name!r} for {key!r} that is no list of items",
            where=str(site),
            fix=f"to pass it whole to each call: {key}=unmapped(…)",
        )
    return [_keep(future, item, index, waiter) for index, item in enumerate(items)]


def _keep(future: Future[Any], item: Any, index: int, waiter: Waiter) -> Output[Any]:
    """Store an item of what a step made; return an output that stands for it."""
    declaration = future.declaration
    assert declaration is not None
    kind = item_type(future.type)
    name = f"{declaration.name}[{index}]"
    if name not in future.call.outputs:
        path = f"{future.node.name}.{name}"
        future.call.outputs[name] = store_value(item, kind, waiter.blobs, path=path)
    return Output(future.node, msgspec.structs.replace(declaration, name=name, annotation=kind, config=None))


def futures_of(waiter: Waiter, step: StepDefinition, calls: Sequence[Call], trace: Trace) -> Any:
    """Return the lists that stand for the outputs of mapped calls: one, or one for each output of the step."""
    callee = find_callee(trace, step)
    node = Node(-1, step.name, step, callee, {}, (), (), call_site())
    declared: Sequence[OutputDeclaration | None] = callee.signature.outputs or (None,)
    lists = [
        FutureList[Any](
            waiter,
            node,
            declaration,
            [Future[Any](waiter, call, (declaration,) if declaration else ()) for call in calls],
        )
        for declaration in declared
    ]
    return grouped(node, lists)
