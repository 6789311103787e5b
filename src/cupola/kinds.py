"""The table of kinds: what a store keeps, and what can be asked of each.

A kind knows none of its readers: columns of a listing and pages are tables of theirs.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from cupola.entities.artifact import ArtifactRecord, VersionRecord
from cupola.entities.run import PipelineRecord, RunRecord, StepRecord
from cupola.errors import ConfigError
from cupola.store import Operator

EXACT: tuple[Operator, ...] = ("eq", "ne", "in")
ORDERED: tuple[Operator, ...] = ("eq", "ne", "lt", "le", "gt", "ge")
NAMED: tuple[Operator, ...] = ("eq", "ne", "in", "starts")
SEARCHED: tuple[Operator, ...] = (*NAMED, "contains")


class Field(msgspec.Struct, frozen=True):
    """Something of a kind that conditions may name.

    Attributes:
        name: What it is called in queries.
        type: `text`, `number` or `time` (seconds since 1970).
        ops: The operators it has.
        column: `table.column` in the database.
        index: Index of the database that finds few rows by it; empty where only a walk in order does.
        help: What it is.
    """

    name: str
    type: Literal["text", "number", "time"]
    ops: tuple[Operator, ...]
    column: str
    index: str
    help: str


class Sort(msgspec.Struct, frozen=True):
    """A declared order of a kind.

    Attributes:
        name: What it is called in queries.
        columns: Columns of the database, most significant first; unique together.
        index: Index that holds the order, empty for the table's own key.
        within: Field that must be fixed by an `eq` condition for this order to exist.
    """

    name: str
    columns: tuple[str, ...]
    index: str = ""
    within: str = ""


class Kind(msgspec.Struct, frozen=True):
    """A kind of entity.

    Attributes:
        name: Singular, as in queries.
        struct: What a store hands out.
        table: Table of the database.
        key: Columns that identify a row.
        fields: What conditions may name.
        sorts: Declared orders; the first whose `within` is fixed is the default, newest first.
        relations: `tag` (field `name`) and `metadata` (fields `key`, `value`), where the kind has them.
        refs: How one is named, for help and error messages.
        deletable: Whether `Delete` works.
    """

    name: str
    struct: type[Any]
    table: str
    key: tuple[str, ...]
    fields: tuple[Field, ...]
    sorts: tuple[Sort, ...]
    relations: tuple[str, ...]
    refs: str
    deletable: bool = True

    def field(self, name: str) -> Field:
        """Return a field by name; raises `ConfigError` naming those there are."""
        for field in self.fields:
            if field.name == name:
                return field
        known = ", ".join(field.name for field in self.fields)
        raise ConfigError(f"{self.name}s have no field {name!r}", fix=f"use one of: {known}")

    def sort(self, name: str) -> Sort:
        """Return a declared order by name; raises `ConfigError` naming those there are."""
        for sort in self.sorts:
            if sort.name == name:
                return sort
        known = ", ".join(sort.name for sort in self.sorts)
        raise ConfigError(f"{self.name}s can't be sorted by {name!r}", fix=f"use one of: {known}")


_PIPELINE = Field("pipeline", "text", ("eq",), "pipeline.name", "run_pipeline", "Name of the pipeline.")
_PROJECT = Field("project", "text", ("eq",), "pipeline.project", "", "Name of the project.")

RUN = Kind(
    "run",
    RunRecord,
    "run",
    ("run.number",),
    (
        Field("id", "text", NAMED, "run.id", "run_id", "Id of the run."),
        Field("name", "text", NAMED, "run.name", "run_name", "Name of the run."),
        Field("status", "text", EXACT, "run.status", "run_status", "State of the run."),
        _PIPELINE,
        _PROJECT,
        Field("snapshot", "text", EXACT, "run.snapshot", "run_snapshot", "Id of the snapshot."),
        Field("started", "time", ORDERED, "run.started_at", "run_started", "When it started."),
        Field("ended", "time", ORDERED, "run.ended_at", "run_ended", "When it ended."),
        Field("number", "number", ORDERED, "run.number", "", "Place in the order of the store."),
    ),
    (
        Sort("number", ("run.number",)),
        Sort("started", ("run.started_at", "run.number"), "run_started"),
        Sort("name", ("run.name", "run.number"), "run_name"),
    ),
    ("tag", "metadata"),
    "an id, the beginning of one, or a name",
)
STEP = Kind(
    "step",
    StepRecord,
    "step",
    ("step.run", "step.position"),
    (
        Field("run", "text", ("eq",), "run.id", "run_id", "Id of the run."),
        Field("name", "text", NAMED, "step.name", "", "Invocation name."),
        Field("status", "text", EXACT, "step.status", "step_unusual", "State of the step."),
        _PIPELINE,
        _PROJECT,
        Field("started", "time", ORDERED, "step.started_at", "", "When its first attempt started."),
        Field("ended", "time", ORDERED, "step.ended_at", "", "When it ended."),
        Field("position", "number", ORDERED, "step.position", "", "Position in the snapshot."),
    ),
    (Sort("number", ("run.number", "step.position")),),
    ("tag", "metadata"),
    "`RUN/NAME` or `RUN.POSITION`",
)
VERSION = Kind(
    "version",
    VersionRecord,
    "version",
    ("version.run", "version.step", "version.position"),
    (
        Field("artifact", "text", ("eq",), "artifact.name", "version_number", "Name of the artifact."),
        Field("project", "text", ("eq",), "artifact.project", "", "Name of the project."),
        Field("run", "text", ("eq",), "run.id", "run_id", "Id of the run that made it."),
        Field("step", "number", ORDERED, "version.step", "", "Position of the step that made it."),
        Field("output", "text", NAMED, "version.output", "", "Name of the output."),
        Field("digest", "text", NAMED, "version.digest", "", "Digest of the value."),
        Field("kind", "text", EXACT, "version.kind", "", "Kind of artifact for people."),
        Field("size", "number", ORDERED, "version.size_bytes", "", "Size in bytes."),
        Field("created", "time", ORDERED, "version.created_at", "", "When it was made."),
    ),
    (
        Sort("version", ("version.number",), "version_number", "artifact"),
        Sort("number", ("version.run", "version.step", "version.position")),
    ),
    ("tag", "metadata"),
    "`NAME:VERSION`, `NAME` for the newest, or `NAME@DIGEST`",
)
ARTIFACT = Kind(
    "artifact",
    ArtifactRecord,
    "artifact",
    ("artifact.key",),
    (
        Field("name", "text", SEARCHED, "artifact.name", "artifact_name", "Name of the artifact."),
        Field("project", "text", ("eq",), "artifact.project", "", "Name of the project."),
        Field("created", "time", ORDERED, "artifact.created_at", "", "When its first version was made."),
    ),
    (Sort("number", ("artifact.key",)), Sort("name", ("artifact.name", "artifact.project"), "artifact_name")),
    (),
    "a name or the beginning of one",
)
PIPELINE = Kind(
    "pipeline",
    PipelineRecord,
    "pipeline",
    ("pipeline.key",),
    (
        Field("name", "text", SEARCHED, "pipeline.name", "pipeline_name", "Name of the pipeline."),
        Field("project", "text", ("eq",), "pipeline.project", "", "Name of the project."),
        Field("created", "time", ORDERED, "pipeline.created_at", "", "When its first run started."),
    ),
    (Sort("number", ("pipeline.key",)), Sort("name", ("pipeline.name", "pipeline.project"), "pipeline_name")),
    (),
    "a name or the beginning of one",
)
KINDS = {kind.name: kind for kind in (RUN, STEP, VERSION, ARTIFACT, PIPELINE)}


def find_kind(name: str) -> Kind:
    """Return a kind by name; raises `ConfigError` naming those there are."""
    if name not in KINDS:
        raise ConfigError(f"there is no kind {name!r}", fix=f"use one of: {', '.join(KINDS)}")
    return KINDS[name]
