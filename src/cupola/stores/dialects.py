"""What differs between databases: how one is opened and made ready. SQLite is the only one by now."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from cupola.stores.migrations import damaged

BUSY_TIMEOUT_S = 5.0
"""How long a statement waits for a lock; writers of Cupola queue before it, see `files.write_lock`."""

CHECKPOINT_PAGES = 4096
"""Pages (of 4 KiB) in the write-ahead log after which a commit moves them; the end of a run usually does it before."""


def connect(path: Path) -> sqlite3.Connection:
    """Open an existing database for reading and writing; for reading alone where the files don't allow more.

    Raises:
        Damaged: It is no database.
    """
    # The store sees to it that one thread at a time uses it; it need not be the one that opened it.
    db = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    try:
        db.execute("PRAGMA synchronous = NORMAL")
        # A batch that can be undone statement by statement would keep what it needs for that in files otherwise.
        db.execute("PRAGMA temp_store = MEMORY")
        db.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        db.execute("PRAGMA case_sensitive_like = ON")
        db.execute("SELECT 1 FROM meta").fetchone()
    except sqlite3.OperationalError as error:
        db.close()
        return connect_readonly(path, error)
    except sqlite3.DatabaseError as error:
        db.close()
        raise damaged(path, str(error)) from error
    return db


def connect_readonly(path: Path, cause: sqlite3.Error) -> sqlite3.Connection:
    """Open a database in a folder that can't be written: as it stands in its file, without its write-ahead log."""
    db = sqlite3.connect(
        f"{path.as_uri()}?mode=ro&immutable=1", uri=True, isolation_level=None, check_same_thread=False
    )
    try:
        db.execute("SELECT 1 FROM meta").fetchone()
    except sqlite3.DatabaseError as error:
        db.close()
        raise damaged(path, str(error)) from cause
    return db
