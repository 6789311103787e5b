"""The running step: who it is, and what it records besides its outputs.

The worker makes one `StepContext` for each attempt; helpers that users call write into it, and the worker hands its
content back with the result. Nothing here touches a store or a file but through the ports the worker put in.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from contextvars import ContextVar
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from cupola import values
from cupola.entities.artifact import Manifest, OutputRecord, VersionRecord
from cupola.errors import ConfigError, CupolaError

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


def enter_step(context: StepContext) -> object:
    """Make a step the running one; returns what `leave_step` needs."""
    _only_one.append(context)
    return _current.set(context)


def leave_step(token: Any) -> None:
    """End what `enter_step` began."""
    ended = _current.get()
    _current.reset(token)
    # Not the last one where two threads drive runs.
    _only_one[:] = [context for context in _only_one if context is not ended]


def current_step() -> StepContext | None:
    """Return the running step, or None outside of one."""
    return _current.get() or (_only_one[-1] if _only_one else None)


def get_step_context() -> StepContext:
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
