"""The client: what is recorded, by resource, with the same verbs for each."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Generic, TypeVar

from cupola import values
from cupola.client.connect import Connection, connect
from cupola.client.reading import RunReader
from cupola.client.search import count_matches, iterate, search
from cupola.client.summaries import Artifact, PipelineView
from cupola.client.views import ArtifactVersion, Run, StepRun
from cupola.entities.run import RunRecord, StepRecord
from cupola.ids import new_id
from cupola.store import OWNER, Delete, Update

V = TypeVar("V")


class Resource(Generic[V]):
    """What can be asked of one kind of thing.

    Filters are the fields of the kind (`status="failed"`, a list for one of several), `since` and `until` (a date, or
    how long ago: `"2d"`), `tag`, and `metadata` (`"accuracy>0.9"`, or a dict of equal values).
    """

    def __init__(self, kind: str, show: Callable[[Connection, Any], V]) -> None:
        self._kind = kind
        self._show = show

    def list(self, *, sort: str = "", limit: int | None = 20, **filters: Any) -> builtins.list[V]:
        """Return what matches, newest first.

        Args:
            sort: Another order, such as `"-started"` or `"name"`.
            limit: Largest number; all when None.
            **filters: See the class.

        Raises:
            ConfigError: There is no such filter or order; the message names the nearest.
        """
        connection = connect()
        found, _more = search(connection.store, self._kind, filters, sort=sort, limit=limit)
        return [self._show(connection, record) for record in found]

    def iter(self, *, sort: str = "", **filters: Any) -> Iterator[V]:
        """Yield all that matches, a page in memory at a time."""
        connection = connect()
        for record in iterate(connection.store, self._kind, filters, sort=sort):
            yield self._show(connection, record)

    def count(self, **filters: Any) -> int:
        """Return how many match, up to 10 000."""
        return count_matches(connect().store, self._kind, filters)

    def get(self, ref: str) -> V:
        """Return the one that a ref means: an id, a unique beginning of one, or a name.

        Raises:
            NotFound: Nothing is called like that.
            Ambiguous: Several are; the message lists them.
        """
        connection = connect()
        return self._show(connection, connection.store.get(self._kind, ref, who=OWNER))

    def delete(self, ref: str) -> None:
        """Delete one and all that only it has.

        Raises:
            NotFound: Nothing is called like that.
            Conflict: It is still in use.
        """
        store = connect().store
        record = store.get(self._kind, ref, who=OWNER)
        store.write([Delete(self._kind, record.id)], key=new_id(), who=OWNER)

    def __repr__(self) -> str:
        return f"<{self._kind}s: list, iter, count, get, delete>"


class Tagged(Resource[V]):
    """A resource whose things have tags and metadata that people may change."""

    def update(
        self,
        ref: str,
        *,
        tags: Iterable[str] | None = None,
        add_tags: Iterable[str] = (),
        remove_tags: Iterable[str] = (),
        metadata: Mapping[str, Any] | None = None,
    ) -> V:
        """Change one and return it as it is then.

        Args:
            ref: Which one.
            tags: All the tags that it shall have, instead of those it has.
            add_tags: Tags to add.
            remove_tags: Tags to take away.
            metadata: Values to set by key; a value of None takes the key away, other keys stay.
        """
        connection = connect()
        record = connection.store.get(self._kind, ref, who=OWNER)
        added, removed = set(map(str, add_tags)), set(map(str, remove_tags))
        if tags is not None:
            added |= set(map(str, tags))
            removed |= set(record.tags) - added
        changed = {
            key: None if value is None else values.encode(value, path=f"metadata[{key!r}]")
            for key, value in (metadata or {}).items()
        }
        change = Update(self._kind, record.id, tuple(sorted(added)), tuple(sorted(removed)), changed)
        connection.store.write([change], key=new_id(), who=OWNER)
        return self._show(connection, connection.store.get(self._kind, record.id, who=OWNER))


class Artifacts:
    """Artifacts by name, and their versions: `name:3`, and `name` or `name:latest` for the newest."""

    def __init__(self) -> None:
        self._names = Resource("artifact", Artifact)
        self._versions = Tagged("version", ArtifactVersion)

    def list(self, *, sort: str = "", limit: int | None = 20, **filters: Any) -> builtins.list[Artifact]:
        """Return the artifacts that match, newest first; see `Resource.list`."""
        return self._names.list(sort=sort, limit=limit, **filters)

    def iter(self, *, sort: str = "", **filters: Any) -> Iterator[Artifact]:
        """Yield all artifacts that match."""
        return self._names.iter(sort=sort, **filters)

    def count(self, **filters: Any) -> int:
        """Return how many artifacts match, up to 10 000."""
        return self._names.count(**filters)

    def versions(
        self, name: str | None = None, *, sort: str = "", limit: int | None = None, **filters: Any
    ) -> builtins.list[ArtifactVersion]:
        """Return the versions of an artifact, or of all when no name is given, newest first.

        Raises:
            NotFound: There is no artifact of this name.
        """
        if name is not None:
            filters["artifact"] = self._names.get(name).name
        return self._versions.list(sort=sort, limit=limit, **filters)

    def get(self, ref: str) -> ArtifactVersion:
        """Return a version.

        Raises:
            NotFound: Nothing is called like that.
            Ambiguous: Several are; the message lists them.
        """
        return self._versions.get(ref)

    def update(self, ref: str, **changes: Any) -> ArtifactVersion:
        """Change tags and metadata of a version; the arguments are those of `Tagged.update`."""
        return self._versions.update(ref, **changes)

    def delete(self, ref: str) -> None:
        """Delete a version (`name:3`), or by its bare name an artifact with all its versions."""
        names = [artifact.name for artifact in self._names.list(name=ref, limit=1)]
        (self._names if ref in names else self._versions).delete(ref)

    def __repr__(self) -> str:
        return "<artifacts: list, iter, count, versions, get, update, delete>"


class Client:
    """What is recorded on this machine, or where `CUPOLA_HOME` says.

    Example:
        >>> client = Client()  # doctest: +SKIP
        >>> client.runs.list(status="failed", since="2d")  # doctest: +SKIP
        [<Run training-3f2a01 failed, 4 steps, 2.1 s>]

    Attributes:
        runs: The runs.
        steps: The steps of all runs.
        pipelines: The pipelines.
        artifacts: The artifacts and their versions.
    """

    def __init__(self) -> None:
        self.runs = Tagged("run", _show_run)
        self.steps = Tagged("step", _show_step)
        self.pipelines = Resource("pipeline", PipelineView)
        self.artifacts = Artifacts()

    def __repr__(self) -> str:
        return "<Client: runs, steps, pipelines, artifacts>"


def _show_run(connection: Connection, record: RunRecord) -> Run:
    return Run(RunReader(connection, record.id, record))


def _show_step(connection: Connection, record: StepRecord) -> StepRun:
    return StepRun(RunReader(connection, record.run), record.position, record)
