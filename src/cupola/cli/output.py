"""What the command line prints: tables, pages and JSON; in colour and cut to width in a terminal only."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from cupola import client
from cupola.text import printable

if TYPE_CHECKING:
    from cupola.client.page import Page, Paint, Table

COLOURS = {
    "completed": "32", "cached": "34", "running": "33", "retrying": "33", "queued": "33", "cancelling": "33",
    "failed": "31", "lost": "31", "cancelled": "35", "skipped": "2", "pending": "2", "hit": "34", "miss": "33",
}  # fmt: skip
_WORD = re.compile(r"\b(" + "|".join(COLOURS) + r")\b")


def is_terminal() -> bool:
    """Tell whether standard output is a terminal."""
    return sys.stdout.isatty()


def terminal_width() -> int | None:
    """Return the columns to fit into; None where output goes to a pipe or file, which nothing is cut for."""
    if not is_terminal():
        return None
    columns = os.environ.get("COLUMNS", "")
    if columns.isdigit() and int(columns) > 0:
        return int(columns)
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or 80
    except OSError:
        return 80


def in_colour() -> bool:
    """Tell whether colours are wanted."""
    return is_terminal() and not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") != "dumb"


def painter() -> Paint:
    """Return what colours the words of states that a text consists of, or leaves all as it is."""
    if not in_colour():
        return str

    def paint(text: str) -> str:
        code = COLOURS.get(text)
        return f"\x1b[{code}m{text}\x1b[0m" if code else text

    return paint


def print_json(value: Any) -> None:
    """Print data as JSON that every parser reads."""
    sys.stdout.write(client.plain.json_text(value) + "\n")


def print_table(table: Table) -> None:
    """Print a table."""
    for line in client.page.render_table(table, width=terminal_width(), paint=painter()):
        print(line)


def print_page(page: Page) -> None:
    """Print a page."""
    paint = painter()
    text = client.page.render_text(page, width=terminal_width(), paint=paint)
    head, newline, rest = text.partition("\n")
    sys.stdout.write(_WORD.sub(lambda found: paint(found[0]), head) + newline + rest)


def note(text: str) -> None:
    """Say something besides the output proper, where it is in nobody's way."""
    sys.stdout.flush()
    print(printable(text), file=sys.stderr)


def confirm(question: str, *, yes: bool, ask: Callable[[str], str] = input) -> bool:
    """Tell whether a person agrees; without a terminal only `--yes` says so."""
    if yes:
        return True
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    sys.stderr.write(f"{printable(question)} [y/N] ")
    sys.stderr.flush()
    return ask("").strip().lower() in ("y", "yes")
