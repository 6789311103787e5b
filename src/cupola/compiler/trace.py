"""Tracing: what a static pipeline function wires while it runs once, with outputs standing in for values.

`tracing` runs a pipeline function and collects one `Node` for each step call; `add_call` is what a step's call does
while a trace is open. Nothing of the user's steps runs here.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Generic, NoReturn, TypeVar, cast

import msgspec

from cupola import values
from cupola.compiler.annotations import place_of
from cupola.compiler.signature import OutputDeclaration, Parameter, Signature, read_signature
from cupola.entities.options import PipelineKnobs, StepKnobs
from cupola.errors import CompileError, MaterializerError
from cupola.failures import is_own_frame
from cupola.snapshot import FromStep, Gather, Literal, Source
from cupola.suggest import nearest

T = TypeVar("T")
DEEPEST = 50
"""How deep pipelines may be nested; beyond, one calls itself without end."""


class StepDefinition(msgspec.Struct, frozen=True, kw_only=True):
    """A function marked as a step.

    Attributes:
        function: The user's function.
        name: Name given by `name=` or of the function.
        knobs: What the decorator said.
        overrides: What `with_options` said.
        label: Invocation name given by `named`, else empty.
        after: Steps that must be over before.
    """

    function: Callable[..., Any]
    name: str
    knobs: StepKnobs
    overrides: StepKnobs = StepKnobs()
    label: str = ""
    after: tuple[Output[Any], ...] = ()


class PipelineDefinition(msgspec.Struct, frozen=True, kw_only=True):
    """A function marked as a pipeline; attributes as in `StepDefinition`.

    Attributes:
        subject: The user's function that name, parameters and place are taken from, where it isn't `function` itself.
    """

    function: Callable[..., Any]
    name: str
    knobs: PipelineKnobs
    overrides: PipelineKnobs = PipelineKnobs()
    subject: Callable[..., Any] | None = None

    @property
    def described(self) -> Callable[..., Any]:
        """The user's function."""
        return self.subject or self.function


class Node(msgspec.Struct, kw_only=True, eq=False):
    """One step call in a trace.

    Attributes:
        position: Its place in the order of the calls.
        name: Invocation name.
        definition: The step that was called.
        signature: Signature of the step's function.
        inputs: Wiring by parameter name, defaults included.
        arguments: What was passed, by parameter name, for type checks; defaults included.
        after: Positions of the steps that must be over before.
        pipelines: Knobs of the pipelines it is nested in, outermost first.
        place: `file:line` of the call.
    """

    position: int
    name: str
    definition: StepDefinition
    signature: Signature
    inputs: dict[str, Source]
    arguments: dict[str, Any]
    after: tuple[int, ...]
    pipelines: tuple[PipelineDefinition, ...]
    place: str

    @property
    def outputs(self) -> tuple[OutputDeclaration, ...]:
        """The declared outputs."""
        return self.signature.outputs


class Trace(msgspec.Struct, eq=False):
    """What has been wired so far."""

    pipeline: str
    nodes: list[Node] = []
    names: dict[str, int] = {}
    prefix: str = ""
    nested: tuple[PipelineDefinition, ...] = ()


_trace: ContextVar[Trace | None] = ContextVar("cupola_trace", default=None)


class Output(Generic[T]):
    """An output of a step in a pipeline that is being compiled: it can be passed to steps, and nothing else.

    Attributes:
        node: The step call that makes it.
        declaration: Its name and type; None for a step without outputs, which can only be waited for.
    """

    __slots__ = ("declaration", "node")

    def __init__(self, node: Node, declaration: OutputDeclaration | None) -> None:
        self.node = node
        self.declaration = declaration

    @property
    def name(self) -> str:
        """Name of the output within its step."""
        return self.declaration.name if self.declaration else ""

    def __repr__(self) -> str:
        return f"<output {self.name!r} of step {self.node.name!r}>"

    def __getattr__(self, name: str) -> NoReturn:
        # Protocol look-ups (copy, pickle, numpy, notebooks) must see a plain missing attribute.
        if name.startswith(("__", "_repr_", "_ipython")):
            raise AttributeError(name)
        raise used_as_value(self, f".{name}")


def used_as_value(output: Output[Any], how: str) -> CompileError:
    """Return the error for an output that was used as a value while a pipeline was wired."""
    return CompileError(
        f"output {output.name!r} of step {output.node.name!r} was used as a value ({how}), "
        "but while a pipeline is wired there is no value yet",
        where=f"pipeline at {caller_place()}",
        fix="pass it to a step and do it there; dynamic=True and .map, which work on values, come with a later version",
    )


def _refuse(how: str) -> Callable[..., NoReturn]:
    def refuse(self: Output[Any], *_others: Any, **_named: Any) -> NoReturn:
        raise used_as_value(self, how)

    return refuse


_USES = {
    "as a condition": ("__bool__",), "by iterating": ("__iter__",), "len()": ("__len__",), "[…]": ("__getitem__",),
    "by calling it": ("__call__",), "in": ("__contains__",), "int()": ("__int__",), "float()": ("__float__",),
    "as an index": ("__index__",), "str()": ("__str__",), "in a text": ("__format__",), "pickle": ("__reduce__",),
    "as an array": ("__array__",),
    "+": ("__add__", "__radd__"), "-": ("__sub__", "__rsub__"), "*": ("__mul__", "__rmul__"),
    "/": ("__truediv__", "__rtruediv__"), "//": ("__floordiv__", "__rfloordiv__"), "%": ("__mod__", "__rmod__"),
    "**": ("__pow__", "__rpow__"), "@": ("__matmul__", "__rmatmul__"), "&": ("__and__", "__rand__"),
    "|": ("__or__", "__ror__"), "^": ("__xor__", "__rxor__"), "<": ("__lt__",), "<=": ("__le__",), ">": ("__gt__",),
    ">=": ("__ge__",), "-x": ("__neg__",), "+x": ("__pos__",), "~": ("__invert__",), "abs()": ("__abs__",),
}  # fmt: skip
"""What can be done with a value, and the methods that Python calls for it."""
for _how, _methods in _USES.items():
    for _method in _methods:
        setattr(Output, _method, _refuse(_how))


def current_trace() -> Trace | None:
    """Return the trace that is open here, or None."""
    return _trace.get()


@contextmanager
def tracing(pipeline: PipelineDefinition) -> Generator[Trace]:
    """Open a trace for a pipeline; step calls inside are collected."""
    trace = Trace(pipeline.name, nested=(pipeline,))
    token = _trace.set(trace)
    try:
        yield trace
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
    outer = trace.prefix, trace.nested
    trace.prefix = free_name(trace, pipeline.name) + "/"
    trace.nested = (*trace.nested, pipeline)
    try:
        yield
    finally:
        trace.prefix, trace.nested = outer


def free_name(trace: Trace, name: str) -> str:
    """Return the first of `name`, `name_2`, … that no call has yet, with the prefix of the nested pipelines."""
    base = trace.prefix + name
    count = trace.names.get(base, 0) + 1
    candidate = base if count == 1 else f"{base}_{count}"
    while candidate != base and candidate in trace.names:
        count += 1
        candidate = f"{base}_{count}"
    trace.names[base] = count
    trace.names.setdefault(candidate, 1)
    return candidate


def add_call(trace: Trace, step: StepDefinition, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Collect one step call; return its output, a tuple of its outputs, or, without outputs, something to wait for."""
    place = caller_place()
    signature = read_signature(step.function)
    arguments = bind(step.name, signature.parameters, args, kwargs, place)
    if step.label:
        name = trace.prefix + step.label
        if name in trace.names:
            raise CompileError(
                f"two steps are named {name!r}", where=place, fix="give one of them another name in .named(…)"
            )
        trace.names[name] = 1
    else:
        name = free_name(trace, step.name)
    node = Node(
        position=len(trace.nodes),
        name=name,
        definition=step,
        signature=signature,
        inputs={key: wire(trace, value, f"{name}.{key}", place) for key, value in arguments.items()},
        arguments=arguments,
        after=tuple(sorted({_checked(trace, output, name, place).position for output in step.after})),
        pipelines=trace.nested,
        place=place,
    )
    trace.nodes.append(node)
    if not signature.outputs:
        return Output[Any](node, None)
    outputs = [Output[Any](node, declaration) for declaration in signature.outputs]
    if signature.named_tuple is not None:
        return signature.named_tuple(*outputs)
    return tuple(outputs) if signature.multiple else outputs[0]


def bind(
    name: str, parameters: Sequence[Parameter], args: Sequence[Any], kwargs: Mapping[str, Any], place: str
) -> dict[str, Any]:
    """Match arguments to parameters, defaults included, in the order of the parameters.

    Raises:
        CompileError: An argument is missing, unknown or given twice.
    """
    given = match(name, parameters, args, kwargs, place)
    bound: dict[str, Any] = {}
    for parameter in parameters:
        if parameter.name in given:
            bound[parameter.name] = given[parameter.name]
        elif parameter.has_default:
            bound[parameter.name] = parameter.default
        else:
            raise CompileError(
                f"{name}() needs a value for {parameter.name!r}",
                where=place,
                fix=f"pass {parameter.name}=… or give the parameter a default",
            )
    return bound


def call_bound(function: Callable[..., Any], parameters: Sequence[Parameter], bound: Mapping[str, Any]) -> Any:
    """Call a function with an argument for each of its parameters, by place where it wants that."""
    places = [bound[parameter.name] for parameter in parameters if parameter.positional_only]
    return function(*places, **{item.name: bound[item.name] for item in parameters if not item.positional_only})


def match(
    name: str, parameters: Sequence[Parameter], args: Sequence[Any], kwargs: Mapping[str, Any], place: str
) -> dict[str, Any]:
    """Match arguments to parameters by place and name; what was not passed is left out.

    Raises:
        CompileError: An argument is unknown or given twice.
    """
    positional = [parameter.name for parameter in parameters if not parameter.keyword_only]
    if len(args) > len(positional):
        raise CompileError(
            f"{name}() takes {len(positional)} positional arguments but got {len(args)}",
            where=place,
            fix=f"its parameters are: {', '.join(parameter.name for parameter in parameters) or 'none'}",
        )
    given = dict(zip(positional, args, strict=False))
    known = {parameter.name for parameter in parameters if not parameter.positional_only}
    for key, value in kwargs.items():
        if key in given:
            raise CompileError(f"{name}() got two values for {key!r}", where=place, fix="pass it once")
        if key in positional and key not in known:
            raise CompileError(
                f"{name}() takes {key!r} by place only", where=place, fix=f"write the value without {key}="
            )
        if key not in known:
            guess = nearest(key, known)
            raise CompileError(
                f"{name}() has no parameter {key!r}",
                where=place,
                fix=f"did you mean {guess!r}?"
                if guess
                else f"its parameters are: {', '.join(sorted(known)) or 'none'}",
            )
        given[key] = value
    return given


def wire(trace: Trace, value: Any, path: str, place: str) -> Source:
    """Return how an argument becomes an input: a literal, an output, or a list, tuple or dict with outputs inside."""
    if isinstance(value, Output):
        node = _checked(trace, cast("Output[Any]", value), path, place)
        if value.declaration is None:
            raise CompileError(
                f"{path} gets what step {node.name!r} returns, but that step returns nothing",
                where=place,
                fix="annotate what it returns, or use .after(…) for order without data",
            )
        return FromStep(node.position, value.declaration.name)
    if _holds_output(value):
        return _gather(trace, value, path, place)
    try:
        return Literal(values.encode(value, path=path))
    except MaterializerError as error:
        raise CompileError(
            f"{error.what}, so it can't be written into the pipeline",
            where=place,
            fix="let a step make or load it and pass that step's output; inputs given in code are plain data",
        ) from error


def _gather(trace: Trace, value: Any, path: str, place: str) -> Gather:
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
    return any(isinstance(item, Output) or _holds_output(item) for item in cast("Iterable[Any]", value))


def _checked(trace: Trace, output: Output[Any], user: str, place: str) -> Node:
    node = output.node
    if node.position >= len(trace.nodes) or trace.nodes[node.position] is not node:
        raise CompileError(
            f"{user!r} uses an output of step {node.name!r}, which isn't part of this pipeline",
            where=place,
            fix="call that step inside this pipeline; keep no outputs in global variables",
        )
    return node


def caller_place() -> str:
    """Return `file:line` of the innermost frame that is not Cupola's own."""
    frame = sys._getframe(1)  # pyright: ignore[reportPrivateUsage] — `inspect` costs 17 ms for the same
    while frame is not None:
        if not is_own_frame(frame.f_code.co_filename):
            return f"{frame.f_code.co_filename}:{frame.f_lineno}"
        frame = frame.f_back
    return ""
