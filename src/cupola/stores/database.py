"""The open database of a local store: one connection, the write lock, and the way to both.

It belongs to one thread at a time and to the process that opened it. Writers queue at one lock file and write short
transactions.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from cupola.errors import CupolaError, Damaged, Unreachable
from cupola.journal import cannot_write
from cupola.stores import dialects, migrations
from cupola.stores.files import DATABASE, WAIT_S, WriteLock, make_home
from cupola.stores.filesystems import refuse_network


class Database:
    """The database in a store's home, made when there is none.

    Attributes:
        home: The store's folder.
        path: The database file in it.
    """

    def __init__(self, home: Path, *, path: Path | None = None) -> None:
        """Open the home's database, or one at `path` that a rebuild makes: nobody else knows it, it needs no lock."""
        self.home = home
        self.path = path or home / DATABASE
        self._file = str(self.path)  # a Path is turned into text at each call, which takes longer than the call
        self._process = os.getpid()
        self._lock = WriteLock(home) if path is None else None
        self._db, self._inode = self._open()
        _keep_from_children(self._db)

    def reading(self) -> sqlite3.Connection:
        """Return the connection, to the file that is the database now: a rebuild may have put another in its place."""
        self._check_process()
        try:
            inode = os.stat(self._file).st_ino
        except FileNotFoundError:
            inode = self._inode
        if inode != self._inode:
            self._db.close()
            self._db, self._inode = self._open()
        return self._db

    @contextmanager
    def telling(self) -> Generator[sqlite3.Connection]:
        """Give the connection for reading, and turn what SQLite says into errors that say what to do."""
        try:
            yield self.reading()
        except sqlite3.OperationalError as error:
            raise _unreachable(self.path, error) from error
        except sqlite3.DatabaseError as error:
            raise migrations.damaged(self.path, str(error)) from error

    @contextmanager
    def writing(self, wait_s: float = WAIT_S) -> Generator[sqlite3.Connection]:
        """Hold the write lock and a transaction, committed when the block ends well and undone otherwise."""
        self._check_process()
        with self._locked(wait_s):
            db = self.reading()
            try:
                # IMMEDIATE: a reader that turns writer is refused at once when another wrote meanwhile.
                db.execute("BEGIN IMMEDIATE")
                yield db
                db.execute("COMMIT")
            except sqlite3.OperationalError as error:
                _rollback(db)
                raise _unreachable(self.path, error) from error
            except sqlite3.DatabaseError as error:
                _rollback(db)
                raise migrations.damaged(self.path, str(error)) from error
            except BaseException:
                _rollback(db)
                raise

    def checkpoint(self, least_bytes: int = 0) -> None:
        """Move what is in the write-ahead log into the database as far as that goes without waiting for anybody.

        Nothing is done while the log is smaller than `least_bytes`: on a disk each time costs a sync.
        """
        try:
            if os.stat(f"{self.path}-wal").st_size < least_bytes:
                return
        except FileNotFoundError:
            return
        self.reading().execute("PRAGMA wal_checkpoint(PASSIVE)")

    def finish(self) -> None:
        """Move everything into the one file and close it."""
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._db.execute("PRAGMA journal_mode = DELETE")
        self._db.execute("PRAGMA journal_mode = WAL")
        self.close()

    def close(self) -> None:
        """Give back what the store holds open."""
        if self._process == os.getpid():
            self._db.close()
            if self._lock:
                self._lock.close()

    def _open(self) -> tuple[sqlite3.Connection, int]:
        refuse_network(self.home)
        version = migrations.read_version(self.path)
        migrations.refuse_newer(self.path, version)
        if version == 0:
            make_home(self.home)
            with self._locked():
                if migrations.read_version(self.path) == 0:
                    self._refuse_lost()
                    self._create()
        db = dialects.connect(self.path)
        found: int = db.execute("PRAGMA user_version").fetchone()[0]
        if found < migrations.VERSION:
            with self._locked():
                migrations.migrate(db)
        elif found > migrations.VERSION:
            db.close()
            migrations.refuse_newer(self.path, found)
        return db, os.stat(self.path).st_ino

    def _refuse_lost(self) -> None:
        """Raise `Damaged` when there are records of runs but no database: an empty one would hide them."""
        if next(os.scandir(self.home / "finished"), None) is not None:
            raise Damaged(
                "the database is gone, but the records of runs are there",
                where=str(self.path),
                fix="`cupola doctor store --rebuild` makes it again from them; nothing is lost",
            )

    def _create(self) -> None:
        try:
            migrations.create(self.path)
        except sqlite3.OperationalError as error:
            raise _unreachable(self.path, error) from error
        except OSError as error:
            raise cannot_write(self.path, error) from error

    def _locked(self, wait_s: float = WAIT_S) -> AbstractContextManager[None]:
        return self._lock.held(wait_s) if self._lock else nullcontext()

    def _check_process(self) -> None:
        if os.getpid() != self._process:
            raise CupolaError(
                f"this store was opened by process {self._process}; a forked child can't use it",
                fix="open a store of its own in the child (`Client()`)",
            )


def _rollback(db: sqlite3.Connection) -> None:
    if db.in_transaction:
        db.execute("ROLLBACK")


def _unreachable(path: Path, error: sqlite3.OperationalError) -> Unreachable:
    return Unreachable(
        f"the store's database can't be used now: {error}",
        where=str(path),
        fix="set CUPOLA_HOME to a folder that you can write, with some free space",
    )


_in_parent: list[sqlite3.Connection] = []


def _keep_from_children(db: sqlite3.Connection) -> None:
    """Keep a forked child from closing its parent's database when it forgets the store: SQLite forbids that."""
    if not _registered:
        _registered.append(True)
        os.register_at_fork(after_in_child=lambda: _in_parent.extend(_open_ones))
    _open_ones.append(db)


_open_ones: list[sqlite3.Connection] = []
_registered: list[bool] = []
