"""How wired arguments reach the function that they were wired to."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from cupola import pipeline, step

pytestmark = pytest.mark.feature("CORE-02")


class Parts(NamedTuple):
    left: int
    right: str


@step
def parts() -> Parts:
    return Parts(1, "a")


@step
def halve(value: int, /, *, by: int = 2) -> float:
    return value / by


@step
def whole(value: Parts) -> str:
    return f"{value.left}{value.right}"


@step
def pair(value: tuple[int, str]) -> str:
    return repr(value)


@pipeline
def wired() -> float:
    made = parts()
    whole(made)
    pair(made)
    return halve(made.left)


def test_named_tuples_arrive_whole_or_by_field_and_places_stay_places() -> None:
    run = wired()
    values = {name: run.steps[name].output.load() for name in ("whole", "pair", "halve")}
    assert values == {"whole": "1a", "pair": "(1, 'a')", "halve": 0.5}
