"""Lineage upwards: the steps and artifact versions that a version was made from, across runs."""

from __future__ import annotations

import msgspec

from cupola.client.connect import Connection
from cupola.client.describe import version_name
from cupola.client.given import sources_in
from cupola.client.reading import RunReader
from cupola.entities.artifact import VersionRecord
from cupola.snapshot import FromStep
from cupola.text import printable


class LineageStep(msgspec.Struct, frozen=True):
    """A step on the way to a version.

    Attributes:
        run: Id of its run.
        step: Its invocation name.
        made: The version it made, as `name:version`.
        read: The versions it read, as `name:version`, by parameter name; several under one name for a collection.
    """

    run: str
    step: str
    made: str
    read: dict[str, list[str]]


class Lineage(msgspec.Struct, frozen=True):
    """All steps on the way to a version, the one that made it first; `str()` of it draws them."""

    steps: tuple[LineageStep, ...]

    def __str__(self) -> str:
        lines: list[str] = []
        for step in self.steps:
            lines.append(f"{printable(step.made)} by {printable(step.step)} in run {step.run}")
            lines += [f"  {printable(name)} ← {printable(ref)}" for name, refs in step.read.items() for ref in refs]
        return "\n".join(lines)


def _origin(reader: RunReader, name: str, part: FromStep) -> FromStep:
    """Return the list that an item of a mapped step was taken from; for any other output itself."""
    if reader.item(part.step, part.output) is None:
        return part
    origin = reader.spec(part.step).inputs[name]
    return origin if isinstance(origin, FromStep) else part


def trace_lineage(connection: Connection, record: VersionRecord) -> Lineage:
    """Return the lineage of a version: each version once, nearest first."""
    readers: dict[str, RunReader] = {}
    waiting, seen = [record], {record.id}
    found: list[LineageStep] = []
    for version in waiting:
        reader = readers.setdefault(version.run, RunReader(connection, version.run))
        spec = reader.spec(version.step)
        read: dict[str, list[str]] = {}
        for name, source in spec.inputs.items():
            for part in sources_in(reader.settle(source) or source):
                upstream = reader.find_output(_origin(reader, name, part))
                if upstream is None:
                    continue
                read.setdefault(name, []).append(version_name(upstream))
                if upstream.id not in seen:
                    seen.add(upstream.id)
                    waiting.append(upstream)
        found.append(LineageStep(version.run, spec.name, version_name(version), read))
    return Lineage(tuple(found))
