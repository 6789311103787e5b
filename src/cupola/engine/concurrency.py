"""How many worker processes a run may have: as a command, the environment or the pipeline says, else as fits here."""

from __future__ import annotations

from typing import Any, cast

from cupola import engine, values
from cupola.errors import ConfigError
from cupola.settings import read_setting
from cupola.snapshot import Snapshot
from cupola.suggest import nearest

COMPONENT = "local"
"""What `settings=` calls that which runs steps on this machine."""
_MOST = 1000
_inside_worker: list[bool] = []


def read_workers(said: int | None, snapshot: Snapshot) -> int | None:
    """Return how many worker processes a run may have: 0 for none, None when nobody said.

    Args:
        said: What the command says.
        snapshot: What runs; `settings={"local": {"workers": 4}}` of its pipeline counts last.

    Raises:
        ConfigError: What was said is no such number.
    """
    if said is not None:
        return _checked(said, "--workers")
    text = read_setting("workers").strip()
    if text:
        return _checked(int(text) if text.isascii() and text.isdigit() else text, "CUPOLA_WORKERS")
    settings = cast("dict[str, Any]", values.decode(snapshot.settings) if snapshot.settings else {})
    own = settings.get(COMPONENT, {})
    where = f"settings={{{COMPONENT!r}: …}} of pipeline {snapshot.pipeline!r}"
    if not isinstance(own, dict):
        raise ConfigError(f"{own!r} is no mapping", where=where, fix='write {"workers": 4}')
    for name in cast("dict[Any, Any]", own):
        if name != "workers":
            close = nearest(str(name), ["workers"])
            fix = f"did you mean {close!r}?" if close else "known is: workers"
            raise ConfigError(f"there is no setting {name!r}", where=where, fix=fix)
    return _checked(own["workers"], where) if own else None


def default_workers() -> int:
    """Return how many worker processes are right where nobody said: one for each processor that may be used.

    A run that a step in a worker starts shares the processors with what runs beside that step: it has one.
    """
    return 1 if _inside_worker else max(1, int(engine.capacity.count_cpus()))


def enter_worker() -> None:
    """Note that this process is a worker."""
    _inside_worker.append(True)


def _checked(said: Any, where: str) -> int:
    if isinstance(said, int) and not isinstance(said, bool) and 0 <= said <= _MOST:
        return said
    raise ConfigError(
        f"workers={said!r} is no number from 0 to {_MOST}",
        where=where,
        fix="say how many steps may run at once, or 0 to run all of them in the program's own process",
    )
