"""`cupola answer`: answer what a paused run asks, and go on with it."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from cupola import client
from cupola.cli.arguments import Parser, add_worker_options, chosen_workers
from cupola.cli.ending import report_end
from cupola.cli.output import print_json
from cupola.cli.show import find_run
from cupola.compiler.written import Text
from cupola.errors import ConfigError


def answer(given: Sequence[str]) -> int:
    """Answer the question of a paused run, and go on with it here."""
    parser = Parser(
        "answer",
        "Answer what a paused run asks, and go on with it in this process. Without an answer, its question is printed, "
        "and at a terminal the answer is asked for.",
    )
    parser.run_option()
    parser.option("answer", metavar="ANSWER", nargs="?", help="the answer; it is checked against what the run wants")
    parser.option(
        "--with-current-code", action="store_true", help="go on although the pipeline or its steps were edited since"
    )
    add_worker_options(parser)
    parser.option("--json", action="store_true", help="print the run as a JSON object when it is over")
    chosen = parser.read(given)
    run, workers = find_run(chosen.run), chosen_workers(chosen)
    question = client.answer.question_of(run.reader)
    said = chosen.answer
    if said is None:
        if chosen.json:
            print_json({"run": run.id, "name": run.name, "question": question})
            return 0
        print(question)
        if not sys.stdin.isatty():
            return 0
        said = sys.stdin.readline().rstrip("\n")
        if not said:
            raise ConfigError("nothing was answered", fix=f"cupola answer {run.name} ANSWER")
    text = Text(said, place="the answer")
    return report_end(
        lambda: client.answer.answer(run.reader, text, with_current_code=chosen.with_current_code, workers=workers),
        json=chosen.json,
    )
