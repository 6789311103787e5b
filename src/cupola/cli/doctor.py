"""`cupola doctor`: the environment at a glance, and the check of the store."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cupola import journal, settings
from cupola.cli.arguments import Parser
from cupola.cli.output import note, print_json, print_page, print_table
from cupola.client.connect import connect
from cupola.client.doctor import Report, check_store, rebuild
from cupola.client.page import Page, Table
from cupola.client.search import count_matches
from cupola.errors import ConfigError, CupolaError
from cupola.stores.files import DATABASE
from cupola.stores.filesystems import refuse_network
from cupola.text import count, size
from cupola.version import VERSION

COUNTED = ("run", "pipeline", "artifact")
BOUND = 10_000


def doctor(given: Sequence[str]) -> int:
    """Look at the environment, or check the store."""
    parser = Parser(
        "doctor",
        "Look at the environment; with `store`, check database, journals and blobs. Exit code 1: something is wrong.",
        epilog="A rebuild makes the database anew from journals and blobs, and keeps the old file beside it.",
    )
    parser.option("what", metavar="WHAT", nargs="?", choices=("store",), help="store: check the store")
    parser.option("--rebuild", action="store_true", help="make the database of the store anew first")
    parser.option("--deep", action="store_true", help="read and hash each blob again")
    parser.option("--json", action="store_true", help="print a JSON object")
    chosen = parser.read(given)
    if chosen.what == "store":
        return _store(chosen.rebuild, chosen.deep, chosen.json)
    if chosen.rebuild or chosen.deep:
        raise ConfigError("--rebuild and --deep are about the store", fix="write `cupola doctor store`")
    found = environment()
    if chosen.json:
        print_json(found)
    else:
        _print_environment(found)
    return 1 if found["problems"] else 0


def environment() -> dict[str, Any]:
    """Return what is true of this machine and the store, as plain data; makes nothing."""
    home = settings.home()
    problems: list[str] = []
    counts: dict[str, int] = {}
    try:
        refuse_network(home)
        if (home / DATABASE).exists():
            store = connect().store
            counts = {kind: count_matches(store, kind, {}) for kind in COUNTED}
    except CupolaError as error:
        problems.append(str(error))
    nearest = _existing(home)
    if not nearest.is_dir():
        problems.append(f"{nearest} is no folder\nset CUPOLA_HOME to a folder that you can write")
    elif not os.access(nearest, os.W_OK):
        problems.append(f"{nearest} can't be written\nset CUPOLA_HOME to a folder that you can write")
    return {
        "cupola": VERSION,
        "python": platform.python_version(),
        "executable": sys.executable,
        "platform": platform.platform(),
        "home": str(home),
        "home_exists": home.is_dir(),
        "free_bytes": shutil.disk_usage(nearest).free,
        "database_bytes": _size(home / DATABASE),
        "live_runs": journal.live_runs(home) if home.is_dir() else [],
        "counts": counts,
        "settings": [_setting(setting) for setting in settings.SETTINGS],
        "problems": problems,
    }


def _setting(setting: settings.Setting) -> dict[str, str]:
    said = os.environ.get(setting.environment)
    return {
        "name": setting.name,
        "value": said or setting.default(),
        "origin": setting.environment if said else "default",
    }


def _print_environment(found: dict[str, Any]) -> None:
    counts = ", ".join(_counted(found["counts"][kind], kind) for kind in COUNTED if kind in found["counts"])
    facts = (
        ("python", f"{found['python']} ({found['executable']})"),
        ("platform", found["platform"]),
        ("home", found["home"] + ("" if found["home_exists"] else " (will be made by the first run)")),
        ("holds", counts or "nothing yet"),
        ("live", count(len(found["live_runs"]), "run")),
        ("database", size(found["database_bytes"])),
        ("free", size(found["free_bytes"])),
    )
    rows = tuple((line["name"], line["value"] or "-", line["origin"]) for line in found["settings"])
    table = Table(("setting", "value", "from"), rows)
    problems = tuple(("problem", problem) for problem in found["problems"])
    print_page(Page(f"Cupola {found['cupola']}", facts, (table,), problems))


def _counted(number: int, noun: str) -> str:
    return f"{BOUND}+ {noun}s" if number >= BOUND else count(number, noun)


def _store(again: bool, deep: bool, json: bool) -> int:
    home = settings.home()
    rebuilt = rebuild(home) if again else None
    report = check_store(home, rehash=deep)
    if json:
        print_json({**store_json(report), "rebuilt": None if rebuilt is None else rebuilt_json(rebuilt)})
        return 0 if report.is_clean else 1
    if rebuilt is not None:
        kept = f"; the old database is {rebuilt.kept}" if rebuilt.kept else ""
        note(f"rebuilt from {count(rebuilt.runs, 'journal')} with {count(rebuilt.events, 'event')}{kept}")
        for problem in rebuilt.problems:
            note(f"could not be read: {problem}")
    _print_report(report, home)
    return 0 if report.is_clean else 1


def store_json(report: Report) -> dict[str, Any]:
    """Return what a check found as plain data."""
    return {
        "clean": report.is_clean,
        "runs": report.runs,
        "events": report.events,
        "versions": report.versions,
        "blobs": report.blobs,
        "findings": [
            {"level": item.level, "what": item.what, "where": item.where, "fix": item.fix} for item in report.findings
        ],
    }


def rebuilt_json(rebuilt: Any) -> dict[str, Any]:
    """Return what a rebuild did as plain data."""
    kept = None if rebuilt.kept is None else str(rebuilt.kept)
    return {"runs": rebuilt.runs, "events": rebuilt.events, "kept": kept, "problems": list(rebuilt.problems)}


def _print_report(report: Report, home: Path) -> None:
    looked = ", ".join(
        count(number, noun)
        for number, noun in (
            (report.runs, "run"),
            (report.events, "event"),
            (report.versions, "version"),
            (report.blobs, "blob"),
        )
    )
    if report.findings:
        rows = tuple((item.level, item.what, item.where, item.fix) for item in report.findings)
        print_table(Table(("level", "what", "where", "what to do"), rows))
    if not (home / DATABASE).exists() and not report.findings:
        print(f"there is no store in {home} yet: the first run makes it")
        return
    state = "clean" if report.is_clean else "not as it should be"
    print(f"the store in {home} is {state}: {looked} checked")


def _existing(path: Path) -> Path:
    while not path.exists() and path.parent != path:
        path = path.parent
    return path


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
