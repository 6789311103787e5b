"""What differs between two runs: parameters, steps, outputs, code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from cupola import values
from cupola.client.describe import took
from cupola.client.views import ArtifactVersion, Run
from cupola.engine.explain import part_text


class Difference(msgspec.Struct, frozen=True):
    """Something that differs: its name, and what it is in each run; None where a run doesn't have it."""

    name: str
    old: Any
    new: Any


class RunDiff(msgspec.Struct, frozen=True):
    """What differs between two runs.

    Attributes:
        old, new: Ids of the runs.
        params: Parameters, with values as JSON has them.
        facts: What was true around the runs, such as versions and host.
        steps: Steps that ended otherwise or are only in one, with their states.
        durations: Steps in both, with their lengths as text where one at least ran.
        outputs: Outputs of steps whose values differ, as `step.output`, with previews.
        code: Definitions, constants and libraries that differ, with what people can compare.
    """

    old: str
    new: str
    params: tuple[Difference, ...]
    facts: tuple[Difference, ...]
    steps: tuple[Difference, ...]
    durations: tuple[Difference, ...]
    outputs: tuple[Difference, ...]
    code: tuple[Difference, ...]

    @property
    def is_empty(self) -> bool:
        """Whether both did the same to the same: only when and how long may differ."""
        return not (self.params or self.outputs or self.code or self.steps)


def diff_runs(old: Run, new: Run) -> RunDiff:
    """Compare two runs, of one pipeline or of two."""
    steps = (old.steps, new.steps)
    states = tuple({name: str(step.status) for name, step in found.items()} for found in steps)
    lengths = tuple({name: took(step.record) for name, step in found.items()} for found in steps)
    return RunDiff(
        old=old.id,
        new=new.id,
        params=_differences(*(_params(run) for run in (old, new))),
        facts=_differences(
            *({k: v for k, v in run.facts.items() if k not in ("pid", "command")} for run in (old, new))
        ),
        steps=_differences(*states),
        durations=tuple(
            Difference(name, lengths[0][name], lengths[1][name])
            for name in lengths[0]
            if name in lengths[1] and (lengths[0][name] or lengths[1][name])
        ),
        outputs=_outputs(old, new),
        code=_code(old, new),
    )


def _params(run: Run) -> dict[str, Any]:
    return {name: values.to_json(value) for name, value in run.params.items()}


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[Difference, ...]:
    names = dict.fromkeys([*old, *new])
    return tuple(
        Difference(name, old.get(name), new.get(name))
        for name in names
        if (name in old) != (name in new) or old[name] != new[name]
    )


def _outputs(old: Run, new: Run) -> tuple[Difference, ...]:
    found = [
        {
            f"{step}.{name}": version
            for step, view in run.steps.items()
            if view.status.has_outputs
            for name, version in view.outputs.items()
            if isinstance(version, ArtifactVersion)  # what a mapped step puts out is told of its children
        }
        for run in (old, new)
    ]
    before, after = found
    changed = [
        name
        for name in dict.fromkeys([*before, *after])
        if name not in before or name not in after or before[name].digest != after[name].digest
    ]
    return tuple(
        Difference(name, *(side[name].preview() if name in side else None for side in (before, after)))
        for name in changed
    )


def _code(old: Run, new: Run) -> tuple[Difference, ...]:
    parts = [{(part.kind, part.name): part for part in run.snapshot.graph.parts} for run in (old, new)]
    before, after = parts
    changed = [
        key
        for key in dict.fromkeys([*before, *after])
        if key not in before or key not in after or before[key].digest != after[key].digest
    ]
    return tuple(
        Difference(
            f"{kind} {name}",
            *(part_text(side[kind, name]) if (kind, name) in side else None for side in (before, after)),
        )
        for kind, name in changed
    )
