"""The `@pipeline` decorator. Calling a pipeline runs it; inside another pipeline it becomes a part of that one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Protocol, TypeVar, Unpack, overload

import msgspec

from cupola import authoring, client, compiler
from cupola.authoring.arguments import PipelineArguments, read_knobs
from cupola.authoring.plain import open_trace
from cupola.authoring.steps import own_name, refuse_shadowing
from cupola.compiler.annotations import place_of
from cupola.compiler.binding import bind, call_bound
from cupola.compiler.callsite import caller_place
from cupola.compiler.nodes import PipelineDefinition
from cupola.compiler.signature import read_signature
from cupola.compiler.source import adopt
from cupola.compiler.trace import nested_in
from cupola.entities.options import PipelineKnobs, merge_knobs
from cupola.errors import CompileError
from cupola.snapshot import Snapshot

if TYPE_CHECKING:
    from cupola.client.views import Run
    from cupola.compiler.requests import Request
    from cupola.engine.plan import Plan

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class Pipeline(Generic[P, R_co]):
    """A function marked as a pipeline; made by `@pipeline`.

    Attributes:
        definition: What the compiler knows of it.
    """

    def __init__(self, definition: PipelineDefinition) -> None:
        self.definition = definition
        function = definition.function
        for name in ("__module__", "__name__", "__qualname__", "__doc__"):
            if hasattr(function, name):
                setattr(self, name, getattr(function, name))
        self.__wrapped__ = function

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Run:
        """Run the pipeline and return its record; in another pipeline, become a part of it.

        Raises:
            CompileError: Wiring, types or names are wrong; nothing ran.
            ConfigError: A parameter or option is wrong; nothing ran.
            RunFailed: A step failed; `.run` is the record, the step's own exception is the cause.
            RunCancelled: A signal stopped the run.
        """
        if open_trace() is not None:
            # Typed as a run, since that is what it is everywhere else; `inline` is the same, typed for checkers.
            part: Any = self.inline(*args, **kwargs)
            return part
        run, error = authoring.calls.run_request(self._request(args, kwargs))
        if error is not None:
            raise error
        return run

    @property
    def fn(self) -> Callable[P, R_co]:
        """The plain function."""
        return self.definition.function

    @property
    def name(self) -> str:
        """Name of the pipeline."""
        return self.definition.name

    def inline(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Become a part of the pipeline that is being compiled, and return what the function returns, as outputs."""
        trace = open_trace()
        if trace is None:
            raise CompileError(
                f"{self.name}.inline(…) was called outside of a pipeline",
                where=caller_place(),
                fix=f"call {self.name}(…) to run it",
            )
        if trace.conductor is None and merge_knobs(self.definition.knobs, self.definition.overrides).dynamic is True:
            raise CompileError(
                f"pipeline {self.name!r} is dynamic, but {trace.pipeline!r}, which calls it, is static",
                where=caller_place(),
                fix=f"mark {trace.pipeline!r} @pipeline(dynamic=True) as well",
            )
        signature = read_signature(self.definition.function)
        bound = bind(self.name, signature, args, kwargs)
        with nested_in(trace, self.definition):
            return call_bound(self.definition.function, signature, bound)

    def with_options(self, **options: Unpack[PipelineArguments]) -> Pipeline[P, R_co]:
        """Return a configured copy; options are those of `@pipeline(…)`, and `raise_on_failure`."""
        knobs: PipelineKnobs = read_knobs(PipelineKnobs, options, f"{self.name}.with_options(…) at {caller_place()}")
        return Pipeline(
            msgspec.structs.replace(
                self.definition,
                overrides=merge_knobs(self.definition.overrides, knobs),
                name=options.get("name") or self.definition.name,
            )
        )

    def compile(self, *args: P.args, **kwargs: P.kwargs) -> Snapshot:
        """Return the snapshot for these parameters; nothing runs and nothing is stored."""
        return compiler.requests.compile_request(self._request(args, kwargs)).snapshot

    def plan(self, *args: P.args, **kwargs: P.kwargs) -> Plan:
        """Return what a run with these parameters would do with each step, and why; nothing runs."""
        return authoring.calls.plan_request(self._request(args, kwargs))

    def draw(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """Return the graph as text."""
        return client.draw.draw_snapshot(self.compile(*args, **kwargs))

    def _request(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Request:
        arguments = authoring.calls.given_arguments(self.definition, args, kwargs)
        return compiler.requests.Request(pipeline=self.definition, arguments=arguments)

    def __reduce__(self) -> str:
        # By name, as functions are: a child process finds the pipeline where its module defines it.
        return str(getattr(self, "__qualname__", self.name))

    def __repr__(self) -> str:
        return f"<pipeline {self.name!r} of {getattr(self, '__module__', '?')}>"


class PipelineDecorator(Protocol):
    """What `@pipeline(…)` gives: it takes a function and keeps its types."""

    def __call__(self, fn: Callable[P, R], /) -> Pipeline[P, R]:
        """Mark a function as a pipeline."""
        ...


@overload
def pipeline(fn: None = None, **options: Unpack[PipelineArguments]) -> PipelineDecorator: ...
@overload
def pipeline(fn: Callable[P, R], **options: Unpack[PipelineArguments]) -> Pipeline[P, R]: ...
def pipeline(fn: Callable[..., Any] | None = None, **options: Unpack[PipelineArguments]) -> Any:
    """Mark a function as a pipeline: it calls steps and passes what they return on to others.

    Args:
        fn: The function.
        **options: `name`, `dynamic` (the function runs with the run, and Python's own control flow decides),
            `on_error` (`"stop"`, `"kill"`, `"continue"`), `tags`, `description`, the hooks `on_start`, `on_success`,
            `on_failure`, `on_end` (functions of one argument, the `Run`), `settings`; `cache`, `retry`, `env`,
            `secrets`, `model` hold for its steps, unless a step says otherwise.

    Raises:
        ConfigError: An option is unknown or makes no sense.
    """
    if fn is None:

        def mark(function: Any) -> Pipeline[..., Any]:
            return _mark(function, options)

        return mark
    return _mark(fn, options)


def _mark(function: Any, options: PipelineArguments) -> Pipeline[..., Any]:
    if isinstance(function, Pipeline):
        raise CompileError("a pipeline is marked @pipeline twice", where=caller_place(), fix="use .with_options(…)")
    if not callable(function):
        raise CompileError(
            f"@pipeline was given {function!r}, which is no function",
            where=caller_place(),
            fix="write @pipeline above a def",
        )
    refuse_shadowing(function, "pipeline", pipeline)
    adopt(function)
    knobs: PipelineKnobs = read_knobs(PipelineKnobs, options, f"@pipeline at {place_of(function)}")
    name = options.get("name") or own_name(function, "pipeline")
    return Pipeline(PipelineDefinition(function=function, name=name, knobs=knobs))
