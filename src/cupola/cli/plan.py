"""`cupola plan`: what a run would do with each step and why; nothing of the user's steps runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cupola.authoring.calls import plan_request
from cupola.cli.arguments import Parser
from cupola.cli.output import note, print_json, print_page, print_table
from cupola.cli.show import causes_table, place_of, why_facts, why_json
from cupola.cli.target import add_target_options, read_request
from cupola.client.draw import draw_snapshot
from cupola.client.names import suggest
from cupola.client.page import Page, Table
from cupola.engine.explain import CacheReport
from cupola.engine.plan import Plan, PlannedStep
from cupola.errors import NotFound
from cupola.text import age, count, duration, shell_word

EXPLAINED = 200
"""Steps whose reasons the table shows; of a longer plan `--why STEP` and `--json` tell the others."""
WORDS = {"cached": "cached", "run": "run", "depends": "run if an input differs"}


def plan(given: Sequence[str]) -> int:
    """Say what a run would do."""
    parser = Parser(
        "plan", "Say what `cupola run` with the same arguments would do with each step, and why. Runs nothing."
    )
    add_target_options(parser)
    parser.option("--why", metavar="STEP", help="say all that is known of one step")
    parser.option("--graph", action="store_true", help="draw the graph instead")
    parser.option("--json", action="store_true", help="print a JSON object")
    chosen = parser.read(given)
    found = plan_request(read_request(chosen))
    if chosen.why is not None:
        return _why(found, chosen.why, json=chosen.json)
    if chosen.graph:
        graph = draw_snapshot(found.snapshot)
        print_json({"graph": graph}) if chosen.json else print(graph)
    elif chosen.json:
        print_json(plan_json(found))
    else:
        _print_plan(found)
    return 0


def plan_json(found: Plan) -> dict[str, Any]:
    """Return a plan as plain data."""
    return {
        "pipeline": found.pipeline,
        "dynamic": bool(found.snapshot.dynamic),
        "steps": [
            {
                "name": step.name,
                "action": step.action,
                "parent": step.parent or None,
                "children": step.children,
                **why_json(found.why(step.name)),
                "note": step.note or None,
            }
            for step in found
        ],
    }


def _why(found: Plan, name: str, *, json: bool) -> int:
    names = [step.name for step in found]
    if found.snapshot.dynamic:
        raise NotFound(
            f"{found.pipeline} is dynamic: which steps it calls is known only while it runs",
            fix=f"run it, and then: cupola show last --why {shell_word(name)}",
        )
    if name not in names:
        raise NotFound(f"pipeline {found.pipeline} has no step {name!r}", fix=suggest(name, names, "step"))
    report = found.why(name)
    if json:
        print_json(why_json(report))
        return 0
    print_page(Page(f"{name}: would {'be cached' if report.hit else 'run'}", why_facts(report)))
    if report.causes:
        print()
        print_table(causes_table(report))
    return 0


def _print_plan(found: Plan) -> None:
    if found.snapshot.dynamic:
        note(f"{found.pipeline} is dynamic: which steps it calls is known only while it runs; nothing was run")
        return
    listed = [step for step in found if not step.parent]
    rows = tuple(
        (step.name, _would(step), _reason(found, step) if place < EXPLAINED else "")
        for place, step in enumerate(listed)
    )
    if rows:
        print_table(Table(("step", "would", "because"), rows))
    # A mapped step is its children.
    single = [step for step in found if not found.is_mapped(step) or step.children is None]
    cached = sum(step.action == "cached" for step in single)
    saved = sum(step.saved_s for step in single)
    said = f", {duration(saved)} saved" if cached else ""
    note(f"{count(len(single), 'step')} of {found.pipeline}: {cached} cached{said}; nothing was run")


def _would(step: PlannedStep) -> str:
    if step.children is None:
        return WORDS.get(step.action, step.action)
    total = sum(step.children.values())
    counted = ", ".join(f"{number} {WORDS.get(word, word)}" for word, number in step.children.items())
    return f"{'1 child' if total == 1 else f'{total} children'}{f': {counted}' if counted else ''}"


def _reason(found: Plan, step: PlannedStep) -> str:
    if step.action == "cached":
        from_run = f", {age(step.age_s)} by run {step.from_run}" if step.from_run else ""
        return f"{duration(step.saved_s)} saved{from_run}"
    if found.is_mapped(step) and step.children is None:
        return step.note
    return first_cause(found.why(step.name))


def first_cause(report: CacheReport) -> str:
    """Return the first thing that differs, in few words."""
    if not report.causes:
        return ""
    cause = report.causes[0]
    place = place_of(cause)
    change = f": {cause.old} → {cause.new}" if cause.old and cause.new else f": {cause.new}" if cause.new else ""
    more = f", and {len(report.causes) - 1} more" if len(report.causes) > 1 else ""
    return f"{cause.kind} {cause.name}{f' ({place})' if place else ''}{change}{more}"
