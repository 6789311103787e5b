"""The `@step` decorator.

A step is called in four places: outside a pipeline and inside another step it is the plain function; in a pipeline that
is being compiled it wires; `run` records a run of this one step.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Protocol, TypeVar, Unpack, cast, overload

import msgspec

from cupola import authoring, compiler
from cupola.authoring.arguments import StepArguments, read_knobs
from cupola.authoring.mapping import Fanning
from cupola.authoring.plain import call_plainly, open_trace
from cupola.compiler.annotations import label_of, place_of
from cupola.compiler.callsite import caller_place
from cupola.compiler.nodes import Output, PipelineDefinition, StepDefinition
from cupola.compiler.source import adopt
from cupola.compiler.trace import add_call, current_trace
from cupola.entities.options import PipelineKnobs, StepKnobs, merge_knobs
from cupola.errors import CompileError

if TYPE_CHECKING:
    from cupola.client.views import Run
    from cupola.engine.futures import Future

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class Step(Generic[P, R_co]):
    """A function marked as a step; made by `@step`.

    Attributes:
        definition: What the compiler knows of it.
    """

    def __init__(self, definition: StepDefinition) -> None:
        self.definition = definition
        function = definition.function
        for name in ("__module__", "__name__", "__qualname__", "__doc__"):
            if hasattr(function, name):
                setattr(self, name, getattr(function, name))
        self.__wrapped__ = function

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Wire the step where a pipeline compiles, run it where one is dynamic; call the function everywhere else."""
        trace = open_trace()
        if trace is None:
            return call_plainly(self.definition.function, args, kwargs)
        return add_call(trace, self.definition, args, kwargs)

    def submit(self, *args: P.args, **kwargs: P.kwargs) -> Future[R_co]:
        """Start the step in a dynamic pipeline, and go on while it runs.

        Returns:
            A future: load its value, pass it to other steps, or wait for it with others by `as_completed`.

        Raises:
            CompileError: There is no dynamic pipeline around the call.
        """
        trace = open_trace()
        if trace is None or trace.conductor is None:
            around = "outside of a pipeline" if trace is None else f"in {trace.pipeline!r}, which is static"
            raise CompileError(
                f"{self.name}.submit(…) was called {around}",
                where=caller_place(),
                fix="mark the pipeline @pipeline(dynamic=True); in a static one, steps that don't need each other run "
                "at the same time by themselves",
            )
        return add_call(trace, self.definition, args, kwargs, waits=False)

    @property
    def fn(self) -> Callable[P, R_co]:
        """The plain function."""
        return self.definition.function

    @property
    def map(self) -> Fanning[P, R_co]:
        """Run the step once for each item of lists: `fit.map(frames, rate=unmapped(0.1))`, items taken side by side.

        Each argument is spread, unless it is `unmapped(…)`: a list, tuple, range, set or generator, what another map
        returned, or an output that is a list. `batch=200` hands so many children to a worker at once. Returns a list
        of what the children return; pass it to a step whole, or map another step over it.
        """
        return Fanning(self.definition, "map")

    @property
    def product(self) -> Fanning[P, R_co]:
        """Run the step once for each combination of items; arguments as of `map`, the last one changes fastest."""
        return Fanning(self.definition, "product")

    @property
    def name(self) -> str:
        """Name of the step."""
        return self.definition.name

    def named(self, name: str) -> Step[P, R_co]:
        """Return the step with an invocation name of its own: `fit.named("final")(train)`."""
        if not isinstance(name, str) or not name:  # pyright: ignore[reportUnnecessaryIsInstance] — users pass anything
            raise CompileError(
                f"{self.name}.named({name!r}) is no name", where=caller_place(), fix="pass a text that is not empty"
            )
        return Step(msgspec.structs.replace(self.definition, label=name))

    def after(self, *others: object) -> Step[P, R_co]:
        """Return the step with others before it, without data between them.

        Args:
            others: What calls of steps returned in the same pipeline.
        """
        outputs: list[Output[Any]] = []
        for other in others:
            parts = cast("Sequence[Any]", other) if isinstance(other, (tuple, list)) else (other,)
            for part in parts:
                if not isinstance(part, Output):
                    raise CompileError(
                        f"{self.name}.after(…) got {part!r}",
                        where=caller_place(),
                        fix="pass what a call of a step returned in this pipeline",
                    )
                outputs.append(cast("Output[Any]", part))
        return Step(msgspec.structs.replace(self.definition, after=(*self.definition.after, *outputs)))

    def with_options(self, **options: Unpack[StepArguments]) -> Step[P, R_co]:
        """Return a configured copy; options are those of `@step(…)`."""
        knobs: StepKnobs = read_knobs(StepKnobs, options, f"{self.name}.with_options(…) at {caller_place()}")
        return Step(
            msgspec.structs.replace(
                self.definition,
                overrides=merge_knobs(self.definition.overrides, knobs),
                name=options.get("name") or self.definition.name,
            )
        )

    def run(self, *args: P.args, **kwargs: P.kwargs) -> Run:
        """Record a run of this one step; arguments are values.

        Raises:
            RunFailed: The step failed.
        """

        def call(*places: Any, **values: Any) -> Any:
            trace = current_trace()
            assert trace is not None, "compiling opens a trace before it calls the pipeline function"
            return add_call(trace, self.definition, places, values)

        alone = PipelineDefinition(
            function=call,
            subject=self.definition.function,
            name=self.name,
            knobs=PipelineKnobs(),
        )
        arguments = authoring.calls.given_arguments(alone, args, kwargs)
        run, error = authoring.calls.run_request(compiler.requests.Request(pipeline=alone, arguments=arguments))
        if error is not None:
            raise error
        return run

    def __reduce__(self) -> str:
        # By name, as functions are: a child process finds the step where its module defines it.
        return str(getattr(self, "__qualname__", self.name))

    def __repr__(self) -> str:
        return f"<step {self.name!r} of {getattr(self, '__module__', '?')}>"


class StepDecorator(Protocol):
    """What `@step(…)` gives: it takes a function and keeps its types."""

    @overload
    def __call__(self, fn: Callable[P, Coroutine[Any, Any, R]], /) -> Step[P, R]: ...
    @overload
    def __call__(self, fn: Callable[P, R], /) -> Step[P, R]: ...


@overload
def step(fn: None = None, **options: Unpack[StepArguments]) -> StepDecorator: ...
@overload
def step(fn: Callable[P, Coroutine[Any, Any, R]], **options: Unpack[StepArguments]) -> Step[P, R]: ...
@overload
def step(fn: Callable[P, R], **options: Unpack[StepArguments]) -> Step[P, R]: ...
def step(fn: Callable[..., Any] | None = None, **options: Unpack[StepArguments]) -> Any:
    """Mark a function as a step.

    Args:
        fn: The function; a lambda or `functools.partial` needs `name=`.
        **options: `name`, `cache`, `retry`, `timeout` (seconds or `"10m"`), `env`, the hooks `on_start`, `on_success`,
            `on_failure`, `on_end` (functions of one argument, the `StepRun`), `settings`; and `resources`, `image`,
            `secrets`, `requirements`, `model`, `orchestrator`, which are checked and recorded, and refused at a run.

    Raises:
        ConfigError: An option is unknown or makes no sense.

    Example:
        >>> @step(retry=3)
        ... def add(a: int, b: int = 1) -> int:
        ...     return a + b
        >>> add(1)
        2
    """
    if fn is None:

        def mark(function: Any) -> Step[..., Any]:
            return _mark(function, options)

        return mark
    return _mark(fn, options)


def _mark(function: Any, options: StepArguments) -> Step[..., Any]:
    if isinstance(function, Step):
        raise CompileError("a step is marked @step twice", where=caller_place(), fix="use .with_options(…)")
    if not callable(function):
        raise CompileError(
            f"@step was given {function!r}, which is no function",
            where=caller_place(),
            fix="write @step above a def",
        )
    refuse_shadowing(function, "step", step)
    adopt(function)
    knobs: StepKnobs = read_knobs(StepKnobs, options, f"@step at {place_of(function)}")
    name = options.get("name") or own_name(function, "step")
    return Step(StepDefinition(function=function, name=name, knobs=knobs))


def own_name(function: Any, kind: str) -> str:
    """Return the name of a function to mark.

    Raises:
        CompileError: It has none (a lambda or a partial).
    """
    name = getattr(function, "__name__", "<lambda>")
    if name == "<lambda>":
        raise CompileError(
            f"a {kind} made of {label_of(function)} has no name of its own",
            where=caller_place(),
            fix=f"pass one: {kind}(…, name='…')",
        )
    return name


def refuse_shadowing(function: Any, kind: str, decorator: object) -> None:
    """Raise `CompileError` when a function to mark is about to overwrite the decorator's own name in its module."""
    names = getattr(function, "__globals__", {})
    if getattr(function, "__qualname__", "") == kind and names.get(kind) is decorator:
        raise CompileError(
            f"a {kind} named {kind!r} overwrites the decorator {kind!r} in its module",
            where=place_of(function),
            fix=f"rename the function, or import the decorator under another name: from cupola import {kind} as …",
        )
