"""What `@step(…)`, `@pipeline(…)` and `with_options(…)` take, as types for checkers.

Each knob is explained in `entities.options`; a test holds both lists together.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from cupola.entities.options import (
    CachePolicy,
    Environment,
    Hook,
    Image,
    Model,
    OnError,
    Requirements,
    Resources,
    Retry,
)
from cupola.errors import ConfigError
from cupola.suggest import nearest


class StepArguments(TypedDict, total=False):
    """The fields of `StepKnobs`."""

    name: str
    cache: bool | CachePolicy
    retry: int | Retry
    timeout: float | str | datetime.timedelta | None
    resources: Resources
    env: Environment
    requirements: Requirements
    image: Image
    secrets: Mapping[str, str]
    model: Model
    orchestrator: str
    on_start: Hook
    on_success: Hook
    on_failure: Hook
    on_end: Hook
    settings: Mapping[str, Any]


class PipelineArguments(TypedDict, total=False):
    """The fields of `PipelineKnobs`."""

    name: str
    dynamic: bool
    cache: bool | CachePolicy
    retry: int | Retry
    on_error: OnError
    tags: Sequence[str]
    model: Model
    env: Environment
    secrets: Mapping[str, str]
    description: str
    on_start: Hook
    on_success: Hook
    on_failure: Hook
    on_end: Hook
    settings: Mapping[str, Any]
    raise_on_failure: bool


def read_knobs(cls: type[Any], arguments: Mapping[str, Any], where: str) -> Any:
    """Return the knobs that keyword arguments say.

    Raises:
        ConfigError: One is unknown; the message has the nearest known one.
    """
    for name in arguments:
        if name not in cls.__struct_fields__:
            guess = nearest(name, cls.__struct_fields__)
            raise ConfigError(
                f"there is no option {name!r}",
                where=where,
                fix=f"did you mean {guess!r}?" if guess else f"known are: {', '.join(cls.__struct_fields__)}",
            )
    if arguments.get("on_error", "stop") not in ("stop", "kill", "continue"):
        raise ConfigError(
            f"on_error={arguments['on_error']!r} is unknown", where=where, fix="it is 'stop', 'kill' or 'continue'"
        )
    tags = arguments.get("tags", ())
    if isinstance(tags, str) or not all(isinstance(tag, str) for tag in tags):
        raise ConfigError(f"tags={tags!r} must be a list of texts", where=where, fix="write tags=['nightly']")
    return cls(**arguments)
