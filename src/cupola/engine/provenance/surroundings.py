"""What a program runs in: interpreter, platform, installed distributions, and the variables that its steps declare."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

import msgspec

from cupola.compiler.libraries import Installed, list_installed
from cupola.engine.provenance.masking import mask_text, mask_variable
from cupola.snapshot import Snapshot
from cupola.text import storable_text


def read_machine() -> dict[str, str]:
    """Return interpreter and platform as facts."""
    system = os.uname()
    libc = ""
    if "CS_GNU_LIBC_VERSION" in getattr(os, "confstr_names", {}):
        libc = os.confstr("CS_GNU_LIBC_VERSION") or ""
    return {
        "interpreter": f"{sys.implementation.name} {sys.version.split()[0]}",
        "executable": storable_text(sys.executable or ""),
        "platform": " ".join(filter(None, (system.sysname, system.release, system.machine, libc))),
    }


def read_distributions() -> str:
    """Return the installed distributions, one a line, sorted: `name==version`, and where one was installed from."""
    found: dict[str, Installed] = {}
    for folder in sys.path:
        for one in list_installed(folder):
            # The first folder that has it is the one that imports find.
            found.setdefault(one.name, one)
    return "".join(f"{_line(found[name])}\n" for name in sorted(found))


def parse_distributions(text: str) -> dict[str, str]:
    """Return versions by name from what `read_distributions` returned; of some, also where they came from."""
    return dict(line.split("==", 1) for line in text.splitlines() if "==" in line)


def read_declared(snapshot: Snapshot, environment: Mapping[str, str]) -> str:
    """Return as JSON, by name, what the variables that steps declare were: their own, and those that count for them.

    Args:
        snapshot: The graph, which says what each step declares.
        environment: The variables of the process.
    """
    declared: dict[str, str | None] = {}
    for options in snapshot.options:
        for name in options.cache_env:
            value = environment.get(name)
            declared[name] = None if value is None else mask_variable(name, storable_text(value))
    for options in snapshot.options:
        declared.update({name: mask_variable(name, value) for name, value in options.env.items()})
    return msgspec.json.encode(dict(sorted(declared.items()))).decode() if declared else ""


def _line(one: Installed) -> str:
    return f"{one.name.replace('_', '-')}=={one.version}" + (f" @ {mask_text(one.origin)}" if one.origin else "")
