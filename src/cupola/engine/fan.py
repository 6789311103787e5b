"""Mapped steps: what they are spread over becomes their children, one run of the step for each item.

Pure but for loading the list that a step made, whose items are stored one by one for the children to read.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import msgspec

from cupola import digest, values
from cupola.artifacts.blobs import Blobs
from cupola.artifacts.materializer import load_value, store_value
from cupola.compiler.annotations import type_text
from cupola.engine.graph import Graph
from cupola.entities.artifact import Manifest
from cupola.errors import CompileError
from cupola.snapshot import Collect, Fan, FromStep, Gather, Literal, Snapshot, Source, StepSpec

Items = dict[str, tuple[Manifest, ...]]
"""Items that were stored one by one, by the name of the input that they are spread from."""


def split_inputs(
    spec: StepSpec,
    manifests: Mapping[tuple[int, str], Manifest],
    annotations: Mapping[tuple[int, str], Any],
    blobs: Blobs,
) -> Items:
    """Store the items of the lists that earlier steps made for a mapped step.

    Args:
        spec: The mapped step.
        manifests: The outputs of earlier steps.
        annotations: How those outputs are annotated, as far as known.
        blobs: Where values are.

    Raises:
        CompileError: A value can't be spread.
    """
    assert spec.fan is not None
    found: dict[str, tuple[Manifest, ...]] = {}
    for name in spec.fan.over:
        source = spec.inputs[name]
        if isinstance(source, FromStep):
            key = source.step, source.output
            annotation = annotations.get(key)
            value = load_value(manifests[key], blobs, annotation)
            of_items = _item_annotation(annotation)
            found[name] = tuple(
                store_value(item, of_items, blobs, path=f"{spec.name}.{name}[{index}]")
                for index, item in enumerate(_items(value, spec, name))
            )
    return found


def _items(value: Any, spec: StepSpec, name: str) -> Iterable[Any]:
    if isinstance(value, str | bytes | Mapping) or not hasattr(value, "__iter__"):
        raise CompileError(
            f"step {spec.name!r} is mapped over {name!r}, which is {type_text(type(cast(object, value)))} and no list",
            where=spec.source,
            fix=f"let the step before make a list, or pass it whole to each child: {name}=unmapped(…)",
        )
    items = cast("Iterable[Any]", value)
    # The order of a set differs from process to process; it is fixed here, once for all.
    return sorted(items, key=values.encode) if isinstance(items, set | frozenset) else items


def _item_annotation(annotation: Any) -> Any:
    arguments = getattr(annotation, "__args__", ())
    return arguments[0] if arguments else None


def child_specs(position: int, spec: StepSpec, items: Items, graph: Graph) -> list[StepSpec]:
    """Return what the children of a mapped step are, in the order of the items.

    Raises:
        CompileError: Inputs that are taken side by side have different numbers of items.
    """
    fan = spec.fan
    assert fan is not None
    columns = {name: _column(position, name, spec.inputs[name], items, graph) for name in fan.over}
    if fan.kind == "product":
        rows: Iterable[Sequence[Source]] = itertools.product(*columns.values())
    else:
        check_lengths(spec.name, {name: len(column) for name, column in columns.items()}, spec.source)
        rows = zip(*columns.values(), strict=True)
    child = Fan("child", fan.over, fan.batch)
    return [
        msgspec.structs.replace(
            spec,
            name=f"{spec.name}[{index}]",
            inputs={**spec.inputs, **dict(zip(columns, row, strict=True))},
            after=(),
            fan=child,
        )
        for index, row in enumerate(rows)
    ]


def _column(position: int, name: str, source: Source, items: Items, graph: Graph) -> Sequence[Source]:
    match source:
        case Gather():
            return source.items
        case Collect():
            return [FromStep(child, source.output) for child in graph.children[source.step]]
        case FromStep():
            return [FromStep(position, item_output(name, index)) for index in range(len(items[name]))]
        case Literal():
            raise AssertionError(f"{name} is spread from a literal that was not taken apart when it was compiled")


def item_output(name: str, index: int) -> str:
    """Return the name under which children read an item that their mapped step keeps for them."""
    return f"{name}[{index}]"


def check_lengths(step: str, lengths: Mapping[str, int], where: str) -> None:
    """Raise `CompileError` unless inputs that are taken side by side have equally many items."""
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        raise CompileError(
            f"step {step!r} is mapped over inputs of different lengths: {listed}",
            where=where,
            fix="give them equally many items, use .product(…) for each with each, or unmapped(…) for a whole one",
        )


def gather_children(source: Collect, graph: Graph) -> Gather:
    """Return the list that a consumer of all children reads: those that are done."""
    children = graph.children[source.step]
    return Gather("list", tuple([FromStep(child, source.output) for child in children if graph.is_done(child)]))


def resolve(spec: StepSpec, graph: Graph) -> StepSpec:
    """Return a step as it can run: what it collects is a list of outputs."""
    if not any(isinstance(source, Collect | Gather) for source in spec.inputs.values()):
        return spec
    inputs = {name: _resolved(source, graph) for name, source in spec.inputs.items()}
    return msgspec.structs.replace(spec, inputs=inputs) if inputs != spec.inputs else spec


def _resolved(source: Source, graph: Graph) -> Source:
    if isinstance(source, Collect):
        return gather_children(source, graph)
    if isinstance(source, Gather) and any(isinstance(item, Collect | Gather) for item in source.items):
        return Gather(source.kind, tuple([_resolved(item, graph) for item in source.items]), source.keys)
    return source


def tolerant_fans(snapshot: Snapshot) -> frozenset[int]:
    """Return the mapped steps whose failed children are left out by all who collect them: such a failure is no end."""
    asked: dict[int, bool] = {}
    for spec in snapshot.steps:
        for source in spec.inputs.values():
            for collect in _collects(source):
                asked[collect.step] = asked.get(collect.step, True) and collect.allow_failures
    for output in snapshot.outputs:
        for collect in _collects(output.source):
            asked[collect.step] = asked.get(collect.step, True) and collect.allow_failures
    return frozenset(step for step, tolerates in asked.items() if tolerates)


def _collects(source: Source) -> list[Collect]:
    if isinstance(source, Collect):
        return [source]
    return [found for item in source.items for found in _collects(item)] if isinstance(source, Gather) else []


def literal_items(spec: StepSpec) -> dict[str, str]:
    """Return the digests of the items of a child that stand in the code, by input: they are in no base key."""
    if spec.fan is None or spec.fan.kind != "child":
        return {}
    return {
        name: digest.value("value", 1, b"", source.value)
        for name in spec.fan.over
        if isinstance(source := spec.inputs[name], Literal)
    }
