"""How the children of a mapped step are doing, in few words: there may be ten thousand of them."""

from __future__ import annotations

import msgspec

from cupola.entities.run import StepRecord, StepStatus

SHOWN = 10
"""Children that ended badly that a page names; the rest is counted."""
BADLY = (StepStatus.FAILED.value, StepStatus.LOST.value, StepStatus.CANCELLED.value)


class Children(msgspec.Struct, frozen=True, kw_only=True):
    """The children of one mapped step.

    Attributes:
        total: How many there are.
        counts: How many are in which state, of those that have begun.
        badly: The first that failed, were lost or cancelled.
    """

    total: int
    counts: dict[str, int]
    badly: tuple[StepRecord, ...]


def is_bad(counts: dict[str, int]) -> bool:
    """Tell whether some ended badly."""
    return any(counts.get(word) for word in BADLY)


def counted(children: Children) -> dict[str, int]:
    """Return how many children are in which state, all of them, in the order of the states."""
    waiting = children.total - sum(children.counts.values())
    counts = {**children.counts, StepStatus.PENDING.value: children.counts.get(StepStatus.PENDING.value, 0) + waiting}
    return {status.value: counts[status.value] for status in StepStatus if counts.get(status.value)}


def in_words(children: Children | None) -> str:
    """Return one line on the children of a mapped step; None stands for those that it hasn't got yet."""
    if children is None:
        return "its children are known when what it is mapped over is"
    states = ", ".join(f"{number} {word}" for word, number in counted(children).items())
    noun = "1 child" if children.total == 1 else f"{children.total} children"
    return f"{noun}: {states}" if states else noun
