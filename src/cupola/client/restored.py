"""A run's code and environment as they were, for a process of its own: what `reproduce` and `debug` start."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from cupola.client.moving import moved
from cupola.client.reading import RunReader
from cupola.engine.environment import prepare
from cupola.engine.provenance.facts import UNKNOWN
from cupola.engine.provenance.masking import MASK
from cupola.engine.provenance.surroundings import parse_distributions, read_distributions
from cupola.entities.run import RunRecord
from cupola.errors import CupolaError, NotFound

TOOLS = frozenset({"pip", "setuptools", "wheel", "uv", "cupola"})
"""Distributions that make environments and decide no result."""
_PACKAGES = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
_PROGRAM = "import sys; sys.path.append({!r}); from {} import main; sys.exit(main(sys.argv[1:]))"


def archive_of(record: RunRecord, remedy: str) -> str:
    """Return the blob that lists the source tree of a run.

    Raises:
        NotFound: It was not archived; `remedy` says what to do then.
    """
    archive = record.blobs.get("archive")
    if archive is None:
        why = record.facts.get(f"{UNKNOWN}source", "it ended before that was done")
        raise NotFound(
            f"the code of run {record.name} was not archived: {why}",
            fix=remedy,
        )
    return archive


def distributions_of(reader: RunReader, record: RunRecord) -> dict[str, str]:
    """Return the versions of the distributions that a run had, by name; empty when they weren't recorded."""
    name = record.blobs.get("distributions")
    return parse_distributions(reader.connection.blobs.open(name).read_text(encoding="utf-8")) if name else {}


def choose_interpreter(
    home: Path, source: Path, record: RunRecord, then: Mapping[str, str], notes: list[str]
) -> tuple[str, Callable[[Mapping[str, str]], dict[str, str]]]:
    """Return the interpreter to run with, and what makes its variables: the recorded environment, else this one."""
    now = parse_distributions(read_distributions())
    python = record.facts.get("python", "")
    is_other_python = python.split(".")[:2] != sys.version.split()[0].split(".")[:2]
    wanted = {name: version for name, version in then.items() if name not in TOOLS and " @ " not in version}
    differs = [name for name, version in wanted.items() if now.get(name) != version]
    if (not differs and not is_other_python) or not then:
        return sys.executable, dict
    lines = [f"{name}=={version}" for name, version in sorted(wanted.items())]
    try:
        made = prepare(lines, python=python if is_other_python else "", home=home, root=source, where="reproduce")
    except CupolaError as error:
        notes.append(f"run with the current environment, since the recorded one can't be built: {error.what}")
        return sys.executable, dict
    return made.python, made.variables


def variables_of(base: Mapping[str, str], record: RunRecord, source: Path, home: Path) -> dict[str, str]:
    """Return the variables of the new process: this one's, with those that the run's steps declared as they were."""
    kept = {name: value for name, value in base.items() if not name.startswith("CUPOLA_")}
    root, now = record.facts.get("root", ""), str(source)
    if "PYTHONPATH" in kept:
        entries = kept["PYTHONPATH"].split(os.pathsep)
        kept["PYTHONPATH"] = os.pathsep.join(moved(entry, root, now) or entry for entry in entries)
    declared = msgspec.json.decode(record.facts.get("env", "{}"), type=dict[str, str | None])
    for name, value in declared.items():
        if value is None:
            kept.pop(name, None)
        elif MASK not in value:
            kept[name] = value
    progress = {name: base[name] for name in ("CUPOLA_PROGRESS", "CUPOLA_LOG_LEVEL") if name in base}
    own = {"CUPOLA_HOME": str(home), "CUPOLA_ROOT": now, "CUPOLA_PROJECT": record.project}
    return {**kept, **progress, **own}


def own_program(python: str, module: str, *arguments: str) -> list[str]:
    """Return the command that runs the `main` of a module of Cupola with an interpreter."""
    # `-P`: modules of the user's with our names must not come first.
    program = _PROGRAM.format(_PACKAGES if python == sys.executable else "", module)
    return [python, "-P", "-c", program, *arguments]


def working_folder(record: RunRecord, source: Path) -> Path:
    """Return where the working folder of a run is now that its source tree is in a folder; it is made."""
    folder = Path(moved(record.facts.get("folder", ""), record.facts.get("root", ""), str(source)) or source)
    folder.mkdir(parents=True, exist_ok=True)
    return folder
