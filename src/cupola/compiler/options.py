"""From what a user said of a step, in several places, to the plain options that a snapshot holds.

The order, lowest first: decorators of the pipelines it is in, of the step, `with_options` of both, then each layer of
configuration, where what a layer says of one step beats what it says of all.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Mapping, Sequence
from typing import Any, cast

import msgspec
from msgspec import UNSET

from cupola import values
from cupola.compiler.nodes import Node
from cupola.compiler.requirements import own_file, read_requirements, recordable
from cupola.compiler.source import file_of, program_root, relative_path, root_of, source_name, underlying
from cupola.entities.options import (
    HOOKS,
    CachePolicy,
    Image,
    Model,
    PipelineKnobs,
    Retry,
    StepKnobs,
    merge_knobs,
)
from cupola.entities.resources import Resources
from cupola.errors import ConfigError
from cupola.snapshot import StepOptions

_SHARED = ("cache", "retry", "env", "secrets", "model")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


class KnobLayer(msgspec.Struct, frozen=True, kw_only=True):
    """What one source of configuration says above the decorators.

    Attributes:
        origin: Where it was said, for people.
        pipeline: What it says of the pipeline.
        steps: What it says of single steps, by invocation name.
    """

    origin: str
    pipeline: PipelineKnobs = PipelineKnobs()
    steps: Mapping[str, StepKnobs] = {}


def step_knobs(node: Node, layers: Sequence[KnobLayer]) -> StepKnobs:
    """Return what holds for one step call."""
    knobs = StepKnobs()
    for pipeline in node.pipelines:
        knobs = merge_knobs(knobs, for_steps(pipeline.knobs))
    knobs = merge_knobs(knobs, node.definition.knobs)
    for pipeline in node.pipelines:
        knobs = merge_knobs(knobs, for_steps(pipeline.overrides))
    knobs = merge_knobs(knobs, node.definition.overrides)
    for layer in layers:
        knobs = merge_knobs(knobs, for_steps(layer.pipeline))
        if node.name in layer.steps:
            knobs = merge_knobs(knobs, layer.steps[node.name])
    return knobs


def for_steps(pipeline: PipelineKnobs) -> StepKnobs:
    """Return what a pipeline's options say of its steps."""
    return StepKnobs(**{name: getattr(pipeline, name) for name in _SHARED})


def plain_options(knobs: StepKnobs, node: Node, literals: Mapping[str, bytes]) -> StepOptions:
    """Return the options as plain data.

    Raises:
        ConfigError: A value makes no sense; the message names step and option.
    """
    where = f"step {node.name!r} at {node.place}"
    cache = _cache(knobs.cache, where)
    retry = _retry(knobs.retry, where)
    known = {parameter.name for parameter in node.signature.parameters}
    for name in cache.ignore:
        if name not in known:
            raise ConfigError(
                f"CachePolicy(ignore=…) names {name!r}, which is no input",
                where=where,
                fix=f"its inputs: {sorted(known)}",
            )
    return StepOptions(
        cache_read=cache.read,
        cache_write=cache.write,
        cache_code=cache.code,
        cache_ignore=tuple(sorted(cache.ignore)),
        cache_files=tuple(sorted(cache.files)),
        cache_env=tuple(sorted(cache.env)),
        cache_key=_key_value(cache, literals, where),
        cache_expires_s=cache.expires.total_seconds() if cache.expires is not None else None,
        cache_verify=float(cache.verify),
        attempts=retry.attempts,
        # As they are when they were stored and read: 1 and 1.0 make one snapshot.
        delay=float(retry.delay),
        backoff=float(retry.backoff),
        jitter=float(retry.jitter),
        max_delay=float(retry.max_delay),
        retry_on=tuple(cls if isinstance(cls, str) else f"{cls.__module__}.{cls.__qualname__}" for cls in retry.on),
        timeout_s=duration_s(knobs.timeout, "timeout", where) if knobs.timeout is not UNSET else None,
        env=_texts(knobs.env, "env", where),
        resources=_resources(knobs.resources, where),
        image=_kept(knobs.image, Image, "image", where),
        secrets=_texts(knobs.secrets, "secrets", where),
        requirements=_requirements(knobs.requirements, node, where),
        model=_kept(knobs.model, Model, "model", where),
        orchestrator=_text(knobs.orchestrator, "orchestrator", where),
        hooks={name: source_name(hook) for name in HOOKS if (hook := _hook(knobs, name, where)) is not None},
        settings=values.encode(dict(knobs.settings), path="settings") if knobs.settings is not UNSET else b"",
    )


def duration_s(value: object, name: str, where: str) -> float | None:
    """Return a duration in seconds: a number, a `timedelta`, or a text such as `90s`, `10m`, `1.5h`, `2d`.

    Raises:
        ConfigError: It is none of these, or not positive.
    """
    if value is None:
        return None
    seconds: float | None = None
    if isinstance(value, datetime.timedelta):
        seconds = value.total_seconds()
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        seconds = float(value)
    elif isinstance(value, str):
        text = value.strip()
        number = text.rstrip("abcdefghijklmnopqrstuvwxyz")
        unit = text[len(number) :] or "s"
        try:
            seconds = float(number) * _UNITS[unit]
        except (ValueError, KeyError):
            seconds = None
    # Timers take no more than this anywhere; it is 31 years.
    if seconds is None or not 0 < seconds <= 1e9:
        raise ConfigError(
            f"{name}={value!r} is no duration", where=where, fix="write seconds, or a text such as '90s', '10m', '2h'"
        )
    return seconds


def _cache(said: object, where: str) -> CachePolicy:
    if said is UNSET or said is True:
        return CachePolicy()
    if said is False:
        return CachePolicy(read=False, write=False)
    if isinstance(said, CachePolicy):
        return said
    raise ConfigError(
        f"cache={said!r} is neither a bool nor a CachePolicy",
        where=where,
        fix="write cache=True, False or CachePolicy(…)",
    )


def _retry(said: object, where: str) -> Retry:
    if said is UNSET:
        return Retry(attempts=1)
    if isinstance(said, Retry):
        return said
    if isinstance(said, int) and not isinstance(said, bool) and said > 0:
        return Retry(attempts=said)
    raise ConfigError(
        f"retry={said!r} is neither a number of attempts nor a Retry",
        where=where,
        fix="write retry=3 or retry=Retry(attempts=3, delay=1.0)",
    )


def _key_value(cache: CachePolicy, literals: Mapping[str, bytes], where: str) -> bytes | None:
    if cache.key is None:
        return None
    try:
        return values.encode(cache.key({name: values.decode(data) for name, data in literals.items()}), path="key")
    except Exception as error:  # the user's own function may raise anything; say whose it is
        raise ConfigError(
            f"CachePolicy(key=…) failed with {type(error).__name__}: {error}",
            where=where,
            fix="it gets the step's literal inputs as a dict and returns plain data",
        ) from error


def _texts(said: object, name: str, where: str) -> dict[str, str]:
    if said is UNSET:
        return {}
    if not isinstance(said, Mapping):
        raise ConfigError(
            f"{name}={said!r} must map names to texts", where=where, fix=f"write {name}={{'NAME': 'text'}}"
        )
    given = cast("Mapping[Any, Any]", said)
    for key, value in given.items():
        if not isinstance(key, str) or not isinstance(value, str) or "=" in key or "\0" in key + value or not key:
            raise ConfigError(
                f"{name}[{key!r}]={value!r} is no environment variable",
                where=where,
                fix="names and values must be texts; numbers as texts",
            )
    return dict(sorted(given.items()))


def _text(said: object, name: str, where: str) -> str:
    if said is UNSET:
        return ""
    if not isinstance(said, str):
        raise ConfigError(f"{name}={said!r} must be a text", where=where)
    return said


def _requirements(said: object, node: Node, where: str) -> tuple[str, ...]:
    """Return lines of requirements; a file stays a line that includes it, since its content is read for each run."""
    function = node.definition.function
    file = file_of(getattr(underlying(function), "__globals__", {}))
    if said is UNSET and not file:
        return ()
    root = program_root() or root_of(file or None)
    if said is UNSET:
        line = own_file(file, root)
        lines = (line,) if line else ()
    elif isinstance(said, (str, os.PathLike)):
        path = os.fspath(cast("str", said))
        lines = (f"-r {(os.path.isabs(path) and relative_path(path, root)) or path}",)
    elif isinstance(said, Sequence) and all(isinstance(line, str) for line in cast("Sequence[Any]", said)):
        lines = recordable(tuple(cast("Sequence[str]", said)))
    else:
        raise ConfigError(f"requirements={said!r} must be a list of requirements or the path of a file", where=where)
    if lines:
        read_requirements(lines, root)  # what is missing is said before anything runs
    return lines


def _resources(said: object, where: str) -> bytes:
    if said is UNSET:
        return b""
    if not isinstance(said, Resources):
        raise ConfigError(f"resources={said!r} must be Resources(…)", where=where)
    return msgspec.msgpack.encode(said.amounts, order="deterministic") if said != Resources() else b""


def _kept(said: Any, cls: type[msgspec.Struct], name: str, where: str) -> bytes:
    if said is UNSET:
        return b""
    if not isinstance(said, cls):
        raise ConfigError(f"{name}={said!r} must be {cls.__name__}(…)", where=where)
    return msgspec.msgpack.encode(said, order="deterministic")


def _hook(knobs: StepKnobs, name: str, where: str) -> Any:
    hook = getattr(knobs, name)
    if hook is UNSET or hook is None:
        return None
    if not callable(hook):
        raise ConfigError(
            f"{name}={hook!r} can't be called", where=where, fix="pass a function of one argument, the StepRun"
        )
    return hook
