"""A stored value as people see it: its name, what it is, and how to load it."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cupola import client
from cupola.client.connect import Connection
from cupola.client.shown import Shown, decoded, local_time
from cupola.entities.artifact import VersionRecord
from cupola.text import printable, size

if TYPE_CHECKING:
    from cupola.client.lineage import Lineage


class StoredVersion(Shown):
    """A stored value: all that is known of a version but the steps around it.

    Attributes:
        record: The record as the store has it.
    """

    __slots__ = ("_connection", "record")

    def __init__(self, connection: Connection, record: VersionRecord) -> None:
        self._connection = connection
        self.record = record

    @property
    def id(self) -> str:
        """The id: run, step and place."""
        return self.record.id

    @property
    def name(self) -> str:
        """The name of the artifact."""
        return self.record.artifact

    @property
    def version(self) -> str:
        """The version's number or name; empty until the store has given one."""
        return self.record.version

    @property
    def ref(self) -> str:
        """What names the version: `name:version`."""
        return client.describe.version_name(self.record)

    @property
    def type(self) -> str:
        """The type of the value, for people."""
        return self.record.manifest.type

    @property
    def digest(self) -> str:
        """The identity of the value: equal for equal values."""
        return self.record.manifest.digest

    @property
    def size(self) -> int:
        """The size of what is stored, in bytes."""
        return self.record.manifest.size_bytes

    @property
    def kind(self) -> str:
        """What the artifact is for people, such as `model`; empty when not said."""
        return self.record.kind

    @property
    def tags(self) -> list[str]:
        """The tags."""
        return list(self.record.tags)

    @property
    def metadata(self) -> dict[str, Any]:
        """The metadata by key."""
        return decoded(self.record.metadata)

    @property
    def created_at(self) -> datetime.datetime | None:
        """When it was made."""
        return local_time(self.record.created_at)

    def load(self, as_type: Any = None, *, lazy: bool = False, allow_pickle: bool = False) -> Any:
        """Return the value.

        Args:
            as_type: The type to load it as; the one it was stored as when None.
            lazy: Leave the bytes where they are until they are used. Arrays and tables are always loaded so, mapped
                into private memory; values of other types are small enough to be loaded at once.
            allow_pickle: Whether a pickled value may be loaded, which runs code that came with it.

        Raises:
            Damaged: What is stored is missing or isn't what was written.
            MaterializerError: It can't be loaded so.
        """
        del lazy  # what it asks for is what each materializer does anyway
        return client.stored.load_version(self._connection, self.record, as_type, allow_pickle=allow_pickle)

    def preview(self) -> str:
        """Return a short text about the value, made without loading any class of yours."""
        return client.stored.preview_version(self._connection, self.record)

    def download(self, path: str | Path) -> Path:
        """Write the value to a file or folder and return its path.

        Plain values become JSON where it says all of them and msgpack elsewhere, arrays `.npy`, tables Arrow files;
        the endings `.json`, `.msgpack`, `.arrow` and `.parquet` ask for one of them. A value with arrays or the like
        inside becomes a folder with a file for each.

        Raises:
            Conflict: Something is there already.
            MaterializerError: It can't be written in the form that the ending asks for.
        """
        return client.stored.download_version(self._connection, self.record, Path(path))

    @property
    def file_name(self) -> str:
        """A plain name for a download, with the ending of its form."""
        return client.stored.default_file_name(self._connection, self.record)

    def lineage(self) -> Lineage:
        """Return the steps and versions that this one was made from."""
        return client.lineage.trace_lineage(self._connection, self.record)

    def __repr__(self) -> str:
        return f"<ArtifactVersion {printable(self.ref)} {printable(self.type)}, {size(self.size)}>"
