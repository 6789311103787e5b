"""`cupola show`: a run or one of its steps, and why a step ran or didn't."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cupola.cli.arguments import Parser
from cupola.cli.output import print_json, print_page, print_table
from cupola.client import plain
from cupola.client.client import Client
from cupola.client.code import plain_code
from cupola.client.given import Constant
from cupola.client.page import Page, Table
from cupola.client.views import ArtifactVersion, Run, StepRun
from cupola.engine.explain import CacheReport
from cupola.errors import ConfigError
from cupola.text import age, duration, printable, shell_word


def show(given: Sequence[str], *, command: str = "show") -> int:
    """Show a run, a step of it, or why a step ran or didn't."""
    parser = Parser(
        command,
        "Show a run: its parameters, steps and outputs; or one of its steps.",
        epilog="--why says from which run a step's result was taken, or what had changed so that it ran.",
    )
    parser.run_option()
    parser.option("step", metavar="STEP", nargs="?", help="a step of the run")
    parser.option("--why", metavar="STEP", help="say why this step ran or didn't")
    parser.option("--graph", action="store_true", help="draw the graph with the state of each step")
    parser.option("--json", action="store_true", help="print a JSON object")
    chosen = parser.read(given)
    run = find_run(chosen.run)
    if chosen.why is not None:
        return show_why(run.steps[chosen.why], json=chosen.json)
    if chosen.graph:
        print_json({"graph": run.draw()}) if chosen.json else print(run.draw())
        return 0
    if chosen.step is not None:
        step = run.steps[chosen.step]
        print_json(step_json(step)) if chosen.json else print_page(step.page())
        return 0
    if chosen.json:
        print_json(run_json(run))
        return 0
    print_page(run.page())
    _say_what_next(run)
    return 0


def find_run(ref: str) -> Run:
    """Return the run that a ref means; `last` is the newest."""
    client = Client()
    if ref == "last":
        newest = client.runs.list(limit=1)
        if not newest:
            raise ConfigError("there are no runs yet", fix="start one with `cupola run FILE`")
        return newest[0]
    return client.runs.get(ref)


def run_json(run: Run) -> dict[str, Any]:
    """Return a run with its steps and outputs as plain data."""
    return {
        **plain.plain_run(run.record),
        "facts": run.facts,
        "code": plain_code(run.code),
        "origins": dict(run.record.origins),
        "outputs": {name: output_json(value) for name, value in run.outputs.items()},
        "steps": [plain.plain_step(step.record) for step in run.steps.values()],
    }


def step_json(step: StepRun) -> dict[str, Any]:
    """Return a step with inputs, outputs and cache as plain data."""
    return {
        **plain.plain_step(step.record),
        "inputs": {name: output_json(value) for name, value in step.inputs.items()},
        "outputs": {name: output_json(value) for name, value in step.outputs.items()},
        "saved": [output_json(value) for value in step.saved],
        "metrics": [
            {"name": name, "step": at, "value": value} for name, points in step.metrics.items() for at, value in points
        ],
        "cache": why_json(step.cache),
    }


def output_json(value: Any) -> Any:
    """Return an input or output: a version, a constant's value, or a list of them."""
    if isinstance(value, ArtifactVersion):
        return {**plain.plain_version(value.record), "preview": value.preview()}
    if isinstance(value, Constant):
        return {"value": value.load()}
    return [output_json(part) for part in value]


def why_json(report: CacheReport) -> dict[str, Any]:
    """Return `.cache` of a step as plain data."""
    return {
        "hit": report.hit,
        "from_run": report.from_run or None,
        "age_s": report.age_s,
        "saved_s": report.saved_s,
        "causes": [
            {name: getattr(cause, name) for name in ("kind", "name", "file", "line", "old", "new", "step")}
            for cause in report.causes
        ],
    }


def show_why(step: StepRun, *, json: bool) -> int:
    """Print why a step ran or didn't."""
    report = step.cache
    if json:
        print_json(why_json(report))
        return 0
    print_page(Page(f"{step.name}: {'hit' if report.hit else 'miss'}", why_facts(report)))
    if report.causes:
        print()
        print_table(causes_table(report))
    return 0


def why_facts(report: CacheReport) -> tuple[tuple[str, str], ...]:
    """Return what is worth saying of a look-up, as pairs of label and value."""
    if report.hit:
        return (("from run", report.from_run), ("made", age(report.age_s)), ("saved", duration(report.saved_s)))
    return (("compared with run", report.from_run),) if report.from_run else ()


def causes_table(report: CacheReport) -> Table:
    """Return what differs as a table."""
    rows = tuple(
        (cause.kind, cause.name, place_of(cause), cause.old or "-", cause.new or "-", cause.step)
        for cause in report.causes
    )
    return Table(("changed", "what", "where", "old", "new", "step"), rows)


def place_of(cause: Any) -> str:
    """Return `file:line` of a cause; empty where that means nothing."""
    if not cause.file:
        return ""
    return f"{cause.file}:{cause.line}" if cause.line else cause.file


def _say_what_next(run: Run) -> None:
    failed = run.record.failed_step
    if failed >= 0:
        print(f"\nwhat it printed: cupola logs {printable(run.name)} {shell_word(printable(run.reader.name(failed)))}")
