"""`cupola run`: run a pipeline of a file or module."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

from cupola.authoring.calls import run_request
from cupola.authoring.requests import Request, show_request
from cupola.cli.arguments import Parser
from cupola.cli.output import note, print_json, print_table
from cupola.cli.target import add_target_options, read_request
from cupola.client.page import Table
from cupola.client.views import Run
from cupola.entities.run import RunStatus
from cupola.errors import RunFailed


def run(given: Sequence[str]) -> int:
    """Run a pipeline; its exit code says how it ended."""
    parser = Parser(
        "run",
        "Import a file or module and run its pipeline; its `__main__` block does not run.",
        epilog="Exit codes: 0 completed, 1 failed, 130 or 143 cancelled, 2 wrong use, 3 store not reachable.",
    )
    add_target_options(parser)
    parser.option(
        "--show-config", action="store_true", help="print each value and where it comes from, and run nothing"
    )
    parser.option("--json", action="store_true", help="print the run as a JSON object when it is over")
    chosen = parser.read(given)
    if not chosen.json:
        request = read_request(chosen)
        return _show_config(request, json=False) if chosen.show_config else _run(request)[1]
    # What the user's code prints must not come between the reader and the JSON.
    with _stdout_on_stderr():
        request = read_request(chosen)
        recorded, code = (None, 0) if chosen.show_config else _run(request)
    if recorded is None:
        return _show_config(request, json=True)
    from cupola.cli.show import run_json

    print_json(run_json(recorded))
    return code


def _run(request: Request) -> tuple[Run, int]:
    recorded, error = run_request(request)
    if isinstance(error, RunFailed):
        failure = recorded.error
        if failure is not None:
            sys.stdout.flush()
            sys.stderr.write(failure.traceback or f"{failure}\n")
    if error is not None:
        _say_error(error)
        return recorded, error.exit_code
    note(f"see it: cupola show {recorded.name}")
    return recorded, 0 if recorded.status is RunStatus.COMPLETED else 1


def _say_error(error: Any) -> None:
    note(f"error: {error.what.partition(chr(10))[0]}")
    if error.fix:
        note(error.fix)


def _show_config(request: Request, *, json: bool) -> int:
    shown = show_request(request)
    if json:
        print_json([{"name": line.name, "value": line.value, "origin": line.origin} for line in shown])
    elif shown:
        print_table(Table(("name", "value", "from"), tuple((line.name, line.value, line.origin) for line in shown)))
    else:
        note("nothing is set: no parameters, and all options are as by default")
    return 0


@contextmanager
def _stdout_on_stderr() -> Generator[None]:
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)
