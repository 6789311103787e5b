"""The nearest known word to one that isn't known, for errors that say what was probably meant."""

from __future__ import annotations

from collections.abc import Iterable


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that differs from a word by the fewest slips of the keyboard, or None if none is near.

    A slip is a letter too much, missing, wrong, or two letters swapped; about a third of the letters may be wrong. Case
    doesn't count. Of equally near words the first in alphabetical order is returned.

    Example:
        >>> nearest("cahce", ["cache", "retry"]), nearest("x", ["cache"])
        ('cache', None)
    """
    limit = max(1, (len(word) + 1) // 3)
    best: tuple[int, str] | None = None
    for candidate in sorted(set(known)):
        if abs(len(candidate) - len(word)) <= limit:
            slips = _slips(word.casefold(), candidate.casefold())
            if slips <= limit and slips < len(candidate) and (best is None or slips < best[0]):
                best = slips, candidate
    return best[1] if best else None


def _slips(one: str, other: str) -> int:
    """Count slips as the optimal string alignment distance does."""
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, letter in enumerate(one, 1):
        new = [i]
        for j, target in enumerate(other, 1):
            cost = min(row[j] + 1, new[j - 1] + 1, row[j - 1] + (letter != target))
            if i > 1 and j > 1 and letter == other[j - 2] and one[i - 2] == target:
                cost = min(cost, before[j - 2] + 1)
            new.append(cost)
        before, row = row, new
    return row[-1]
