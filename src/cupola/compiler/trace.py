"""Tracing: what a static pipeline function wires while it runs once, with outputs standing in for values.

`tracing` runs a pipeline function and collects one `Node` for each step call; `add_call` is what a step's call does
while a trace is open. Nothing of the user's steps runs here.
"""

from __future__ import annotations

from _thread import allocate_lock
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol, cast

import msgspec

from cupola import values
from cupola.compiler.annotations import place_of
from cupola.compiler.binding import bind
from cupola.compiler.callsite import CallSite, call_site
from cupola.compiler.nodes import Callee, Node, Output, PipelineDefinition, StepDefinition, Unmapped
from cupola.compiler.signature import read_signature
from cupola.errors import CompileError, MaterializerError
from cupola.snapshot import Collect, FromStep, Gather, Literal, Source

DEEPEST = 50
"""How deep pipelines may be nested; beyond, one calls itself without end."""


class Conducts(Protocol):
    """What carries out the calls of a dynamic pipeline."""

    def conduct(self, node: Node, waits: bool) -> Any:
        """Carry out a call; return its outputs at its end or, if it isn't to be waited for, at once."""
        ...

    def conduct_map(
        self, trace: Trace, step: StepDefinition, kind: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        """Carry out the calls that a step is mapped to; return their outputs at once."""
        ...


class Trace(msgspec.Struct, eq=False):
    """What has been wired so far.

    Attributes:
        pipeline: Name of the pipeline.
        nested: The pipelines whose functions run now, outermost first; one of the values of `nestings`.
        nodes: The step calls, in order.
        names: How often each name was asked for.
        prefix: What the names of calls begin with, inside of nested pipelines.
        nestings: Every such tuple so far, by the identities of the pipelines in it.
        callees: By what tells them apart; it lives as long as the trace, so identities stand for it.
        literals: The encoded scalars that were passed so far: calls in a loop mostly get the same.
        conductor: What carries each call out at once and returns its outputs, in a dynamic pipeline.
    """

    pipeline: str
    nested: tuple[PipelineDefinition, ...]
    nodes: list[Node] = []
    names: dict[str, int] = {}
    prefix: str = ""
    nestings: dict[tuple[int, ...], tuple[PipelineDefinition, ...]] = {}
    callees: dict[tuple[str, int, int, int, int], Callee] = {}
    literals: dict[tuple[type, Any], Literal] = {}
    conductor: Conducts | None = None


_trace: ContextVar[Trace | None] = ContextVar("cupola_trace", default=None)
# Threads begin with an empty context, yet what those of a dynamic pipeline call belongs to it.
_conducted: list[Trace] = []


def current_trace() -> Trace | None:
    """Return the trace that is open here, or None."""
    return _trace.get()


def conducted_trace() -> Trace | None:
    """Return the trace of the dynamic pipeline that runs in this process, for threads that its function started."""
    return _conducted[-1] if _conducted else None


@contextmanager
def tracing(pipeline: PipelineDefinition, conductor: Conducts | None = None) -> Generator[Trace]:
    """Open a trace for a pipeline; step calls inside are collected, and carried out where somebody does that."""
    with _inside(Trace(pipeline.name, (pipeline,), conductor=conductor)) as trace:
        if conductor is not None:
            _conducted.append(trace)
        try:
            yield trace
        finally:
            if conductor is not None:
                _conducted.remove(trace)


@contextmanager
def _inside(trace: Trace) -> Generator[Trace]:
    token = _trace.set(trace)
    try:
        yield trace
    finally:
        _trace.reset(token)


@contextmanager
def hidden() -> Generator[None]:
    """Hide the trace that is open here: what runs inside is no part of the pipeline function."""
    token = _trace.set(None)
    try:
        yield
    finally:
        _trace.reset(token)


@contextmanager
def nested_in(trace: Trace, pipeline: PipelineDefinition) -> Generator[None]:
    """Give the steps that are called inside the name of a nested pipeline as a prefix, and its options."""
    if len(trace.nested) > DEEPEST:
        raise CompileError(
            f"pipelines are nested more than {DEEPEST} deep, {pipeline.name!r} the last",
            where=place_of(pipeline.described),
            fix="a pipeline that calls itself needs a parameter that ends it",
        )
    prefix = free_name(trace, pipeline.name) + "/"
    nested = (*trace.nested, pipeline)
    nested = trace.nestings.setdefault(tuple(map(id, nested)), nested)
    # One of its own, since threads of a dynamic pipeline may be in several; they share all but these two.
    with _inside(msgspec.structs.replace(trace, prefix=prefix, nested=nested)):
        yield


def free_name(trace: Trace, name: str) -> str:
    """Return the first of `name`, `name_2`, … that no call has yet, with the prefix of the nested pipelines."""
    base = trace.prefix + name
    count = trace.names.get(base, 0) + 1
    candidate = base if count == 1 else f"{base}_{count}"
    if count > 1:
        while candidate in trace.names:
            count += 1
            candidate = f"{base}_{count}"
        trace.names[candidate] = 1
    trace.names[base] = count
    return candidate


def add_call(
    trace: Trace, step: StepDefinition, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, waits: bool = True
) -> Any:
    """Collect one step call; return its output, a tuple of its outputs, or, without outputs, something to wait for.

    In a dynamic pipeline the step also runs; `waits` tells whether the call waits for its end.
    """
    if trace.conductor is not None:
        with collecting:
            node = _collect(trace, step, args, kwargs)
        return trace.conductor.conduct(node, waits)
    return outputs_of(_collect(trace, step, args, kwargs))


collecting = allocate_lock()
"""Held while a call of a dynamic pipeline, whose threads may call at the same time, is added to the trace."""


def _collect(trace: Trace, step: StepDefinition, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Node:
    site = call_site()
    callee = find_callee(trace, step)
    signature = callee.signature
    arguments = bind(step.name, signature, args, kwargs)
    name = claim_name(trace, step, site)
    inputs: dict[str, Source] = {}
    for place, key in enumerate(signature.names):
        inputs[key] = wire(trace, arguments[place], f"{name}.{key}", site)
    node = Node(len(trace.nodes), name, step, callee, inputs, arguments, waits_for(trace, step, name, site), site)
    trace.nodes.append(node)
    return node


def outputs_of(node: Node) -> Any:
    """Return what stands for the outputs of a call."""
    return grouped(node, [Output(node, declaration) for declaration in node.outputs] or [Output(node, None)])


def grouped(node: Node, outputs: Sequence[Output[Any]]) -> Any:
    """Return the outputs of a call as its step returns them: one by itself, several as a tuple or `NamedTuple`."""
    signature = node.signature
    if not signature.multiple:
        return outputs[0]
    return signature.named_tuple(*outputs) if signature.named_tuple is not None else tuple(outputs)


def find_callee(trace: Trace, step: StepDefinition) -> Callee:
    """Return what a call shares with the other calls of its step."""
    key = (step.name, id(step.function), id(step.knobs), id(step.overrides), id(trace.nested))
    known = trace.callees.get(key)
    if known is None:
        known = trace.callees[key] = Callee(step.function, read_signature(step.function), trace.nested)
    return known


def claim_name(trace: Trace, step: StepDefinition, site: CallSite) -> str:
    """Return the invocation name of a new call.

    Raises:
        CompileError: The name that the user gave it has been given to another one.
    """
    if not step.label:
        return free_name(trace, step.name)
    name = trace.prefix + step.label
    if name in trace.names:
        raise CompileError(
            f"two steps are named {name!r}", where=str(site), fix="give one of them another name in .named(…)"
        )
    trace.names[name] = 1
    return name


def waits_for(trace: Trace, step: StepDefinition, name: str, site: CallSite) -> tuple[int, ...]:
    """Return the positions of the steps that a call was told to wait for."""
    return tuple(sorted({_checked(trace, output, name, site).position for output in step.after})) if step.after else ()


_SCALARS = frozenset({int, str, bool, type(None)})
"""Types whose values are the same literal where they are equal; a float isn't: -0.0 equals 0.0."""


def wire(trace: Trace, value: Any, path: str, place: CallSite | str) -> Source:
    """Return how an argument becomes an input: a literal, an output, or a list, tuple or dict with outputs inside."""
    kind = cast("type[Any]", type(value))
    if kind is Output or (issubclass(kind, Output) and not value.group):
        node = _checked(trace, value, path, place)
        if value.declaration is None:
            raise CompileError(
                f"{path} gets what step {node.name!r} returns, but that step returns nothing",
                where=str(place),
                fix="annotate what it returns, or use .after(…) for order without data",
            )
        if node.fan is not None:
            return Collect(node.position, value.declaration.name, value.allow_failures)
        return FromStep(node.position, value.declaration.name)
    if kind is Unmapped:
        raise CompileError(
            f"{path} gets unmapped(…), which has a meaning only as an argument of .map or .product",
            where=str(place),
            fix="pass the value itself",
        )
    if kind in _SCALARS:
        known = trace.literals.get((kind, value))
        if known is None:
            known = trace.literals[kind, value] = _literal(value, path, place)
        return known
    if isinstance(value, Output):  # several at once
        return Gather(value.group, tuple([wire(trace, part, path, place) for part in value.parts]))
    return _gather(trace, value, path, place) if _holds_output(value) else _literal(value, path, place)


def _literal(value: Any, path: str, place: CallSite | str) -> Literal:
    try:
        return Literal(values.encode(value, path=path))
    except MaterializerError as error:
        raise CompileError(
            f"{error.what}, so it can't be written into the pipeline",
            where=str(place),
            fix="let a step make or load it and pass that step's output; inputs given in code are plain data",
        ) from error


def _gather(trace: Trace, value: Any, path: str, place: CallSite | str) -> Gather:
    if type(value) is dict:
        named = cast("dict[Any, Any]", value)
        items = tuple(wire(trace, item, f"{path}[{key!r}]", place) for key, item in named.items())
        return Gather("dict", items, tuple(values.encode(key, path=path) for key in named))
    kind = "list" if type(value) is list else "tuple"
    items = [wire(trace, item, f"{path}[{i}]", place) for i, item in enumerate(cast("list[Any]", value))]
    return Gather(kind, tuple(items))


def _holds_output(value: Any) -> bool:
    if type(value) is dict:
        value = cast("dict[Any, Any]", value).values()
    elif type(value) is not list and not isinstance(value, tuple):  # also a NamedTuple of outputs
        return False
    return any(isinstance(item, Output | Unmapped) or _holds_output(item) for item in cast("Iterable[Any]", value))


def _checked(trace: Trace, output: Output[Any], user: str, place: CallSite | str) -> Node:
    node = output.node
    if node.position >= len(trace.nodes) or trace.nodes[node.position] is not node:
        raise CompileError(
            f"{user!r} uses an output of step {node.name!r}, which isn't part of this pipeline",
            where=str(place),
            fix="call that step inside this pipeline; keep no outputs in global variables",
        )
    return node
