"""`cupola resume` and `cupola rerun`: to begin from an earlier run."""

from __future__ import annotations

from collections.abc import Sequence

from cupola import client
from cupola.cli.arguments import Parser, add_worker_options, chosen_workers
from cupola.cli.ending import report_end
from cupola.cli.show import find_run

WHICH = (
    "resume goes on with a run that did not end well, with the same parameters and code. rerun makes a new run that "
    "takes over what still holds, with other parameters or edited code. reproduce checks in a clean place that a run "
    "gives the same results again."
)


def resume(given: Sequence[str]) -> int:
    """Go on with a run that failed, was cancelled or lost."""
    parser = Parser(
        "resume",
        "Go on with a run that failed, was cancelled or lost: what has finished in it never runs again.",
        epilog=WHICH,
    )
    parser.run_option()
    parser.option(
        "--with-current-code",
        action="store_true",
        help="run what isn't finished with the code as it is now; finished steps stay as they are",
    )
    parser.option(
        "--take-over",
        action="store_true",
        help="take the run from a process that drives it and is stuck; what that one still does is not recorded",
    )
    parser.option(
        "--fork", action="store_true", help="make a new run of what has finished, and leave this one to who has it"
    )
    parser.option(
        "--without-checkpoints", action="store_true", help="begin unfinished steps anew instead of from checkpoints"
    )
    add_worker_options(parser)
    parser.option("--json", action="store_true", help="print the run as a JSON object when it is over")
    chosen = parser.read(given)
    run, workers = find_run(chosen.run), chosen_workers(chosen)
    if chosen.fork:
        keeps = not chosen.without_checkpoints
        return report_end(
            lambda: client.again.rerun(run.reader, with_checkpoints=keeps, workers=workers), json=chosen.json
        )
    return report_end(
        lambda: client.again.resume(
            run.reader,
            with_current_code=chosen.with_current_code,
            with_checkpoints=not chosen.without_checkpoints,
            by_force=chosen.take_over,
            workers=workers,
        ),
        json=chosen.json,
    )


def rerun(given: Sequence[str]) -> int:
    """Run the pipeline of an earlier run again, in a new run that takes over what still holds."""
    parser = Parser(
        "rerun",
        "Run the pipeline of an earlier run again, in a new run that takes over the results that still hold.",
        epilog=WHICH,
    )
    parser.run_option()
    parser.option("--from", dest="from_step", default="", metavar="STEP", help="run this step and all after it anew")
    parser.option("--param", action="append", default=[], metavar="NAME=VALUE", help="change a parameter")
    parser.option(
        "--with-checkpoints", action="store_true", help="let steps go on from the checkpoints they left in that run"
    )
    add_worker_options(parser)
    parser.option("--json", action="store_true", help="print the run as a JSON object when it is over")
    chosen = parser.read(given)
    run, workers = find_run(chosen.run), chosen_workers(chosen)
    return report_end(
        lambda: client.again.rerun(
            run.reader,
            from_step=chosen.from_step,
            said=tuple(chosen.param),
            with_checkpoints=chosen.with_checkpoints,
            workers=workers,
        ),
        json=chosen.json,
    )
