"""The rules of `.gitignore` files, without git: https://git-scm.com/docs/gitignore#_pattern_format.

A file's rules are grouped by whether they ignore or keep; within a group their order doesn't matter, so that plain
names and endings, which nearly all rules are, need no regular expression.
"""

from __future__ import annotations

import re

import msgspec

_SPECIAL = frozenset("*?[\\")
_CLASSES = {
    "alnum": "0-9A-Za-z", "alpha": "A-Za-z", "blank": " \\t", "cntrl": "\\x00-\\x1f\\x7f", "digit": "0-9",
    "graph": "\\x21-\\x7e", "lower": "a-z", "print": "\\x20-\\x7e", "punct": "!-/:-@\\[-`{-~", "space": "\\s",
    "upper": "A-Z", "xdigit": "0-9A-Fa-f",
}  # fmt: skip


class _Matcher(msgspec.Struct):
    """Patterns of one kind: plain names, endings of names, plain paths, and expressions for what is neither."""

    names: set[str] = msgspec.field(default_factory=set[str])
    endings: list[str] = msgspec.field(default_factory=list[str])
    paths: set[str] = msgspec.field(default_factory=set[str])
    name_expressions: list[re.Pattern[str]] = msgspec.field(default_factory=list[re.Pattern[str]])
    path_expressions: list[re.Pattern[str]] = msgspec.field(default_factory=list[re.Pattern[str]])

    def matches(self, path: str, name: str) -> bool:
        return (
            name in self.names
            or path in self.paths
            or any(name.endswith(ending) for ending in self.endings)
            or any(expression.fullmatch(name) for expression in self.name_expressions)
            or any(expression.fullmatch(path) for expression in self.path_expressions)
        )


class _Group(msgspec.Struct):
    """Rules that follow each other and all ignore, or all keep (`!`)."""

    keeps: bool
    any_kind: _Matcher = msgspec.field(default_factory=_Matcher)
    folders_only: _Matcher = msgspec.field(default_factory=_Matcher)


class IgnoreFile:
    """The rules of one file.

    Args:
        text: What stands in it.
        folder: Where it lies: empty, or a path that ends in `/`, relative to where all paths start.
    """

    def __init__(self, text: str, folder: str = "") -> None:
        self._folder = folder
        self._groups: list[_Group] = []
        for line in text.removeprefix("\ufeff").split("\n"):
            self._add(line.removesuffix("\r"))

    def verdict(self, path: str, *, is_folder: bool) -> bool | None:
        """Tell whether a path is ignored (True) or kept (False); None when no rule speaks of it.

        Args:
            path: A path below the folder of this file, relative to where all paths start, without a `/` at its end.
            is_folder: Whether it is a folder, and no link to one.
        """
        below = path[len(self._folder) :]
        name = below.rpartition("/")[2]
        for group in reversed(self._groups):
            if group.any_kind.matches(below, name) or (is_folder and group.folders_only.matches(below, name)):
                return not group.keeps
        return None

    def _add(self, line: str) -> None:
        pattern = _without_trailing_spaces(line)
        if not pattern or pattern.startswith("#"):
            return
        keeps = pattern.startswith("!")
        pattern = pattern[keeps:]
        only_folders = pattern.endswith("/")
        pattern = pattern.removesuffix("/")
        is_path = "/" in pattern
        pattern = pattern.removeprefix("/")
        if not pattern:
            return
        if not self._groups or self._groups[-1].keeps != keeps:
            self._groups.append(_Group(keeps))
        group = self._groups[-1]
        _put(group.folders_only if only_folders else group.any_kind, pattern, is_path=is_path)


def is_ignored(files: list[IgnoreFile], path: str, *, is_folder: bool) -> bool:
    """Tell whether a path is ignored by files of rules, outermost first: the innermost that speaks of it decides."""
    for file in reversed(files):
        said = file.verdict(path, is_folder=is_folder)
        if said is not None:
            return said
    return False


def _put(matcher: _Matcher, pattern: str, *, is_path: bool) -> None:
    is_plain = _SPECIAL.isdisjoint(pattern)
    if is_path:
        if is_plain:
            matcher.paths.add(pattern)
        elif (expression := _expression(pattern)) is not None:
            matcher.path_expressions.append(expression)
    elif is_plain:
        matcher.names.add(pattern)
    elif pattern.startswith("*") and _SPECIAL.isdisjoint(pattern[1:]):
        matcher.endings.append(pattern[1:])
    elif (expression := _expression(pattern)) is not None:
        matcher.name_expressions.append(expression)


def _without_trailing_spaces(line: str) -> str:
    bare = line.rstrip(" ")
    slashes = len(bare) - len(bare.rstrip("\\"))
    # A space behind a backslash stays; behind two, the second of them is what the first stands for.
    return bare + " " if slashes % 2 and len(bare) < len(line) else bare


def _expression(pattern: str) -> re.Pattern[str] | None:
    """Return a pattern as a regular expression; None for one that git takes for broken, which matches nothing."""
    parts: list[str] = []
    place = 0
    while place < len(pattern):
        letter = pattern[place]
        if letter == "*":
            part, place = _stars(pattern, place)
        elif letter == "?":
            part, place = "[^/]", place + 1
        elif letter == "[":
            part, place = _bracket(pattern, place + 1)
        elif letter == "\\":
            part, place = re.escape(pattern[place + 1 : place + 2]), place + 2
        else:
            part, place = re.escape(letter), place + 1
        if not part:
            return None
        parts.append(part)
    try:
        return re.compile("".join(parts), re.DOTALL)
    except re.error:
        return None  # such as a range whose end stands before its beginning


def _stars(pattern: str, place: int) -> tuple[str, int]:
    end = place
    while pattern[end : end + 1] == "*":
        end += 1
    starts_part = place == 0 or pattern[place - 1] == "/"
    if end - place < 2 or not starts_part:
        return "[^/]*", end
    if end == len(pattern):
        return ".+" if place else "[^/]*", end
    if pattern[end] == "/":
        return "(?:.*/)?", end + 1
    return "[^/]*", end


def _bracket(pattern: str, place: int) -> tuple[str, int]:
    """Return a class of letters, from behind its `[`, and where it ends; an empty text when it is never closed."""
    negated = pattern[place : place + 1] in ("!", "^")
    place += negated
    first, parts = place, list[str]()
    while place < len(pattern):
        letter = pattern[place]
        if letter == "]" and place > first:
            inside = "".join(parts)
            return (f"[^/{inside}]" if negated else f"(?!/)[{inside}]"), place + 1
        if letter == "[" and pattern[place + 1 : place + 2] == ":" and (end := pattern.find(":]", place)) > 0:
            known = _CLASSES.get(pattern[place + 2 : end])
            if known is None:
                return "", len(pattern)
            parts.append(known)
            place = end + 2
        elif letter == "-" and place > first and pattern[place + 1 : place + 2] not in ("]", ""):
            parts.append("-")
            place += 1
        else:
            place += letter == "\\"
            parts.append(re.escape(pattern[place : place + 1]) if pattern[place : place + 1] != "-" else "\\-")
            place += 1
    return "", len(pattern)
