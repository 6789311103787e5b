"""The events of a run: what happened, in order, as one tagged union; which `fold` adds up.

The driver that holds the run's lease writes them, each before anything depends on it. A step's outputs, metadata, tags
and lineage travel together in its one `StepFinished`, so nobody ever sees half a step. Readers are the projection into
a database, resume, and whoever follows a run.
"""

# No `annotations` from `__future__`: msgspec would compile each one when a decoder is made, 3 ms of each start.

import functools

import msgspec

from cupola.entities.artifact import Manifest, OutputRecord
from cupola.entities.run import Failure, RunStatus, StepStatus

FORMAT = 1


class _Event(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True, gc=False):
    """What all events share: `at`, the driver's clock in seconds since 1970, for people only."""

    at: float


class RunStarted(_Event, frozen=True, array_like=True, tag=1):
    """A driver began a run. Always the first event.

    Attributes:
        run: Id of the run.
        name: Name of the run.
        pipeline: Name of the pipeline.
        source: `module:qualname` of the pipeline.
        snapshot: Id of the snapshot.
        snapshot_bytes: Its bytes when small; otherwise the blob store has them under `snapshot_blob`.
        snapshot_blob: Digest of the blob with its bytes, else empty.
        project: Name of the project.
        params: Bound parameters, encoded.
        tags: Tags of the run.
        facts: What was true around it: `host`, `pid`, `user`, `root`, `command`, `python`, `cupola`, `file`.
        origins: Where each parameter and option was set, by dotted path (`"params.rate": "run.yaml"`).
        places: `path:line` of each code part by its position in the snapshot, path relative to the source root.
    """

    run: str
    name: str
    pipeline: str
    source: str
    snapshot: str
    snapshot_bytes: bytes = b""
    snapshot_blob: str = ""
    project: str = "default"
    params: dict[str, bytes] = {}
    tags: tuple[str, ...] = ()
    facts: dict[str, str] = {}
    origins: dict[str, str] = {}
    places: tuple[str, ...] = ()
    format: int = FORMAT


class RunMoved(_Event, frozen=True, array_like=True, tag=2):
    """The run as a whole changed its state without ending: `cancelling`, `paused`, `running`."""

    status: RunStatus
    reason: str = ""


class StepStarted(_Event, frozen=True, array_like=True, tag=3):
    """An attempt of a step began.

    Attributes:
        step: Its position in the snapshot, here and below; steps that were added to the run stand after those.
        attempt: Number of the attempt, from 1.
        log: Where its output begins in the log of its worker, in bytes.
        worker: Number of the worker that runs it; 0 for the driver's own process.
    """

    step: int
    attempt: int = 1
    log: int = 0
    worker: int = 0


class StepRetrying(_Event, frozen=True, array_like=True, tag=4):
    """An attempt failed and another one follows after `delay_s` seconds."""

    step: int
    attempt: int
    failure: Failure
    delay_s: float
    log: int = 0
    """Where the attempt's output ends in the run's log, in bytes."""


class Usage(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What an attempt used: processor seconds and the largest resident memory of its process in bytes."""

    cpu_s: float = 0.0
    peak_bytes: int = 0


class StepFinished(_Event, frozen=True, array_like=True, tag=5):
    """A step is finished; it never runs again in this run.

    Attributes:
        outputs: What it produced, declared outputs first, then what it saved by name.
        inputs: Digest of each input by parameter name.
        used: Artifact versions that it read besides its inputs, as `(run, step, position)`.
        metadata: Metadata of the step by key, encoded.
        run_metadata: Metadata that the step logged for its run.
        metrics: Points `(name, step, value)` in the order they were logged.
        tags: Tags added to the step.
        run_tags: Tags added to the run.
        removed_tags: Tags removed from the step; `removed_run_tags` likewise.
        log: Where the step's output ends in the run's log, in bytes.
        inputs_key: Digest of the inputs for the cache; empty when the result is not to be used again.
        uncacheable: Why the result can't be used again although it was to be; else empty.
        expires_at: Time after which the result is not used again; 0 for never.
        warnings: What a person should know of this step.
        told: Parts of the driver's log that hooks of a step in a worker printed, as start and end in bytes.
    """

    step: int
    attempt: int = 1
    outputs: tuple[OutputRecord, ...] = ()
    inputs: dict[str, str] = {}
    log: int = 0
    usage: Usage = Usage()
    inputs_key: str = ""
    uncacheable: str = ""
    expires_at: float = 0.0
    used: tuple[tuple[str, int, int], ...] = ()
    metadata: dict[str, bytes] = {}
    run_metadata: dict[str, bytes] = {}
    metrics: tuple[tuple[str, float, float], ...] = ()
    tags: tuple[str, ...] = ()
    run_tags: tuple[str, ...] = ()
    removed_tags: tuple[str, ...] = ()
    removed_run_tags: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    told: tuple[tuple[int, int], ...] = ()


class StepCached(_Event, frozen=True, array_like=True, tag=6):
    """A step did not run: an earlier result stands for it.

    Attributes:
        from_run: Id of the run that made the result; `from_step` is the step's position in it.
        inputs: Digest of each input by parameter name.
        inputs_key: Digest of the inputs for the cache.
        saved_s: Seconds that the step took then.
        made_at: When the result was made, seconds since 1970.
    """

    step: int
    from_run: str
    from_step: int
    inputs: dict[str, str] = {}
    inputs_key: str = ""
    saved_s: float = 0.0
    made_at: float = 0.0


class StepFailed(_Event, frozen=True, array_like=True, tag=7):
    """The last attempt of a step failed.

    Attributes:
        status: `failed` or `cancelled`.
        saved: What it had saved by name before it failed.
        inputs, metadata, tags, log, usage, told: As in `StepFinished`.
    """

    step: int
    failure: Failure
    attempt: int = 1
    status: StepStatus = StepStatus.FAILED
    inputs: dict[str, str] = {}
    log: int = 0
    usage: Usage = Usage()
    saved: tuple[OutputRecord, ...] = ()
    metadata: dict[str, bytes] = {}
    run_metadata: dict[str, bytes] = {}
    metrics: tuple[tuple[str, float, float], ...] = ()
    tags: tuple[str, ...] = ()
    run_tags: tuple[str, ...] = ()
    removed_tags: tuple[str, ...] = ()
    removed_run_tags: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    told: tuple[tuple[int, int], ...] = ()


class StepsSkipped(_Event, frozen=True, array_like=True, tag=8):
    """Steps that will never start in this run, and the step whose failure caused it (-1 when the run was stopped)."""

    steps: tuple[int, ...]
    because_of: int = -1


class RunFinished(_Event, frozen=True, array_like=True, tag=9):
    """The driver ended the run."""

    status: RunStatus
    failure: Failure | None = None
    failed_step: int = -1
    warnings: tuple[str, ...] = ()
    log: int = 0


class RunLost(_Event, frozen=True, array_like=True, tag=10):
    """The driver vanished; whoever opened the store next says so. Steps that were running are lost."""

    reason: str
    signal: str = ""


class RunSealed(_Event, frozen=True, array_like=True, tag=11):
    """What the store gave the run, so that a rebuilt database gives the same. The last event of a run.

    Attributes:
        number: The run's own sequence number in the store.
        versions: `(step, position, version)` of each artifact version that the store numbered, in order.
    """

    number: int
    versions: tuple[tuple[int, int, str], ...] = ()


class MapExpanded(_Event, frozen=True, array_like=True, tag=12):
    """A step that is mapped over items got its children, before the first of them starts.

    Attributes:
        step: Position of the mapped step.
        first: Position of its first child; the others follow in the order of the items.
        count: How many there are.
        items: The items of an input whose width was known only now, by its name; children read them as outputs
            `name[index]` of the mapped step.
        taken: Positions of the children of another mapped step whose outputs are the items of an input, where those
            that failed are left out.
    """

    step: int
    first: int
    count: int
    items: dict[str, tuple[Manifest, ...]] = {}
    taken: dict[str, tuple[int, ...]] = {}


class RunResumed(_Event, frozen=True, array_like=True, tag=13):
    """A driver took over a run that had ended, or whose driver had; what isn't finished starts anew.

    Attributes:
        again: Steps that were finished or over and run again nevertheless, as their outputs are gone or they are to.
        facts: As in `RunStarted`, of this driver.
        snapshot: Id of the snapshot with the edited code of unfinished steps; empty when nothing was edited.
        snapshot_bytes, snapshot_blob, places: As in `RunStarted`.
        stands: Steps that failed and stay so, since a dynamic pipeline was told and went on.
    """

    again: tuple[int, ...] = ()
    facts: dict[str, str] = {}
    snapshot: str = ""
    snapshot_bytes: bytes = b""
    snapshot_blob: str = ""
    places: tuple[str, ...] = ()
    stands: tuple[int, ...] = ()


class StepAdded(_Event, frozen=True, array_like=True, tag=15):
    """A dynamic pipeline called a step: it stands in the run's graph from here on.

    Attributes:
        step: Its position, the next one that is free.
        addition: What it is: bytes of a `snapshot.Addition`.
    """

    step: int
    addition: bytes


class ValueRecorded(_Event, frozen=True, array_like=True, tag=16):
    """A dynamic pipeline asked for something that is different each time; a resumed run is given the same again.

    Attributes:
        kind: What it asked for, such as `now`.
        value: What it got, encoded.
    """

    kind: str
    value: bytes


class FailureSeen(_Event, frozen=True, array_like=True, tag=17):
    """A dynamic pipeline was told that a step failed: what it does about that is history."""

    step: int


class QuestionAsked(_Event, frozen=True, array_like=True, tag=19):
    """A dynamic pipeline waits for a person; asked again in a resumed run, it is the same question.

    Attributes:
        number: How many questions the pipeline had asked before.
        question: What people are asked.
        wanted: What kind of answer is wanted, for people.
        expires_at: When it is too late for an answer; 0 for never.
    """

    number: int
    question: str
    wanted: str = ""
    expires_at: float = 0.0


class QuestionAnswered(_Event, frozen=True, array_like=True, tag=20):
    """A question was answered, or it is too late for that.

    Attributes:
        number: Which one.
        answer: What was answered, encoded; empty when nobody did in time.
        by: Who did.
    """

    number: int
    answer: bytes
    by: str = ""


class PipelineReturned(_Event, frozen=True, array_like=True, tag=18):
    """The function of a dynamic pipeline came to its end.

    Attributes:
        outputs: What it returned: bytes of a tuple of `snapshot.RunOutput`.
    """

    outputs: bytes


class RunFacts(_Event, frozen=True, array_like=True, tag=14):
    """What was found out about the run's code and surroundings while it ran: see `engine.provenance`.

    Attributes:
        facts: Facts by name, such as `commit`.
        blobs: Digests of blobs by what they hold, such as `archive`.
    """

    facts: dict[str, str] = {}
    blobs: dict[str, str] = {}


Event = (
    RunStarted
    | RunMoved
    | StepStarted
    | StepRetrying
    | StepFinished
    | StepCached
    | StepFailed
    | StepsSkipped
    | RunFinished
    | RunLost
    | RunSealed
    | MapExpanded
    | RunResumed
    | RunFacts
    | StepAdded
    | ValueRecorded
    | FailureSeen
    | PipelineReturned
    | QuestionAsked
    | QuestionAnswered
)

_encoder = msgspec.msgpack.Encoder(order="deterministic")


@functools.cache
def _decoder() -> msgspec.msgpack.Decoder[Event]:
    # When first needed, as those of other structs: reading the types of all events takes longer than a small run.
    return msgspec.msgpack.Decoder(Event)


def encode_event(event: Event) -> bytes:
    """Return the canonical bytes of an event."""
    return _encoder.encode(event)


def decode_event(data: bytes) -> Event:
    """Read the bytes of an event.

    Raises:
        msgspec.DecodeError: They are no event of a known format.
    """
    try:
        return _decoder().decode(data)
    except UnicodeDecodeError as error:  # msgspec's own error for text that is no UTF-8 is another than for the rest
        raise msgspec.DecodeError(str(error)) from error
