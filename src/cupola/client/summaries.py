"""What has versions or runs: artifacts by name, and pipelines."""

from __future__ import annotations

import datetime

from cupola.client.connect import Connection
from cupola.client.page import Page
from cupola.client.search import iterate
from cupola.client.shown import Shown, local_time
from cupola.client.views import ArtifactVersion, Run, open_run
from cupola.entities.artifact import ArtifactRecord
from cupola.entities.run import PipelineRecord
from cupola.store import OWNER
from cupola.text import count, moment, printable


class Artifact(Shown):
    """An artifact: a name with versions.

    Attributes:
        record: The record as the store has it.
    """

    __slots__ = ("_connection", "record")

    def __init__(self, connection: Connection, record: ArtifactRecord) -> None:
        self._connection = connection
        self.record = record

    @property
    def id(self) -> str:
        """The id."""
        return self.record.id

    @property
    def name(self) -> str:
        """The name."""
        return self.record.name

    @property
    def created_at(self) -> datetime.datetime | None:
        """When its first version was made."""
        return local_time(self.record.created_at)

    @property
    def versions(self) -> list[ArtifactVersion]:
        """Its versions, newest first."""
        found = iterate(self._connection.store, "version", {"artifact": self.name})
        return [ArtifactVersion(self._connection, record) for record in found]

    @property
    def latest(self) -> ArtifactVersion:
        """Its newest version."""
        return ArtifactVersion(self._connection, self._connection.store.get("version", self.name, who=OWNER))

    def page(self) -> Page:
        """Return what is worth saying of the artifact, as data."""
        facts = (
            ("versions", f"{self.record.versions}, newest {self.record.latest}"),
            ("first made", moment(self.record.created_at)),
        )
        return Page(f"Artifact {self.name}", facts)

    def __repr__(self) -> str:
        return f"<Artifact {printable(self.name)}, {count(self.record.versions, 'version')}>"


class PipelineView(Shown):
    """A pipeline: a name with runs.

    Attributes:
        record: The record as the store has it.
    """

    __slots__ = ("_connection", "record")

    def __init__(self, connection: Connection, record: PipelineRecord) -> None:
        self._connection = connection
        self.record = record

    @property
    def id(self) -> str:
        """The id."""
        return self.record.id

    @property
    def name(self) -> str:
        """The name."""
        return self.record.name

    @property
    def source(self) -> str:
        """The function, as `module:name`, as of its newest run."""
        return self.record.source

    @property
    def created_at(self) -> datetime.datetime | None:
        """When its first run began."""
        return local_time(self.record.created_at)

    @property
    def runs(self) -> int:
        """How many runs it has."""
        return self.record.runs

    @property
    def last_run(self) -> Run | None:
        """Its newest run; None when all were deleted."""
        return open_run(self.record.last_run, self._connection) if self.record.last_run else None

    def page(self) -> Page:
        """Return what is worth saying of the pipeline, as data."""
        facts = (
            ("function", self.source),
            ("runs", str(self.runs)),
            ("newest run", self.record.last_run),
            ("first run", moment(self.record.created_at)),
        )
        return Page(f"Pipeline {self.name}", facts)

    def __repr__(self) -> str:
        return f"<Pipeline {printable(self.name)}, {count(self.runs, 'run')}>"
