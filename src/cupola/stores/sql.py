"""The store on one machine: SQLite holds what the journals of runs and the catalogue add up to.

A store belongs to one thread at a time and to the process that opened it; each process opens its own. Events stay in
the journals: whoever reads first projects what the drivers of live runs have written meanwhile, so that no reader is
behind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from cupola import ids, journal, stores
from cupola.entities.run import RunRecord
from cupola.errors import Conflict, Forbidden
from cupola.kinds import find_kind
from cupola.store import Applied, Change, Lease, Page, Principal, Query, Question
from cupola.stores import records, statements
from cupola.stores.database import Database
from cupola.stores.files import catalogue_is_ahead

if TYPE_CHECKING:
    from cupola.event import Event, RunSealed
    from cupola.stores.ledger import Ledger
    from cupola.stores.tail import Tailer

T = TypeVar("T")


def open_store(home: Path, *, read_blob: Callable[[str], bytes] | None = None) -> SqlStore:
    """Open the store in a folder, make it when there is none, and settle what dead drivers left.

    Args:
        home: The folder, absolute.
        read_blob: Returns the bytes of a blob by digest: large snapshots are kept as blobs.

    Raises:
        StoreTooNew: A newer Cupola wrote it; nothing was touched.
        Damaged: The database can't be read.
        ConfigError: The folder is on a network file system.
        Unreachable: The folder can't be made or written.
    """
    store = SqlStore(home, read_blob=read_blob)
    store.settle()
    return store


class SqlStore:
    """The store's port over SQLite; see `cupola.store.Store` for what its methods promise."""

    def __init__(self, home: Path, *, read_blob: Callable[[str], bytes] | None = None) -> None:
        self.home = home
        self._database = Database(home)
        self._read_blob = read_blob

    @cached_property
    def _ledger(self) -> Ledger:
        return stores.ledger.Ledger(self._database, self._read_blob)

    @cached_property
    def _tailer(self) -> Tailer:
        return stores.tail.Tailer(self._ledger)

    def append(
        self, run: str, epoch: int, first_seq: int, events: Sequence[bytes], *, decoded: Sequence[Event] = ()
    ) -> Applied:
        """Apply encoded events of a run in order; see the port."""
        return self._ledger.append(run, epoch, first_seq, events, decoded=decoded)

    def seal(self, run: str) -> RunSealed:
        """Return what the store gave a run whose events are all projected: its last event, for the journal."""
        return self._ledger.seal(run)

    def events(self, run: str, after: int) -> Iterator[Event]:
        """Yield the events of a run with a sequence number greater than `after`, as they stand in its journal."""
        yield from stores.tail.read_events(self.home, run, after)

    def lease(self, what: str, holder: str, ttl_s: float, after: int) -> Lease:
        """Take the lease if its epoch is still `after`; raises `Conflict` otherwise."""
        with self._database.writing() as db:
            now = ids.now()
            row = db.execute("SELECT holder, epoch, expires_at FROM lease WHERE what = ?", (what,)).fetchone()
            epoch = row[1] if row else 0
            if epoch != after or (row and row[2] > now and row[0] != holder):
                raise Conflict(f"{what} is held by {row[0] if row else 'nobody'}, in epoch {epoch}")
            db.execute("INSERT OR REPLACE INTO lease VALUES (?, ?, ?, ?)", (what, holder, epoch + 1, now + ttl_s))
        return Lease(what, holder, epoch + 1)

    def settle(self) -> None:
        """Finish what a dead process began: the write of a change, the end of a run."""
        if catalogue_is_ahead(self._database.reading(), self.home):
            with self._database.writing() as db:
                stores.changes.apply_catalogue(db, self.home)
        self.catch_up()

    def catch_up(self) -> None:
        """Project what drivers wrote meanwhile, and settle the runs whose driver died."""
        with self._database.telling():
            if runs := journal.live_runs(self.home):
                self._tailer.catch_up(runs)

    def ask(self, question: Question[T], *, who: Principal) -> T:
        """Answer one of the named questions."""
        _require_owner(who)
        if stores.questions.needs_live_runs(question):
            self.catch_up()
        with self._database.telling():
            return stores.questions.answer(self._ledger, question)

    def write(self, changes: Sequence[Change], *, key: str, who: Principal) -> None:
        """Apply changes in one transaction; a `key` that was used before changes nothing."""
        _require_owner(who)
        with self._database.writing() as db:
            deleted = stores.changes.write_changes(db, self.home, changes, key)
        stores.changes.remove_folders(self.home, deleted)

    def get(self, kind: str, ref: str, *, who: Principal) -> Any:
        """Return the one entity that `ref` means: an id, a unique prefix of one, or a name."""
        _require_owner(who)
        known = find_kind(kind)
        self.catch_up()
        with self._database.telling() as db:
            record = records.read(db, kind, [stores.references.find_row(db, known, ref)])[0]
            return records.with_places(db, record) if isinstance(record, RunRecord) else record

    def find(self, kind: str, query: Query, *, who: Principal) -> Page[Any]:
        """Return one page of what matches."""
        _require_owner(who)
        known = find_kind(kind)
        self.catch_up()
        with self._database.telling() as db:
            statement, sort = statements.compile_page(db, known, query)
            rows = db.execute(statement.sql, statement.values).fetchall()
            more = len(rows) > query.limit
            del rows[query.limit :]
            cursor = statements.write_cursor(rows[-1][-len(sort.columns) :]) if more else ""
            return Page(tuple(records.read(db, kind, rows)), cursor)

    def count(self, kind: str, query: Query, *, who: Principal, bound: int = 10_000) -> int:
        """Return how many match, counting no further than `bound`."""
        _require_owner(who)
        known = find_kind(kind)
        self.catch_up()
        with self._database.telling() as db:
            statement = statements.compile_count(db, known, query, bound)
            return db.execute(statement.sql, statement.values).fetchone()[0]

    def checkpoint(self) -> None:
        """Move what is in the write-ahead log into the database if that goes without waiting for anybody."""
        self._database.checkpoint()

    def close(self) -> None:
        """Give back what the store holds open."""
        self._database.close()


def _require_owner(who: Principal) -> None:
    """Raise `Forbidden` unless the owner of the files asks: a store without a server knows nobody else."""
    if not who.is_owner:
        raise Forbidden(f"{who.name} is not the owner of this store", fix="ask a server that knows its users")
