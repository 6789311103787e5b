"""Which results of an earlier run a new one takes over: all that is still what the new run would compute.

Pure over the two snapshots and the earlier run's records.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from cupola.engine.graph import read_steps
from cupola.entities.artifact import VersionRecord
from cupola.entities.run import StepRecord, StepStatus
from cupola.snapshot import Collect, FromStep, Gather, Literal, Snapshot, Source, StepSpec
from cupola.store import CacheEntry


class Earlier(msgspec.Struct, frozen=True, kw_only=True):
    """A run whose results may be taken over.

    Attributes:
        snapshot: Its graph.
        steps: What is recorded of its steps, by position.
        outputs: Returns what a step put out, by output name.
        exists: Tells whether all of an output's blobs are there.
    """

    snapshot: Snapshot
    steps: Mapping[int, StepRecord]
    outputs: Callable[[int], Mapping[str, VersionRecord]]
    exists: Callable[[VersionRecord], bool]


class Selection(msgspec.Struct, frozen=True):
    """What a rerun does: results taken over by position, and steps that run whatever the cache has."""

    kept: Mapping[int, CacheEntry]
    forced: frozenset[int]


def select(new: Snapshot, earlier: Earlier, first: str) -> Selection:
    """Decide for each step of a new run.

    Args:
        new: The graph of the new run.
        earlier: The run before.
        first: Name of the step from which on everything runs anew; empty for what isn't finished or was changed.
    """
    before = {spec.name: position for position, spec in enumerate(earlier.snapshot.steps)}
    forced: set[int] = set()
    kept: dict[int, CacheEntry] = {}
    for position, spec in enumerate(new.steps):
        read, collected = read_steps(spec)
        needed = {*read, *collected, *spec.after}
        if spec.name == first or needed & forced:
            forced.add(position)
            continue
        old = before.get(spec.name)
        if old is None or not needed <= kept.keys():
            continue
        if _is_same(spec, new, earlier.snapshot.steps[old], earlier.snapshot):
            entry = _entry(earlier, old)
            if entry is not None:
                kept[position] = entry
    return Selection(kept, frozenset(forced))


def _is_same(new: StepSpec, graph: Snapshot, old: StepSpec, old_graph: Snapshot) -> bool:
    """Tell whether two calls compute the same from the same inputs."""
    if new.source != old.source or new.code_digest != old.code_digest or new.base_key != old.base_key:
        return False
    if new.inputs.keys() != old.inputs.keys():
        return False
    return all(_wiring(source, graph) == _wiring(old.inputs[name], old_graph) for name, source in new.inputs.items())


def _wiring(source: Source, graph: Snapshot) -> object:
    match source:
        case Literal():
            return source.value
        case FromStep():
            return graph.steps[source.step].name, source.output
        case Collect():
            return graph.steps[source.step].name, source.output, source.allow_failures
        case Gather():
            return source.kind, source.keys, [_wiring(item, graph) for item in source.items]


def _entry(earlier: Earlier, position: int) -> CacheEntry | None:
    """Return the result of an earlier step, or None when it has none that can be read."""
    step = earlier.steps.get(position)
    if step is None or not step.status.has_outputs:
        return None
    outputs = earlier.outputs(position)
    declared = earlier.snapshot.steps[position].outputs
    if not all(output.name in outputs and earlier.exists(outputs[output.name]) for output in declared):
        return None
    is_cached = step.status is StepStatus.CACHED
    return CacheEntry(
        base_key=step.base_key,
        inputs_key=step.inputs_key,
        run=step.from_run if is_cached else step.run,
        step=step.from_step if is_cached else position,
        made_at=step.made_at if is_cached else (step.ended_at or 0.0),
        duration_s=step.saved_s if is_cached else (step.ended_at or 0.0) - (step.started_at or 0.0),
        expires_at=0.0,
        outputs=tuple(outputs.values()),
    )
