"""Compiling: a pipeline function and its arguments become a snapshot.

Pure but for reading the source files that the steps' code is in: nothing is stored, no step runs. What only the
authoring process has (functions, hooks, exception classes) travels beside the snapshot in `Compiled`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import UNSET

from cupola import values
from cupola.compiler import check
from cupola.compiler.binding import call_bound
from cupola.compiler.config import ParamLayer
from cupola.compiler.dynamic import Program, code_of, private_copy
from cupola.compiler.nodes import PipelineDefinition
from cupola.compiler.options import KnobLayer
from cupola.compiler.overrides import override_literals
from cupola.compiler.overwritten import refuse_overwritten
from cupola.compiler.returned import returned_outputs
from cupola.compiler.signature import read_signature
from cupola.compiler.source import source_name
from cupola.compiler.stepcompile import LiveStep, StepCompiler
from cupola.compiler.trace import Trace, tracing
from cupola.entities.options import HOOKS, PipelineKnobs, merge_knobs
from cupola.snapshot import RunOutput, Snapshot, encode_snapshot, snapshot_id


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
        program: The function of a dynamic pipeline, which is yet to run; None for a static one.
    """

    snapshot: Snapshot
    data: bytes
    id: str
    steps: tuple[LiveStep, ...]
    places: tuple[str, ...]
    origins: Mapping[str, str]
    hooks: Mapping[str, Callable[[Any], object]]
    raise_on_failure: bool
    program: Program | None = None


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
    program = None
    if knobs.dynamic is True:
        check.check_pipeline(pipeline)
        refuse_overwritten([pipeline.described])
        program = Program(definition=pipeline, params=params, layers=layers, step_params=step_params, no_cache=no_cache)
        outputs: tuple[RunOutput, ...] = ()
    else:
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
        dynamic=code_of(pipeline) if program is not None else "",
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
        program=program,
    )


def _pipeline_knobs(pipeline: PipelineDefinition, layers: Sequence[KnobLayer]) -> PipelineKnobs:
    knobs = merge_knobs(pipeline.knobs, pipeline.overrides)
    for layer in layers:
        knobs = merge_knobs(knobs, layer.pipeline)
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
    return returned_outputs(pipeline, trace, returned)


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
        private = [private_copy(params[name]) for name in declared.names]
        returned = call_bound(pipeline.function, declared, private)
    refuse_overwritten([pipeline.described, *(callee.function for callee in trace.callees.values())])
    _refuse_unknown_steps(trace, layers)
    for said in step_params:
        override_literals(trace, said)
    check.check_graph(trace.nodes)
    return trace, returned


def _refuse_unknown_steps(trace: Trace, layers: Sequence[KnobLayer]) -> None:
    if not any(layer.steps for layer in layers):
        return
    names = frozenset(node.name for node in trace.nodes)
    for layer in layers:
        for name in layer.steps:
            if name not in names:
                raise check.unknown_step(name, names, layer.origin)


def _description(pipeline: PipelineDefinition, knobs: PipelineKnobs) -> str:
    if knobs.description is not UNSET:
        return knobs.description
    return (pipeline.described.__doc__ or "").strip().split("\n\n")[0]
