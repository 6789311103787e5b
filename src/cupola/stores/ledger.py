"""The ledger: events of runs come in, in order and once, and end up as rows.

Idempotent by the run's head and the chained digest up to it, so anyone may append what the journal says: the driver
that wrote it, a reader that found it, whoever settles a dead run.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby

import msgspec

from cupola import ids, journal
from cupola.errors import Conflict, CupolaError, Damaged, Diverged, Fenced, NotFound
from cupola.event import Event, RunSealed, RunStarted, decode_event
from cupola.store import Applied
from cupola.stores.batches import write_batch
from cupola.stores.changes import remove_run
from cupola.stores.database import Database
from cupola.stores.drafts import Batch, RunDraft, load_open_steps, load_run, start_run
from cupola.stores.files import WAIT_S
from cupola.stores.projection import apply_events
from cupola.stores.rows import StepNames, outline
from cupola.stores.versions import Given

KEPT_OUTLINES = 8
CHECKPOINT_BYTES = 1 << 20
"""Size of the write-ahead log from which the end of a run moves it into the database."""


class Position(msgspec.Struct, frozen=True):
    """How far the database knows a run's journal: its epoch, the bytes of that epoch's file, the last event."""

    epoch: int = 0
    offset: int = 0
    head: int = 0
    status: str = ""
    sealed: bool = False


class Arrival(msgspec.Struct, frozen=True):
    """Events that are new to the database.

    Attributes:
        epoch: Epoch of the journal they stand in.
        head: Sequence number of the last of them.
        digest: Chained digest up to that.
        events: The events, encoded.
        decoded: The same as objects, where the caller has them.
        sealed: What the store gave the run before a rebuild.
    """

    epoch: int
    head: int
    digest: bytes
    events: Sequence[bytes]
    decoded: Sequence[Event] = ()
    sealed: RunSealed | None = None


class Ledger:
    """The ledger half of a store.

    Attributes:
        database: Where the rows are.
    """

    def __init__(self, database: Database, read_blob: Callable[[str], bytes] | None) -> None:
        self.database = database
        self._read_blob = read_blob
        self._outlines: dict[str, StepNames] = {}
        self._seen: dict[str, tuple[int, bytes]] = {}

    def append(
        self,
        run: str,
        epoch: int,
        first_seq: int,
        events: Sequence[bytes],
        *,
        decoded: Sequence[Event] = (),
        sealed: RunSealed | None = None,
        wait_s: float = WAIT_S,
    ) -> Applied:
        """Apply encoded events of a run in order.

        What is known already is ignored when the chained digest agrees.

        Args:
            run: Id of the run.
            epoch: Epoch of the journal that they stand in.
            first_seq: Sequence number of the first.
            events: The events, encoded.
            decoded: The same as objects, where the caller has them.
            sealed: What the store gave the run before a rebuild.
            wait_s: How long to wait for the right to write.

        Raises:
            Fenced: A later epoch wrote meanwhile.
            Diverged: What is known already differs.
            Conflict: There is a gap before `first_seq`.
        """
        with self.database.writing(wait_s) as db:
            draft = load_run(db, run)
            head, digest = (draft.head, draft.digest) if draft else (0, b"")
            self._check_order(run, draft, epoch, first_seq)
            known = max(0, head - first_seq + 1)
            if known:
                self._check_same(run, first_seq, events[:known], head, digest)
            new = events[known:]
            if new:
                if draft is None:
                    draft = start_run(db, _first(run, new), epoch, sealed.number if sealed else None)
                before, digest, head = digest, journal.chained(digest, new), head + len(new)
                self._apply(db, draft, Arrival(epoch, head, digest, new, decoded[known:], sealed), before)
                self._seen[run] = (head, digest)
        if draft is not None and draft.sealed:
            self._seen.pop(run, None)
            self.database.checkpoint(CHECKPOINT_BYTES)
        return Applied(head, digest)

    def seal(self, run: str) -> RunSealed:
        """Return what the store gave a run whose events are all projected: its last event, for the journal."""
        db = self.database.reading()
        row = db.execute("SELECT number FROM run WHERE id = ?", (run,)).fetchone()
        if row is None:
            raise NotFound(f"run {run} has no events in the store yet", fix="project its journal first")
        versions = db.execute(
            "SELECT step, position, number, label FROM version WHERE run = ? ORDER BY step, position", row
        )
        given = tuple([(step, at, str(Given(number, label))) for step, at, number, label in versions])
        return RunSealed(ids.now(), row[0], given)

    def replay(self, run: str, frames: Sequence[journal.Frame]) -> None:
        """Make a run's rows anew from its journal, under the numbers that the store gave it before."""
        given = self.seal(run)
        with self.database.writing() as db:
            remove_run(db, run, given.number)
        self._seen.pop(run, None)
        for epoch, group in groupby(frames, key=lambda frame: frame.epoch):
            batch = list(group)
            self.append(run, epoch, batch[0].seq, [frame.event for frame in batch], sealed=given)

    def position(self, run: str) -> Position:
        """Return how far the database knows a run's journal."""
        sql = "SELECT epoch, journal_bytes, head, status, sealed FROM run WHERE id = ?"
        row = self.database.reading().execute(sql, (run,)).fetchone()
        return Position(row[0], row[1], row[2], row[3], bool(row[4])) if row else Position()

    def snapshot_bytes(self, snapshot: str) -> bytes:
        """Return the bytes of a snapshot."""
        row = self.database.reading().execute("SELECT bytes, blob FROM snapshot WHERE id = ?", (snapshot,)).fetchone()
        if row is None:
            raise NotFound(f"there is no snapshot {snapshot!r}", fix="`cupola runs list` shows the runs and theirs")
        if not row[1]:
            return row[0]
        if self._read_blob is None:
            raise Damaged(f"snapshot {snapshot} is in blob {row[1]}, which this store was not told how to read")
        return self._read_blob(row[1])

    def _check_order(self, run: str, draft: RunDraft | None, epoch: int, first_seq: int) -> None:
        if draft is not None and epoch < draft.epoch:
            raise Fenced(
                f"run {run} has a driver of epoch {draft.epoch}; what epoch {epoch} writes is refused",
                fix="end this process; the other one goes on with the run",
            )
        head = draft.head if draft else 0
        if first_seq > head + 1:
            raise Conflict(f"run {run} is known up to event {head}, so event {first_seq} leaves a gap")

    def _check_same(self, run: str, first_seq: int, known: Sequence[bytes], head: int, digest: bytes) -> None:
        """Raise `Diverged` unless events that the store has already are those that it has."""
        seq, chained = self._seen.get(run, (-1, b""))
        if seq != first_seq - 1:
            before = [frame.event for frame in self._stored_frames(run) if frame.seq < first_seq]
            if len(before) != first_seq - 1:
                raise Conflict(f"run {run}: its journal doesn't hold the events before {first_seq}")
            chained = journal.chained(b"", before)
        chained = journal.chained(chained, known)
        reached = first_seq + len(known) - 1
        self._seen[run] = (reached, chained)
        # A reader may have projected more than this: then the next append, which begins here, reaches further.
        if reached == head and chained != digest:
            del self._seen[run]
            raise Diverged(
                f"run {run}: the store has other events up to {head} than those given now",
                fix="run `cupola doctor store`; nothing was overwritten",
            )

    def _stored_frames(self, run: str) -> Iterator[journal.Frame]:
        return journal.JournalReader(journal.run_folder(self.database.home, run)).read()

    def _apply(self, db: sqlite3.Connection, draft: RunDraft, arrival: Arrival, before: bytes) -> None:
        """Apply events to a run's rows; one that can't be applied becomes a dead letter and the others hold."""
        try:
            with _savepoint(db):
                self._write(db, draft, arrival)
        except sqlite3.OperationalError:
            raise
        except Exception:  # whatever an event holds must not keep the run's other events from being seen
            self._apply_singly(db, draft.id, arrival, before)

    def _apply_singly(self, db: sqlite3.Connection, run: str, arrival: Arrival, digest: bytes) -> None:
        for seq, event in enumerate(arrival.events, arrival.head - len(arrival.events) + 1):
            digest = journal.chained(digest, (event,))
            one = Arrival(arrival.epoch, seq, digest, (event,), sealed=arrival.sealed)
            try:
                with _savepoint(db):
                    self._write(db, _loaded(db, run), one)
            except sqlite3.OperationalError:
                raise
            except Exception as error:  # as above
                reason = f"{type(error).__name__}: {error}"
                db.execute("INSERT OR REPLACE INTO dead_letter VALUES (?, ?, ?)", (run, seq, reason))
                skipped = msgspec.structs.replace(one, events=())
                size = journal.FRAME_BYTES + len(event)
                write_batch(self._batch(db, _loaded(db, run), skipped), skipped.epoch, seq, digest, size)

    def _write(self, db: sqlite3.Connection, draft: RunDraft, arrival: Arrival) -> None:
        batch = self._batch(db, draft, arrival)
        apply_events(batch, arrival.head - len(arrival.events) + 1, arrival.events, arrival.decoded)
        size = sum(map(len, arrival.events)) + len(arrival.events) * journal.FRAME_BYTES
        write_batch(batch, arrival.epoch, arrival.head, arrival.digest, size)

    def _batch(self, db: sqlite3.Connection, draft: RunDraft, arrival: Arrival) -> Batch:
        return Batch(db, draft, self._find_names, arrival.sealed, steps=load_open_steps(db, draft))

    def positions_in(self, snapshot: str) -> Mapping[str, int]:
        """Return the positions of the steps in a snapshot by name; none of a dynamic one, or that can't be read."""
        try:
            return self._find_names(snapshot).positions
        except CupolaError:
            return {}

    def _find_names(self, snapshot: str) -> StepNames:
        names = self._outlines.get(snapshot)
        if names is None:
            names = outline(snapshot, self.snapshot_bytes(snapshot))
            if len(self._outlines) >= KEPT_OUTLINES:
                del self._outlines[next(iter(self._outlines))]
            self._outlines[snapshot] = names
        return names


@contextmanager
def _savepoint(db: sqlite3.Connection) -> Generator[None]:
    db.execute("SAVEPOINT events")
    try:
        yield
    except BaseException:
        db.execute("ROLLBACK TO events")
        raise
    finally:
        db.execute("RELEASE events")


def _loaded(db: sqlite3.Connection, run: str) -> RunDraft:
    draft = load_run(db, run)
    if draft is None:
        raise NotFound(f"run {run} vanished while its events were applied")
    return draft


def _first(run: str, events: Sequence[bytes]) -> RunStarted:
    try:
        first = decode_event(events[0])
    except msgspec.DecodeError as error:
        raise Damaged(
            f"the first event of run {run} can't be read: {error}", fix="run `cupola doctor store`"
        ) from error
    if not isinstance(first, RunStarted) or first.run != run:
        raise Damaged(f"the journal of run {run} begins with {type(first).__name__}", fix="run `cupola doctor store`")
    return first
