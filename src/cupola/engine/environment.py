"""The environment of a step that asks for requirements or another Python, and having it ready.

A ready one is found by a few looks at files (`built.py`); only where there is none is it made (`installing.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from cupola.compiler.requirements import read_requirements
from cupola.engine.built import Environment, find_ready, request_key


def prepare(
    requirements: Sequence[str],
    *,
    python: str = "",
    home: Path,
    root: Path,
    where: str = "",
    progress: Callable[[str], None] = lambda _text: None,
    is_stopped: Callable[[], bool] = lambda: False,
) -> Environment:
    """Return an environment that holds requirements and Cupola itself, made by uv unless it is there.

    Processes and threads that ask for the same at once make it once; the others wait. What was resolved the first time
    holds for all later runs on this machine.

    Args:
        requirements: Lines of requirements, as the snapshot has them.
        python: Version of Python; the running one when empty.
        home: Home of the store, which the environments lie in.
        root: Source root, which paths are relative to.
        where: The step, for errors.
        progress: Told in a few words what takes time.
        is_stopped: Asked ten times a second whether to give up.

    Raises:
        ConfigError: There is no uv, no such Python, or no versions that fit together.
        RunCancelled: It was told to give up.
        Unreachable: The home can't be written.
    """
    found = read_requirements(requirements, root)
    request = request_key(found, python, root)
    ready = find_ready(home, request)
    if ready is not None:
        return ready
    from cupola.engine import installing  # processes and archives: 100 ms that a ready environment does without

    making = installing.Making(
        home=home, root=root, where=where, progress=progress, is_stopped=is_stopped, request=request, python=python
    )
    return installing.make(found, making)
