"""What the driver, its nursery and its workers say to each other: messages, each with its length before it.

Values are never in them: what is larger than an event may hold is in the blob store, and a manifest names it.
"""

# No `annotations` from `__future__`: msgspec would compile each one when a decoder is made.

import functools
import importlib
import os
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from cupola.context import PipelineInfo, Recorded, RunInfo
from cupola.entities.artifact import Manifest, OutputRecord
from cupola.entities.run import Failure, StepStatus
from cupola.event import Usage
from cupola.snapshot import StepOptions, StepSpec

# The public module brings `selectors` and `enum`s of all constants, 7 ms; this is what it is made of.
socket: Any = importlib.import_module("_socket")
LINK_LOST = 71
"""Exit code of a worker whose step closed the descriptor that leads to the driver."""
_LENGTH_BYTES = 4


class Setup(msgspec.Struct, frozen=True, array_like=True):
    """What all workers of a run begin with.

    Attributes:
        run, pipeline: What steps may ask about them.
        folder: The run's folder, where the logs are.
        home, root, project, sync: As in `engine.site.Site`.
        path: What `sys.path` is; empty leaves it as the interpreter made it.
        argv: What `sys.argv` is.
        program, program_root: The program's file and its source root; empty if it has none.
    """

    run: RunInfo
    pipeline: PipelineInfo
    folder: str
    home: str
    root: str
    project: str
    sync: bool
    path: tuple[str, ...]
    argv: tuple[str, ...]
    program: str
    program_root: str


# From the driver to the nursery.


class Fork(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Make a worker; a descriptor comes along, its end of the link to the driver. `env` is added to its environment."""

    number: int
    env: Mapping[str, str]


class End(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """End a worker, which may be dead already, and all that it started since a time in ticks since the boot."""

    pid: int
    grace_s: float
    since: int


class Close(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """End all processes, then yourself."""

    grace_s: float


# From the nursery to the driver.


class Born(msgspec.Struct, frozen=True, array_like=True, tag=11):
    """A worker was made."""

    number: int
    pid: int


class Died(msgspec.Struct, frozen=True, array_like=True, tag=12):
    """A worker ended; the rest is as in `processes.Reaped`."""

    pid: int
    exit_code: int
    signal: str
    cpu_s: float
    peak_bytes: int


class Ended(msgspec.Struct, frozen=True, array_like=True, tag=13):
    """A worker and all that it started are gone, as `End` asked."""

    pid: int


# From the driver to a worker.


class Recipe(msgspec.Struct, frozen=True, array_like=True, tag=21):
    """How a worker gets the function of a step; sent once to each worker.

    Attributes:
        key: What orders call it.
        source: `module:qualname` as records name it, for errors.
        module, file, qualname: Where to import it from; empty when it is sent by value.
        code_digest: What its code must add up to after import; empty when that can't be told.
        retry_on: Names of the exceptions that are worth another attempt.
        pickled: The `LiveStep` by value; in the blob `blob` when it is large.
    """

    key: int
    source: str
    module: str = ""
    file: str = ""
    qualname: str = ""
    code_digest: str = ""
    retry_on: tuple[str, ...] = ()
    pickled: bytes = b""
    blob: str = ""


class Order(msgspec.Struct, frozen=True, array_like=True, tag=22):
    """Run one attempt; fields as in `worker.Task` and `LiveStep`, `recipe` is the key of the recipe."""

    position: int
    recipe: int
    spec: StepSpec
    options: StepOptions
    attempt: int
    tries: int
    manifests: tuple[tuple[int, str, Manifest], ...]
    env: Mapping[str, str]
    files: Mapping[str, str]


# From a worker to the driver.


class Begun(msgspec.Struct, frozen=True, array_like=True, tag=31):
    """The step's function is about to be called; said for steps with a timeout, which counts from here."""

    position: int


class Unlike(msgspec.Struct, frozen=True, array_like=True, tag=32):
    """The code of a step's function isn't what was compiled: its parts as `(kind, name, digest)`."""

    recipe: int
    parts: tuple[tuple[str, str, str], ...]


class Done(msgspec.Struct, frozen=True, array_like=True, tag=33):
    """What became of an attempt; as in `worker.Outcome`.

    Attributes:
        recorded: None when nothing was recorded.
        error: The exception, as `carried.pack` makes it.
        log_end: Where the worker's log ends now.
        is_timeout: Whether the step was stopped by its timeout.
    """

    position: int
    status: StepStatus
    outputs: tuple[OutputRecord, ...]
    recorded: Recorded | None
    usage: Usage
    failure: Failure | None
    error: bytes
    again_after_s: float | None
    log_end: int
    is_timeout: bool


ToNursery = Fork | End | Close
FromNursery = Born | Died | Ended
ToWorker = Recipe | Order
FromWorker = Begun | Unlike | Done

_encoder = msgspec.msgpack.Encoder()


@functools.cache
def decoder(messages: Any) -> msgspec.msgpack.Decoder[Any]:
    """Return what reads a union of messages, such as `ToWorker`."""
    return msgspec.msgpack.Decoder(messages)


def frame(message: msgspec.Struct) -> bytes:
    """Return the bytes of a message with their length before them."""
    data = _encoder.encode(message)
    return len(data).to_bytes(_LENGTH_BYTES, "little") + data


def cut_frames(buffer: bytearray) -> Iterator[bytes]:
    """Take the whole messages that a buffer begins with out of it."""
    while len(buffer) >= _LENGTH_BYTES:
        end = _LENGTH_BYTES + int.from_bytes(buffer[:_LENGTH_BYTES], "little")
        if len(buffer) < end:
            return
        data = bytes(buffer[_LENGTH_BYTES:end])
        del buffer[:end]
        yield data


def write_all(file: int, data: bytes) -> None:
    """Write all bytes, waiting where the other side is slow to read.

    Raises:
        OSError: The other side is gone.
    """
    written = os.write(file, data)
    while written < len(data):
        written += os.write(file, memoryview(data)[written:])
