"""What came of reproducing a run: whether its outputs are equal, the first that isn't, and what else differs."""

from __future__ import annotations

import msgspec


class Changed(msgspec.Struct, frozen=True):
    """Something of the environment that is not what it was: None where it wasn't, or isn't, there."""

    name: str
    then: str | None
    now: str | None


class FirstDifference(msgspec.Struct, frozen=True, kw_only=True):
    """The first output, in the order of the graph, that is not what it was.

    Attributes:
        step, output: Which; the output is empty when the step as a whole ended otherwise.
        then, now: Digests of the values, or how the step ended.
        reason: What is known of why, in one sentence.
    """

    step: str
    output: str
    then: str
    now: str
    reason: str


class Reproduction(msgspec.Struct, frozen=True, kw_only=True):
    """What came of reproducing a run.

    Attributes:
        run, name: The run.
        compared: How many outputs were compared.
        difference: The first that differs; None when all are equal.
        environment: What of the environment is not what it was.
        notes: What a person should know besides.
        folder: The scratch folder, if it was kept: the code is in `source`, the store in `home`.
    """

    run: str
    name: str
    compared: int
    difference: FirstDifference | None
    environment: tuple[Changed, ...] = ()
    notes: tuple[str, ...] = ()
    folder: str = ""

    @property
    def is_equal(self) -> bool:
        """Whether all outputs have the digests that they had."""
        return self.difference is None
