"""What commands that drive a run say at its end."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType

from cupola.cli.output import note, print_json
from cupola.client.views import Run
from cupola.entities.run import RunStatus
from cupola.errors import CupolaError, RunFailed
from cupola.text import printable

Drive = Callable[[], tuple[Run, CupolaError | None]]


def report_end(drive: Drive, *, json: bool) -> int:
    """Drive a run, say how it ended, and return the exit code.

    Args:
        drive: Drives the run; returns it, and the error that it ended with.
        json: Whether the run is printed as a JSON object; what its code prints goes to stderr meanwhile.
    """
    if not json:
        return _end(drive)[1]
    # What the user's code prints must not come between the reader and the JSON.
    with stdout_on_stderr():
        run, code = _end(drive)
    from cupola.cli.show import run_json

    print_json(run_json(run))
    return code


def _end(drive: Drive) -> tuple[Run, int]:
    run, error = drive()
    if isinstance(error, RunFailed):
        failure = run.error
        if failure is not None:
            sys.stdout.flush()
            sys.stderr.write(failure.traceback or f"{failure}\n")
    if error is not None:
        note(f"error: {error.what.partition(chr(10))[0]}")
        if error.fix:
            note(error.fix)
        return run, error.exit_code
    if run.status is RunStatus.PAUSED:
        note(f"it waits for an answer: {printable(run.question)}")
        note(f"answer it: cupola answer {run.name} …")
        return run, 0
    note(f"see it: cupola show {run.name}")
    return run, 0 if run.status is RunStatus.COMPLETED else 1


def clean_up_on_sigterm() -> None:
    """Let SIGTERM end this process as an exception does, so that what it has made for itself goes away."""

    def leave(_number: int, _frame: FrameType | None) -> None:
        raise SystemExit(143)

    signal.signal(signal.SIGTERM, leave)


@contextmanager
def stdout_on_stderr() -> Generator[None]:
    """Send what is printed to stderr instead of stdout."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)
