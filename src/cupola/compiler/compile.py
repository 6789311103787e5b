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

from cupola import digest, values
from cupola.compiler import check
from cupola.compiler.options import KnobLayer, plain_options, step_knobs
from cupola.compiler.reach import CodeTree, code_parts
from cupola.compiler.signature import OutputDeclaration, read_signature
from cupola.compiler.source import source_name
from cupola.compiler.trace import Node, Output, PipelineDefinition, Trace, tracing, wire
from cupola.entities.options import HOOKS, ArtifactConfig, PipelineKnobs, StepKnobs, merge_knobs
from cupola.errors import CompileError
from cupola.snapshot import (
    CodePart,
    Literal,
    OutputSpec,
    RunOutput,
    Snapshot,
    StepOptions,
    StepSpec,
    encode_snapshot,
    snapshot_id,
)


class LiveStep(msgspec.Struct, frozen=True, kw_only=True):
    """What the authoring process has of a step besides its spec.

    Attributes:
        function: The function to call.
        annotations: Annotation of each input by parameter name.
        declarations: The declared outputs, with their annotations.
        multiple: Whether the function returns a tuple of outputs.
        retry_on: Exception classes that are worth another attempt; empty for all.
        hooks: Functions of the `StepRun` by event.
        files: Paths of files and folders among the literal inputs, by a name for people such as `file data.csv`.
    """

    function: Callable[..., Any]
    annotations: Mapping[str, Any]
    declarations: tuple[OutputDeclaration, ...]
    multiple: bool
    retry_on: tuple[type[BaseException] | str, ...]
    hooks: Mapping[str, Callable[[Any], object]]
    files: Mapping[str, str]


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


class _Tables:
    """The parts and options of a snapshot, each kept once."""

    def __init__(self) -> None:
        self.parts: dict[CodePart, int] = {}
        self.places: list[str] = []
        self.options: dict[bytes, int] = {}
        self.option_list: list[StepOptions] = []
        self._trees: dict[int, tuple[CodeTree, tuple[int, ...], str]] = {}

    def code(self, function: Callable[..., Any]) -> tuple[CodeTree, tuple[int, ...], str]:
        known = self._trees.get(id(function))
        if known is None:
            tree = code_parts(function)
            positions = tuple(sorted(self._part(part, tree) for part in tree.parts))
            known = self._trees[id(function)] = tree, positions, digest.code(part.digest for part in tree.parts)
        return known

    def _part(self, part: CodePart, tree: CodeTree) -> int:
        position = self.parts.get(part)
        if position is None:
            position = self.parts[part] = len(self.parts)
            self.places.append(tree.places.get(part.name, ""))
        return position

    def option(self, options: StepOptions) -> int:
        key = msgspec.msgpack.encode(options, order="deterministic")
        position = self.options.get(key)
        if position is None:
            position = self.options[key] = len(self.option_list)
            self.option_list.append(options)
        return position


def compile_pipeline(
    pipeline: PipelineDefinition,
    params: Mapping[str, Any],
    *,
    origins: Mapping[str, str] | None = None,
    layers: Sequence[KnobLayer] = (),
) -> Compiled:
    """Run a pipeline function once with stand-ins for values and return its snapshot.

    Args:
        pipeline: The pipeline.
        params: A value for each parameter of the function, converted to its annotation.
        origins: Where each parameter was set, by dotted path.
        layers: Configuration above the decorators, lowest first.

    Raises:
        CompileError: Wiring, types or names are wrong.
    """
    knobs = merge_knobs(pipeline.knobs, pipeline.overrides)
    for layer in layers:
        knobs = merge_knobs(knobs, layer.pipeline)
    if knobs.dynamic is True:
        raise CompileError(
            f"pipeline {pipeline.name!r} is marked dynamic=True, which this version can't run",
            where=source_name(pipeline.described),
            fix="write it as a static pipeline: outputs may only be passed on to steps",
        )
    encoded = {name: values.encode(value, path=name) for name, value in params.items()}
    with tracing(pipeline) as trace:
        returned = pipeline.function(**{name: _private(value) for name, value in params.items()})
    check.check_graph(trace.nodes)
    tables = _Tables()
    _refuse_unknown_steps(trace, layers)
    live: list[LiveStep] = []
    specs: list[StepSpec] = []
    for node in trace.nodes:
        said = step_knobs(node, layers)
        spec, step = _compile_step(node, said, trace, tables)
        specs.append(spec)
        live.append(step)
    snapshot = Snapshot(
        pipeline=pipeline.name,
        source=source_name(pipeline.described),
        params=encoded,
        steps=tuple(specs),
        outputs=_returned(pipeline, trace, returned),
        parts=tuple(tables.parts),
        options=tuple(tables.option_list),
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
        steps=tuple(live),
        places=tuple(tables.places),
        origins=dict(origins or {}),
        hooks={name: hook for name in HOOKS if (hook := getattr(knobs, name)) is not UNSET},
        raise_on_failure=knobs.raise_on_failure is not False,
    )


def _private(value: Any) -> Any:
    """Return a copy that the pipeline function may change without changing a default or the caller's object."""
    return value if values.is_immutable(value) else values.decode(values.encode(value), type(value))


def _refuse_unknown_steps(trace: Trace, layers: Sequence[KnobLayer]) -> None:
    names = frozenset(node.name for node in trace.nodes)
    for layer in layers:
        for name in layer.steps:
            if name not in names:
                raise check.unknown_step(name, names, layer.origin)


def _compile_step(
    node: Node, knobs: StepKnobs, trace: Trace, tables: _Tables
) -> tuple[StepSpec, LiveStep]:
    tree, code, code_digest = tables.code(node.definition.function)
    literals = {name: source.value for name, source in node.inputs.items() if isinstance(source, Literal)}
    options = plain_options(knobs, node, literals)
    outputs = tuple(_output_spec(trace.pipeline, node, declaration) for declaration in node.outputs)
    cached = options.cache_read or options.cache_write
    uncacheable = tree.uncacheable if cached and options.cache_code else ""
    spec = StepSpec(
        name=node.name,
        source=source_name(node.definition.function),
        code=code,
        code_digest=code_digest if not tree.uncacheable else "",
        uncacheable=uncacheable,
        inputs=node.inputs,
        outputs=outputs,
        after=node.after,
        options=tables.option(options),
        base_key="" if uncacheable or not cached else _base_key(node, options, code_digest, outputs, literals),
    )
    live = LiveStep(
        function=node.definition.function,
        annotations={parameter.name: parameter.annotation for parameter in node.signature.parameters},
        declarations=node.outputs,
        multiple=node.signature.multiple,
        retry_on=getattr(knobs.retry, "on", ()),
        hooks={name: hook for name in HOOKS if (hook := getattr(knobs, name)) is not UNSET},
        files=files_in(node.arguments),
    )
    return spec, live


def _base_key(
    node: Node,
    options: StepOptions,
    code_digest: str,
    outputs: tuple[OutputSpec, ...],
    literals: Mapping[str, bytes],
) -> str:
    """Return the digest of what decides a result and is known now: code, literal inputs, policy, declared outputs.

    How outputs are named as artifacts, retries, timeouts and other options that can't change the result are left out.
    """
    parts = [code_digest.encode() if options.cache_code else node.name.encode()]
    if options.cache_key is not None:
        parts += [b"key", options.cache_key]
    else:
        for name in sorted(literals):
            if name not in options.cache_ignore:
                parts += [b"literal", name.encode(), literals[name]]
    for name, value in sorted(options.env.items()):
        parts += [b"env", name.encode(), value.encode()]
    parts += [b"secret:" + name.encode() for name in sorted(options.secrets)]
    parts += [b"output:" + output.name.encode() + b":" + output.materializer.encode() for output in outputs]
    parts += [b"ignore:" + name.encode() for name in sorted(options.cache_ignore)]
    return digest.base_key(parts)


def _output_spec(pipeline: str, node: Node, declaration: OutputDeclaration) -> OutputSpec:
    config = declaration.config or ArtifactConfig()
    return OutputSpec(
        name=declaration.name,
        type=declaration.text,
        artifact=config.name or f"{pipeline}/{node.name}/{declaration.name}",
        materializer=config.materializer or "",
        version="" if config.version is None else str(config.version),
        tags=config.tags,
        metadata={key: values.encode(value, path=f"metadata[{key!r}]") for key, value in config.metadata.items()},
        kind=config.kind,
    )


def _returned(pipeline: PipelineDefinition, trace: Trace, returned: Any) -> tuple[RunOutput, ...]:
    """Name what the pipeline function returned: by its annotation, else by the outputs' own names, else by place."""
    if returned is None or (isinstance(returned, Output) and returned.declaration is None):
        return ()
    place = source_name(pipeline.described)
    declared = read_signature(pipeline.described)
    items: list[Any] = list(returned) if isinstance(returned, tuple) and (declared.multiple or _loose(declared)) else [returned]
    if declared.multiple and len(items) != len(declared.outputs):
        raise CompileError(
            f"pipeline {pipeline.name!r} returns {len(items)} values but its annotation declares {len(declared.outputs)}",
            where=place,
            fix="return as many values as the annotation has",
        )
    names = _names_of(items, [output.name for output in declared.outputs] if len(items) == len(declared.outputs) else [])
    return tuple(
        RunOutput(name, wire(trace, item, f"{pipeline.name} returns {name}", place))
        for name, item in zip(names, items, strict=True)
    )


def _loose(declared: Any) -> bool:
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
