"""A word or value that must be one of a fixed set: Literal and Enum."""

from __future__ import annotations

import enum
import functools
from typing import Any

from cupola.compiler import scalars
from cupola.compiler.written import Text
from cupola.suggest import nearest


class NoChoice(Exception):
    """Nothing of the set is called like that; `hint` says what there is."""

    def __init__(self, hint: str) -> None:
        super().__init__(hint)
        self.hint = hint


def choose_literal(value: Any, choices: tuple[Any, ...]) -> Any:
    """Return the member of a Literal that was written or given.

    Raises:
        NoChoice: There is none.
    """
    words = [choice.name if isinstance(choice, enum.Enum) else str(choice) for choice in choices]
    if not isinstance(value, Text):
        raise NoChoice(f"it is one of: {', '.join(words)}")
    text = value.expanded()
    meaning = text if value.quoted else scalars.core_meaning(text)
    for choice in choices:
        if type(choice) is type(meaning) and choice == meaning:
            return choice
    for choice, word in zip(choices, words, strict=True):
        if text == word or (isinstance(choice, enum.Enum) and text == str(choice.value)):
            return choice
    raise NoChoice(_hint(text, words, words))


def choose_member(text: str, cls: type[enum.Enum]) -> enum.Enum:
    """Return the member of an enum by its value, its name, or its name in other case; flags also as `READ|WRITE`.

    Raises:
        NoChoice: There is none.
    """
    for member in cls:
        if str(member.value) == text:
            return member
    if text in cls.__members__:
        return cls.__members__[text]
    folded = {member for name, member in cls.__members__.items() if name.casefold() == text.casefold()}
    if len(folded) == 1:
        return folded.pop()
    if issubclass(cls, enum.Flag) and "|" in text:
        parts: list[Any] = [choose_member(part.strip(), cls) for part in text.split("|")]
        return functools.reduce(lambda one, other: one | other, parts)
    values = [str(member.value) for member in cls]
    raise NoChoice(_hint(text, values, [*values, *cls.__members__]))


def _hint(text: str, shown: list[str], known: list[str]) -> str:
    guess = nearest(text, known)
    hint = f"it is one of: {', '.join(shown)}"
    return f"did you mean {guess!r}? {hint}" if guess else hint
