"""The snapshot: the graph of one run as immutable bytes.

Made by the compiler from Python, read by everything else. It holds what to run and nothing of where or when: no line
numbers, no absolute paths, no host, no commit. Its id is the digest of its bytes, so equal programs with equal
parameters have one snapshot. The bytes are stored and hashed as they are and never written again from the struct.
"""

# No `annotations` from `__future__`: msgspec would compile each one when a decoder is made, 3 ms of each start.

from collections.abc import Mapping
from typing import TypeVar

import msgspec

from cupola import digest
from cupola.entities.artifact import Manifest

FORMAT = 1
T = TypeVar("T")

# None of these structs can be part of a cycle, and there are as many as steps: `gc=False` keeps them out of the
# collector's lists, which would otherwise be walked again and again while a large graph runs.


class Literal(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="literal"):
    """An input known when the pipeline is compiled.

    Attributes:
        value: The value as `values.encode` writes it.
    """

    value: bytes


class FromStep(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="output"):
    """An input that is an output of an earlier step.

    Attributes:
        step: Position of that step in `Snapshot.steps`.
        output: Name of its output.
    """

    step: int
    output: str


class Gather(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="gather"):
    """An input that is a list, tuple or dict with outputs inside.

    Attributes:
        kind: `list`, `tuple` or `dict`.
        items: The parts, in order.
        keys: The keys of a dict, encoded by `values.encode`, in order; empty for the others.
    """

    kind: str
    items: "tuple[Literal | FromStep | Gather | Collect, ...]"
    keys: tuple[bytes, ...] = ()


class Collect(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="collect"):
    """An input that is a list of what all children of a mapped step put out, in the order of the items.

    Attributes:
        step: Position of the mapped step.
        output: Name of the children's output.
        allow_failures: Whether children that failed are left out; otherwise one is enough to have no list at all.
    """

    step: int
    output: str
    allow_failures: bool = False


Source = Literal | FromStep | Gather | Collect


class Fan(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """How a step is mapped: it runs once for each item, or each combination of items, of some of its inputs.

    Attributes:
        kind: `map` takes the items side by side, `product` each with each, the last input changing fastest;
            `child` is one of the runs, whose inputs named here are single items.
        over: Names of the inputs that are spread: a `Gather` or `Collect` by its parts, else a list that a step makes.
        batch: How many children are handed to a worker at once.
    """

    kind: str
    over: tuple[str, ...]
    batch: int = 1


def child_name(name: str, index: int) -> str:
    """Return the name of one of the children of a mapped step."""
    return f"{name}[{index}]"


def split_child_name(name: str) -> tuple[str, int] | None:
    """Return the mapped step and the place of a child that its name says; None for a name of another form.

    Example:
        >>> split_child_name("prepare/fit[3]"), split_child_name("fit")
        (('prepare/fit', 3), None)
    """
    parent, bracket, number = name.removesuffix("]").rpartition("[")
    is_child = bracket and name.endswith("]") and number.isdecimal() and number == str(int(number))
    return (parent, int(number)) if is_child else None


class OutputSpec(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One declared output of a step.

    Attributes:
        name: Name of the output, unique within the step.
        type: The annotation as text, for people.
        artifact: Name of the artifact that its versions belong to.
        materializer: Id of a materializer chosen by the user, else empty.
        version: Version named by the user, else empty.
        tags: Tags of each version.
        metadata: Metadata of each version, values encoded.
        kind: Kind of artifact for people.
    """

    name: str
    type: str
    artifact: str
    materializer: str = ""
    version: str = ""
    tags: tuple[str, ...] = ()
    metadata: dict[str, bytes] = {}
    kind: str = ""


class CodePart(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One thing that a step's result depends on by its code; the leaves of the cache key, so that a miss can be named.

    Attributes:
        kind: `function`, `class`, `constant`, `default`, `closure`, `decorator`, `module`, `library`, `python`.
        name: `module:qualname` of a definition, `name` of a library.
        digest: Digest of the part alone.
        text: What people can compare: a value, a version; empty for definitions.
    """

    kind: str
    name: str
    digest: str
    text: str = ""


class StepOptions(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """The options of one step as they hold in this run, as plain data.

    Attributes:
        cache: Whether results of earlier runs may be used and this one's may be used later.
        cache_*: The parts of the cache policy; `cache_key_value` is what the user's key function returned, encoded.
        attempts, delay, backoff, jitter, max_delay, retry_on: The retry policy; exception classes as `module.Name`.
        timeout_s: Limit of one attempt in seconds.
        env: Environment variables of the step.
        requirements: Lines of requirements; `-r PATH`, relative to the source root, stands for the content of a file.
        resources, image, secrets, model, orchestrator: Checked and kept, not carried out.
        hooks: Names of the hooks by event, for people.
        settings: Settings of components.
    """

    cache_read: bool = True
    cache_write: bool = True
    cache_code: bool = True
    cache_ignore: tuple[str, ...] = ()
    cache_files: tuple[str, ...] = ()
    cache_env: tuple[str, ...] = ()
    cache_key: bytes | None = None
    cache_expires_s: float | None = None
    cache_verify: float = 0.0
    attempts: int = 1
    delay: float = 1.0
    backoff: float = 2.0
    jitter: float = 0.1
    max_delay: float = 60.0
    retry_on: tuple[str, ...] = ()
    timeout_s: float | None = None
    env: dict[str, str] = {}
    resources: bytes = b""
    image: bytes = b""
    secrets: dict[str, str] = {}
    requirements: tuple[str, ...] = ()
    model: bytes = b""
    orchestrator: str = ""
    hooks: dict[str, str] = {}
    settings: bytes = b""


class StepSpec(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One step of the graph.

    Attributes:
        name: Invocation name, unique in the run, such as `fit_2` or `prepare/fit`.
        source: `module:qualname` of the function, the module relative to the source root.
        code: Positions in `Snapshot.parts` of all that the step's code reaches, sorted.
        code_digest: Digest of those parts; empty when the code can't be hashed.
        uncacheable: Why the step can't be cached although it was asked to; empty otherwise.
        inputs: The wiring by parameter name, in the order of the signature, defaults included.
        outputs: The declared outputs.
        after: Positions of the steps that must be over before, without data.
        options: Position in `Snapshot.options`.
        base_key: Digest of everything that decides the result but the outputs of earlier steps; empty when uncacheable.
        fan: How the step is mapped; None for an ordinary one.
    """

    name: str
    source: str
    code: tuple[int, ...]
    code_digest: str
    uncacheable: str
    inputs: dict[str, Source]
    outputs: tuple[OutputSpec, ...]
    after: tuple[int, ...]
    options: int
    base_key: str
    fan: Fan | None = None


class RunOutput(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One value that the pipeline function returned, under its name."""

    name: str
    source: Source


class Addition(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A step that a dynamic pipeline called, with what the tables of its snapshot gain by it.

    Attributes:
        spec: The step; its inputs are done.
        key: Digest of all that the call is: who makes it, which step, with what; equal calls have one.
        number: How many equal calls were made before.
        parts, places: Code parts that the table gains by their positions in it, and where they stand in the source.
        options: Options that the table gains, likewise.
        items: Items of lists that earlier steps made, stored one by one for this call: the step, the name under which
            the call reads the item, and the item.
    """

    spec: StepSpec
    key: str
    number: int
    parts: dict[int, CodePart] = {}
    places: dict[int, str] = {}
    options: dict[int, StepOptions] = {}
    items: tuple[tuple[int, str, Manifest], ...] = ()


class Snapshot(msgspec.Struct, frozen=True):
    """The graph of one run.

    Attributes:
        format: Format number of the bytes.
        pipeline: Name of the pipeline.
        source: `module:qualname` of the pipeline function.
        params: Bound parameters of the pipeline, encoded by `values.encode`.
        steps: The steps; each stands after all that it depends on.
        outputs: What the pipeline function returned.
        parts: All code parts that steps refer to by position.
        options: All step options that steps refer to by position.
        on_error: `stop`, `kill` or `continue`.
        tags: Tags of the run.
        description: First paragraph of the pipeline's description.
        python: `major.minor` of the interpreter that compiled it.
        settings: Settings of components, encoded.
        dynamic: Digest of the code of a pipeline that calls its steps while it runs; empty for a static one. Such a
            snapshot begins without steps, and the run's events add them.
    """

    pipeline: str
    source: str
    params: dict[str, bytes]
    steps: tuple[StepSpec, ...]
    outputs: tuple[RunOutput, ...] = ()
    parts: tuple[CodePart, ...] = ()
    options: tuple[StepOptions, ...] = ()
    on_error: str = "stop"
    tags: tuple[str, ...] = ()
    description: str = ""
    python: str = ""
    settings: bytes = b""
    dynamic: str = ""
    format: int = FORMAT

    @property
    def id(self) -> str:
        """The digest of the bytes."""
        return snapshot_id(self.to_bytes())

    def to_bytes(self) -> bytes:
        """Return the canonical bytes; for those that are stored already, use these."""
        return encode_snapshot(self)


_encoder = msgspec.msgpack.Encoder(order="deterministic")


def encode_snapshot(snapshot: Snapshot) -> bytes:
    """Return the canonical bytes of a snapshot."""
    return _encoder.encode(snapshot)


def decode_snapshot(data: bytes) -> Snapshot:
    """Read the bytes of a snapshot."""
    return msgspec.msgpack.decode(data, type=Snapshot)


def in_order(table: Mapping[int, T]) -> tuple[T, ...]:
    """Return the entries of a table that grew, in the order of their positions."""
    return tuple([table[position] for position in sorted(table)])


def encode_addition(addition: Addition) -> bytes:
    """Return the bytes of what a dynamic pipeline added."""
    return msgspec.msgpack.encode(addition)  # keys that are numbers have no order to be written in


def decode_addition(data: bytes) -> Addition:
    """Read the bytes of what a dynamic pipeline added."""
    return msgspec.msgpack.decode(data, type=Addition)


def encode_outputs(outputs: tuple[RunOutput, ...]) -> bytes:
    """Return the bytes of what a dynamic pipeline returned."""
    return _encoder.encode(outputs)


def decode_returned(data: bytes) -> tuple[RunOutput, ...]:
    """Read the bytes of what a dynamic pipeline returned."""
    return msgspec.msgpack.decode(data, type=tuple[RunOutput, ...])


class _Returned(msgspec.Struct, frozen=True):
    """The part of a snapshot that says what the pipeline function returned."""

    outputs: tuple[RunOutput, ...] = ()


def decode_outputs(data: bytes) -> tuple[RunOutput, ...]:
    """Read of the bytes of a snapshot what the pipeline function returned, and pass over its steps."""
    return msgspec.msgpack.decode(data, type=_Returned).outputs


def snapshot_id(data: bytes) -> str:
    """Return the id of a snapshot: the digest of its bytes."""
    return digest.snapshot(data)
