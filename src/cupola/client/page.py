"""A page about one thing: a title, facts and tables, as plain data; and how it looks as text and as HTML.

Whatever a name or value holds is shown, never obeyed: text passes through `printable`, HTML is escaped besides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from cupola.text import cells, cut, escape_html, pad, printable, printable_lines

GAP = "  "
STYLE = (
    "<style>.cupola{font:13px/1.5 system-ui,sans-serif}.cupola table{border-collapse:collapse;margin:.4em 0}"
    ".cupola td,.cupola th{text-align:left;padding:.1em 1em .1em 0;vertical-align:top}"
    ".cupola th{opacity:.65;font-weight:500}.cupola pre{margin:.4em 0;overflow:auto}</style>"
)


class Table(msgspec.Struct, frozen=True):
    """Rows under headers. `rights` are the positions of columns of numbers, which stand to the right."""

    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    rights: tuple[int, ...] = ()
    title: str = ""


class Page(msgspec.Struct, frozen=True):
    """What is worth saying of one thing.

    Attributes:
        title: One line.
        facts: Pairs of label and value.
        tables: Tables below.
        notes: Blocks of text at the end, such as a traceback, each with a title.
    """

    title: str
    facts: tuple[tuple[str, str], ...] = ()
    tables: tuple[Table, ...] = ()
    notes: tuple[tuple[str, str], ...] = ()


Paint = Callable[[str], str]
"""Colours a text by what it says, or returns it as it is."""


def render_table(table: Table, *, width: int | None = None, paint: Paint = str, indent: str = "") -> list[str]:
    """Return a table as lines.

    Args:
        table: What to show.
        width: Columns of the terminal; the widest column is cut to fit. Nothing is cut when None.
        paint: Applied to each cell after it was cut and before it is padded.
        indent: Stands before each line.
    """
    shown = [[printable(cell) for cell in row] for row in (table.headers, *table.rows)]
    widths = [max(map(cells, column)) for column in zip(*shown, strict=True)]
    if width is not None:
        _fit(widths, width - len(indent) - len(GAP) * (len(widths) - 1))
    lines: list[str] = []
    for number, row in enumerate(shown):
        parts: list[str] = []
        for place, cell in enumerate(row):
            text = cell if width is None else cut(cell, widths[place])
            painted = paint(text) if number else text
            space = " " * (widths[place] - cells(text))
            parts.append(space + painted if place in table.rights else painted + space)
        lines.append((indent + GAP.join(parts)).rstrip())
    return lines


def _fit(widths: list[int], room: int) -> None:
    """Narrow the widest columns in place until all fit, none below 8 columns."""
    while sum(widths) > room:
        widest = max(range(len(widths)), key=widths.__getitem__)
        if widths[widest] <= 8:
            return
        others = sorted(widths)[-2] if len(widths) > 1 else 8
        widths[widest] = max(8, min(widths[widest] - 1, max(others, widths[widest] - (sum(widths) - room))))


def render_text(page: Page, *, width: int | None = None, paint: Paint = str) -> str:
    """Return a page as text, with a newline at its end."""
    lines = [printable(page.title)]
    label_width = max((cells(label) for label, _ in page.facts), default=0)
    for label, value in page.facts:
        first, *others = printable_lines(value).split("\n")
        lines.append(f"  {pad(label, label_width)}  {paint(first)}")
        lines += [" " * (label_width + 4) + other for other in others]
    for table in page.tables:
        lines += ["", *([table.title] if table.title else [])]
        lines += render_table(table, width=width, paint=paint, indent="  ")
    for title, text in page.notes:
        lines += ["", printable(title)]
        lines += [f"  {line}" if line else "" for line in printable_lines(text.rstrip("\n")).split("\n")]
    return "\n".join(lines) + "\n"


def render_html(page: Page) -> str:
    """Return a page as a piece of HTML for notebooks: escaped throughout, with no script and nothing to load."""
    parts = [STYLE, f'<div class="cupola"><strong>{_escape(page.title)}</strong>']
    if page.facts:
        facts = "".join(f"<tr><th>{_escape(label)}</th><td>{_escape(value)}</td></tr>" for label, value in page.facts)
        parts.append(f"<table>{facts}</table>")
    for table in page.tables:
        parts.append(f"<div>{_escape(table.title)}</div>" if table.title else "")
        parts.append(f"<table><tr>{_row('th', table.headers)}</tr>")
        parts += [f"<tr>{_row('td', row)}</tr>" for row in table.rows]
        parts.append("</table>")
    parts += [f"<div>{_escape(title)}</div><pre>{_escape(text)}</pre>" for title, text in page.notes]
    return "".join(parts) + "</div>"


def _row(tag: str, row: Sequence[str]) -> str:
    return "".join(f"<{tag}>{_escape(cell)}</{tag}>" for cell in row)


def _escape(text: str) -> str:
    return escape_html(printable_lines(text))
