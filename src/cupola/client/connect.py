"""From settings to an open store: one connection per home, process and thread."""

from __future__ import annotations

import os
from _thread import get_ident
from pathlib import Path

from cupola.artifacts.blobs import Blobs
from cupola.settings import home
from cupola.store import Store
from cupola.stores import sql


class Connection:
    """An open store and what lies beside it.

    Attributes:
        store: The store.
        home: The folder it is in.
        blobs: The blob store.
    """

    def __init__(self, folder: Path, store: Store, blobs: Blobs) -> None:
        self.home = folder
        self.store = store
        self.blobs = blobs


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
        blobs = Blobs(folder)
        store = sql.open_store(folder, read_blob=lambda digest: blobs.open(digest).read_bytes())
        known = _open[key] = Connection(folder, store, blobs)
    return known


def open_store() -> Store:
    """Return the open store that the settings name."""
    return connect().store
