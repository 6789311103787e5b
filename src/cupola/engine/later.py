"""Options that are checked and recorded, and that no part of this version can carry out."""

from __future__ import annotations

from cupola.errors import ConfigError
from cupola.snapshot import Snapshot, StepOptions, StepSpec

LATER = ("resources", "image", "secrets", "requirements", "model", "orchestrator")
"""Options of steps that are checked and recorded, and that no part of this version can carry out."""


def refuse_later_options(snapshot: Snapshot) -> None:
    """Raise `ConfigError` when a step of a graph asks for one of them."""
    for spec in snapshot.steps:
        refuse_later(spec, snapshot.options[spec.options])


def refuse_later(spec: StepSpec, options: StepOptions) -> None:
    """Raise `ConfigError` when a step asks for one of them."""
    for name in LATER:
        if getattr(options, name):
            raise ConfigError(
                f"step {spec.name!r} asks for {name}=…, which this version records but can't carry out",
                where=spec.source,
                fix=f"take {name} away to run it here",
            )
