"""`cupola chaos`: what random kills do to a pipeline."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cupola import client
from cupola.cli.arguments import Namespace, Parser
from cupola.cli.ending import clean_up_on_sigterm
from cupola.cli.output import note, print_json, print_page
from cupola.cli.target import add_target_options, find_pipeline
from cupola.client.chaos import Subject
from cupola.client.chaos_report import Report, StepVerdict
from cupola.client.page import Page, Table
from cupola.compiler.requests import source_root
from cupola.errors import ConfigError
from cupola.settings import home
from cupola.text import count

_ABOUT = (
    "Run a pipeline under SIGKILLs at random moments, resume it each time until it is done, and compare outputs and "
    "files to two runs that nobody disturbed. All runs happen in copies of the source tree and in stores of their own; "
    "what steps do elsewhere (databases, mails, files with an absolute path) they really do, again and again."
)


def chaos(given: Sequence[str]) -> int:
    """Run a pipeline under random kills and say what they changed."""
    parser = Parser(
        "chaos", _ABOUT, epilog="Exit codes: 0 kills changed nothing that can be seen, 1 they did, 2 it can't be tried."
    )
    add_target_options(parser)
    parser.option("--kills", type=_number, default=20, metavar="N", help="how many kills (20)")
    parser.option("--seed", type=int, metavar="N", help="a number that decides the moments; to try the same ones again")
    parser.option("--keep", action="store_true", help="keep the copies and stores and say where they are")
    parser.option("--json", action="store_true", help="print a JSON object")
    chosen = parser.read(given)
    clean_up_on_sigterm()
    seed = random.randrange(10**6) if chosen.seed is None else chosen.seed
    report = client.chaos.run_chaos(_subject(chosen), kills=chosen.kills, seed=seed, tell=note, keep=chosen.keep)
    print_json(chaos_json(report)) if chosen.json else print_page(_page(report))
    return 0 if report.is_clean else 1


def chaos_json(report: Report) -> dict[str, Any]:
    """Return what came of it as plain data."""
    return {
        "clean": report.is_clean,
        "kills": report.kills,
        "runs": report.runs,
        "seed": report.seed,
        "steps": [
            {
                "step": step.step,
                "began": step.began,
                "ended": step.ended,
                "again": step.again,
                "outputs": list(step.outputs),
                "files": dict(step.files),
                "failures": list(step.failures),
                "undecided": list(step.undecided),
            }
            for step in report.steps
        ],
        "files": dict(report.files),
        "unfinished": list(report.unfinished),
        "notes": list(report.notes),
        "folder": report.folder or None,
    }


def _subject(chosen: Namespace) -> Subject:
    definition = find_pipeline(chosen.target).definition
    root = source_root(definition)
    named, colon, name = chosen.target.rpartition(":")
    file = os.path.abspath(named or chosen.target)
    if not os.path.isfile(file):
        file = os.path.abspath(chosen.target)
        name = "" if os.path.isfile(file) else name
    if not os.path.isfile(file):
        file = definition.described.__code__.co_filename
    elif not colon:
        name = ""
    target = os.path.relpath(os.path.realpath(file), os.path.realpath(root))
    if target.startswith(os.pardir):
        raise ConfigError(
            f"{chosen.target} is outside of its source root, of which a copy is made",
            where=str(root),
            fix="unset CUPOLA_ROOT, or name a file below it",
        )
    options = [f"--param={text}" for text in chosen.param]
    return Subject(
        root=Path(os.path.realpath(root)),
        target=f"{target}:{name}" if name else target,
        options=(*options, *(("--no-cache",) if chosen.no_cache else ())),
        config=os.path.realpath(chosen.config) if chosen.config else "",
        folder=Path(os.path.realpath(os.getcwd())),
        home=home(),
    )


def _number(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def _page(report: Report) -> Page:
    differs = sum(not step.is_clean for step in report.steps)
    title = f"{count(report.kills, 'kill')} in {count(report.runs, 'run')}: "
    if report.is_clean:
        title += "nothing that can be seen is different"
    elif differs:
        title += f"{count(differs, 'step')} with other results"
    else:
        title += "something is different"
    facts = [("seed", str(report.seed))]
    facts += [("not completed", f"a run ended {status}") for status in report.unfinished]
    facts += [("file", f"{path}: {how}") for path, how in report.files.items()]
    facts += [("note", text) for text in report.notes]
    if report.folder:
        facts.append(("kept", report.folder))
    rows = tuple((step.step, str(step.began), str(step.ended), str(step.again), _said(step)) for step in report.steps)
    return Page(title, tuple(facts), (Table(("step", "began", "ended", "again", "what differs"), rows, (1, 2, 3)),))


def _said(step: StepVerdict) -> str:
    said = [f"its output {name!r}" for name in step.outputs]
    said += [f"{path}: {how}" for path, how in step.files.items()]
    said += [f"failed: {failure}" for failure in step.failures]
    if step.undecided:
        said.append(f"(differs without kills as well: {', '.join(step.undecided)})")
    return "; ".join(said) or "nothing"
