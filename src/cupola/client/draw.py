"""The graph of a snapshot as text, Mermaid or SVG, with the state of each step where there is one.

The text form is a tree: a step stands under the last of the steps that it needs and names the others after an arrow.
A chain goes straight down, so that only branches move to the right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

from cupola.client.draw_svg import draw_svg
from cupola.engine.graph import read_steps
from cupola.entities.run import StepStatus
from cupola.errors import ConfigError
from cupola.snapshot import Collect, Gather, Snapshot, StepSpec
from cupola.text import printable

FORMATS = ("text", "mermaid", "svg")
LISTED = 6
"""Names of further inputs that a line of the text form lists; the rest is counted."""
MARKS = {
    StepStatus.COMPLETED: "✓",
    StepStatus.CACHED: "=",
    StepStatus.SKIPPED: "-",
    StepStatus.RUNNING: "▸",
    StepStatus.RETRYING: "↻",
    StepStatus.PENDING: "·",
}
"""The mark of each state; what isn't here ended badly."""


def draw_snapshot(
    snapshot: Snapshot,
    statuses: Mapping[int, StepStatus] | None = None,
    form: str = "text",
    widths: Mapping[int, int] | None = None,
) -> str:
    """Return a picture of a graph.

    Args:
        snapshot: The graph.
        statuses: The state of each step by position; no marks when None, and `pending` where one is missing.
        form: `text`, `mermaid` or `svg`.
        widths: How many children mapped steps have, by position; where that isn't said, what the graph tells of it.
    """
    needs = [needed(spec) for spec in snapshot.steps]
    names = _names(snapshot, {**known_widths(snapshot), **(widths or {})})
    if form == "text":
        return _draw_text(snapshot.pipeline, names, needs, statuses)
    if form == "mermaid":
        return _draw_mermaid(names, needs, statuses)
    if form == "svg":
        states = None if statuses is None else [str(statuses.get(at, "pending")) for at in range(len(names))]
        return draw_svg(snapshot.pipeline, names, needs, states)
    raise ConfigError(f"there is no format {form!r} of a graph", fix=f"take one of {', '.join(FORMATS)}")


def _names(snapshot: Snapshot, widths: Mapping[int, int]) -> list[str]:
    """Return what the nodes are called: a mapped step is one node, with the number of its children."""
    return [
        f"{spec.name} ×{widths.get(position, '?')}" if spec.fan is not None else spec.name
        for position, spec in enumerate(snapshot.steps)
    ]


def known_widths(snapshot: Snapshot) -> dict[int, int]:
    """Return how many children mapped steps will have, where that is known before the run."""
    widths: dict[int, int] = {}
    for position, spec in enumerate(snapshot.steps):
        if spec.fan is None:
            continue
        found: list[int] = []
        for name in spec.fan.over:
            source = spec.inputs[name]
            if isinstance(source, Gather):
                found.append(len(source.items))
            elif isinstance(source, Collect) and source.step in widths and not source.allow_failures:
                found.append(widths[source.step])
        if spec.fan.kind == "product":
            if len(found) == len(spec.fan.over):
                widths[position] = prod(found)
        elif found:
            widths[position] = found[0]
    return widths


def needed(spec: StepSpec) -> list[int]:
    """Return the positions of the steps that a step needs, each once, in order."""
    read, collected = read_steps(spec)
    return sorted({*read, *collected, *spec.after})


def _draw_text(
    title: str, names: Sequence[str], needs: Sequence[Sequence[int]], statuses: Mapping[int, StepStatus] | None
) -> str:
    children: dict[int, list[int]] = {}
    for position, found in enumerate(needs):
        children.setdefault(found[-1] if found else -1, []).append(position)
    lines = [printable(title)]
    # Of each branch still to draw: a step, what stands before its line, and before the lines below it.
    roots = children.get(-1, [])
    waiting = [(roots[0], "", "")] if len(roots) == 1 else _branches(roots, "")
    while waiting:
        position, before, below = waiting.pop()
        lines.append(before + _label(names, position, needs[position], statuses))
        under = children.get(position, [])
        waiting += [(under[0], below, below)] if len(under) == 1 else _branches(under, below)
    return "\n".join(lines)


def _branches(positions: Sequence[int], indent: str) -> list[tuple[int, str, str]]:
    """Return branches, the first one last, so that it is taken first from a stack."""
    return [
        (position, indent + ("└─ " if place == 0 else "├─ "), indent + ("   " if place == 0 else "│  "))
        for place, position in enumerate(reversed(positions))
    ]


def _label(names: Sequence[str], position: int, needs: Sequence[int], statuses: Mapping[int, StepStatus] | None) -> str:
    mark = "" if statuses is None else MARKS.get(statuses.get(position, StepStatus.PENDING), "✗") + " "
    others = [printable(names[at]) for at in needs[:-1]]
    more = f" and {len(others) - LISTED} more" if len(others) > LISTED else ""
    also = f"  ← {', '.join(others[:LISTED])}{more}" if others else ""
    return f"{mark}{printable(names[position])}{also}"


def _draw_mermaid(
    names: Sequence[str], needs: Sequence[Sequence[int]], statuses: Mapping[int, StepStatus] | None
) -> str:
    lines = ["flowchart TD"]
    for position, name in enumerate(names):
        state = "" if statuses is None else f"<br/>{statuses.get(position, StepStatus.PENDING)}"
        lines.append(f'  s{position}["{_mermaid_text(name)}{state}"]')
    lines += [f"  s{source} --> s{position}" for position, found in enumerate(needs) for source in found]
    return "\n".join(lines)


def _mermaid_text(name: str) -> str:
    """Return a name in which nothing is markup: Mermaid reads `#code;` as the letter itself."""
    plain = printable(name)
    return "".join(
        letter if letter.isalnum() or letter in " _-./" or not letter.isascii() else f"#{ord(letter)};"
        for letter in plain
    )
