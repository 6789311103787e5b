"""The running step: who it is, and what it records besides its outputs.

The worker makes one `StepContext` for each attempt; helpers that users call write into it, and the worker hands its
content back with the result. Nothing here touches a store or a file but through the ports the worker put in.
"""

from __future__ import annotations

import time
from _thread import get_ident
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sized
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, cast

import msgspec

from cupola import values
from cupola.entities.artifact import Manifest, OutputRecord, VersionRecord
from cupola.errors import ConfigError, CupolaError

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

T = TypeVar("T")


class RunInfo(msgspec.Struct, frozen=True):
    """The run that a step belongs to: its id, name, project and bound parameters (encoded)."""

    id: str
    name: str
    project: str
    encoded_params: dict[str, bytes]

    @property
    def params(self) -> dict[str, Any]:
        """The bound parameters of the pipeline by name."""
        return {name: values.decode(data) for name, data in self.encoded_params.items()}

    def now(self) -> datetime:
        """Return the time, in UTC; in a resumed run, when the function of its dynamic pipeline came by here first."""
        from datetime import UTC, datetime  # here, since few programs need it

        return self._recorded("now", lambda: datetime.now(UTC))

    def random(self) -> float:
        """Return a random number in [0, 1); in a resumed run the one that it got here before."""
        import random  # here, since it is heavy and seldom needed

        return self._recorded("random", random.random)

    def uuid(self) -> UUID:
        """Return a random UUID; in a resumed run the one that it got here before."""
        from uuid import uuid4  # here, since few programs need it

        return self._recorded("uuid", uuid4)

    def _recorded(self, kind: str, make: Callable[[], Any]) -> Any:  # noqa: ARG002 — `RecordingRun` calls it
        raise ConfigError(
            f"run.{kind}() was called inside of a step",
            fix="it is for the function of a dynamic pipeline, which runs again when its run is resumed; a finished "
            "step doesn't: take the value from Python's own modules",
        )


class RecordingRun(RunInfo, frozen=True, kw_only=True):
    """The run as the function of a dynamic pipeline sees it.

    Attributes:
        recall: Returns what was recorded of a kind, or records what is made anew.
    """

    recall: Callable[[str, Callable[[], Any]], Any]

    def _recorded(self, kind: str, make: Callable[[], Any]) -> Any:
        return self.recall(kind, make)


class PipelineContext(msgspec.Struct, frozen=True):
    """What the function of a dynamic pipeline may ask while it runs.

    Attributes:
        run: The run, with what it records.
        pipeline: The pipeline.
        ask: Returns what a person answers to a question, given the type of the answer and a timeout in seconds.
    """

    run: RecordingRun
    pipeline: PipelineInfo
    ask: Callable[[str, Any, float | None], Any]


class StepInfo(msgspec.Struct, frozen=True):
    """The step itself: its invocation name, function and position in the snapshot."""

    name: str
    source: str
    position: int


class PipelineInfo(msgspec.Struct, frozen=True):
    """The pipeline of the run: its name and function."""

    name: str
    source: str


class ArtifactAccess(msgspec.Struct, frozen=True):
    """What a step may do with artifacts by name: store a value, find a version, load what is stored."""

    store: Callable[[Any, str, str], Manifest]
    find: Callable[[str, str], VersionRecord]
    load: Callable[[Manifest, object, bool], Any]
    uri: Callable[[str], str]


class Checkpoints(Protocol):
    """How far earlier attempts of the step have come."""

    def save(self, value: Any) -> None:
        """Store a value in the place of the last one."""
        ...

    def load(self, warn: Callable[[str], None]) -> Any:
        """Return the value that was saved last; None when there is none."""
        ...


class Recorded(msgspec.Struct):
    """What an attempt recorded besides its outputs, in the order it was said.

    `has_checkpoint` is whether it left one.
    """

    metadata: dict[str, bytes] = {}
    run_metadata: dict[str, bytes] = {}
    output_metadata: dict[str, dict[str, bytes]] = {}
    output_tags: dict[str, list[str]] = {}
    metrics: list[tuple[str, float, float]] = []
    tags: list[str] = []
    run_tags: list[str] = []
    removed_tags: list[str] = []
    removed_run_tags: list[str] = []
    saved: list[OutputRecord] = []
    used: list[tuple[str, int, int]] = []
    warnings: list[str] = []
    has_checkpoint: bool = False


class StepContext:
    """What a step may ask about itself while it runs.

    Attributes:
        run: The run: `.id .name .project .params`.
        step: The step: `.name .source .position`.
        pipeline: The pipeline: `.name .source`.
        outputs: Names of the declared outputs.
        attempt: Number of this attempt, from 1.
        recorded: What was recorded so far; for Cupola's own helpers.
    """

    __slots__ = ("_checkpoints", "artifacts", "attempt", "open_checkpoints", "outputs", "pipeline", "recorded", "run",
                 "step")  # fmt: skip

    def __init__(
        self,
        run: RunInfo,
        pipeline: PipelineInfo,
        step: StepInfo,
        outputs: tuple[str, ...],
        artifacts: ArtifactAccess,
        attempt: int = 1,
    ) -> None:
        self.run = run
        self.pipeline = pipeline
        self.step = step
        self.outputs = outputs
        self.artifacts = artifacts
        self.attempt = attempt
        self.recorded = Recorded()
        self.open_checkpoints: Callable[[], Checkpoints] | None = None
        self._checkpoints: Checkpoints | None = None

    @property
    def is_retry(self) -> bool:
        """Whether an earlier attempt of this step failed in this run."""
        return self.attempt > 1

    @property
    def idempotency_key(self) -> str:
        """A text that is the same for each attempt of this step in this run, and different for every other one."""
        return f"{self.run.id}.{self.step.position}"

    @property
    def resume_state(self) -> Any:
        """What this step passed to `checkpoint` last, in this attempt or an earlier one; None when it never did.

        Each look loads it anew. It is there for an attempt of the same run that reads the same inputs, also after a
        kill, and gone when the step has finished.
        """
        return self.checkpoints.load(self._warn)

    @property
    def checkpoints(self) -> Checkpoints:
        """The step's checkpoints; for Cupola's own helpers."""
        if self._checkpoints is None:
            if self.open_checkpoints is None:
                raise CupolaError(f"step {self.step.name!r} is over: it has no checkpoints any more")
            self._checkpoints = self.open_checkpoints()
        return self._checkpoints

    def end(self) -> None:
        """Say that the attempt is over: what threads of the step still do changes no checkpoint."""
        self.open_checkpoints = self._checkpoints = None

    def _warn(self, text: str) -> None:
        if text not in self.recorded.warnings:
            self.recorded.warnings.append(text)

    def artifact_uri(self, output: str) -> str:
        """Return the folder where a step may put the files of an output itself; it exists when this returns.

        Raises:
            ConfigError: The step has no output of this name.
        """
        self.check_output(output)
        return self.artifacts.uri(f"{self.run.id}.{self.step.position}.{output}")

    def check_output(self, name: str) -> None:
        """Raise `ConfigError` unless the step has an output of this name."""
        if name not in self.outputs:
            known = ", ".join(self.outputs) or "none"
            raise ConfigError(
                f"step {self.step.name!r} has no output {name!r}",
                where=self.step.source,
                fix=f"its outputs are: {known}",
            )


_current: ContextVar[StepContext | None] = ContextVar("cupola_step", default=None)
# Threads that a step starts begin with an empty context, yet what they record belongs to the step.
_only_one: list[StepContext] = []
# Those that were there before it are no threads of the step: a dynamic pipeline's own, which calls others meanwhile.
_strangers: dict[int, frozenset[int]] = {}


def enter_step(context: StepContext) -> object:
    """Make a step the running one; returns what `leave_step` needs."""
    if _pipelines:
        import threading  # here, since only a dynamic pipeline needs it

        _strangers[id(context)] = frozenset(thread.ident or 0 for thread in threading.enumerate())
    _only_one.append(context)
    return _current.set(context)


def leave_step(token: Any) -> None:
    """End what `enter_step` began."""
    ended = _current.get()
    _current.reset(token)
    # Not the last one where two threads drive runs.
    _only_one[:] = [context for context in _only_one if context is not ended]
    _strangers.pop(id(ended), None)


_pipelines: list[PipelineContext] = []


@contextmanager
def in_pipeline(context: PipelineContext) -> Generator[None]:
    """Let the function of a dynamic pipeline find its context."""
    _pipelines.append(context)
    try:
        yield
    finally:
        _pipelines.remove(context)


def current_step() -> StepContext | None:
    """Return the running step, or None outside of one."""
    context = _current.get()
    if context is None and _only_one:
        if not _strangers:
            return _only_one[-1]
        thread = get_ident()
        for one in reversed(_only_one):
            if thread not in _strangers.get(id(one), ()):
                return one
    return context


def get_step_context() -> StepContext:
    """Return the running step; in the function of a dynamic pipeline, its `.run` and `.pipeline`.

    Raises:
        CupolaError: Neither is running here.
    """
    context = pipeline_context()
    return running_step() if context is None else cast("StepContext", context)


def pipeline_context() -> PipelineContext | None:
    """Return the context of the dynamic pipeline whose function runs here, or None."""
    return _pipelines[-1] if _pipelines and current_step() is None else None


def running_step() -> StepContext:
    """Return the running step.

    Raises:
        CupolaError: No step is running here.
    """
    context = current_step()
    if context is None:
        raise CupolaError(
            "get_step_context() was called outside of a step",
            fix="call it inside a function marked @step while a run executes it; a plain call of a step is no run",
        )
    return context


def find_artifact(context: StepContext, name: str, version: str) -> Manifest:
    """Find an artifact version by name, what this step has just saved first; note its use."""
    for record in reversed(context.recorded.saved):
        if record.artifact == name and version in ("", "latest", record.version):
            return record.manifest
    found = context.artifacts.find(name, version)
    context.recorded.used.append((found.run, found.step, found.position))
    return found.manifest


def encode_metadata(metadata: Mapping[str, Any]) -> dict[str, bytes]:
    """Encode metadata by key.

    Raises:
        ConfigError: A key is no text.
        MaterializerError: A value can't be kept; the message names its key.
    """
    encoded: dict[str, bytes] = {}
    for key, value in metadata.items():
        if not isinstance(key, str) or not key:  # pyright: ignore[reportUnnecessaryIsInstance] — users pass anything
            raise ConfigError(f"a key of metadata must be a text, not {key!r}")
        encoded[key] = values.encode(value, path=f"metadata[{key!r}]")
    return encoded


class Progress(Generic[T]):
    """Counts how far a step is; prints at most one line a second, so that the log stays short."""

    def __init__(self, items: Iterable[T] | int, description: str = "") -> None:
        self._items: Iterable[Any] = range(items) if isinstance(items, int) else items
        self._total = len(self._items) if isinstance(self._items, Sized) else None
        self._description = description
        self._done = 0
        self._printed_at = 0.0

    def __iter__(self) -> Iterator[T]:
        for item in self._items:
            yield item
            self.advance()
        self._print(last=True)

    def advance(self, count: int = 1) -> None:
        """Say that some more items are done."""
        self._done += count
        if time.monotonic() - self._printed_at >= 1.0:
            self._print(last=False)

    def _print(self, *, last: bool) -> None:
        self._printed_at = time.monotonic()
        of_total = f"/{self._total}" if self._total is not None else ""
        label = f"{self._description}: " if self._description else ""
        # A carriage return, so that readers of the log fold the lines into the last one.
        print(f"\r{label}{self._done}{of_total}", end="\n" if last else "", flush=True)


def progress(items: Iterable[T] | int, description: str = "") -> Progress[T]:
    """Count how far a step is while iterating over its items, or over so many steps."""
    return Progress(items, description)
