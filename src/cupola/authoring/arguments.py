"""What `@step(…)`, `@pipeline(…)` and `with_options(…)` take, as types for checkers.

Each knob is explained in `entities.options`; a test holds both lists together.
"""

import datetime
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypedDict, cast

from cupola.entities.options import (
    HOOKS,
    CachePolicy,
    Environment,
    Hook,
    Image,
    Model,
    OnError,
    Requirements,
    Retry,
)
from cupola.entities.resources import Resources
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
    for name, (is_right, wanted) in _WANTED.items():
        if name in arguments and not is_right(arguments[name]):
            raise ConfigError(f"{name}={arguments[name]!r} is wrong", where=where, fix=f"{name} is {wanted}")
    return cls(**arguments)


def _is_hook(value: Any) -> bool:
    return value is None or callable(value)


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _are_tags(value: Any) -> bool:
    return isinstance(value, (list, tuple, set, frozenset)) and all(
        isinstance(tag, str) and tag.strip() and tag.isprintable() for tag in cast("Iterable[Any]", value)
    )


_HOOK = "a function of one argument, the StepRun or Run"
_WANTED: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "name": (lambda value: value is None or (isinstance(value, str) and value != ""), "a text that is not empty"),
    "dynamic": (_is_flag, "True or False"),
    "raise_on_failure": (_is_flag, "True or False"),
    "description": (lambda value: isinstance(value, str), "a text"),
    "settings": (lambda value: isinstance(value, Mapping), "a mapping by name of component"),
    "on_error": (lambda value: value in ("stop", "kill", "continue"), "'stop', 'kill' or 'continue'"),
    "tags": (_are_tags, "a list of printable texts, such as ['nightly']"),
    **dict.fromkeys(HOOKS, (_is_hook, _HOOK)),
}
"""What can be seen to be wrong where it is written; the compiler judges the others."""
