"""`cupola reproduce`: check in a clean place that a run gives the same results again."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import msgspec

from cupola.cli.again import WHICH
from cupola.cli.arguments import Parser
from cupola.cli.output import print_json, print_page
from cupola.cli.show import find_run
from cupola.client.page import Page, Table
from cupola.client.reproduction import Reproduction
from cupola.text import count

_SHOWN = 20
"""Differences of the environment that a table lists; JSON has all."""


def reproduce(given: Sequence[str]) -> int:
    """Run a run's pipeline again from its archived code and compare the outputs."""
    parser = Parser(
        "reproduce",
        "Rebuild a run's code and environment in a scratch folder, run it there without any earlier result, and "
        "compare the outputs.",
        epilog=f"{WHICH}\n\nExit codes: 0 all outputs are equal, 1 one differs, 2 the run can't be reproduced.",
    )
    parser.run_option()
    parser.option("--keep", action="store_true", help="keep the scratch folder and say where it is")
    parser.option("--json", action="store_true", help="print a JSON object; what the pipeline prints goes to stderr")
    chosen = parser.read(given)
    found = find_run(chosen.run).reproduce(keep=chosen.keep, show=2 if chosen.json else 1)
    if chosen.json:
        print_json(reproduction_json(found))
    else:
        print_page(_page(found))
    return 0 if found.is_equal else 1


def reproduction_json(found: Reproduction) -> dict[str, Any]:
    """Return what came of it as plain data."""
    return {
        "run": found.run,
        "name": found.name,
        "equal": found.is_equal,
        "outputs_compared": found.compared,
        "difference": None if found.difference is None else msgspec.structs.asdict(found.difference),
        "environment": [msgspec.structs.asdict(changed) for changed in found.environment],
        "notes": list(found.notes),
        "folder": found.folder or None,
    }


def _page(found: Reproduction) -> Page:
    first = found.difference
    facts = [("run", f"{found.name} ({found.run})"), ("compared", count(found.compared, "output"))]
    if first is not None:
        what = f"{first.step}.{first.output}" if first.output else first.step
        facts += [("first difference", what), ("then", first.then), ("now", first.now), ("reason", first.reason)]
    facts += [("note", note) for note in found.notes]
    if found.folder:
        store = os.path.join(found.folder, "home")
        facts += [("kept", found.folder), ("look into it", f"CUPOLA_HOME={store} cupola show last")]
    rows = tuple((changed.name, changed.then or "-", changed.now or "-") for changed in found.environment[:_SHOWN])
    if len(found.environment) > _SHOWN:
        rows += ((f"and {len(found.environment) - _SHOWN} more", "", ""),)
    title = "Reproduced: all outputs are equal" if found.is_equal else "Not reproduced"
    return Page(title, tuple(facts), (Table(("environment", "then", "now"), rows),) if rows else ())
