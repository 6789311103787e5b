"""What a traced pipeline is made of: definitions of steps and pipelines, step calls, and outputs in place of values.

Data only; `trace` collects it while a pipeline function runs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, NoReturn, TypeVar

import msgspec

from cupola.compiler.callsite import CallSite, caller_place
from cupola.compiler.signature import OutputDeclaration, Signature
from cupola.entities.options import PipelineKnobs, StepKnobs
from cupola.errors import CompileError
from cupola.snapshot import Fan, Source

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


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


class Callee(msgspec.Struct, frozen=True, eq=False):
    """What the calls of one step in one pipeline have in common, whatever their names and inputs.

    Attributes:
        function: The step's function.
        signature: What it takes and gives.
        pipelines: The pipelines that the calls are nested in, outermost first.
    """

    function: Callable[..., Any]
    signature: Signature
    pipelines: tuple[PipelineDefinition, ...]


class Node(msgspec.Struct, eq=False):
    """One step call in a trace.

    Attributes:
        position: Its place in the order of the calls.
        name: Invocation name.
        definition: The step that was called.
        callee: What it shares with other calls of the step.
        inputs: Wiring by parameter name, defaults included.
        arguments: What was passed for each parameter, for type checks; defaults included. `Spread` for what is spread.
        after: Positions of the steps that must be over before.
        site: The call in the user's source.
        fan: How it is mapped; None for an ordinary call.
        width: How many children it has, when that is known already.
    """

    position: int
    name: str
    definition: StepDefinition
    callee: Callee
    inputs: dict[str, Source]
    arguments: tuple[Any, ...]
    after: tuple[int, ...]
    site: CallSite
    fan: Fan | None = None
    width: int | None = None

    @property
    def signature(self) -> Signature:
        """Signature of the step's function."""
        return self.callee.signature

    @property
    def outputs(self) -> tuple[OutputDeclaration, ...]:
        """The declared outputs."""
        return self.callee.signature.outputs

    @property
    def pipelines(self) -> tuple[PipelineDefinition, ...]:
        """The pipelines it is nested in, outermost first."""
        return self.callee.pipelines

    @property
    def place(self) -> str:
        """`file:line` of the call."""
        return str(self.site)


class Output(Generic[T]):
    """An output of a step in a pipeline that is being compiled: it can be passed to steps, and nothing else.

    Of a mapped step it stands for a list: what all its children put out, in the order of the items.

    Attributes:
        node: The step call that makes it.
        declaration: Its name and type; None for a step without outputs, which can only be waited for.
        allow_failures: Whether children that failed are left out of the list.
        group: `tuple` or `list` where it stands for several outputs at once, else empty.
        parts: Those outputs.
    """

    __slots__ = ("allow_failures", "declaration", "node")
    group: str = ""
    parts: tuple[Output[Any], ...] = ()

    def __init__(self, node: Node, declaration: OutputDeclaration | None, *, allow_failures: bool = False) -> None:
        self.node = node
        self.declaration = declaration
        self.allow_failures = allow_failures

    @property
    def name(self) -> str:
        """Name of the output within its step."""
        return self.declaration.name if self.declaration else ""

    @property
    def is_mapped(self) -> bool:
        """Whether it is of a mapped step, and so a list."""
        return self.node.fan is not None

    @property
    def type(self) -> Any:
        """What it is annotated as; Any where nothing is said."""
        annotation = self.declaration.annotation if self.declaration else Any
        return list[annotation] if self.is_mapped else annotation

    def collect(self, *, allow_failures: bool = False) -> Output[Any]:
        """Return what the children of a mapped step put out as one list, which exists when all of them are over.

        Args:
            allow_failures: Whether children that failed are left out; otherwise one of them is the end of the run.

        Raises:
            CompileError: The step is not mapped.
        """
        if not self.is_mapped:
            raise used_as_value(self, ".collect()")
        return Output(self.node, self.declaration, allow_failures=allow_failures)

    def __repr__(self) -> str:
        return f"<output {self.name!r} of step {self.node.name!r}>"

    def __getattr__(self, name: str) -> NoReturn:
        # Protocol look-ups (copy, pickle, numpy, notebooks) must see a plain missing attribute.
        if name.startswith(("__", "_repr_", "_ipython")):
            raise AttributeError(name)
        raise self.misused(f".{name}")

    def misused(self, how: str) -> CompileError:
        """Return the error for a use as a value."""
        return used_as_value(self, how)


class Unmapped(msgspec.Struct, Generic[T_co], frozen=True, eq=False):
    """An argument of `map` or `product` that is the same for all children; made by `unmapped`."""

    value: T_co


class Spread(msgspec.Struct, frozen=True, eq=False):
    """An argument of `map` or `product` that is spread over the children: the items, or an output that is a list."""

    value: list[Any] | Output[Any]


def used_as_value(output: Output[Any], how: str) -> CompileError:
    """Return the error for an output that was used as a value while a pipeline was wired."""
    ways = "step.map(…) runs a step for each item of a list; in a pipeline marked dynamic=True, .load() is the value"
    if output.is_mapped:
        ways = "or take it as one list with .collect(), or map another step over it"
    return CompileError(
        f"output {output.name!r} of step {output.node.name!r} was used as a value ({how}), "
        "but while a pipeline is wired there is no value yet",
        where=f"pipeline at {caller_place()}",
        fix=f"pass it to a step and do it there; {ways}",
    )


def _refuse(how: str) -> Callable[..., NoReturn]:
    def refuse(self: Output[Any], *_others: Any, **_named: Any) -> NoReturn:
        raise self.misused(how)

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
