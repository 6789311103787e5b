"""`cupola debug`: a debugger in a step of an earlier run."""

from __future__ import annotations

from collections.abc import Sequence

from cupola import client
from cupola.cli.arguments import Parser
from cupola.cli.ending import clean_up_on_sigterm
from cupola.cli.output import note
from cupola.cli.show import find_run
from cupola.errors import ConfigError

_ABOUT = (
    "Open Python's debugger in a step of an earlier run, with its code as it ran and the inputs that it had. A step "
    "that failed is run until it raises, and the debugger opens there; any other is stopped at its start. Nothing of "
    "it is recorded."
)


def debug(given: Sequence[str]) -> int:
    """Open a debugger in a step of a run, or run an expression there."""
    parser = Parser(
        "debug",
        _ABOUT,
        epilog="Exit codes: 0 done, 1 the expression raised, 2 the step can't be entered.",
    )
    parser.run_option()
    parser.option("step", metavar="STEP", help="a step of the run; 'fit[3]' for one of a mapped step")
    parser.option("--current", action="store_true", help="take the code as it is now, and not as it ran")
    parser.option("--exec", metavar="EXPR", help="run an expression there and print it, instead of opening a debugger")
    chosen = parser.read(given)
    if chosen.exec is not None:
        _check_syntax(chosen.exec)
    clean_up_on_sigterm()
    run = find_run(chosen.run)
    position = run.steps[chosen.step].record.position
    return client.debug.debug(run.reader, position, current=chosen.current, expression=chosen.exec, tell=note)


def _check_syntax(expression: str) -> None:
    try:
        compile(expression.strip(), "<--exec>", "exec")
    except (SyntaxError, ValueError) as error:
        raise ConfigError(
            f"--exec can't be read: {error}", where=expression, fix="quote it for the shell: --exec 'len(table)'"
        ) from error
