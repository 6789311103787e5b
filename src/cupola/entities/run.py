"""What a run and its steps can be, and how they move from one state to the next."""

from enum import StrEnum

import msgspec


class RunStatus(StrEnum):
    """The state of a run."""

    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    CANCELLING = "cancelling"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    LOST = "lost"

    @property
    def is_final(self) -> bool:
        """Tell whether nothing more happens by itself."""
        return not RUN_MOVES[self]


class StepStatus(StrEnum):
    """The state of a step of a run."""

    PENDING = "pending"
    RUNNING = "running"
    RETRYING = "retrying"
    COMPLETED = "completed"
    CACHED = "cached"
    SKIPPED = "skipped"
    FAILED = "failed"
    CANCELLED = "cancelled"
    LOST = "lost"

    @property
    def is_final(self) -> bool:
        """Tell whether nothing more happens by itself."""
        return not STEP_MOVES[self]

    @property
    def has_outputs(self) -> bool:
        """Tell whether the step's outputs exist."""
        return self in (StepStatus.COMPLETED, StepStatus.CACHED)


_RUN_ENDS = frozenset({RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED, RunStatus.LOST})
RUN_MOVES: dict[RunStatus, frozenset[RunStatus]] = {
    RunStatus.QUEUED: frozenset({RunStatus.RUNNING, RunStatus.CANCELLED}),
    RunStatus.RUNNING: _RUN_ENDS | {RunStatus.PAUSED, RunStatus.CANCELLING},
    RunStatus.PAUSED: frozenset({RunStatus.RUNNING, RunStatus.CANCELLED, RunStatus.LOST}),
    RunStatus.CANCELLING: _RUN_ENDS,
    **dict.fromkeys(_RUN_ENDS, frozenset()),
}

_STEP_ENDS = frozenset(
    {
        StepStatus.COMPLETED,
        StepStatus.CACHED,
        StepStatus.SKIPPED,
        StepStatus.FAILED,
        StepStatus.CANCELLED,
        StepStatus.LOST,
    }
)
STEP_MOVES: dict[StepStatus, frozenset[StepStatus]] = {
    StepStatus.PENDING: frozenset({StepStatus.RUNNING, StepStatus.CACHED, StepStatus.SKIPPED, StepStatus.FAILED}),
    StepStatus.RUNNING: _STEP_ENDS - {StepStatus.CACHED, StepStatus.SKIPPED} | {StepStatus.RETRYING},
    StepStatus.RETRYING: frozenset({StepStatus.RUNNING, StepStatus.FAILED, StepStatus.CANCELLED, StepStatus.LOST}),
    **dict.fromkeys(_STEP_ENDS, frozenset()),
}


class Failure(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An exception as it is recorded: text only, so that readers need none of the user's classes.

    Attributes:
        type: Class of the exception, as `module.QualName` (builtins without module).
        message: Its text, verbatim.
        traceback: The traceback as Python prints it, without Cupola's own frames.
        where: `file:line in function` of the innermost frame of the user's code, the file relative to the source root.
        signal: Name of the signal that ended the process, such as `SIGKILL`; empty otherwise.
    """

    type: str
    message: str
    traceback: str = ""
    where: str = ""
    signal: str = ""

    def __str__(self) -> str:
        return f"{self.type}: {self.message}" if self.message else self.type


class AttemptRecord(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One attempt of a step.

    Attributes:
        number: Number of the attempt, from 1.
        started_at, ended_at: Seconds since 1970, by the driver's clock.
        log: Byte range of its output in the log of its worker.
        failure: None when it went well.
        worker: Number of the worker that ran it; 0 for the driver's own process.
        told: Parts of the driver's log that the step's hooks printed, when it ran in a worker.
    """

    number: int
    started_at: float
    ended_at: float | None = None
    log: tuple[int, int] = (0, 0)
    failure: Failure | None = None
    worker: int = 0
    told: tuple[tuple[int, int], ...] = ()


class RunRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A run as the store knows it.

    Attributes:
        number: The run's place in the order of the store; newer runs have larger ones.
        id, name, pipeline, project, source: As in `RunStarted`.
        status: The state now.
        snapshot: Id of the snapshot.
        params, facts, origins, places, tags: As in `RunStarted`, with tags added and removed since.
        metadata: Metadata of the run by key, encoded.
        started_at, ended_at: Seconds since 1970, by the driver's clock.
        failure, failed_step: Why it failed, and the position of the step (-1: none).
        steps: Number of steps by status word; those that never started count as `pending`.
        head: Sequence number of the last event applied; `epoch` of the driver that wrote it.
        warnings: What a person should know.
        blobs: Digests of blobs that say what the run was made from, such as `archive`, by what they hold.
    """

    number: int
    id: str
    name: str
    pipeline: str
    project: str
    source: str
    status: RunStatus
    snapshot: str
    params: dict[str, bytes] = {}
    facts: dict[str, str] = {}
    origins: dict[str, str] = {}
    places: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    metadata: dict[str, bytes] = {}
    started_at: float = 0.0
    ended_at: float | None = None
    failure: Failure | None = None
    failed_step: int = -1
    steps: dict[str, int] = {}
    head: int = 0
    epoch: int = 1
    warnings: tuple[str, ...] = ()
    blobs: dict[str, str] = {}


class StepRecord(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A step of a run as the store knows it.

    Attributes:
        id: `<run id>.<position>`.
        run, position: The run, and the step's position in its snapshot.
        name, source, pipeline: Invocation name, function, pipeline.
        status: The state now.
        attempts: All attempts, oldest first.
        inputs: Digest of each input by parameter name.
        metadata: Metadata by key, encoded; `metrics` are points `(name, step, value)`.
        base_key, inputs_key: The two parts of the cache key; empty where there is none.
        uncacheable: Why the result can't be used again.
        from_run, from_step, saved_s, made_at: For a cached step, where the result comes from.
        cpu_s, peak_bytes: What the last attempt used.
    """

    id: str
    run: str
    position: int
    name: str
    source: str
    pipeline: str
    status: StepStatus
    attempts: tuple[AttemptRecord, ...] = ()
    started_at: float | None = None
    ended_at: float | None = None
    inputs: dict[str, str] = {}
    metadata: dict[str, bytes] = {}
    metrics: tuple[tuple[str, float, float], ...] = ()
    tags: tuple[str, ...] = ()
    failure: Failure | None = None
    base_key: str = ""
    inputs_key: str = ""
    uncacheable: str = ""
    from_run: str = ""
    from_step: int = -1
    saved_s: float = 0.0
    made_at: float = 0.0
    cpu_s: float = 0.0
    peak_bytes: int = 0
    warnings: tuple[str, ...] = ()


class PipelineRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A pipeline as the store knows it: a name, where its newest run was defined, how many runs it has."""

    id: str
    name: str
    project: str
    source: str
    created_at: float
    last_run: str
    runs: int
