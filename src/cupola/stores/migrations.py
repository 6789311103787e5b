"""Schema of the database: made at once when fresh, else brought up to date one numbered file after another."""

from __future__ import annotations

import os
import sqlite3
from contextlib import suppress
from pathlib import Path

import msgspec

from cupola.errors import Damaged, StoreTooNew
from cupola.journal import cannot_write
from cupola.version import VERSION as CUPOLA

FOLDER = Path(__file__).parent / "migrations"
SCHEMA = Path(__file__).parent / "schema.sqlite.sql"

VERSION = 1
"""Number of the newest file in `migrations/`: what this Cupola reads and writes."""

_USER_VERSION_AT = 60
_MAGIC = b"SQLite format 3\x00"


class Migration(msgspec.Struct, frozen=True):
    """One numbered step from a schema to the next."""

    number: int
    path: Path


def list_migrations(folder: Path = FOLDER) -> list[Migration]:
    """Return all migrations in their order."""
    return [Migration(int(path.name[:4]), path) for path in sorted(folder.glob("[0-9][0-9][0-9][0-9]_*.sql"))]


def read_version(path: Path) -> int:
    """Return the schema version that a database file says it has, touching nothing; 0 when there is no such file.

    Raises:
        Damaged: It is no database.
        Unreachable: It can't be read.
    """
    try:
        with open(path, "rb", buffering=0) as file:
            header = file.read(100)
    except (FileNotFoundError, NotADirectoryError):
        return 0
    except OSError as error:
        raise cannot_write(path, error) from error
    if not header:
        return 0
    if not header.startswith(_MAGIC) or len(header) < 100:
        raise damaged(path, "it doesn't begin like a database")
    return int.from_bytes(header[_USER_VERSION_AT : _USER_VERSION_AT + 4], "big")


def refuse_newer(path: Path, version: int, supported: int = VERSION) -> None:
    """Raise `StoreTooNew` when a database has a schema that this Cupola doesn't know; nothing of it is touched."""
    if version <= supported:
        return
    # `immutable` takes no lock and makes no file beside the database.
    db = sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)
    try:
        row = db.execute("SELECT value FROM meta WHERE key = 'cupola'").fetchone()
    except sqlite3.DatabaseError:
        row = None
    finally:
        db.close()
    needed = row[0] if row else "a newer one"
    raise StoreTooNew(
        f"the store has schema {version}, written by Cupola {needed}; this is Cupola {CUPOLA}, which knows up to"
        f" schema {supported}",
        where=str(path),
        fix=f"install cupola >= {needed}, or set CUPOLA_HOME to another folder; nothing was changed",
    )


def create(path: Path, schema: Path = SCHEMA) -> None:
    """Make a fresh database: complete under another name first, so that nobody ever opens half of one.

    The caller holds the store's write lock.
    """
    draft = path.with_name(f"{path.name}.{os.uname().nodename}-{os.urandom(6).hex()}.new")
    db = sqlite3.connect(draft, isolation_level=None)
    try:
        # A step's rows take about 1 kB: pages of 8 kB save a third of the writes of a long chain over those of 4 kB.
        db.execute("PRAGMA page_size = 8192")
        # Nobody else knows the file yet, and after a crash it is made again: no journal is needed for it.
        db.execute("PRAGMA journal_mode = OFF")
        db.execute("PRAGMA synchronous = OFF")
        db.executescript(f"BEGIN;\n{schema.read_text(encoding='utf-8')}\nPRAGMA user_version = {VERSION};\nCOMMIT;")
        db.execute("INSERT INTO meta VALUES ('cupola', ?)", (CUPOLA,))
        db.execute("PRAGMA journal_mode = WAL")
        db.close()
        os.replace(draft, path)
    except BaseException:
        db.close()
        with suppress(OSError):
            draft.unlink(missing_ok=True)
        raise


def migrate(db: sqlite3.Connection, folder: Path = FOLDER, target: int = VERSION) -> list[int]:
    """Bring an older database up to `target` in one transaction; return the numbers of what was applied.

    Safe when two processes do it at once: the second finds nothing left to do.
    """
    db.execute("BEGIN EXCLUSIVE")
    try:
        version: int = db.execute("PRAGMA user_version").fetchone()[0]
        todo = [item for item in list_migrations(folder) if version < item.number <= target]
        for item in todo:
            for statement in split(item.path.read_text(encoding="utf-8")):
                db.execute(statement)
        if todo:
            db.execute(f"PRAGMA user_version = {todo[-1].number}")
            db.execute("INSERT OR REPLACE INTO meta VALUES ('cupola', ?)", (CUPOLA,))
        db.execute("COMMIT")
    except BaseException:
        db.execute("ROLLBACK")
        raise
    # The version must stand in the file itself, where an older Cupola looks before it opens it.
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return [item.number for item in todo]


def split(script: str) -> list[str]:
    """Return the statements of a script; `executescript` would commit the transaction that it runs in."""
    statements: list[str] = []
    rest = ""
    for line in script.splitlines(keepends=True):
        rest += line
        if sqlite3.complete_statement(rest):
            statements.append(rest)
            rest = ""
    return statements


def write_schema(folder: Path = FOLDER, target: Path = SCHEMA) -> None:
    """Write the schema that all migrations add up to (`python -m cupola.stores.migrations`)."""
    target.write_text(schema_text(folder), encoding="utf-8")


def schema_text(folder: Path = FOLDER) -> str:
    """Return the schema that all migrations add up to, as SQL."""
    db = sqlite3.connect(":memory:", isolation_level=None)
    for item in list_migrations(folder):
        db.executescript(item.path.read_text(encoding="utf-8"))
    rows = db.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%' ORDER BY rowid")
    statements = [row[0] for row in rows]
    db.close()
    return "-- Generated from migrations/ by `python -m cupola.stores.migrations`.\n" + ";\n".join(statements) + ";\n"


def damaged(path: Path, reason: str) -> Damaged:
    """Return the error for a database that can't be read."""
    return Damaged(
        f"the store's database is damaged: {reason}",
        where=str(path),
        fix="run `cupola doctor store --rebuild`: it makes a new one from the journals, and keeps this one beside it",
    )


if __name__ == "__main__":
    write_schema()
