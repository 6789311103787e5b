"""Compiling: a pipeline function and its arguments become a snapshot.

Pure but for reading the source files that the steps' code is in: nothing is stored, no step runs. What only the
authoring process has (functions, hooks, exception classes) travels beside the snapshot in `Compiled`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import msgspec
from msgspec import UNSET

from cupola import values
from cupola.compiler import check
from cupola.compiler.binding import call_bound
from cupola.compiler.config import ParamLayer, resolve_params
from cupola.compiler.nodes import Output, PipelineDefinition
from cupola.compiler.options import KnobLayer
from cupola.compiler.overwritten import refuse_overwritten
from cupola.compiler.signature import Signature, read_signature
from cupola.compiler.source import source_name
from cupola.compiler.stepcompile import LiveStep, StepCompiler
from cupola.compiler.trace import Trace, tracing, wire
from cupola.entities.options import HOOKS, PipelineKnobs, merge_knobs
from cupola.errors import CompileError, ConfigError
from cupola.snapshot import Literal, RunOutput, Snapshot, encode_snapshot, snapshot_id


class Compiled(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot and what stays beside it in the authoring process.

    Attributes:
        snapshot: The graph.
        data: Its canonical bytes; `id` is their digest.
        steps: What this process has of each step, by position.
        places: `file:line` of each code part, by its position in the snapshot.
        origins: Where each parameter and option was set.
        hooks: Functions of the `Run` by event.
        raise_on_failure: Whether a failed run raises.
    """

    snapshot: Snapshot
    data: bytes
    id: str
    steps: tuple[LiveStep, ...]
    places: tuple[str, ...]
    origins: Mapping[str, str]
    hooks: Mapping[str, Callable[[Any], object]]
    raise_on_failure: bool


def compile_pipeline(
    pipeline: PipelineDefinition,
    params: Mapping[str, Any],
    *,
    origins: Mapping[str, str] | None = None,
    layers: Sequence[KnobLayer] = (),
    step_params: Sequence[Mapping[str, ParamLayer]] = (),
    no_cache: bool = False,
) -> Compiled:
    """Run a pipeline function once with stand-ins for values and return its snapshot.

    Args:
        pipeline: The pipeline.
        params: A value for each parameter of the function, converted to its annotation.
        origins: Where each parameter was set, by dotted path.
        layers: Configuration above the decorators, lowest first.
        step_params: What configuration says of single steps' literal inputs, by invocation name, lowest first.
        no_cache: Whether no earlier result may be used.

    Raises:
        CompileError: Wiring, types or names are wrong.
    """
    knobs = _pipeline_knobs(pipeline, layers)
    compiler = StepCompiler(pipeline.name, layers, no_cache=no_cache)
    outputs = _compile_steps(compiler, pipeline, params, layers, step_params)
    snapshot = Snapshot(
        pipeline=pipeline.name,
        source=source_name(pipeline.described),
        params={name: values.encode(value, path=name) for name, value in params.items()},
        steps=tuple(compiler.steps),
        outputs=outputs,
        parts=tuple(compiler.parts),
        options=tuple(compiler.options),
        on_error=knobs.on_error if knobs.on_error is not UNSET else "stop",
        tags=tuple(str(tag) for tag in knobs.tags) if knobs.tags is not UNSET else (),
        description=_description(pipeline, knobs),
        python=f"{sys.version_info.major}.{sys.version_info.minor}",
        settings=values.encode(dict(knobs.settings)) if knobs.settings is not UNSET else b"",
    )
    data = encode_snapshot(snapshot)
    return Compiled(
        snapshot=snapshot,
        data=data,
        id=snapshot_id(data),
        steps=tuple(compiler.live),
        places=tuple(compiler.places),
        origins=dict(origins or {}),
        hooks={name: hook for name in HOOKS if (hook := getattr(knobs, name)) is not UNSET},
        raise_on_failure=knobs.raise_on_failure is not False,
    )


def _pipeline_knobs(pipeline: PipelineDefinition, layers: Sequence[KnobLayer]) -> PipelineKnobs:
    knobs = merge_knobs(pipeline.knobs, pipeline.overrides)
    for layer in layers:
        knobs = merge_knobs(knobs, layer.pipeline)
    if knobs.dynamic is True:
        raise CompileError(
            f"pipeline {pipeline.name!r} is marked dynamic=True, which this version can't run",
            where=source_name(pipeline.described),
            fix="write it as a static pipeline: outputs may only be passed on to steps",
        )
    return knobs


def _compile_steps(
    compiler: StepCompiler,
    pipeline: PipelineDefinition,
    params: Mapping[str, Any],
    layers: Sequence[KnobLayer],
    step_params: Sequence[Mapping[str, ParamLayer]],
) -> tuple[RunOutput, ...]:
    """Compile all step calls and return what the pipeline returns; the trace, as large as the graph, ends with it."""
    trace, returned = _wire(pipeline, params, layers, step_params)
    for node in trace.nodes:
        compiler.add(node)
    return _returned(pipeline, trace, returned)


def _wire(
    pipeline: PipelineDefinition,
    params: Mapping[str, Any],
    layers: Sequence[KnobLayer],
    step_params: Sequence[Mapping[str, ParamLayer]],
) -> tuple[Trace, Any]:
    """Run the pipeline function with stand-ins for values; return the checked wiring and what the function returned."""
    check.check_pipeline(pipeline)
    declared = read_signature(pipeline.described)
    with tracing(pipeline) as trace:
        private = [_private(params[name]) for name in declared.names]
        returned = call_bound(pipeline.function, declared, private)
    refuse_overwritten([pipeline.described, *(callee.function for callee in trace.callees.values())])
    _refuse_unknown_steps(trace, layers)
    for said in step_params:
        override_literals(trace, said)
    check.check_graph(trace.nodes)
    return trace, returned


def _private(value: Any) -> Any:
    """Return a copy that the pipeline function may change without changing a default or the caller's object."""
    return value if values.is_immutable(value) else values.decode(values.encode(value), cast("object", type(value)))


def _refuse_unknown_steps(trace: Trace, layers: Sequence[KnobLayer]) -> None:
    if not any(layer.steps for layer in layers):
        return
    names = frozenset(node.name for node in trace.nodes)
    for layer in layers:
        for name in layer.steps:
            if name not in names:
                raise check.unknown_step(name, names, layer.origin)


def override_literals(trace: Trace, said: Mapping[str, ParamLayer]) -> None:
    """Replace literal inputs of single steps by what configuration says of them, in place.

    Raises:
        ConfigError: An input is unknown, gets an output, or its value isn't what its type wants.
    """
    for node in trace.nodes:
        layer = said.get(node.name)
        if layer is None:
            continue
        wired = [name for name in layer.values if not isinstance(node.inputs.get(name, None), Literal | None)]
        if wired:
            is_spread = node.fan is not None and wired[0] in node.fan.over
            what = "spread over the children of the step" if is_spread else "the output of another step"
            raise ConfigError(
                f"steps.{node.name}.params.{wired[0]} can't be set: that input is {what}",
                where=layer.origin,
                fix="set a parameter of the pipeline or of the step that makes it",
            )
        arguments = dict(zip(node.inputs, node.arguments, strict=True))
        parameters = [
            msgspec.structs.replace(parameter, has_default=True, default=arguments[parameter.name])
            for parameter in node.signature.parameters
            if isinstance(node.inputs[parameter.name], Literal)
        ]
        values_now, _origins = resolve_params(parameters, [layer], pipeline=f"step {node.name}")
        for name in layer.values:
            arguments[name] = values_now[name]
            node.inputs[name] = wire(trace, values_now[name], f"{node.name}.{name}", node.site)
        node.arguments = tuple(arguments.values())


def _returned(pipeline: PipelineDefinition, trace: Trace, returned: Any) -> tuple[RunOutput, ...]:
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


def _description(pipeline: PipelineDefinition, knobs: PipelineKnobs) -> str:
    if knobs.description is not UNSET:
        return knobs.description
    return (pipeline.described.__doc__ or "").strip().split("\n\n")[0]
