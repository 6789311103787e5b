"""`step.map` and `step.product`: a step run once for each item, wherever steps can be called."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar, overload

from cupola import compiler
from cupola.authoring.plain import call_plainly, open_trace
from cupola.compiler.nodes import Output, StepDefinition, Unmapped
from cupola.compiler.signature import read_signature

if TYPE_CHECKING:
    from cupola.compiler.mapping import Kind

P = ParamSpec("P")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
A_contra = TypeVar("A_contra", contravariant=True)

if TYPE_CHECKING:

    class Mapped(list[R]):
        """What `step.map(…)` returns: a list of what its children return, as outputs are the values they stand for."""

        def collect(self, *, allow_failures: bool = False) -> list[R]:
            """Return the list, which exists when all children are over; failed ones are left out where allowed."""
            ...
else:
    Mapped = Output


def unmapped(value: A) -> Unmapped[A]:
    """Mark an argument of `map` or `product` that is the same for all children.

    Example:
        >>> from cupola import step, unmapped
        >>> @step
        ... def scale(value: float, factors: list[float]) -> list[float]:
        ...     return [value * factor for factor in factors]
        >>> scale.map([1.0, 2.0], factors=unmapped([10.0, 100.0]))
        [[10.0, 100.0], [20.0, 200.0]]
    """
    return Unmapped(value)


class _WithFirst(Protocol[A_contra, R_co]):
    """A step that can be given its first argument by place: `A_contra` is what that parameter wants."""

    @property
    def fn(self) -> Callable[Concatenate[A_contra, ...], R_co]: ...


class _Any(Protocol[R_co]):
    """Any step."""

    @property
    def fn(self) -> Callable[..., R_co]: ...


class Fanning(Generic[P, R_co]):
    """A step that is about to be mapped: called with lists, it runs once for each item.

    Type checkers see that the first argument holds what the step's first parameter wants, and what comes back; the
    rest is checked when the pipeline compiles.
    """

    def __init__(self, definition: StepDefinition, kind: Kind) -> None:
        self._definition = definition
        self._kind: Kind = kind

    @property
    def fn(self) -> Callable[P, R_co]:
        """The plain function."""
        return self._definition.function

    # A tuple is of several outputs and a result as any other: the first overloads that fit are those that are meant.
    @overload
    def __call__(  # pyright: ignore[reportOverlappingOverload] — see above
        self: _WithFirst[A, tuple[B, C]], items: Iterable[A] | Unmapped[A], /, *more: Any, **named: Any
    ) -> tuple[Mapped[B], Mapped[C]]: ...
    @overload
    def __call__(  # pyright: ignore[reportOverlappingOverload] — see above
        self: _Any[tuple[B, C]], /, **named: Any
    ) -> tuple[Mapped[B], Mapped[C]]: ...
    @overload
    def __call__(  # pyright: ignore[reportOverlappingOverload] — see above
        self: _WithFirst[A, tuple[B, C, D]], items: Iterable[A] | Unmapped[A], /, *more: Any, **named: Any
    ) -> tuple[Mapped[B], Mapped[C], Mapped[D]]: ...
    @overload
    def __call__(  # pyright: ignore[reportOverlappingOverload] — see above
        self: _Any[tuple[B, C, D]], /, **named: Any
    ) -> tuple[Mapped[B], Mapped[C], Mapped[D]]: ...
    @overload
    def __call__(
        self: _WithFirst[A, R], items: Iterable[A] | Unmapped[A], /, *more: Any, **named: Any
    ) -> Mapped[R]: ...
    @overload
    def __call__(self: _Any[R], /, **named: Any) -> Mapped[R]: ...
    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Wire the mapped step where a pipeline compiles; call the function for each item everywhere else."""
        trace = open_trace()
        if trace is None:
            return _map_plainly(self._definition, self._kind, args, kwargs)
        if trace.conductor is not None:
            return trace.conductor.conduct_map(trace, self._definition, self._kind, args, kwargs)
        return compiler.mapping.add_map(trace, self._definition, self._kind, args, kwargs)

    def __repr__(self) -> str:
        return f"<{self._definition.name}.{self._kind}>"


class MappedValues(list[Any]):
    """What a mapped step gives outside of a pipeline: the values themselves."""

    def collect(self, *, allow_failures: bool = False) -> list[Any]:  # noqa: ARG002 — a call that fails raises at once
        """Return them as a list."""
        return list(self)


def _map_plainly(definition: StepDefinition, kind: Kind, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    mapping = compiler.mapping
    results = call_plainly(lambda: list(mapping.call_children(definition, kind, args, kwargs)), (), {})
    outputs = [MappedValues(row) for row in mapping.each_output(definition, results)]
    signature = read_signature(definition.function)
    if not signature.multiple:
        return outputs[0]
    return signature.named_tuple(*outputs) if signature.named_tuple is not None else tuple(outputs)
