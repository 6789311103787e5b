"""From settings to an open store: one connection per home, process and thread."""

from __future__ import annotations

import os
from _thread import get_ident
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from cupola import artifacts
from cupola.settings import home
from cupola.store import Store
from cupola.stores import sql

if TYPE_CHECKING:
    from cupola.artifacts.blobs import Blobs


class Connection:
    """An open store and what lies beside it.

    Attributes:
        home: The folder it is in.
        store: The store.
    """

    def __init__(self, folder: Path) -> None:
        self.home = folder
        self.store: Store = sql.open_store(folder, read_blob=lambda digest: self.blobs.open(digest).read_bytes())

    @cached_property
    def blobs(self) -> Blobs:
        """The blob store, which lists have no use for."""
        return artifacts.blobs.Blobs(self.home)


_open: dict[tuple[str, int, int], Connection] = {}


def connect() -> Connection:
    """Return the connection to the store that the settings name; the same one again while they don't change.

    Raises:
        Unreachable: The folder can't be read or made.
        StoreTooNew: A newer Cupola wrote it.
    """
    folder = home()
    # A store belongs to the process and thread that opened it: a forked child and another thread open their own.
    key = str(folder), os.getpid(), get_ident()
    known = _open.get(key)
    if known is None:
        known = _open[key] = Connection(folder)
    return known


def open_store() -> Store:
    """Return the open store that the settings name."""
    return connect().store
