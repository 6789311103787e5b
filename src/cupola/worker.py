"""The worker: the only place where a step's function is called.

Inputs in, a fold of the middlewares around the call, outputs out. It writes no events: it hands back one `Outcome`, and
the driver makes the event of it.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import msgspec

from cupola import artifacts, values
from cupola.artifacts.blobs import Blobs
from cupola.artifacts.materializer import load_value, store_value, value_metadata
from cupola.compiler.annotations import type_text
from cupola.compiler.assignable import is_instance
from cupola.compiler.stepcompile import LiveStep
from cupola.context import (
    ArtifactAccess,
    Checkpoints,
    PipelineInfo,
    Recorded,
    RunInfo,
    StepContext,
    StepInfo,
    enter_step,
    leave_step,
)
from cupola.entities.artifact import Manifest, OutputRecord
from cupola.entities.run import Failure, StepStatus
from cupola.errors import MaterializerError
from cupola.event import Usage
from cupola.failures import describe_failure, end_forked_child, is_failure
from cupola.journal import live_folder
from cupola.middleware import hooks, limits, logs, retry, surroundings, witness
from cupola.middleware.attempt import Attempt, Hook, Moment, Proceed
from cupola.snapshot import Collect, FromStep, Gather, Literal, OutputSpec, Source, StepOptions, StepSpec

MIDDLEWARE = (logs, surroundings, hooks, retry, limits, witness)
"""All features of steps, the outermost first."""

Shared = dict[tuple[int, str], Any]
"""Outputs of earlier steps that nobody can change, so that consumers may have the very object."""


class Services(msgspec.Struct, frozen=True, kw_only=True):
    """What all steps of a run share in this worker.

    Attributes:
        run, pipeline: What steps may ask about them.
        root: Source root.
        blobs: Where values are stored.
        artifacts: What steps may do with artifacts by name.
        tell_hook: Calls a hook of the user's with a `StepRun` for a moment.
        put_back: Puts back what steps change of this process.
        is_captured: Whether what the process prints goes into this run's log.
        chains: The fold of the middlewares for each combination of options that came up.
    """

    run: RunInfo
    pipeline: PipelineInfo
    root: Path
    blobs: Blobs
    artifacts: ArtifactAccess
    tell_hook: Callable[[Hook, Moment], None]
    put_back: Callable[[], None]
    is_captured: bool
    chains: dict[tuple[int, bool], Proceed] = {}


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """One step to run.

    Attributes:
        position: Its place in the snapshot.
        spec, options: What the snapshot says of it.
        live: Its function, annotations and hooks.
        attempt, tries: Number of the attempt among all of the step, and among those that count for its `Retry`.
        manifests: Stored outputs of the steps it reads from, by position and output name.
        shared: Those of them that may be passed on as the very object.
    """

    position: int
    spec: StepSpec
    options: StepOptions
    live: LiveStep
    attempt: int
    tries: int
    manifests: Mapping[tuple[int, str], Manifest]
    shared: Shared


class Outcome(msgspec.Struct, kw_only=True):
    """What became of an attempt.

    Attributes:
        status: `completed`, `failed` or `cancelled`.
        outputs: The declared outputs, in order, then what was saved by name.
        objects: Outputs by name that may be passed on as the very object.
        recorded: What the step recorded besides.
        usage: What it used.
        failure: The record of the exception.
        error: The exception itself.
        again_after_s: Seconds after which another attempt is to follow; None when none is.
    """

    status: StepStatus
    recorded: Recorded
    usage: Usage
    outputs: tuple[OutputRecord, ...] = ()
    objects: Mapping[str, Any] = {}
    failure: Failure | None = None
    error: BaseException | None = None
    again_after_s: float | None = None


def run_task(task: Task, services: Services) -> Outcome:
    """Run one attempt of a step in this process and say what became of it; never raises what the step raised."""
    context = StepContext(
        services.run,
        services.pipeline,
        StepInfo(task.spec.name, task.spec.source, task.position),
        tuple(output.name for output in task.spec.outputs),
        services.artifacts,
        task.attempt,
    )
    attempt = Attempt(
        number=task.attempt,
        tries=task.tries,
        options=task.options,
        context=context,
        hooks=task.live.hooks,
        retry_on=task.live.retry_on,
        call=lambda: call_step(task, services, context),
        tell_hook=services.tell_hook,
        put_back=services.put_back,
        is_captured=services.is_captured,
        failure_of=lambda error: describe_failure(error, services.root),
    )
    context.open_checkpoints = lambda: _open_checkpoints(task, services)
    before = _cpu_s()
    token = enter_step(context)
    try:
        outputs, objects = _chain_for(attempt, task, services)(attempt)
    except BaseException as error:  # whatever a step raises, SystemExit and interrupts too, is the step's outcome
        return Outcome(
            status=StepStatus.FAILED if is_failure(error) else StepStatus.CANCELLED,
            recorded=context.recorded,
            usage=_usage(before),
            outputs=tuple(context.recorded.saved),
            failure=describe_failure(error, services.root),
            error=error,
            again_after_s=attempt.again_after_s,
        )
    finally:
        leave_step(token)
        context.end()
    return Outcome(
        status=StepStatus.COMPLETED,
        recorded=context.recorded,
        usage=_usage(before),
        outputs=outputs,
        objects=objects,
    )


def _chain_for(attempt: Attempt, task: Task, services: Services) -> Proceed:
    """Return the fold of the middlewares that this step needs around the call of its function."""
    key = task.spec.options, bool(task.live.hooks)
    known = services.chains.get(key)
    if known is None:
        known = services.chains[key] = fold_middlewares(attempt)
    return known


def fold_middlewares(attempt: Attempt) -> Proceed:
    """Return the call of a step's function with each middleware that applies around it."""
    proceed: Proceed = _innermost
    for middleware in reversed(MIDDLEWARE):
        if middleware.applies(attempt):
            proceed = middleware.wrap(proceed)
    return proceed


def _innermost(attempt: Attempt) -> Any:
    return attempt.call()


def call_step(
    task: Task, services: Services, context: StepContext
) -> tuple[tuple[OutputRecord, ...], Mapping[str, Any]]:
    """Load the inputs, call the function, store what it returned."""
    arguments = {
        name: load_input(source, task, services.blobs, task.live.annotations.get(name))
        for name, source in task.spec.inputs.items()
    }
    returned = _call(task.live, arguments)
    # The arguments go before the outputs are stored, or a large input and output would be in memory at once.
    del arguments
    return _store_outputs(returned, task, services.blobs, context.recorded)


def _call(live: LiveStep, arguments: dict[str, Any]) -> Any:
    process = os.getpid()
    try:
        returned = live.function(*[arguments.pop(name) for name in live.positional], **arguments)
        returned = await_result(returned)
    except BaseException as error:
        if os.getpid() != process:
            end_forked_child(error)
        raise
    if os.getpid() != process:
        end_forked_child(None)
    return returned


def await_result(returned: Any) -> Any:
    """Return what a step's function gives: the result of its coroutine, where it is asynchronous."""
    if not (hasattr(returned, "__await__") and hasattr(returned, "cr_code")):
        return returned
    import asyncio

    return asyncio.run(returned)


def _open_checkpoints(task: Task, services: Services) -> Checkpoints:
    def inputs() -> str:
        return checkpoints.inputs_digest(task.spec.inputs, task.manifests, task.live.files, services.root)

    checkpoints = artifacts.checkpoints
    run = live_folder(services.blobs.home, services.run.id)
    return checkpoints.StepCheckpoints(run, task.spec.name, task.attempt, inputs, sync=services.blobs.sync)


def load_input(source: Source, task: Task, blobs: Blobs, annotation: Any) -> Any:
    """Return the value of an input of a step, of the type that its annotation asks for."""
    match source:
        case Literal():
            return values.decode(source.value, annotation)
        case FromStep():
            key = (source.step, source.output)
            if key in task.shared:
                return task.shared[key]
            return load_value(task.manifests[key], blobs, annotation)
        case Gather():
            item_type = _item_annotations(annotation, len(source.items))
            items = [load_input(item, task, blobs, item_type[i]) for i, item in enumerate(source.items)]
            if hasattr(annotation, "_fields"):  # all outputs of a step at once, as the NamedTuple that they are of
                return annotation(*items)
            if source.kind == "dict":
                return dict(zip((values.decode(key) for key in source.keys), items, strict=True))
            return items if source.kind == "list" else tuple(items)
        case Collect():
            raise AssertionError(f"the driver had to resolve what collects step {source.step}")


def _item_annotations(annotation: Any, count: int) -> list[Any]:
    """Return what the items of a gathered input are annotated with, as far as `list[T]` and its like say it."""
    arguments = getattr(annotation, "__args__", ())
    origin = getattr(annotation, "__origin__", None)
    if not arguments or origin is None:
        return [None] * count
    if origin is tuple and len(arguments) == count and Ellipsis not in arguments:
        return list(arguments)
    return [arguments[-1] if origin is dict else arguments[0]] * count


def _store_outputs(
    returned: Any, task: Task, blobs: Blobs, recorded: Recorded
) -> tuple[tuple[OutputRecord, ...], Mapping[str, Any]]:
    declared = task.spec.outputs
    items = _split(returned, task)
    del returned
    records: list[OutputRecord] = []
    objects: dict[str, Any] = {}
    for place, spec in enumerate(declared):
        value = items[place]
        items[place] = None
        annotation = task.live.declarations[place].annotation
        _check_type(value, annotation, spec, task)
        manifest = store_value(
            value, annotation, blobs, materializer=spec.materializer, path=f"{task.spec.name}.{spec.name}"
        )
        if values.is_immutable(value):
            objects[spec.name] = value
        records.append(_output_record(spec, manifest, value_metadata(value, manifest), recorded))
    return (*records, *recorded.saved), objects


def _output_record(
    spec: OutputSpec, manifest: Manifest, metadata: Mapping[str, Any], recorded: Recorded
) -> OutputRecord:
    encoded = spec.metadata
    if metadata:
        encoded = {**{key: values.encode(value) for key, value in metadata.items()}, **encoded}
    if spec.name in recorded.output_metadata:
        encoded = {**encoded, **recorded.output_metadata[spec.name]}
    tags = spec.tags
    if spec.name in recorded.output_tags:
        tags = tuple(dict.fromkeys((*tags, *recorded.output_tags[spec.name])))
    return OutputRecord(spec.name, spec.artifact, manifest, encoded, tags, False, spec.version, spec.kind)


def _split(returned: Any, task: Task) -> list[Any]:
    count = len(task.spec.outputs)
    if not task.live.multiple:
        if count == 0 and returned is not None:
            raise MaterializerError(
                f"step {task.spec.name!r} is annotated to return None but returned {type_text(type(returned))}",
                where=task.spec.source,
                fix="annotate what it returns, or return nothing",
            )
        return [returned]
    is_several = isinstance(returned, (tuple, list))
    items: list[Any] = list(cast("Any", returned)) if is_several else [returned]
    if not is_several or len(items) != count:
        got = f"{len(items)} values" if is_several else f"one {type_text(type(returned))}"
        raise MaterializerError(
            f"step {task.spec.name!r} returned {got} but its annotation declares {count} outputs "
            f"({', '.join(output.name for output in task.spec.outputs)})",
            where=task.spec.source,
            fix="return a tuple with one value for each, or change the annotation",
        )
    return items


def _check_type(value: Any, annotation: Any, spec: OutputSpec, task: Task) -> None:
    if type(value) is annotation or is_instance(value, annotation):
        return
    given = type_text(type(value))
    fix = "change the annotation, or what the step returns"
    if hasattr(value, "__next__"):
        fix = f"a {given} can be read only once and can't be stored: return a list of its items"
    raise MaterializerError(
        f"step {task.spec.name!r} returned {given} for output {spec.name!r}, which is annotated as {spec.type}",
        where=task.spec.source,
        fix=fix,
    )


def _usage(cpu_before_s: float) -> Usage:
    """Return what this process and its ended children used since then; the peak is the process's own so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return Usage(_cpu_s() - cpu_before_s, peak if sys.platform == "darwin" else peak * 1024)


def _cpu_s() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime
