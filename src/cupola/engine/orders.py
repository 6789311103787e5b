"""From an attempt to the order that a worker gets, and from what it answers to the outcome."""

from __future__ import annotations

from collections.abc import Mapping

from cupola.context import Recorded
from cupola.engine import carried
from cupola.engine.wire import Done, Order
from cupola.entities.artifact import Manifest
from cupola.snapshot import FromStep, Gather, Source
from cupola.worker import Outcome, Task


def order_of(task: Task, recipe: int, env: Mapping[str, str]) -> Order:
    """Return what a worker needs of an attempt, besides the recipe of its function and the environment it has."""
    return Order(
        position=task.position,
        recipe=recipe,
        spec=task.spec,
        options=task.options,
        attempt=task.attempt,
        tries=task.tries,
        manifests=_manifests_of(task),
        env=env,
        files=task.live.files,
    )


def outcome_of(done: Done) -> Outcome:
    """Return the outcome of an attempt; its exception is the object that was raised, where that can be."""
    return Outcome(
        status=done.status,
        recorded=done.recorded or Recorded(),
        usage=done.usage,
        outputs=done.outputs,
        failure=done.failure,
        error=carried.unpack(done.error, done.failure) if done.failure is not None else None,
        again_after_s=done.again_after_s,
    )


def _manifests_of(task: Task) -> tuple[tuple[int, str, Manifest], ...]:
    """Return the manifests of the outputs that a step reads."""
    found: dict[tuple[int, str], Manifest] = {}
    pending: list[Source] = list(task.spec.inputs.values())
    while pending:
        source = pending.pop()
        if isinstance(source, FromStep):
            found[source.step, source.output] = task.manifests[source.step, source.output]
        elif isinstance(source, Gather):
            pending += source.items
    return tuple((step, output, manifest) for (step, output), manifest in found.items())
