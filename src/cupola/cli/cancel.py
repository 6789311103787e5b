"""`cupola cancel`: stop a run that is being driven."""

from __future__ import annotations

from collections.abc import Sequence

from cupola import client
from cupola.cli.arguments import Parser
from cupola.cli.output import print_json
from cupola.cli.show import find_run, run_json


def cancel(given: Sequence[str]) -> int:
    """Stop a run; what has finished in it is kept."""
    parser = Parser(
        "cancel",
        "Stop a run that is being driven, by any process of this host: its running steps are stopped, what has "
        "finished is kept, and `cupola resume` goes on with it.",
    )
    parser.run_option()
    parser.option(
        "--wait", type=float, default=30.0, metavar="SECONDS", help="how long to wait for its end (default: 30)"
    )
    parser.option("--json", action="store_true", help="print the run as a JSON object")
    chosen = parser.read(given)
    run = find_run(chosen.run)
    client.cancel.cancel(run.reader, wait_s=chosen.wait)
    print_json(run_json(run)) if chosen.json else print(f"run {run.name} is {run.status}")
    return 0
