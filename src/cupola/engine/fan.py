"""Mapped steps: what they are spread over becomes their children, one run of the step for each item.

Pure but for loading the list that a step made, whose items are stored one by one for the children to read.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from math import prod
from typing import Any

import msgspec

from cupola import digest, values
from cupola.artifacts.blobs import Blobs
from cupola.artifacts.materializer import PICKLE, allows_pickle, load_value, store_value
from cupola.compiler.annotations import type_text
from cupola.compiler.items import check_lengths, check_width, item_type, items_of
from cupola.compiler.stepcompile import LiveStep, files_in, wiring
from cupola.engine.graph import Graph
from cupola.entities.artifact import Manifest
from cupola.errors import CompileError
from cupola.snapshot import Collect, Fan, FromStep, Gather, Literal, Snapshot, Source, StepSpec, child_name

Items = dict[str, tuple[Manifest, ...]]
"""Items that were stored one by one, by the name of the input that they are spread from."""


def split_inputs(
    spec: StepSpec,
    manifests: Mapping[tuple[int, str], Manifest],
    annotations: Mapping[tuple[int, str], Any],
    parameters: Mapping[str, Any],
    blobs: Blobs,
) -> Items:
    """Store the items of the lists that earlier steps made for a mapped step.

    Args:
        spec: The mapped step.
        manifests: The outputs of earlier steps.
        annotations: How those outputs are annotated, as far as known.
        parameters: How the parameters of the mapped step are annotated.
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
            value = load_value(manifests[key], blobs, annotation, allow_pickle=allows_pickle(parameters.get(name)))
            of_items = item_type(annotation)
            # Who chose pickle for the list chose it for what is in it.
            chosen = PICKLE if manifests[key].materializer == PICKLE else ""
            found[name] = tuple([
                store_value(item, of_items, blobs, materializer=chosen, path=f"{spec.name}.{name}[{index}]")
                for index, item in enumerate(_items(value, spec, name))
            ])  # fmt: skip
    return found


def is_there(manifest: Manifest, blobs: Blobs) -> bool:
    """Tell whether all blobs of a stored value exist."""
    return not manifest.files or all(blobs.exists(file.blob) for file in manifest.files if file.kind in "fx")


def check_same_items(spec: StepSpec, before: Items, now: Items) -> None:
    """Raise `CompileError` unless lists that were made again have the items that the children were made for."""
    for name, items in before.items():
        if [item.digest for item in items] != [item.digest for item in now[name]]:
            raise CompileError(
                f"step {spec.name!r} is mapped over {name!r}, whose items are gone; the list was made again and is "
                "another one now, so the children that are left can't go on",
                where=spec.source,
                fix="start a new run that takes over what still holds: cupola rerun RUN",
            )


def _items(value: Any, spec: StepSpec, name: str) -> list[Any]:
    items = items_of(value)
    if items is None:
        raise CompileError(
            f"step {spec.name!r} is mapped over {name!r}, which is {type_text(type(value))} and no list",
            where=spec.source,
            fix=f"let the step before make a list, or pass it whole to each child: {name}=unmapped(…)",
        )
    return items


Columns = dict[str, Sequence[Source]]
"""What each input of a mapped step is spread into, by its name."""


def spread_columns(
    position: int, spec: StepSpec, items: Items, taken: Mapping[str, tuple[int, ...]], children: Mapping[int, range]
) -> Columns:
    """Return what the inputs of a mapped step are spread into.

    Args:
        position: Its position.
        spec: The mapped step.
        items: The items that were stored for it.
        taken: Whose outputs it takes where failed children of another mapped step are left out, by input.
        children: The children of mapped steps before it.
    """
    assert spec.fan is not None
    columns: Columns = {}
    for name in spec.fan.over:
        source = spec.inputs[name]
        match source:
            case Gather():
                columns[name] = source.items
            case Collect():
                makers = taken.get(name, children[source.step])
                columns[name] = [FromStep(child, source.output) for child in makers]
            case FromStep():
                columns[name] = [FromStep(position, item_output(name, index)) for index in range(len(items[name]))]
            case Literal():
                raise AssertionError(f"{name} is spread from a literal that was not taken apart when it was compiled")
    return columns


def child_specs(spec: StepSpec, columns: Columns) -> list[StepSpec]:
    """Return what the children of a mapped step are, in the order of the items.

    Raises:
        CompileError: Inputs that are taken side by side have different numbers of items, or there are too many.
    """
    assert spec.fan is not None
    lengths = {name: len(column) for name, column in columns.items()}
    if spec.fan.kind == "product":
        check_width(spec.name, prod(lengths.values()), spec.source)
        rows: Iterable[Sequence[Source]] = itertools.product(*columns.values())
    else:
        check_lengths(spec.name, lengths, spec.source)
        rows = zip(*columns.values(), strict=True)
    return [_child(spec, index, row) for index, row in enumerate(rows)]


def child_spec(spec: StepSpec, columns: Columns, index: int) -> StepSpec:
    """Return what one of the children of a mapped step is."""
    assert spec.fan is not None
    row: list[Source] = []
    rest = index
    for column in reversed(columns.values()):
        rest, place = divmod(rest, len(column)) if spec.fan.kind == "product" else (index, index)
        row.append(column[place])
    return _child(spec, index, row[::-1])


def _child(spec: StepSpec, index: int, row: Sequence[Source]) -> StepSpec:
    assert spec.fan is not None
    return msgspec.structs.replace(
        spec,
        name=child_name(spec.name, index),
        inputs={**spec.inputs, **dict(zip(spec.fan.over, row, strict=True))},
        after=(),
        fan=Fan("child", spec.fan.over, spec.fan.batch),
    )


def taken_children(spec: StepSpec, graph: Graph) -> dict[str, tuple[int, ...]]:
    """Return whose outputs a mapped step takes, by input, where failed children of another one are left out."""
    assert spec.fan is not None
    sources = {name: spec.inputs[name] for name in spec.fan.over}
    return {
        name: tuple([child for child in graph.children.get(source.step, ()) if graph.is_done(child)])
        for name, source in sources.items()
        if isinstance(source, Collect) and source.allow_failures
    }


def item_output(name: str, index: int) -> str:
    """Return the name under which children read an item that their mapped step keeps for them."""
    return f"{name}[{index}]"


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
    """Return the mapped steps whose failed children are left out by all who take them: such a failure is no end.

    Who maps over children one by one is as tolerant as those that take its own.
    """
    asked: dict[int, bool] = {}
    for output in snapshot.outputs:
        for collect in _collects(output.source):
            asked[collect.step] = asked.get(collect.step, True) and collect.allow_failures
    for position in reversed(range(len(snapshot.steps))):
        spec = snapshot.steps[position]
        for name, source in spec.inputs.items():
            is_spread = spec.fan is not None and name in spec.fan.over and isinstance(source, Collect)
            for collect in _collects(source):
                tolerates = collect.allow_failures or (is_spread and asked.get(position, False))
                asked[collect.step] = asked.get(collect.step, True) and tolerates
    return frozenset(step for step, tolerates in asked.items() if tolerates)


def _collects(source: Source) -> list[Collect]:
    if isinstance(source, Collect):
        return [source]
    return [found for item in source.items for found in _collects(item)] if isinstance(source, Gather) else []


def literal_items(spec: StepSpec) -> dict[str, str]:
    """Return the digests of what stands in the code of the items of a child, by input: it is in no base key."""
    if spec.fan is None or spec.fan.kind != "child":
        return {}
    found: dict[str, str] = {}
    for name in spec.fan.over:
        source = spec.inputs[name]
        if isinstance(source, Literal):
            found[name] = digest.value("value", 1, b"", source.value)
        elif isinstance(source, Gather):
            found[name] = digest.wiring(wiring(source))
    return found


def child_files(live: LiveStep, spec: StepSpec) -> LiveStep:
    """Return what this process has of a child, with the files among its own items; of a mapped step with all."""
    assert spec.fan is not None
    own = [_literals(spec.inputs[name], live.annotations.get(name)) for name in spec.fan.over]
    return msgspec.structs.replace(live, files={**live.files, **files_in(own)}, spreads_files=False)


def _literals(source: Source, annotation: Any) -> Any:
    if isinstance(source, Literal):
        return values.decode(source.value, annotation)
    return [_literals(item, None) for item in source.items] if isinstance(source, Gather) else None
