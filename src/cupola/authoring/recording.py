"""The helpers that record something besides outputs: metadata, metrics, tags, artifacts by name.

Inside a step they write into the step's context, and all of it travels in the step's one event. Outside of one they
write to the store: artifacts as a run of one step, so that it is known who made them and when.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from cupola import authoring, compiler, values
from cupola.authoring.plain import is_plain_call
from cupola.client.client import Client
from cupola.client.views import ArtifactVersion, Run, StepRun
from cupola.compiler.names import name_problem
from cupola.compiler.nodes import PipelineDefinition, StepDefinition
from cupola.compiler.trace import add_call, current_trace
from cupola.context import (
    Recorded,
    RunInfo,
    StepContext,
    current_step,
    encode_metadata,
    find_artifact,
    running_step,
)
from cupola.entities.artifact import OutputRecord
from cupola.entities.options import ArtifactConfig, PipelineKnobs, StepKnobs
from cupola.errors import ConfigError, CupolaError
from cupola.files import File, Folder

LONGEST_NAME = 400
"""Longest name of an artifact, in letters."""


def log_metadata(metadata: Mapping[str, Any], *, target: Any = None) -> None:
    """Record metadata: of the running step, or of `target`.

    Args:
        metadata: Values by name; a name that was logged before is replaced.
        target: A `Run`, `StepRun` or `ArtifactVersion`, or, inside a step, the name of one of its outputs.

    Raises:
        CupolaError: No step is running and there is no target.
        MaterializerError: A value can't be kept; the message names its key.
    """
    encoded = encode_metadata(metadata)
    if is_plain_call() and (target is None or isinstance(target, str)):
        return
    context = current_step()
    if target is None:
        running_step().recorded.metadata.update(encoded)
    elif context is not None and _is_own_run(target, context):
        context.recorded.run_metadata.update(encoded)
    elif context is not None and isinstance(target, str):
        context.check_output(target)
        context.recorded.output_metadata.setdefault(target, {}).update(encoded)
    else:
        _update(target, metadata=dict(metadata))


def log_metrics(metrics: Mapping[str, float], *, step: float | None = None) -> None:
    """Record a point of each metric of the running step, and its last value as metadata.

    Args:
        metrics: Numbers by name; NaN and infinities are kept.
        step: Where on the curve, such as the epoch; the number of earlier points of that metric when left out.
    """
    recorded = Recorded() if is_plain_call() else running_step().recorded
    for name, value in metrics.items():
        try:
            number = float(value)
        except (TypeError, ValueError) as error:
            raise ConfigError(
                f"metric {name!r} is {value!r}, which is no number", fix="use log_metadata for it"
            ) from error
        place = float(step) if step is not None else float(sum(point[0] == name for point in recorded.metrics))
        recorded.metrics.append((name, place, number))
        recorded.metadata[name] = values.encode(number)


def add_tags(*tags: str, target: Any = None) -> None:
    """Add tags to the running step, or to `target` as in `log_metadata`."""
    _check_tags(tags)
    if is_plain_call() and (target is None or isinstance(target, str)):
        return
    context = current_step()
    if target is None:
        running_step().recorded.tags.extend(tags)
    elif context is not None and _is_own_run(target, context):
        context.recorded.run_tags.extend(tags)
    elif context is not None and isinstance(target, str):
        context.check_output(target)
        context.recorded.output_tags.setdefault(target, []).extend(tags)
    else:
        _update(target, add_tags=tags)


def remove_tags(*tags: str, target: Any = None) -> None:
    """Take tags away from the running step, or from `target` as in `log_metadata`."""
    _check_tags(tags)
    if is_plain_call() and (target is None or isinstance(target, str)):
        return
    context = current_step()
    if target is None:
        recorded = running_step().recorded
        recorded.tags[:] = [tag for tag in recorded.tags if tag not in tags]
        recorded.removed_tags.extend(tags)
    elif context is not None and _is_own_run(target, context):
        context.recorded.removed_run_tags.extend(tags)
    elif context is not None and isinstance(target, str):
        context.check_output(target)
        kept = context.recorded.output_tags.get(target, [])
        context.recorded.output_tags[target] = [tag for tag in kept if tag not in tags]
    else:
        _update(target, remove_tags=tags)


def save_artifact(
    value: Any,
    name: str,
    *,
    version: str | int | None = None,
    tags: Sequence[str] = (),
    metadata: Mapping[str, Any] | None = None,
    kind: str = "",
    materializer: str = "",
) -> None:
    """Save a value as a new version of an artifact; inside a step it belongs to that step and travels with its outputs.

    Args:
        value: What to save.
        name: Name of the artifact.
        version: Version named by you; numbered by the store when left out.
        tags: Tags of the version.
        metadata: Metadata of the version.
        kind: What it is for people: `data`, `model`, `metrics`, `report`.
        materializer: Id of the materializer to use, such as `pickle`.

    Raises:
        ConfigError: The name can't be used.
        MaterializerError: The value can't be stored.
    """
    if problem := name_problem(name, LONGEST_NAME, ":"):
        raise ConfigError(
            f"an artifact can't be called {name!r}: {problem}",
            fix="use printable text without ':', which stands between a name and a version",
        )
    _check_tags(tuple(tags))
    config = ArtifactConfig(
        name=name, version=version, tags=tuple(tags), metadata=dict(metadata or {}), kind=kind,
        materializer=materializer or None,
    )  # fmt: skip
    context = current_step()
    if context is None:
        _save_outside(value, config)
        return
    manifest = context.artifacts.store(value, materializer, f"artifact {name!r}")
    context.recorded.saved.append(
        OutputRecord(
            name=name,
            artifact=name,
            manifest=manifest,
            metadata=encode_metadata(config.metadata),
            tags=config.tags,
            saved=True,
            version="" if version is None else str(version),
            kind=kind,
        )
    )


def load_artifact(name: str, version: str | int = "", *, as_type: object = None, allow_pickle: bool = False) -> Any:
    """Load an artifact by name; inside a step also what it has just saved, and the use is recorded.

    Args:
        name: Name of the artifact.
        version: Number or name of the version; the newest when left out.
        as_type: Type to load it as, where several are possible.
        allow_pickle: Whether a pickle may be opened, which can run any code.

    Raises:
        NotFound: There is no such artifact or version.
    """
    context = current_step()
    if context is None:
        found = Client().artifacts.get(f"{name}:{version or 'latest'}")
        return found.load(as_type=as_type, allow_pickle=allow_pickle)
    manifest = find_artifact(context, name, str(version))
    return context.artifacts.load(manifest, as_type, allow_pickle)


def register_artifact(uri: str | os.PathLike[str], name: str, **options: Any) -> None:
    """Save a file or folder as a new version of an artifact; nothing in it is opened or run.

    Args:
        uri: Path of the file or folder, relative to the working folder.
        name: Name of the artifact.
        **options: As for `save_artifact`.
    """
    path = Path(uri).absolute()
    if not path.exists():
        raise ConfigError(f"there is no file or folder {os.fspath(uri)!r}", where=str(path), fix="check the path")
    save_artifact(Folder(path) if path.is_dir() else File(path), name, **options)


def checkpoint(value: Any) -> None:
    """Keep how far the running step has come, in the place of what it kept before; `resume_state` gives it back.

    When this returns, the value survives a kill of the process. It is offered to the next attempt of this step in this
    run, in a retry or after `cupola resume`, and dropped when the step has finished.

    Args:
        value: What an attempt needs to go on from here: anything that can be an artifact.

    Raises:
        CupolaError: No step is running.
        MaterializerError: The value can't be kept exactly.
        Unreachable: It can't be written; what was kept before still is.
    """
    if is_plain_call():
        return
    context = running_step()
    context.checkpoints.save(value)
    context.recorded.has_checkpoint = True


def _save_outside(value: Any, config: ArtifactConfig) -> None:
    def give() -> Any:
        return value

    give.__annotations__["return"] = Annotated[Any, config]
    step = StepDefinition(function=give, name=config.name or "artifact", knobs=StepKnobs(cache=False))

    def wire() -> None:
        trace = current_trace()
        assert trace is not None
        add_call(trace, step, (), {})

    pipeline = PipelineDefinition(function=wire, name="save_artifact", knobs=PipelineKnobs())
    _run, error = authoring.calls.run_request(compiler.requests.Request(pipeline=pipeline), quiet=True)
    if error is not None:
        raise error


def _is_own_run(target: Any, context: StepContext) -> bool:
    return isinstance(target, (Run, RunInfo)) and target.id == context.run.id


def _update(target: Any, **changes: Any) -> None:
    client = Client()
    if isinstance(target, (Run, RunInfo)):
        client.runs.update(target.id, **changes)
    elif isinstance(target, StepRun):
        client.steps.update(target.id, **changes)
    elif isinstance(target, ArtifactVersion):
        client.artifacts.update(target.id, **changes)
    else:
        raise CupolaError(
            f"target={target!r} is nothing that can have metadata or tags",
            fix="pass a Run, a StepRun or an ArtifactVersion, or inside a step the name of one of its outputs",
        )


def _check_tags(tags: Sequence[str]) -> None:
    for tag in tags:
        if not isinstance(tag, str) or not tag.strip() or not tag.isprintable():  # pyright: ignore[reportUnnecessaryIsInstance] — users pass anything
            raise ConfigError(
                f"tag {tag!r} is no printable text", fix="pass tags as separate texts: add_tags('a', 'b')"
            )
