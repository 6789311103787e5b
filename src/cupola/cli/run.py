"""`cupola run`: run a pipeline of a file or module."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from cupola.authoring.calls import run_request
from cupola.cli.arguments import Namespace, Parser, add_worker_options, chosen_workers
from cupola.cli.ending import report_end, stdout_on_stderr
from cupola.cli.output import note, print_json, print_table
from cupola.cli.target import add_target_options, read_request
from cupola.client.page import Table
from cupola.compiler.requests import Request, show_request


def run(given: Sequence[str]) -> int:
    """Run a pipeline; its exit code says how it ended."""
    parser = Parser(
        "run",
        "Import a file or module and run its pipeline; its `__main__` block does not run.",
        epilog="Exit codes: 0 completed, 1 failed, 130 or 143 cancelled, 2 wrong use, 3 store not reachable.",
    )
    add_target_options(parser)
    add_worker_options(parser)
    parser.option(
        "--show-config", action="store_true", help="print each value and where it comes from, and run nothing"
    )
    parser.option("--json", action="store_true", help="print the run as a JSON object when it is over")
    chosen = parser.read(given)
    if chosen.show_config:
        if not chosen.json:
            return _show_config(read_request(chosen), json=False)
        with stdout_on_stderr():
            request = read_request(chosen)
        return _show_config(request, json=True)
    return report_end(lambda: run_request(_asked(chosen)), json=chosen.json)


def _asked(chosen: Namespace) -> Request:
    return msgspec.structs.replace(read_request(chosen), workers=chosen_workers(chosen))


def _show_config(request: Request, *, json: bool) -> int:
    shown = show_request(request)
    if json:
        print_json([{"name": line.name, "value": line.value, "origin": line.origin} for line in shown])
    elif shown:
        print_table(Table(("name", "value", "from"), tuple((line.name, line.value, line.origin) for line in shown)))
    else:
        note("nothing is set: no parameters, and all options are as by default")
    return 0
