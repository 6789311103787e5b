"""`cupola logs`: what a run or one of its steps wrote."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from cupola.cli.arguments import Parser
from cupola.cli.output import in_colour, is_terminal, note
from cupola.cli.show import find_run
from cupola.client import plain
from cupola.entities.run import StepStatus
from cupola.logfile import Log, strip_controls
from cupola.loglines import Line


def logs(given: Sequence[str]) -> int:
    """Print what a run or step wrote."""
    parser = Parser("logs", "Print what a run or one of its steps printed and logged, as it was written.")
    parser.run_option()
    parser.option("step", metavar="STEP", nargs="?", help="only what this step wrote")
    parser.option("-f", "--follow", action="store_true", help="go on until the run or step is over")
    parser.option("-t", "--times", action="store_true", help="begin each line with its time, stream and level")
    parser.option("--tail", type=int, metavar="N", help="only the last so many lines")
    parser.option("--json", action="store_true", help="print a JSON object per line, or an array without --follow")
    chosen = parser.read(given)
    run = find_run(chosen.run)
    step = run.steps[chosen.step] if chosen.step is not None else None
    found = run.logs(step=chosen.step, follow=chosen.follow)
    lines: Iterable[Line] = found.tail(chosen.tail) if isinstance(found, Log) and chosen.tail else found  # type: ignore[assignment] — a log is iterated as lines
    if chosen.json:
        _print_json(lines, as_array=not chosen.follow)
    else:
        _print_lines(lines, times=chosen.times, at_once=chosen.follow)
    if step is not None and step.status is StepStatus.CACHED and not chosen.json:
        note(f"{step.name} did not run: see `cupola logs {step.record.from_run} {step.name}`")
    return 0


def _print_lines(lines: Iterable[Line], *, times: bool, at_once: bool) -> None:
    # In a terminal, what could move its cursor is taken out; a file or pipe gets what was written.
    clean, colour = is_terminal(), in_colour()
    for line in lines:
        text = strip_controls(line.text, colour=colour) if clean else line.text
        if times:
            at = plain.plain_time(line.time) or ""
            text = f"{at[:23]} {line.stream or '-':<6} {line.level or '-':<8} {text}"
        sys.stdout.write(text + "\n")
        # Whoever follows a run reads on as it goes, in a pipe as well (`cupola logs last -f | grep loss`).
        if at_once:
            sys.stdout.flush()


def _print_json(lines: Iterable[Line], *, as_array: bool) -> None:
    import msgspec

    from cupola import values

    first = True
    for line in lines:
        item = {"time": plain.plain_time(line.time), "stream": line.stream, "level": line.level, "text": line.text}
        text = msgspec.json.encode(values.to_json(item)).decode()
        sys.stdout.write(("[\n" if first else ",\n") + text if as_array else text + "\n")
        if not as_array:
            sys.stdout.flush()
        first = False
    if as_array:
        sys.stdout.write("[]\n" if first else "\n]\n")
