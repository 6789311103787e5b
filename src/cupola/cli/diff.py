"""`cupola diff`: what differs between two runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cupola.cli.arguments import Parser
from cupola.cli.output import print_json, print_page
from cupola.cli.show import find_run
from cupola.client.diff import Difference, RunDiff, diff_runs
from cupola.client.page import Page, Table

LETTERS = 80
SECTIONS = ("params", "code", "steps", "outputs", "facts", "durations")


def diff(given: Sequence[str]) -> int:
    """Compare two runs."""
    parser = Parser("diff", "Compare two runs: parameters, code, states and lengths of steps, outputs.")
    parser.option("old", metavar="OLD", help="a run: an id, a unique beginning of one, or a name")
    parser.option("new", metavar="NEW", nargs="?", default="last", help="another one; the newest if left out")
    parser.option("--json", action="store_true", help="print a JSON object")
    chosen = parser.read(given)
    old, new = find_run(chosen.old), find_run(chosen.new)
    found = diff_runs(old, new)
    if chosen.json:
        print_json(diff_json(found))
        return 0
    tables = tuple(_table(section, getattr(found, section)) for section in SECTIONS if getattr(found, section))
    facts = (("old", f"{old.name} ({old.id})"), ("new", f"{new.name} ({new.id})"))
    print_page(Page("No difference in what was done" if found.is_empty else "What differs", facts, tables))
    return 0


def diff_json(found: RunDiff) -> dict[str, Any]:
    """Return what differs as plain data."""
    return {
        "old": found.old,
        "new": found.new,
        **{
            section: [{"name": item.name, "old": item.old, "new": item.new} for item in getattr(found, section)]
            for section in SECTIONS
        },
    }


def _table(section: str, found: Sequence[Difference]) -> Table:
    rows = tuple((item.name, _short(item.old), _short(item.new)) for item in found)
    return Table((section, "old", "new"), rows)


def _short(value: Any) -> str:
    if value is None:
        return "-"
    text = value if isinstance(value, str) else repr(value)
    first = text.split("\n")[0]
    return first if len(text) <= LETTERS and first == text else first[: LETTERS - 1] + "…"
