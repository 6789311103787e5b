"""What a database row holds besides its columns: the encoded part that is never filtered."""

# No `annotations` from `__future__`: msgspec would compile each one when a decoder is made, 3 ms of each start.

from functools import cached_property

import msgspec

from cupola import digest
from cupola.entities.run import AttemptRecord, Failure
from cupola.errors import Damaged
from cupola.snapshot import FORMAT

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


class StepDetail(msgspec.Struct, array_like=True, omit_defaults=True, gc=False):
    """The encoded part of a step's row; fields as in `StepRecord`, and `loaded`: digests of versions that it loaded."""

    source: str = ""
    attempts: list[AttemptRecord] = []
    inputs: dict[str, str] = {}
    cpu_s: float = 0.0
    peak_bytes: int = 0
    uncacheable: str = ""
    warnings: tuple[str, ...] = ()
    metrics: tuple[tuple[str, float, float], ...] = ()
    failure: Failure | None = None
    from_run: str = ""
    from_step: int = -1
    saved_s: float = 0.0
    made_at: float = 0.0
    loaded: list[str] = []


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
    steps: tuple[StepOutline, ...]
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


def outline(snapshot: str, data: bytes) -> StepNames:
    """Return what the store needs of a snapshot's bytes.

    Raises:
        Damaged: They are not the bytes of that snapshot.
    """
    if digest.snapshot(data) != snapshot:
        raise Damaged(f"the bytes of snapshot {snapshot} are not what they were", fix="run `cupola doctor store`")
    try:
        steps = msgspec.msgpack.decode(data, type=_Outline).steps
    except msgspec.DecodeError as error:
        raise Damaged(
            f"snapshot {snapshot} can't be read: {error}", fix="a newer Cupola may have written it"
        ) from error
    return StepNames(
        tuple([step.name for step in steps]),
        tuple([step.source for step in steps]),
        tuple([step.base_key for step in steps]),
    )
