"""`cupola steps`: the steps of all runs."""

from __future__ import annotations

from collections.abc import Sequence

from cupola import cli
from cupola.cli.arguments import Parser, choose
from cupola.cli.lists import STEPS, add_list_options, print_list
from cupola.cli.output import print_json, print_page


def list_steps(given: Sequence[str]) -> int:
    """List steps."""
    parser = Parser("steps list", "List steps of runs, newest first.")
    add_list_options(parser, STEPS)
    chosen = parser.read(given)
    if chosen.run:
        return print_list(STEPS, chosen, run=cli.show.find_run(chosen.run).id)
    return print_list(STEPS, chosen)


def show_step(given: Sequence[str]) -> int:
    """Show a step."""
    from cupola.client.client import Client

    parser = Parser("steps show", "Show a step of a run; the same as `cupola show RUN STEP`.")
    parser.option("ref", metavar="REF", help="RUN/STEP or RUN.POSITION, such as training-3f2a01/fit")
    parser.option("--json", action="store_true", help="print a JSON object")
    chosen = parser.read(given)
    step = Client().steps.get(chosen.ref)
    print_json(cli.show.step_json(step)) if chosen.json else print_page(step.page())
    return 0


def steps(given: Sequence[str]) -> int:
    """Carry out a verb of `cupola steps`."""
    verbs = {
        "list": (list_steps, "list steps of runs, newest first"),
        "show": (show_step, "show a step"),
    }
    return choose("steps", verbs, given)
