"""`cupola ps` and `cupola runs`: which runs there are."""

from __future__ import annotations

from collections.abc import Sequence

from cupola import cli
from cupola.cli.arguments import Parser, choose
from cupola.cli.lists import RUNS, add_list_options, print_list
from cupola.entities.run import RunStatus


def ps(given: Sequence[str]) -> int:
    """List the runs that are active; all runs with `--all`."""
    parser = Parser(
        "ps",
        "List the runs that are active, newest first. The same as `cupola runs list` of those that aren't over.",
        epilog="With --all, runs that are over as well. What became of one: `cupola show RUN`.",
    )
    add_list_options(parser, RUNS)
    chosen = parser.read(given)
    if chosen.all or chosen.status:
        return print_list(RUNS, chosen)
    return print_list(RUNS, chosen, status=[str(status) for status in RunStatus if not status.is_final])


def list_runs(given: Sequence[str]) -> int:
    """List runs."""
    parser = Parser("runs list", "List runs, newest first.")
    add_list_options(parser, RUNS)
    return print_list(RUNS, parser.read(given))


def show_run(given: Sequence[str]) -> int:
    """Show a run: the same as `cupola show`."""
    return cli.show.show(given, command="runs show")


def delete_run(given: Sequence[str]) -> int:
    """Delete a run."""
    return cli.delete.delete_one("run", "runs delete", given, "its steps, log and the artifact versions that it made")


def runs(given: Sequence[str]) -> int:
    """Carry out a verb of `cupola runs`."""
    verbs = {
        "list": (list_runs, "list runs, newest first"),
        "show": (show_run, "show a run or one of its steps"),
        "delete": (delete_run, "delete a run with its steps, log and artifact versions"),
    }
    return choose("runs", verbs, given)
