"""Where a run happens: its store, its blobs, its source root; and what steps may do with artifacts there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from cupola.artifacts.blobs import Blobs
from cupola.artifacts.materializer import load_value, store_value
from cupola.context import ArtifactAccess
from cupola.entities.artifact import Manifest, VersionRecord
from cupola.store import OWNER, Store


class Site(msgspec.Struct, frozen=True, kw_only=True):
    """Where a run happens.

    Attributes:
        home: Folder of the embedded store.
        root: Source root of the project.
        project: Name of the project.
        store: The open store.
        blobs: The blob store.
        sync: Whether each record is synced to the disk (`CUPOLA_DURABILITY=power`).
    """

    home: Path
    root: Path
    project: str
    store: Store
    blobs: Blobs
    sync: bool = False


def open_services(site: Site, project_events: Callable[[], None]) -> ArtifactAccess:
    """Return what steps may do with artifacts by name.

    Args:
        site: Where the run happens.
        project_events: Brings the store up to date with what this run recorded.
    """

    def find(name: str, version: str) -> VersionRecord:
        project_events()
        return site.store.get("version", f"{name}:{version or 'latest'}", who=OWNER)

    return artifact_access(site.home, site.blobs, find)


def artifact_access(home: Path, blobs: Blobs, find: Callable[[str, str], VersionRecord]) -> ArtifactAccess:
    """Return what steps may do with artifacts, where `find` returns the version of a name."""

    def store(value: Any, materializer: str, path: str) -> Manifest:
        return store_value(value, None, blobs, materializer=materializer, path=path)

    def load(manifest: Manifest, as_type: object, allow_pickle: bool) -> Any:
        return load_value(manifest, blobs, as_type, allow_pickle=allow_pickle)

    def uri(key: str) -> str:
        folder = home / "files" / key
        folder.mkdir(parents=True, exist_ok=True)
        return str(folder)

    return ArtifactAccess(store=store, find=find, load=load, uri=uri)
