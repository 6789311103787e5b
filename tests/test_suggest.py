"""The nearest known word."""

from __future__ import annotations

import pytest

from cupola.suggest import nearest

pytestmark = pytest.mark.feature("CORE-12")


@pytest.mark.parametrize(
    ("word", "known", "found"),
    [("cahce", ["cache", "retry"], "cache"), ("falg", ["flag", "n"], "flag"), ("raet", ["rate"], "rate"),
     ("RATE", ["rate"], "rate"), ("nam", ["name", "opt"], "name"), ("x", ["cache"], None), ("n", ["m"], None),
     ("", ["a"], None), ("bat", ["cat", "rat"], "cat"), ("learning-rate", ["learning_rate"], "learning_rate"),
     ("completely", ["different"], None)],
)  # fmt: skip
def test_the_nearest_word_is_found_only_if_it_is_near(word: str, known: list[str], found: str | None):
    assert nearest(word, known) == found
