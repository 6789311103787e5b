"""Every knob of a step or a pipeline, once: its name, type, default and help.

Decorators, `with_options`, configuration files, `--show-config` and the docs all read these structs.
Callables (`key`, hooks, exception classes of `Retry.on`) stay in the authoring process: a snapshot keeps their names.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, TypeVar, cast

import msgspec
from msgspec import UNSET, UnsetType

from cupola.entities.resources import Resources
from cupola.errors import ConfigError

_LARGEST = 1e9
"""The largest number of seconds that timers take everywhere, 31 years."""
OnError = Literal["stop", "kill", "continue"]


class Retry(msgspec.Struct, frozen=True):
    """When and how often a failed step is tried again.

    Args:
        attempts: How often the step is tried in all, the first time included.
        delay: Seconds before the second attempt.
        backoff: Factor by which the delay grows with each further attempt.
        jitter: Largest random part of the delay, as a share of it, from 0 to 1.
        max_delay: Upper bound of the delay in seconds.
        on: Exception classes that are worth another attempt; every `Exception` when empty.
    """

    attempts: int = 3
    delay: float = 1.0
    backoff: float = 2.0
    jitter: float = 0.1
    max_delay: float = 60.0
    on: tuple[type[BaseException] | str, ...] = ()

    def __post_init__(self) -> None:
        if isinstance(self.on, (type, str)):
            msgspec.structs.force_setattr(self, "on", (self.on,))
        for name, low in (("attempts", 1), ("delay", 0), ("backoff", 0), ("jitter", 0), ("max_delay", 0)):
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or isinstance(value, bool) or not low <= value <= _LARGEST:
                raise ConfigError(f"Retry({name}={value!r}) must be a number of at least {low}")
        if not _is_a(self.attempts, int):
            raise ConfigError(f"Retry(attempts={self.attempts!r}) must be a whole number")
        if not _are_exceptions(self.on):
            raise ConfigError(
                f"Retry(on={self.on!r}) must be exception classes or their names", fix="write on=(ConnectionError,)"
            )
        if self.jitter > 1:
            raise ConfigError(f"Retry(jitter={self.jitter!r}) must be at most 1: it is a share of the delay")


def _are_exceptions(given: object) -> bool:
    return isinstance(given, (tuple, list)) and all(
        isinstance(item, str) or (isinstance(item, type) and issubclass(item, BaseException))
        for item in cast("Sequence[object]", given)
    )


def _is_list(given: object) -> bool:
    return isinstance(given, Iterable) and not isinstance(given, (str, bytes, Mapping))


def _is_a(given: object, wanted: type | tuple[type, ...]) -> bool:
    """Tell what checkers take for granted and users don't keep."""
    return isinstance(given, wanted)


class Image(msgspec.Struct, frozen=True):
    """The container image that a step runs in.

    Args:
        base: Image to start from.
        dockerfile: Path of a Dockerfile relative to the source root.
        requirements: Python requirements to install.
        apt: Debian packages to install.
        env: Environment variables of the image.
    """

    base: str | None = None
    dockerfile: str | None = None
    requirements: tuple[str, ...] = ()
    apt: tuple[str, ...] = ()
    env: dict[str, str] = {}


class Model(msgspec.Struct, frozen=True):
    """The registered model that a step or pipeline works on.

    Args:
        name: Name of the model.
        version: Number, name or stage of the version; a new version when None.
        tags: Tags of the model.
        description: What the model is.
        license: Licence of the model.
        audience: Whom it is for.
        use_cases: What it is for.
        limitations: What it can't do.
        trade_offs: What was given up for what.
        ethics: What to be careful about.
    """

    name: str
    version: int | str | None = None
    tags: tuple[str, ...] = ()
    description: str = ""
    license: str = ""
    audience: str = ""
    use_cases: str = ""
    limitations: str = ""
    trade_offs: str = ""
    ethics: str = ""


class CachePolicy(msgspec.Struct, frozen=True):
    """What decides whether an earlier result of a step may stand for a new one.

    Args:
        ignore: Names of inputs that don't count.
        files: Paths, relative to the source root, whose content counts.
        env: Names of environment variables whose values count.
        key: Function of the step's literal inputs as a dict; what it returns counts instead of those inputs.
        expires: Age after which a result is no longer used.
        code: Whether the step's code counts.
        write: Whether a result may be used by later runs.
        verify: Share of hits that are run again and compared, from 0 to 1.
        read: Whether results of earlier runs may be used.
    """

    ignore: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    key: Callable[[Mapping[str, Any]], Any] | None = None
    expires: datetime.timedelta | None = None
    code: bool = True
    write: bool = True
    verify: float = 0.0
    read: bool = True

    def __post_init__(self) -> None:
        for name in ("ignore", "files", "env"):
            given: Any = getattr(self, name)
            if not _is_list(given):
                raise ConfigError(
                    f"CachePolicy({name}={given!r}) must be a list of names", fix=f"write {name}=[{str(given)!r}]"
                )
            msgspec.structs.force_setattr(self, name, tuple(str(item) for item in given))
        for name in ("code", "write", "read"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(f"CachePolicy({name}={getattr(self, name)!r}) must be True or False")
        if self.key is not None and not callable(self.key):
            raise ConfigError(
                f"CachePolicy(key={self.key!r}) can't be called", fix="pass a function of the step's literal inputs"
            )
        if self.expires is not None and not _is_a(self.expires, datetime.timedelta):
            raise ConfigError(
                f"CachePolicy(expires={self.expires!r}) must be a datetime.timedelta", fix="write timedelta(days=1)"
            )
        if not _is_a(self.verify, (int, float)) or not 0 <= self.verify <= 1:
            raise ConfigError(f"CachePolicy(verify={self.verify!r}) must be between 0 and 1: it is a share of the hits")


class ArtifactConfig(msgspec.Struct, frozen=True):
    """How an output is recorded as an artifact; stands inside `Annotated[T, ArtifactConfig(...)]`.

    Args:
        name: Name of the artifact, instead of `pipeline/invocation/output`.
        version: Version named by you; the store numbers versions when None.
        tags: Tags of each version.
        metadata: Metadata of each version.
        kind: What it is for people: `data`, `model`, `metrics`, `report`.
        materializer: Id of the materializer to use, such as `pickle`.
    """

    name: str | None = None
    version: str | int | None = None
    tags: tuple[str, ...] = ()
    metadata: dict[str, Any] = {}
    kind: str = ""
    materializer: str | None = None

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "tags", tuple(self.tags))


Hook = Callable[[Any], object]
Environment = Mapping[str, str]
Requirements = Sequence[str] | str | os.PathLike[str]


class StepKnobs(msgspec.Struct, frozen=True, kw_only=True):
    """What a user may say of a step, by decorator, `with_options` or configuration; `UNSET` is what was not said.

    Attributes:
        name: Name of the step; its function's name when not said.
        cache: Whether and how earlier results may be used.
        retry: Number of attempts in all, or a `Retry`.
        timeout: Limit of one attempt, in seconds or as a duration such as `"10m"`.
        resources: What the step needs to run.
        env: Environment variables of the step; they count for the cache.
        requirements: Python requirements of the step, as a list or the path of a file; those of `requirements.txt` in
            the folder of the step's file when not said.
        image: The container image that the step runs in.
        secrets: Environment variables filled from secrets, such as `{"TOKEN": "{{hub.token}}"}`.
        model: The registered model that the step works on.
        orchestrator: Name of the component that runs this one step elsewhere.
        on_start, on_success, on_failure, on_end: Functions of the `StepRun`, called at these moments.
        settings: Settings of components by name.
    """

    name: str | UnsetType = UNSET
    cache: bool | CachePolicy | UnsetType = UNSET
    retry: int | Retry | UnsetType = UNSET
    timeout: float | str | datetime.timedelta | UnsetType | None = UNSET
    resources: Resources | UnsetType = UNSET
    env: Environment | UnsetType = UNSET
    requirements: Requirements | UnsetType = UNSET
    image: Image | UnsetType = UNSET
    secrets: Mapping[str, str] | UnsetType = UNSET
    model: Model | UnsetType = UNSET
    orchestrator: str | UnsetType = UNSET
    on_start: Hook | UnsetType = UNSET
    on_success: Hook | UnsetType = UNSET
    on_failure: Hook | UnsetType = UNSET
    on_end: Hook | UnsetType = UNSET
    settings: Mapping[str, Any] | UnsetType = UNSET


class PipelineKnobs(msgspec.Struct, frozen=True, kw_only=True):
    """What a user may say of a pipeline; `cache`, `retry`, `env`, `secrets` and `model` hold for its steps.

    Attributes:
        name: Name of the pipeline; its function's name when not said.
        dynamic: Whether the pipeline function's own control flow decides at run time.
        on_error: What a failed step means for the others: `stop`, `kill` or `continue`.
        tags: Tags of each run.
        description: What the pipeline is for; the function's docstring when not said.
        on_start, on_success, on_failure, on_end: Functions of the `Run`, called at these moments.
        raise_on_failure: Whether a failed run raises `RunFailed`; the run is returned otherwise.
    """

    name: str | UnsetType = UNSET
    dynamic: bool | UnsetType = UNSET
    cache: bool | CachePolicy | UnsetType = UNSET
    retry: int | Retry | UnsetType = UNSET
    on_error: OnError | UnsetType = UNSET
    tags: Sequence[str] | UnsetType = UNSET
    model: Model | UnsetType = UNSET
    env: Environment | UnsetType = UNSET
    secrets: Mapping[str, str] | UnsetType = UNSET
    description: str | UnsetType = UNSET
    on_start: Hook | UnsetType = UNSET
    on_success: Hook | UnsetType = UNSET
    on_failure: Hook | UnsetType = UNSET
    on_end: Hook | UnsetType = UNSET
    settings: Mapping[str, Any] | UnsetType = UNSET
    raise_on_failure: bool | UnsetType = UNSET


HOOKS = ("on_start", "on_success", "on_failure", "on_end")
Knobs = TypeVar("Knobs", StepKnobs, PipelineKnobs)


def merge_knobs(lower: Knobs, higher: Knobs) -> Knobs:
    """Return the knobs of both; what `higher` says wins, and environment variables are added up by name."""
    changes = {name: value for name in higher.__struct_fields__ if (value := getattr(higher, name)) is not UNSET}
    for name in ("env", "secrets", "settings"):
        below = getattr(lower, name)
        if name in changes and below is not UNSET:
            changes[name] = {**below, **changes[name]}
    return msgspec.structs.replace(lower, **changes) if changes else lower
