"""`cupola init`: marks a folder as the source root of a project."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from cupola.cli.arguments import Parser
from cupola.cli.output import note, print_json
from cupola.errors import ConfigError
from cupola.journal import cannot_write
from cupola.settings import home

MARKER = ".cupola"
CONFIG = """\
# This folder is the source root of a project: names of modules and relative paths start here.
# It may be kept under version control; nothing secret belongs here.
"""


def init(given: Sequence[str]) -> int:
    """Make a folder the source root of a project; does nothing where it is one already."""
    parser = Parser("init", "Make a folder the source root of a project, by a file .cupola/config.yaml in it.")
    parser.option("folder", metavar="FOLDER", nargs="?", default=".", help="the folder; this one if left out")
    parser.option("--json", action="store_true", help="print a JSON object")
    chosen = parser.read(given)
    folder = Path(os.path.abspath(chosen.folder))
    refuse_odd_place(folder)
    config = folder / MARKER / "config.yaml"
    made = not config.exists()
    if made:
        try:
            config.parent.mkdir(exist_ok=True)
            with open(config, "x", encoding="utf-8") as file:
                file.write(CONFIG)
        except FileExistsError:
            # Another `init` was faster, and did the same.
            made = False
        except OSError as error:
            raise cannot_write(config, error) from error
    if chosen.json:
        print_json({"root": str(folder), "config": str(config), "made": made})
        return 0
    if made:
        note(f"made {config}: {folder} is the source root of a project now")
        note("next: `cupola run FILE` runs the pipeline of a file in it")
    else:
        note(f"{folder} is the source root of a project already ({config}); nothing was changed")
    above = nearest_root(folder.parent)
    if above is not None:
        note(f"the folder {above} above is one too; what is in {folder} belongs to the inner one")
    return 0


def refuse_odd_place(folder: Path) -> None:
    """Raise `ConfigError` for folders that are no place for a project."""
    elsewhere = "make a folder for the project and run `cupola init` in it"
    if not folder.is_dir():
        raise ConfigError(f"there is no folder {str(folder)!r}", fix="make it first, or name another")
    if folder.parent == folder:
        raise ConfigError("the root of the file system can't be a project", fix=elsewhere)
    if folder == Path(os.path.expanduser("~")):
        raise ConfigError(f"{folder} is your home folder: all that is in it would be one project", fix=elsewhere)
    store = home()
    if folder == store or store in folder.parents:
        raise ConfigError(f"{folder} belongs to the store", where=str(store), fix=elsewhere)
    marker = folder / MARKER
    if marker.exists() and not marker.is_dir():
        raise ConfigError(f"{marker} is a file, not a folder", fix="rename it; the mark of a project is a folder")
    if MARKER in folder.parts:
        raise ConfigError(f"{folder} is inside a {MARKER} folder", fix=elsewhere)


def nearest_root(folder: Path) -> Path | None:
    """Return the nearest folder upwards that is marked as a source root."""
    for candidate in (folder, *folder.parents):
        if (candidate / MARKER).is_dir():
            return candidate
    return None
