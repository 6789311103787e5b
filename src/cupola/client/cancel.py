"""Cancelling: asking the process that drives a run to stop it, and waiting until it has."""

from __future__ import annotations

import os
import signal
import time

from cupola.client.reading import RunReader
from cupola.engine.sealing import cancel_paused
from cupola.entities.run import RunStatus
from cupola.errors import Conflict, Unreachable
from cupola.ids import user_name
from cupola.journal import live_folder
from cupola.runlock import Holder, ask_to_cancel, process_start, read_holder
from cupola.text import storable_text

WAIT_S = 30.0
"""How long `cancel` waits for the end of the run unless told otherwise, in seconds."""


def cancel(reader: RunReader, *, wait_s: float = WAIT_S) -> None:
    """Ask the process that drives a run to stop it; return when the run is over.

    Running steps are stopped; what has finished is kept, and the run can be resumed.

    Args:
        reader: Of the run.
        wait_s: How long to wait for the end, in seconds; 0 to leave at once.

    Raises:
        Conflict: The run is over already, or isn't after that time.
        Unreachable: It is driven on another host.
    """
    record = reader.record()
    if record.status.is_final:
        raise Conflict(f"run {record.name} is {record.status} already: there is nothing to cancel")
    who = storable_text(f"cupola cancel of {user_name()}, process {os.getpid()}")
    if record.status is RunStatus.PAUSED:
        cancel_paused(record, reader.connection.store, reader.connection.home, who)
        reader.forget()
        return
    folder = live_folder(reader.connection.home, record.id)
    holder = read_holder(folder)
    if holder is not None and holder.host != os.uname().nodename:
        raise Unreachable(
            f"run {record.name} is driven by process {holder.pid} on {holder.host}",
            fix=f"cancel it there: cupola cancel {record.name}",
        )
    ask_to_cancel(folder, who)
    if holder is not None and holder.takes_signals and process_start(holder.pid) == holder.started:
        os.kill(holder.pid, signal.SIGTERM)
    _wait(reader, holder, wait_s)


def _wait(reader: RunReader, holder: Holder | None, wait_s: float) -> None:
    deadline = time.monotonic() + wait_s
    while not reader.record().status.is_final:
        if not wait_s:
            return
        if time.monotonic() >= deadline:
            name, pid = reader.record().name, holder.pid if holder else "?"
            raise Conflict(
                f"run {name} was asked to stop and is still {reader.record().status} after {wait_s:g} s",
                fix=f"its step may not let itself be stopped: `kill -9 {pid}` ends its process, and "
                f"`cupola resume {name}` then goes on with the run",
            )
        time.sleep(0.05)
