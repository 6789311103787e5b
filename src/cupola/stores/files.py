"""The files of a local store's home besides the database: the write lock and the catalogue journal."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from cupola import journal
from cupola.errors import Unreachable

DATABASE = "cupola.db"
CATALOGUE = "catalogue"
"""Name of the catalogue's journal, and of the row that says how far the database knows it."""
WRITE_LOCK = "cupola.lock"
WAIT_S = 30.0


class WriteLock:
    """The right to write the database, one process at a time; held for one transaction, a rebuild or a migration.

    An `flock` asked for every half millisecond: SQLite's own waiting sleeps up to 100 ms at a time, which made eight
    drivers wait for each other far longer than they wrote.
    """

    def __init__(self, home: Path) -> None:
        self._path = home / WRITE_LOCK
        self._file = -1

    @contextmanager
    def held(self, wait_s: float = WAIT_S) -> Generator[None]:
        """Hold the lock while the block runs.

        Raises:
            Unreachable: Another process held it for all of `wait_s` seconds, or the folder can't be written.
        """
        self._open()
        deadline = time.monotonic() + wait_s
        while not self._try():
            if time.monotonic() > deadline:
                raise Unreachable(
                    f"another process has been writing to the store for {wait_s:g} s",
                    where=str(self._path),
                    fix=f"see who holds it (`fuser {self._path}`) and end it",
                )
            import random  # here, since it is heavy and seldom needed

            time.sleep(random.uniform(0.0003, 0.0007))
        try:
            yield
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def close(self) -> None:
        """Give the file back."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _try(self) -> bool:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _open(self) -> None:
        if self._file < 0:
            try:
                self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            except OSError as error:
                raise journal.cannot_write(self._path, error) from error


def make_home(home: Path) -> None:
    """Make the folders of a store.

    Raises:
        Unreachable: The folder can't be made or written; names it and `CUPOLA_HOME`.
    """
    for name in ("runs", "finished"):
        try:
            (home / name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise journal.cannot_write(home / name, error) from error


def catalogue_is_ahead(db: sqlite3.Connection, home: Path) -> bool:
    """Tell whether the catalogue's journal has more than the database."""
    try:
        size = (home / CATALOGUE).stat().st_size
    except FileNotFoundError:
        return False
    row = db.execute("SELECT value FROM meta WHERE key = ?", (CATALOGUE,)).fetchone()
    return size > (int(row[0]) if row else 0)
