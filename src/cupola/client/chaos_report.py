"""What chaos is judged by: what was seen of undisturbed and of killed runs, and what differs between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from cupola.client.scratch_tree import Content, differing

UNSEEN = (
    "what steps do elsewhere is not seen: other machines, databases, files outside of the source root. A step that "
    "began again did that again."
)


class Line(msgspec.Struct, frozen=True, array_like=True):
    """What the witness of a run saw; written by `middleware.witness`.

    Attributes:
        step: Invocation name of the step.
        attempt: Number of the attempt.
        word: `begin`, `end`, or `fail` when the step raised.
        at: When, seconds since 1970.
        changed: Paths below the watched folder that changed between `begin` and `end` or `fail`.
    """

    step: str
    attempt: int
    word: str
    at: float
    changed: tuple[str, ...] = ()


def read_lines(path: Path) -> list[Line]:
    """Return what a witness saw so far."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    # A kill can't cut a line, but the one being written may be seen before it is whole.
    return [msgspec.json.decode(line, type=Line) for line in data.split(b"\n")[:-1]]


class Observed(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen of a run.

    Attributes:
        status: How it ended.
        steps: Names of its steps, in order.
        outputs: Digest of each output by step and name; empty for one that has no stable digest.
        failures: Steps that failed, with why.
        began, ended: How often each step began, and how often it ended with its outputs stored.
        contents: What the files below the source root held then.
        changed: Files that changed while steps ran, with those steps.
    """

    status: str
    steps: tuple[str, ...]
    outputs: Mapping[tuple[str, str], str]
    failures: Mapping[str, str]
    began: Mapping[str, int]
    ended: Mapping[str, int]
    contents: Mapping[str, Content]
    changed: Mapping[str, tuple[str, ...]]


class StepVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """What kills did to a step, over all killed runs.

    Attributes:
        step: Its name.
        began, ended: How often it began, and ended with its outputs stored.
        again: How often it began more than it does without kills.
        outputs: Outputs that differ from those of the undisturbed runs.
        files: Files that differ and that it changes, each with how.
        failures: How it failed where it doesn't without kills.
        undecided: Outputs and files that differ between undisturbed runs as well, or have no stable digest.
    """

    step: str
    began: int
    ended: int
    again: int
    outputs: tuple[str, ...] = ()
    files: Mapping[str, str] = {}
    failures: tuple[str, ...] = ()
    undecided: tuple[str, ...] = ()

    @property
    def is_clean(self) -> bool:
        """Whether nothing of it differs."""
        return not (self.outputs or self.files or self.failures)


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What came of chaos.

    Attributes:
        runs: How many runs were killed.
        steps: What kills did to each step, in order.
        files: Files that differ and that no step was seen to change, each with how.
        unfinished: How runs ended that did not complete.
        kills, seed: How many kills there were, and what decided their moments.
        notes: What a person should know besides.
        folder: Where the copies and stores are, if they were kept.
    """

    runs: int
    steps: tuple[StepVerdict, ...]
    files: Mapping[str, str] = {}
    unfinished: tuple[str, ...] = ()
    kills: int = 0
    seed: int = 0
    notes: tuple[str, ...] = ()
    folder: str = ""

    @property
    def is_clean(self) -> bool:
        """Whether kills changed nothing that could be seen."""
        return not (self.files or self.unfinished) and all(step.is_clean for step in self.steps)


def judge(quiet: Sequence[Observed], killed: Sequence[Observed]) -> Report:
    """Compare killed runs to two that nobody disturbed."""
    first, second = quiet
    unsteady_outputs = {key for key, text in first.outputs.items() if not text or second.outputs.get(key) != text}
    unsteady_files = set(differing(first.contents, second.contents))
    owners = {path: set(names) for path, names in first.changed.items()}
    for observed in (second, *killed):
        for path, names in observed.changed.items():
            owners.setdefault(path, set()).update(names)
    files: dict[str, str] = {}
    for observed in killed:
        for path, how in differing(first.contents, observed.contents).items():
            if path not in unsteady_files:
                files.setdefault(path, how)
    steps = tuple(
        _judge_step(name, first, killed, unsteady_outputs, unsteady_files, files, owners) for name in first.steps
    )
    return Report(
        runs=len(killed),
        steps=steps,
        files={path: how for path, how in files.items() if not owners.get(path)},
        unfinished=tuple(observed.status for observed in killed if observed.status != "completed"),
        notes=(UNSEEN,),
    )


def _judge_step(
    name: str,
    first: Observed,
    killed: Sequence[Observed],
    unsteady_outputs: set[tuple[str, str]],
    unsteady_files: set[str],
    files: Mapping[str, str],
    owners: Mapping[str, set[str]],
) -> StepVerdict:
    began = sum(observed.began.get(name, 0) for observed in killed)
    # A run that didn't complete may never have come to the step.
    usual = sum(min(first.began.get(name, 0), observed.began.get(name, 0)) for observed in killed)
    own = [key for key in first.outputs if key[0] == name]
    differs = {
        key[1]
        for observed in killed
        for key in own
        if key not in unsteady_outputs and key in observed.outputs and observed.outputs[key] != first.outputs[key]
    }
    undecided = [key[1] for key in own if key in unsteady_outputs]
    undecided += sorted(path for path in unsteady_files if name in owners.get(path, ()))
    return StepVerdict(
        step=name,
        began=began,
        ended=sum(observed.ended.get(name, 0) for observed in killed),
        again=began - usual,
        outputs=tuple(sorted(differs)),
        files={path: how for path, how in files.items() if name in owners.get(path, ())},
        failures=tuple(dict.fromkeys(observed.failures[name] for observed in killed if name in observed.failures)),
        undecided=tuple(undecided),
    )
