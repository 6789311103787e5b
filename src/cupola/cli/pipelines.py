"""`cupola pipelines`: what was ever run here."""

from __future__ import annotations

from collections.abc import Sequence

from cupola import cli
from cupola.cli.arguments import Parser, choose
from cupola.cli.lists import PIPELINES, add_list_options, print_list
from cupola.cli.output import print_json, print_page
from cupola.client import plain


def list_pipelines(given: Sequence[str]) -> int:
    """List pipelines."""
    parser = Parser("pipelines list", "List the pipelines that have runs, newest first.")
    add_list_options(parser, PIPELINES)
    return print_list(PIPELINES, parser.read(given))


def show_pipeline(given: Sequence[str]) -> int:
    """Show a pipeline and its newest runs."""
    from cupola.client.client import Client

    parser = Parser("pipelines show", "Show a pipeline and its newest runs.")
    parser.option("ref", metavar="NAME", help="a name or a unique beginning of one")
    parser.option("--json", action="store_true", help="print a JSON object")
    chosen = parser.read(given)
    client = Client()
    pipeline = client.pipelines.get(chosen.ref)
    newest = client.runs.list(pipeline=pipeline.name, limit=5)
    if chosen.json:
        print_json({**plain.plain_pipeline(pipeline.record), "newest": [plain.plain_run(run.record) for run in newest]})
        return 0
    print_page(pipeline.page())
    for run in newest:
        print(f"  {run!r}")
    return 0


def delete_pipeline(given: Sequence[str]) -> int:
    """Delete a pipeline."""
    return cli.delete.delete_one("pipeline", "pipelines delete", given, "all its runs and their artifact versions")


def pipelines(given: Sequence[str]) -> int:
    """Carry out a verb of `cupola pipelines`."""
    verbs = {
        "list": (list_pipelines, "list the pipelines that have runs"),
        "show": (show_pipeline, "show a pipeline and its newest runs"),
        "delete": (delete_pipeline, "delete a pipeline with all its runs"),
    }
    return choose("pipelines", verbs, given)
