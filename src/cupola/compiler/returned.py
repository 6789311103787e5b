"""What a pipeline function returned, as the outputs of its run: each gets a name."""

from __future__ import annotations

from typing import Any, cast

from cupola.compiler import check
from cupola.compiler.nodes import Output, PipelineDefinition
from cupola.compiler.signature import Signature, read_signature
from cupola.compiler.source import source_name
from cupola.compiler.trace import Trace, wire
from cupola.errors import CompileError
from cupola.snapshot import RunOutput


def returned_outputs(pipeline: PipelineDefinition, trace: Trace, returned: Any) -> tuple[RunOutput, ...]:
    """Name what the pipeline function returned: by its annotation, else by the outputs' own names, else by place."""
    if returned is None or (isinstance(returned, Output) and returned.declaration is None):
        return ()
    place = source_name(pipeline.described)
    declared = read_signature(pipeline.described)
    several = isinstance(returned, tuple) and (declared.multiple or _loose(declared))
    items: list[Any] = list(cast("tuple[Any, ...]", returned)) if several else [returned]
    if declared.multiple and len(items) != len(declared.outputs):
        raise CompileError(
            f"pipeline {pipeline.name!r} returns {len(items)} values but declares {len(declared.outputs)}",
            where=place,
            fix="return as many values as the annotation has",
        )
    if len(items) == len(declared.outputs):
        check.check_returned(pipeline, items, declared.outputs)
    names = _names_of(
        items, [output.name for output in declared.outputs] if len(items) == len(declared.outputs) else []
    )
    return tuple(
        RunOutput(name, wire(trace, item, f"{pipeline.name} returns {name}", place))
        for name, item in zip(names, items, strict=True)
    )


def _loose(declared: Signature) -> bool:
    """Whether the function says nothing of what it returns, so that a tuple means several outputs."""
    return len(declared.outputs) <= 1 and not any(output.text not in ("Any", "") for output in declared.outputs)


def _names_of(items: list[Any], declared: list[str]) -> list[str]:
    own = [item.name if isinstance(item, Output) else "" for item in items]
    names: list[str] = []
    for place, item_name in enumerate(own):
        said = declared[place] if place < len(declared) else ""
        if said and not said.startswith("output"):
            names.append(said)
        elif item_name and own.count(item_name) == 1:
            names.append(item_name)
        elif len(items) == 1:
            names.append("output")
        else:
            names.append(f"output_{place}")
    return names
