"""Which results of an earlier run a new one takes over: all that is still what the new run would compute.

Pure over the two snapshots and the earlier run's records.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from cupola.engine.graph import read_steps
from cupola.entities.artifact import VersionRecord
from cupola.entities.run import StepRecord, StepStatus
from cupola.snapshot import Addition, Collect, FromStep, Gather, Literal, Snapshot, Source, StepSpec
from cupola.store import CacheEntry


class Earlier(msgspec.Struct, frozen=True, kw_only=True):
    """A run whose results may be taken over.

    Attributes:
        snapshot: Its graph.
        steps: What is recorded of its steps, by position.
        children: Positions of the children of its mapped steps.
        outputs: Returns what a step put out, by output name.
        exists: Tells whether all of an output's blobs are there.
    """

    snapshot: Snapshot
    steps: Mapping[int, StepRecord]
    children: Mapping[int, range]
    outputs: Callable[[int], Mapping[str, VersionRecord]]
    exists: Callable[[VersionRecord], bool]


class Selection(msgspec.Struct, frozen=True):
    """What a rerun does.

    Attributes:
        kept: Results that are taken over, by position.
        kept_children: Those of children, by their mapped step and number.
        forced: Steps that run whatever the cache has.
    """

    kept: Mapping[int, CacheEntry]
    kept_children: Mapping[int, Mapping[int, CacheEntry]]
    forced: frozenset[int]


class KeptCall(msgspec.Struct, frozen=True):
    """A call of an earlier dynamic run whose result may be taken over: what it was, and its result."""

    spec: StepSpec
    entry: CacheEntry


Calls = Mapping[tuple[str, int], KeptCall]
"""Calls by their content key and their number among equal ones."""


def select_calls(additions: Mapping[int, Addition], earlier: Earlier) -> Calls:
    """Return the calls of an earlier dynamic run that have a result which can be read."""
    found = {position: _entry(earlier, position, addition.spec) for position, addition in additions.items()}
    return {
        (additions[position].key, additions[position].number): KeptCall(additions[position].spec, entry)
        for position, entry in found.items()
        if entry is not None
    }


def computes_same(now: StepSpec, before: StepSpec) -> bool:
    """Tell whether two calls with one content key, which says that their inputs are equal, compute the same."""
    return (now.source, now.code_digest, now.base_key) == (before.source, before.code_digest, before.base_key)


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
    kept_children: dict[int, dict[int, CacheEntry]] = {}
    # Mapped steps of which all that was finished is taken over, and those of them that were finished as a whole.
    as_far, whole = set[int](), set[int]()
    for position, spec in enumerate(new.steps):
        read, collected = read_steps(spec)
        needed = {*read, *collected, *spec.after}
        if spec.name == first or needed & forced:
            forced.add(position)
            continue
        old = before.get(spec.name)
        # A child needs the one child that it is spread from, and has a result only where that one had.
        one_by_one = _spread_from(spec) & as_far
        if old is None or not needed - one_by_one <= kept.keys() | whole:
            continue
        if not _is_same(spec, new, earlier.snapshot.steps[old], earlier.snapshot):
            continue
        if spec.fan is None:
            entry = _entry(earlier, old, spec)
            if entry is not None:
                kept[position] = entry
            continue
        entries, is_all = _child_entries(earlier, old, spec)
        kept_children[position] = entries
        if is_all:
            as_far.add(position)
            if earlier.steps[old].status.has_outputs and len(entries) == len(earlier.children[old]):
                whole.add(position)
    return Selection(kept, kept_children, frozenset(forced))


def _spread_from(spec: StepSpec) -> set[int]:
    """Return the mapped steps whose children a mapped step takes one by one."""
    over = spec.fan.over if spec.fan is not None else ()
    sources = [spec.inputs[name] for name in over]
    return {source.step for source in sources if isinstance(source, Collect) and not source.allow_failures}


def _child_entries(earlier: Earlier, position: int, spec: StepSpec) -> tuple[dict[int, CacheEntry], bool]:
    """Return the results of the children of a mapped step by number, and whether these are all that they had."""
    entries: dict[int, CacheEntry] = {}
    is_all = position in earlier.children
    for index, child in enumerate(earlier.children.get(position, ())):
        entry = _entry(earlier, child, spec)
        if entry is not None:
            entries[index] = entry
        elif child in earlier.steps and earlier.steps[child].status.has_outputs:
            is_all = False
    return entries, is_all


def _is_same(new: StepSpec, graph: Snapshot, old: StepSpec, old_graph: Snapshot) -> bool:
    """Tell whether two calls compute the same from the same inputs."""
    if not computes_same(new, old) or new.inputs.keys() != old.inputs.keys():
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


def _entry(earlier: Earlier, position: int, spec: StepSpec) -> CacheEntry | None:
    """Return the result of an earlier step, or None when it has none that can be read."""
    step = earlier.steps.get(position)
    if step is None or not step.status.has_outputs:
        return None
    outputs = earlier.outputs(position)
    if not all(output.name in outputs and earlier.exists(outputs[output.name]) for output in spec.outputs):
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
