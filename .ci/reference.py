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
        for name in sorted(set(module.__all__) - {"__version__"}, key=lambda name: (name.lower(), name)):
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


SETTINGS_TEXT = """\
# Settings

{note}

Settings of the program itself. Each is an environment variable; otherwise the default holds. What belongs to a run
(parameters, cache, retry …) is not here: it stands in the pipeline, in configuration files and on the command line.

{table}

`CUPOLA_PARAM_<NAME>` gives a parameter of a pipeline a value, such as `CUPOLA_PARAM_RATE=0.1`. `NO_COLOR` and a dumb
terminal are honoured.

The folder of the store is `$XDG_DATA_HOME/cupola`, else `~/.local/share/cupola`, on Linux and
`~/Library/Application Support/cupola` on macOS. It must be on a local disk: SQLite on a network file system loses
data, so Cupola refuses one by its name.
"""


def settings_page() -> str:
    """Return the page of settings; defaults that depend on the machine are left to the text."""
    from cupola.settings import SETTINGS

    rows = ["| setting | environment variable | default | what |", "|---|---|---|---|"]
    for setting in SETTINGS:
        default = "see below" if setting.name == "home" else f"`{setting.default()}`" if setting.default() else "found"
        rows.append(f"| `{setting.name}` | `{setting.environment}` | {default} | {setting.help} |")
    return SETTINGS_TEXT.format(note=NOTE, table="\n".join(rows))


PAGES = {"settings.md": settings_page, "names.md": names_page, "kinds.md": kinds_page, "commands.md": commands_page}

if __name__ == "__main__":
    os.environ["COLUMNS"] = "100"
    for file, page in PAGES.items():
        (DOCS / file).write_text(page(), encoding="utf-8")
    sys.exit(0)
