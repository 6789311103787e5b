"""What a driver works with, and what it hands back: ports and plain data between `launch`, `driver` and `attempts`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import msgspec

from cupola.engine.interrupts import Interrupts
from cupola.engine.recorder import Recorder
from cupola.engine.reporter import StepReporter
from cupola.entities.run import RunStatus
from cupola.middleware.attempt import Hook, Moment


class Log(Protocol):
    """Where output goes while the run lasts; `position` flushes and says where it ends now, in bytes."""

    def position(self) -> int:
        """Return the size of the log after all that was written is in it."""
        ...

    def show(self, data: bytes, stream: int) -> None:
        """Show what a worker printed where this process shows what it prints itself."""
        ...

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a person should know of the log, such as that its disk was full."""
        ...


class Verdict(msgspec.Struct, frozen=True):
    """How a run ended.

    Attributes:
        status: Its state.
        error: The exception of the step that failed it.
        failed_step: That step's position; -1 when there is none.
        signal, reason: The signal that stopped it, and who or what wanted that.
    """

    status: RunStatus
    error: BaseException | None = None
    failed_step: int = -1
    signal: str = ""
    reason: str = ""


class Desk(msgspec.Struct, frozen=True, kw_only=True):
    """What a driver works with.

    Attributes:
        folder: The run's folder.
        recorder: Takes the events.
        log: Where output goes.
        reporter: Shows the run while it lasts.
        interrupts: What signals asked for.
        is_alone: Whether no other thread of the process drives a run.
        tell_step_hook: Calls a hook of the user's with the `StepRun` for a moment.
        workers: How many worker processes there may be; 0 for none, None for as many as is right here.
    """

    folder: Path
    recorder: Recorder
    log: Log
    reporter: StepReporter
    interrupts: Interrupts
    is_alone: bool
    tell_step_hook: Callable[[Hook, Moment], None]
    workers: int | None
