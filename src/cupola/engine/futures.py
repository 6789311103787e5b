"""What calls of steps return in a dynamic pipeline: futures, whose values Python may look at once they are loaded."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol, TypeVar, cast, overload

import msgspec

from cupola.artifacts.blobs import Blobs
from cupola.artifacts.materializer import load_value
from cupola.compiler.callsite import caller_place
from cupola.compiler.nodes import Node, Output
from cupola.compiler.signature import OutputDeclaration
from cupola.compiler.trace import grouped
from cupola.entities.artifact import Manifest
from cupola.entities.run import Failure
from cupola.errors import CompileError, ConfigError, StepFailed

T = TypeVar("T")


class Call(msgspec.Struct, eq=False):
    """One call of a step in a dynamic pipeline; only `Conductor` changes it.

    Attributes:
        node: The call as it was made.
        position: Its position in the graph of the run; -1 until its inputs are there.
        is_over: Whether it has ended, well or not.
        outputs: What it made, when it ended well.
        failure: What went wrong, when it did not.
        error: The exception, where this process saw it.
        is_seen: Whether the pipeline was told of the failure.
        cause: The failed call that it needed, where it never ran for that reason.
        is_apart: Whether it goes on while the pipeline function does.
        waits: How many calls it needs that are not over.
        followers: The calls that need it.
    """

    node: Node
    position: int = -1
    is_over: bool = False
    outputs: dict[str, Manifest] = {}
    failure: Failure | None = None
    error: BaseException | None = None
    is_seen: bool = False
    cause: Call | None = None
    is_apart: bool = False
    waits: int = 0
    followers: list[Call] = []


class Waiter(Protocol):
    """Where the calls of one run are carried out."""

    @property
    def blobs(self) -> Blobs:
        """Where their values are."""
        ...

    def wait(self, calls: Sequence[Call], timeout_s: float | None, *, for_all: bool) -> bool:
        """Carry calls out until one of some, or all of them, are over; tell whether they are when the time is up."""
        ...

    def see(self, call: Call) -> StepFailed:
        """Return the error of a call that failed, and note that the pipeline knows of it."""
        ...


class Future(Output[T]):
    """What a call of a step will have made: it can be passed to other steps, and loaded.

    Of a step with several outputs it stands for all of them, and unpacks into one future for each.

    Attributes:
        parts: One future for each output, where there are several.
    """

    __slots__ = ("_call", "_waiter", "group", "parts")

    def __init__(self, waiter: Waiter, call: Call, declarations: tuple[OutputDeclaration, ...]) -> None:
        super().__init__(call.node, declarations[0] if len(declarations) == 1 else None)
        self._waiter = waiter
        self._call = call
        is_several = call.node.signature.multiple and declarations is call.node.outputs
        self.parts = tuple([Future[Any](waiter, call, (one,)) for one in declarations]) if is_several else ()
        self.group = "tuple" if is_several else ""

    @property
    def call(self) -> Call:
        """The call that it stands for."""
        return self._call

    def load(self, timeout_s: float | None = None) -> T:
        """Wait for the step, and return what it made; each time a value of its own.

        Raises:
            StepFailed: The step failed; its exception is the cause.
            TimeoutError: It isn't over after so many seconds.
        """
        self._over(timeout_s)
        if self.group:
            return cast("T", grouped(self.node, [part.load() for part in self.parts]))
        if self.declaration is None:
            return cast("T", None)
        manifest = self._call.outputs[self.declaration.name]
        return load_value(manifest, self._waiter.blobs, self.declaration.annotation)

    def result(self, timeout_s: float | None = None) -> T:
        """Do what `load` does, under the name that `concurrent.futures` has for it."""
        return self.load(timeout_s)

    def done(self) -> bool:
        """Tell whether the step is over, well or not; what can go on meanwhile does."""
        return self._waiter.wait([self._call], 0.0, for_all=True)

    def exception(self, timeout_s: float | None = None) -> StepFailed | None:
        """Wait for the step, and return the error that `load` would raise, or None.

        Raises:
            TimeoutError: It isn't over after so many seconds.
        """
        try:
            self._over(timeout_s)
        except StepFailed as error:
            return error
        return None

    def _over(self, timeout_s: float | None) -> None:
        if not self._waiter.wait([self._call], timeout_s, for_all=True):
            raise TimeoutError(f"step {self.node.name!r} isn't over after {timeout_s:g} s")
        if self._call.failure is not None:
            raise self._waiter.see(self._call)

    def __iter__(self) -> Iterator[Any]:
        if not self.group:
            raise self.misused("by iterating")
        return iter(self.parts)

    def misused(self, how: str) -> CompileError:
        """Return the error for a use as a value."""
        name = f"output {self.declaration.name!r} of step" if self.declaration else "a call of step"
        return CompileError(
            f"{name} {self.node.name!r} was used as a value ({how}), but it stands for one",
            where=f"pipeline at {caller_place()}",
            fix="take its value with .load() or value(…), or pass it to a step as it is",
        )

    def __repr__(self) -> str:
        state = "failed" if self._call.failure else "done" if self._call.is_over else "running"
        return f"<future of step {self.node.name!r}, {state}>"


class FutureList(Output[T]):
    """What the calls that a step was mapped to will have made, in the order of the items: a list where it is an input.

    Attributes:
        parts: The futures.
    """

    __slots__ = ("_waiter", "parts")
    group = "list"

    def __init__(self, waiter: Waiter, node: Node, declaration: OutputDeclaration | None, parts: Iterable[Any]) -> None:
        super().__init__(node, declaration)
        self._waiter = waiter
        self.parts = tuple(parts)

    @property
    def type(self) -> Any:
        """The list that it stands for."""
        return list[self.declaration.annotation if self.declaration else Any]

    def collect(self, *, allow_failures: bool = False) -> FutureList[T]:
        """Return it as one list; where failures are allowed, wait for all and leave out those that failed."""
        if not allow_failures:
            return self
        parts: list[Future[T]] = list(self)
        self._waiter.wait([part.call for part in parts], None, for_all=True)
        for part in parts:
            part.exception()  # the pipeline knows of it
        done = [part for part in parts if part.call.failure is None]
        return FutureList(self._waiter, self.node, self.declaration, done)

    def load(self, timeout_s: float | None = None) -> list[T]:
        """Wait for all, and return what they made.

        Raises:
            StepFailed: One failed.
            TimeoutError: They aren't over after so many seconds.
        """
        parts: list[Future[T]] = list(self)
        calls = [part.call for part in parts]
        if not self._waiter.wait(calls, timeout_s, for_all=True):
            raise TimeoutError(f"{sum(not call.is_over for call in calls)} of {len(calls)} steps are not over in time")
        return [part.load() for part in parts]

    def done(self) -> bool:
        """Tell whether all are over, well or not."""
        return self._waiter.wait([part.call for part in self], 0.0, for_all=True)

    def __iter__(self) -> Iterator[Future[T]]:
        return iter(cast("tuple[Future[T], ...]", self.parts))

    def __len__(self) -> int:
        return len(self.parts)

    def __getitem__(self, index: Any) -> Any:
        return cast("Any", self.parts)[index]

    def misused(self, how: str) -> CompileError:
        """Return the error for a use as a value."""
        return CompileError(
            f"what step {self.node.definition.name!r} was mapped to was used as a value ({how}), but it stands for one",
            where=f"pipeline at {caller_place()}",
            fix="take the list with .load() or value(…), iterate over its futures, or pass it to a step as it is",
        )

    def __repr__(self) -> str:
        return f"<futures of {len(self.parts)} calls of step {self.node.definition.name!r}>"


@overload
def value(x: FutureList[T]) -> list[T]: ...
@overload
def value(x: Future[T]) -> T: ...
@overload
def value(x: T) -> T: ...
def value(x: Any) -> Any:
    """Return the value of what a step call returned in a dynamic pipeline; a plain value is returned as it is.

    Futures inside of tuples, lists and dicts are loaded as well.

    Raises:
        StepFailed: The step failed.
    """
    if isinstance(x, Output):
        if isinstance(x, Future | FutureList):
            return cast("Future[Any]", x).load()
        raise cast("Output[Any]", x).misused("value(…)")
    if isinstance(x, tuple):
        items = cast("tuple[Any, ...]", x)
        kind: Any = type(items)
        loaded = tuple([value(item) for item in items])
        return kind(*loaded) if hasattr(kind, "_fields") else loaded if kind is tuple else items
    if type(x) is list:
        return [value(item) for item in cast("list[Any]", x)]
    if type(x) is dict:
        return {key: value(item) for key, item in cast("dict[Any, Any]", x).items()}
    return x


def as_completed(futures: Iterable[Future[T]], timeout_s: float | None = None) -> Iterator[Future[T]]:
    """Yield futures as their steps end, each once; steps that failed too.

    Raises:
        TimeoutError: Not all are over after so many seconds.
        ConfigError: Something else than a future was given.
    """
    waiting = list(futures)
    for future in waiting:
        if not isinstance(future, Future):  # pyright: ignore[reportUnnecessaryIsInstance] — users pass anything
            raise ConfigError(
                f"as_completed(…) got {future!r}",
                where=caller_place(),
                fix="pass what step.submit(…) returned in a dynamic pipeline",
            )
    return _completed(waiting, None if timeout_s is None else time.monotonic() + timeout_s)


def _completed(waiting: list[Future[T]], deadline: float | None) -> Iterator[Future[T]]:
    while waiting:
        waiter = waiting[0]._waiter  # pyright: ignore[reportPrivateUsage] — futures of one module
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        if not waiter.wait([future.call for future in waiting], left, for_all=False):
            raise TimeoutError(f"{len(waiting)} steps are not over in time")
        over = [future for future in waiting if future.call.is_over]
        waiting = [future for future in waiting if not future.call.is_over]
        yield from over
