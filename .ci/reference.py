"""Write the reference pages from the program itself: python .ci/reference.py. A test holds that they are up to date."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path

DOCS = Path(__file__).resolve().parent.parent / "docs"
NOTE = "<!-- Written by `python .ci/reference.py`; change the program instead. -->"
FAMILIES = ("runs", "steps", "pipelines", "artifacts")


def names_page() -> str:
    """Return the page of what can be imported, by door, with the first line of each docstring."""
    lines = ["# Names", "", NOTE, "", "What can be imported from the two public doors; everything else is private."]
    for door in ("cupola", "cupola.extend"):
        module = importlib.import_module(door)
        lines += ["", f"## `{door}`", "", "| name | what |", "|---|---|"]
        for name in sorted(set(module.__all__) - {"__version__"}, key=str.lower):
            said = inspect.getdoc(getattr(module, name)) or ""
            lines.append(f"| `{name}` | {said.partition(chr(10))[0]} |")
    return "\n".join([*lines, ""])


def kinds_page() -> str:
    """Return the page of what a store keeps and how it can be asked."""
    from cupola.kinds import KINDS

    lines = [
        "# Kinds",
        "",
        NOTE,
        "",
        "What the store keeps, how one of each is named, and what lists can be filtered by.",
    ]
    for kind in KINDS.values():
        lines += ["", f"## {kind.name}", "", f"Named by {kind.refs}. Has {' and '.join(kind.relations) or 'no tags'}."]
        lines += [f"Orders: {', '.join(f'`{sort.name}`' for sort in kind.sorts)}.", ""]
        lines += ["| field | type | operators | what |", "|---|---|---|---|"]
        lines += [f"| `{field.name}` | {field.type} | {' '.join(field.ops)} | {field.help} |" for field in kind.fields]
    return "\n".join([*lines, ""])


def commands_page() -> str:
    """Return the page with the help of every command."""
    lines = ["# Commands", "", NOTE]
    for words in [(), *commands()]:
        title = " ".join(("cupola", *words))
        lines += ["", f"## `{title}`", "", "```text", help_of(words), "```"]
    return "\n".join([*lines, ""])


def commands() -> Iterator[tuple[str, ...]]:
    """Yield every command and every verb of a family, as its words."""
    from cupola.cli.main import COMMANDS

    for name in COMMANDS:
        yield (name,)
        if name in FAMILIES:
            for line in help_of((name,)).splitlines():
                if line.startswith("  ") and line.strip():
                    yield name, line.split()[0]


def help_of(words: tuple[str, ...]) -> str:
    """Return what a command says of itself."""
    from cupola.cli.main import main

    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        main([*words, "--help"])
    return said.getvalue().rstrip()


PAGES = {"names.md": names_page, "kinds.md": kinds_page, "commands.md": commands_page}

if __name__ == "__main__":
    os.environ["COLUMNS"] = "100"
    for file, page in PAGES.items():
        (DOCS / file).write_text(page(), encoding="utf-8")
    sys.exit(0)
