from __future__ import annotations

import sys
from pathlib import Path

import pytest

from cupola.stores.sql import SqlStore, open_store

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def store(home: Path):
    opened = open_store(home)
    yield opened
    opened.close()


@pytest.fixture
def dump():
    def everything(store: SqlStore) -> dict[str, list[tuple]]:
        """Return all rows of all tables that the journals decide."""
        db = store._database.reading()
        tables = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
        return {table: sorted(db.execute(f"SELECT * FROM {table}"), key=repr) for table in tables}

    return everything
