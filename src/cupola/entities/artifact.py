"""What is recorded of a value: its manifest, and the output that carries it."""

import msgspec

INLINE_BYTES = 4096
"""Values up to this size, in bytes, travel inside the event; larger ones are blobs."""


class StoredFile(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One file of a stored value.

    Attributes:
        path: Relative POSIX path inside the value's folder; `""` for the only file of a value.
        blob: Digest of the content, which names the blob; for a link its target instead.
        size_bytes: Length of the content.
        kind: `f` file, `x` executable file, `d` empty folder, `l` link inside the folder.
    """

    path: str
    blob: str
    size_bytes: int
    kind: str = "f"


class Manifest(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """How a value is stored. It names a registered materializer by id and never an import path.

    Attributes:
        materializer: Id of the materializer, such as `value`, `numpy`, `pandas`.
        format: Format number of what that materializer wrote.
        type: The value's type for people, such as `pandas.DataFrame`.
        digest: Identity of the value: equal exactly for values that are equal in type and content (law 4).
        size_bytes: Size of what is stored.
        inline: The stored bytes themselves when small and in one piece, else None.
        files: The blobs, when not inline.
        stable: False when the materializer can't promise equal digests for equal values.
        spec: What the materializer needs to load, encoded by itself (such as dtype and shape).
    """

    materializer: str
    format: int
    type: str
    digest: str
    size_bytes: int
    inline: bytes | None = None
    files: tuple[StoredFile, ...] = ()
    stable: bool = True
    spec: bytes = b""


class OutputRecord(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One value that a step produced: an output, or something it saved by name.

    Attributes:
        name: Name of the output within the step; for a saved artifact the artifact's name.
        artifact: Name of the artifact that the version belongs to.
        manifest: How the value is stored.
        metadata: Metadata of the version by key, each value encoded by `values.encode`.
        tags: Tags of the version.
        saved: True for what `save_artifact` or `register_artifact` made, False for an output.
        version: A version named by the user, else empty: then the store gives the next number.
        kind: Kind of artifact for people: `data`, `model`, `metrics`, `report`, …; empty when not said.
    """

    name: str
    artifact: str
    manifest: Manifest
    metadata: dict[str, bytes] = {}
    tags: tuple[str, ...] = ()
    saved: bool = False
    version: str = ""
    kind: str = ""


class VersionRecord(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A version of an artifact as the store knows it.

    Attributes:
        id: `<run id>.<step position>.<place among the step's outputs>`.
        artifact: Name of the artifact; `version` its number or name.
        run, step, position: Who made it, and at which place among that step's outputs.
        output: Name of the output, or of the saved artifact.
        manifest: How it is stored.
        metadata: Metadata by key, encoded.
        created_at: Seconds since 1970.
        saved: True for what was saved by name inside a step.
        number: Place among the artifact's versions; newer ones have larger numbers.
    """

    id: str
    artifact: str
    version: str
    project: str
    run: str
    step: int
    position: int
    output: str
    manifest: Manifest
    metadata: dict[str, bytes] = {}
    tags: tuple[str, ...] = ()
    created_at: float = 0.0
    saved: bool = False
    kind: str = ""
    number: int = 0


class ArtifactRecord(msgspec.Struct, frozen=True, kw_only=True):
    """An artifact as the store knows it: a name with versions."""

    id: str
    name: str
    project: str
    created_at: float
    versions: int
    latest: str
