"""Inputs of calls in a dynamic pipeline: which outputs they read, what they are, and where those stand in the graph.

A call refers to others by their places among all calls; the graph of the run has positions of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cupola.engine.futures import Call
from cupola.snapshot import Collect, FromStep, Gather, Literal, Source


def outputs_read(sources: Iterable[Source]) -> list[tuple[int, str]]:
    """Return the outputs that inputs are made of, each once, as the call that makes it and its name."""
    found: dict[tuple[int, str], None] = {}
    waiting = list(sources)
    while waiting:
        source = waiting.pop()
        if isinstance(source, FromStep):
            found[source.step, source.output] = None
        elif isinstance(source, Gather):
            waiting += source.items
    return list(found)


def content_of(source: Source, made: Sequence[Call]) -> Sequence[bytes]:
    """Return what an input is, for the key of a call."""
    match source:
        case Literal():
            return b"literal", source.value
        case FromStep():
            call = made[source.step]
            manifest = call.outputs[source.output]
            # Without a stable digest, what tells an output from others is where it was made.
            return b"output", (manifest.digest if manifest.stable else f"{call.position}.{source.output}").encode()
        case Gather():
            items = [part for item in source.items for part in content_of(item, made)]
            return source.kind.encode(), *source.keys, str(len(source.items)).encode(), *items
        case Collect():
            raise AssertionError("calls of a dynamic pipeline collect no children")


def placed(source: Source, made: Sequence[Call]) -> Source:
    """Return a wiring of calls as one of positions in the graph."""
    match source:
        case FromStep():
            return FromStep(made[source.step].position, source.output)
        case Gather():
            return Gather(source.kind, tuple([placed(item, made) for item in source.items]), source.keys)
        case _:
            return source
