"""Binds the snapshot of an earlier run to the functions of this process, and finds the steps whose code was edited.

The snapshot stays what it was, with its wiring, parameters and options: compiling the pipeline again only brings the
functions, and their code digests to compare.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec

from cupola.compiler.compile import Compiled
from cupola.errors import CodeChanged
from cupola.snapshot import CodePart, Snapshot, Source, StepSpec, encode_snapshot, snapshot_id


def edited_steps(stored: Snapshot, fresh: Compiled) -> list[int]:
    """Return the positions of the steps whose code is not what it was.

    Raises:
        CodeChanged: The graph itself is another one: a step is missing, new, or in another place.
    """
    before = [(spec.name, spec.source) for spec in stored.steps]
    now = [(spec.name, spec.source) for spec in fresh.snapshot.steps]
    if before != now:
        gone = [name for name, _source in before if name not in {other for other, _source in now}]
        new = [name for name, _source in now if name not in {other for other, _source in before}]
        what = "; ".join(
            text for text in (f"gone: {_list(gone)}" if gone else "", f"new: {_list(new)}" if new else "") if text
        )
        raise CodeChanged(
            f"pipeline {stored.pipeline!r} has other steps than the run had ({what or 'in another order'})",
            where=stored.source,
            fix="go back to the code of the run, or run it anew with what is still valid: cupola rerun RUN",
        )
    return [
        position
        for position, (old, new) in enumerate(zip(stored.steps, fresh.snapshot.steps, strict=True))
        if old.code_digest != new.code_digest
    ]


def rebind(stored: Snapshot, data: bytes, fresh: Compiled, edited: Collection[int]) -> Compiled:
    """Return the stored snapshot with the functions of this process.

    Args:
        stored: The snapshot.
        data: Its bytes.
        fresh: The pipeline as it compiles now, with the same steps.
        edited: Positions of the steps that run with the code they have now.
    """
    places = fresh.places
    if edited:
        stored, places = _with_code(stored, fresh, edited)
        data = encode_snapshot(stored)
    return msgspec.structs.replace(fresh, snapshot=stored, data=data, id=snapshot_id(data), places=places)


def _with_code(stored: Snapshot, fresh: Compiled, edited: Collection[int]) -> tuple[Snapshot, tuple[str, ...]]:
    """Return the snapshot with new code for some steps, and the places of all its code parts, as far as known."""
    parts: dict[CodePart, int] = {part: place for place, part in enumerate(stored.parts)}
    places = [""] * len(parts)
    for part, place in zip(fresh.snapshot.parts, fresh.places, strict=True):
        if parts.setdefault(part, len(parts)) == len(places):
            places.append("")
        places[parts[part]] = place
    steps = list(stored.steps)
    for position in edited:
        new = fresh.snapshot.steps[position]
        steps[position] = msgspec.structs.replace(
            steps[position],
            code=tuple(sorted(parts[fresh.snapshot.parts[place]] for place in new.code)),
            code_digest=new.code_digest,
            uncacheable=new.uncacheable,
            inputs=_inputs(steps[position], new),
            base_key=new.base_key,
        )
    return msgspec.structs.replace(stored, steps=tuple(steps), parts=tuple(parts)), tuple(places)


def _inputs(old: StepSpec, new: StepSpec) -> dict[str, Source]:
    """Return the wiring of an edited step: as it was, where its function still has the parameter."""
    return {name: old.inputs.get(name, source) for name, source in new.inputs.items()}


def _list(names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, names[:5]))
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"
