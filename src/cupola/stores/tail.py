"""Brings the database up to what journals say: follows live runs, and settles those whose driver is dead.

A driver holds its run's lock for as long as it lives, so a lock that can be taken means a dead driver. Whoever takes it
says so in a journal of the next epoch, seals the run and moves its folder; of two at once the lock lets one.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path

from cupola import ids, journal, runlock
from cupola.crashes import crash_signal
from cupola.entities.run import RunStatus
from cupola.errors import CupolaError, Fenced, Unreachable
from cupola.event import Event, RunLost, decode_event, encode_event
from cupola.stores.ledger import Ledger

READER_WAIT_S = 2.0
"""How long a reader waits for its turn to project before it goes on with what is there."""

EMPTY_AGE_S = 10.0
"""Age at which a run's folder without a journal is taken for a driver that died before its first event."""


class Tailer:
    """Follows the journals of one store's live runs."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._home = ledger.database.home
        self._warned = False

    def catch_up(self, runs: Iterable[str]) -> None:
        """Project the tails of live runs, and settle those whose driver is dead."""
        for run in runs:
            try:
                self._follow(run)
            except Fenced:
                continue
            except Unreachable as error:
                self._warn(error)
                return
            except CupolaError as error:
                self._bury(run, error)

    def _follow(self, run: str) -> None:
        folder = journal.live_folder(self._home, run)
        holder = runlock.read_holder(folder)
        self.project(run, folder)
        if not journal.epochs(folder):
            _remove_if_empty(folder)
            return
        lock = runlock.lock_run(folder, is_named=False)
        if lock is None:
            return
        try:
            who = f"process {holder.pid} on {holder.host}" if holder else "its process"
            signal = crash_signal(folder)
            how = f"was ended by {signal}" if signal else "ended without a word"
            self._settle(run, folder, RunLost(ids.now(), f"{who} {how}", signal))
        finally:
            lock.release()

    def project(self, run: str, folder: Path) -> None:
        """Append to the database what the journals in a run's folder have beyond it."""
        known = self._ledger.position(run)
        frames = journal.JournalReader(folder, epoch=known.epoch, offset=known.offset, after=known.head).read()
        for number, group in groupby(frames, key=lambda frame: frame.epoch):
            batch = list(group)
            events = [frame.event for frame in batch]
            self._ledger.append(run, number, batch[0].seq, events, wait_s=READER_WAIT_S)

    def _settle(self, run: str, folder: Path, lost: RunLost) -> None:
        """End a run whose lock the caller holds and whose driver is therefore dead."""
        self.project(run, folder)
        state = self._ledger.position(run)
        if not state.head:
            import shutil  # here, since it brings three libraries of compression

            shutil.rmtree(folder, ignore_errors=True)
            return
        frames = list(journal.JournalReader(folder).read())
        if frames and frames[-1].seq < state.head:
            # A power cut took the end of the journal: what it doesn't hold has not happened.
            self._ledger.replay(run, frames)
            state = self._ledger.position(run)
        if not state.sealed:
            epoch = max(journal.epochs(folder)) + 1
            writer = journal.JournalWriter(folder, epoch, state.head)
            try:
                if not RunStatus(state.status).is_final:
                    self._write(run, writer, lost)
                self._write(run, writer, self._ledger.seal(run))
            finally:
                writer.close()
        journal.archive(self._home, run)

    def _write(self, run: str, writer: journal.JournalWriter, event: Event) -> None:
        data = encode_event(event)
        seq = writer.append(data)
        self._ledger.append(run, writer.epoch, seq, [data])

    def _bury(self, run: str, error: CupolaError) -> None:
        """Note why a run can't be followed where `doctor` shows it; the others go on."""
        try:
            with self._ledger.database.writing(READER_WAIT_S) as db:
                db.execute("INSERT OR REPLACE INTO dead_letter VALUES (?, 0, ?)", (run, str(error)))
        except Unreachable as cause:
            self._warn(cause)

    def _warn(self, error: CupolaError) -> None:
        if not self._warned:
            self._warned = True
            warnings.warn(f"live runs are shown as they were recorded last: {error}", RuntimeWarning, stacklevel=4)


def _remove_if_empty(folder: Path) -> None:
    """Remove the folder of a driver that died before its first event, unless it may be just about to write it."""
    try:
        age = time.time() - os.stat(folder).st_mtime
    except FileNotFoundError:
        return
    if age < EMPTY_AGE_S:
        return
    lock = runlock.lock_run(folder, is_named=False)
    if lock is not None:
        try:
            if not journal.epochs(folder):
                import shutil  # here, since it brings three libraries of compression

                shutil.rmtree(folder, ignore_errors=True)
        finally:
            lock.release()


def read_events(home: Path, run: str, after: int) -> Iterator[Event]:
    """Yield the events of a run with a sequence number greater than `after`, as they stand in its journal."""
    for frame in journal.JournalReader(journal.run_folder(home, run)).read():
        if frame.seq > after:
            yield decode_event(frame.event)
