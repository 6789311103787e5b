"""What a database row holds besides its columns: the encoded part that is never filtered."""

# No `annotations` from `__future__`: msgspec would compile each one when a decoder is made, 3 ms of each start.

from functools import cached_property

import msgspec

from cupola import digest
from cupola.entities.artifact import OutputRecord
from cupola.entities.run import AttemptRecord, Failure
from cupola.errors import Damaged
from cupola.event import StepCached, StepFailed, StepFinished, StepRetrying, StepStarted, decode_event
from cupola.snapshot import FORMAT

Outcome = StepFinished | StepCached | StepFailed
RUN_LEVEL = (-1, -1)
"""Step and position in the key of what belongs to a whole run."""


class RunDetail(msgspec.Struct, array_like=True):
    """The encoded part of a run's row; fields as in `RunRecord`."""

    source: str
    params: dict[str, bytes] = {}
    facts: dict[str, str] = {}
    origins: dict[str, str] = {}
    failure: Failure | None = None
    failed_step: int = -1
    warnings: tuple[str, ...] = ()
    reason: str = ""
    blobs: dict[str, str] = {}


class StepDetail(msgspec.Struct, array_like=True, omit_defaults=True, gc=False):
    """The encoded part of a step's row: its events as the journal has them, and what the store found out besides.

    Attributes:
        source: Function of the step.
        events: All events of the step, encoded: its outputs and their values stand in them and nowhere else.
        loaded: Digests of versions that it loaded by itself.
        warnings: What the store refused it.
    """

    source: str = ""
    events: list[msgspec.Raw] = []
    loaded: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


class History(msgspec.Struct, frozen=True):
    """What the events of a step add up to: its attempts, oldest first, and how it ended, if it did."""

    attempts: tuple[AttemptRecord, ...]
    outcome: Outcome | None
    outputs: tuple[OutputRecord, ...] = ()
    """What the step made, by position: what it had made before it began anew in a resumed run stands first."""

    @property
    def inputs(self) -> dict[str, str]:
        """Digest of each input by parameter name."""
        return self.outcome.inputs if self.outcome else {}


class StepOutline(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What the store needs to know of a step of a snapshot; the rest of the fields is passed over."""

    name: str
    source: str
    code: msgspec.Raw
    code_digest: msgspec.Raw
    uncacheable: msgspec.Raw
    inputs: msgspec.Raw
    outputs: msgspec.Raw
    after: msgspec.Raw
    options: msgspec.Raw
    base_key: str


class _Outline(msgspec.Struct, frozen=True):
    # As they are: read one after the other, they don't stand in memory all at once.
    steps: list[msgspec.Raw]
    format: int = FORMAT


class StepNames(msgspec.Struct, frozen=True, dict=True):
    """Name, function and cache key of each step of a snapshot, by position."""

    names: tuple[str, ...]
    sources: tuple[str, ...]
    base_keys: tuple[str, ...]

    @cached_property
    def positions(self) -> dict[str, int]:
        """Return the position of each step by name."""
        return {name: position for position, name in enumerate(self.names)}


encode = msgspec.msgpack.Encoder().encode
decode_counts = msgspec.msgpack.Decoder(dict[str, int]).decode


def decode_run_detail(data: bytes) -> RunDetail:
    """Read what `encode` made of the details of a run."""
    return msgspec.msgpack.decode(data, type=RunDetail)


def decode_step_detail(data: bytes) -> StepDetail:
    """Read what `encode` made of the details of a step."""
    return msgspec.msgpack.decode(data, type=StepDetail)


def read_history(detail: StepDetail) -> History:
    """Return what the events of a step add up to."""
    attempts: list[AttemptRecord] = []
    outcome: Outcome | None = None
    made: list[OutputRecord] = []
    for data in detail.events:
        event = decode_event(data)
        match event:
            case StepStarted():
                place = (event.log, event.log)
                attempts.append(AttemptRecord(event.attempt, event.at, None, place, worker=event.worker))
            case StepRetrying():
                _end_attempt(attempts, event.at, event.log, event.failure)
            case StepFinished() | StepFailed():
                failure = event.failure if isinstance(event, StepFailed) else None
                _end_attempt(attempts, event.at, event.log, failure, event.told)
                made += event.saved if isinstance(event, StepFailed) else event.outputs
                outcome = event
            case StepCached():
                outcome = event
            case _:
                pass
    return History(tuple(attempts), outcome, tuple(made))


def _end_attempt(
    attempts: list[AttemptRecord],
    at: float,
    log: int,
    failure: Failure | None,
    told: tuple[tuple[int, int], ...] = (),
) -> None:
    last = attempts.pop() if attempts else AttemptRecord(1, at, None, (log, log))
    attempts.append(AttemptRecord(last.number, last.started_at, at, (last.log[0], log), failure, last.worker, told))


def outline(snapshot: str, data: bytes) -> StepNames:
    """Return what the store needs of a snapshot's bytes.

    Raises:
        Damaged: They are not the bytes of that snapshot.
    """
    if digest.snapshot(data) != snapshot:
        raise Damaged(f"the bytes of snapshot {snapshot} are not what they were", fix="run `cupola doctor store`")
    try:
        return _read_names(msgspec.msgpack.decode(data, type=_Outline).steps)
    except msgspec.DecodeError as error:
        raise Damaged(
            f"snapshot {snapshot} can't be read: {error}", fix="a newer Cupola may have written it"
        ) from error


def _read_names(steps: list[msgspec.Raw]) -> StepNames:
    read = msgspec.msgpack.Decoder(StepOutline).decode
    names: list[str] = []
    sources: list[str] = []
    base_keys: list[str] = []
    shared: dict[str, str] = {}  # many steps of a large graph are calls of one function
    for raw in steps:
        step = read(raw)
        names.append(step.name)
        sources.append(shared.setdefault(step.source, step.source))
        base_keys.append(shared.setdefault(step.base_key, step.base_key))
    return StepNames(tuple(names), tuple(sources), tuple(base_keys))
