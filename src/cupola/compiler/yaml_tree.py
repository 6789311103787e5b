"""YAML as written: scalars keep their text, line and column, and nothing in a file builds an object.

Read from the events of PyYAML's parser. Tags are refused, keys that stand twice too, and aliases that multiply.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cupola.compiler.written import Fields, Text
from cupola.errors import ConfigError, NotFound

MAX_NODES = 100_000
MAX_LEVELS = 100
MAX_BYTES = 10_000_000


def read_yaml(path: Path) -> Any:
    """Return what a YAML file holds as `Fields`, lists and `Text`; None when it is empty.

    Raises:
        NotFound: There is no such file.
        ConfigError: It isn't UTF-8, no YAML, or holds what a configuration must not.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise NotFound(f"there is no file {str(path)!r}", fix="relative paths start at the shell's folder") from None
    except OSError as error:
        raise ConfigError(f"can't read the file: {error.strerror or error}", where=str(path)) from error
    if len(data) > MAX_BYTES:
        raise ConfigError(f"the file has {len(data)} bytes, which is no configuration", where=str(path))
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ConfigError("the file isn't UTF-8", where=f"{path}:{line}", fix="save it as UTF-8") from error
    return _Tree(str(path), os.path.dirname(os.path.abspath(path)), in_file=True).read(text)


def parse_text(text: str, place: str, folder: str) -> Any:
    """Return what a text of the command line is as YAML.

    Raises:
        ConfigError: It is no YAML.
    """
    return _Tree(place, folder, in_file=False).read(text)


class _Tree:
    """Builds the tree of one document."""

    def __init__(self, name: str, folder: str, *, in_file: bool) -> None:
        self._name = name
        self._folder = folder
        self._in_file = in_file
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._count = 0

    def read(self, text: str) -> Any:
        import yaml

        events = yaml.parse(text, Loader=yaml.SafeLoader)
        try:
            return self._document(events)
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            line = f":{mark.line + 1}:{mark.column + 1}" if mark is not None and self._in_file else ""
            problem = getattr(error, "problem", None) or str(error).partition("\n")[0]
            raise ConfigError(f"this is no YAML: {problem}", where=self._name + line, fix=_fix(text, mark)) from error
        except RecursionError:
            raise ConfigError("this is nested too deeply", where=self._name) from None

    def _document(self, events: Iterator[Any]) -> Any:
        tree: Any = None
        documents = 0
        for event in events:
            kind = type(event).__name__
            if kind == "DocumentStartEvent":
                documents += 1
                if documents > 1:
                    raise ConfigError("there are several documents", where=self._at(event), fix="remove the line ---")
            elif kind not in ("StreamStartEvent", "StreamEndEvent", "DocumentEndEvent"):
                tree = self._node(event, events, 0)
        return tree

    def _node(self, event: Any, events: Iterator[Any], level: int) -> Any:
        kind = type(event).__name__
        if kind == "AliasEvent":
            return self._alias(event)
        if event.tag is not None:
            raise ConfigError(
                f"the tag {event.tag!r} isn't allowed: a configuration is data",
                where=self._at(event),
                fix="write the value itself; what it becomes is said by the parameter's type",
            )
        if level > MAX_LEVELS:
            raise ConfigError(f"this is nested deeper than {MAX_LEVELS} levels", where=self._at(event))
        before = self._count
        self._add(1, event)
        if kind == "ScalarEvent":
            tree: Any = self._scalar(event)
        elif kind == "SequenceStartEvent":
            tree = self._sequence(events, level)
        else:
            tree = self._mapping(event, events, level)
        if event.anchor is not None:
            self._anchors[event.anchor] = tree, self._count - before
        return tree

    def _add(self, nodes: int, event: Any) -> None:
        self._count += nodes
        if self._count > MAX_NODES:
            raise ConfigError(f"this holds more than {MAX_NODES} values, counting each alias", where=self._at(event))

    def _alias(self, event: Any) -> Any:
        if event.anchor not in self._anchors:
            raise ConfigError(f"*{event.anchor} stands for nothing that is complete", where=self._at(event))
        tree, nodes = self._anchors[event.anchor]
        self._add(nodes, event)
        return tree

    def _scalar(self, event: Any) -> Text:
        return Text(
            event.value,
            quoted=event.style is not None,
            place=self._at(event),
            folder=self._folder,
            variables=self._in_file,
            implicit_null=True,
        )

    def _sequence(self, events: Iterator[Any], level: int) -> list[Any]:
        items: list[Any] = []
        for event in events:
            if type(event).__name__ == "SequenceEndEvent":
                break
            items.append(self._node(event, events, level + 1))
        return items

    def _mapping(self, start: Any, events: Iterator[Any], level: int) -> Fields:
        items: list[tuple[Text, Any]] = []
        seen: set[str] = set()
        for event in events:
            if type(event).__name__ == "MappingEndEvent":
                break
            key = self._node(event, events, level + 1)
            if not isinstance(key, Text):
                raise ConfigError("a key must be a single word or text", where=self._at(event))
            if key.text in seen:
                raise ConfigError(f"the key {key.text!r} stands twice", where=key.place, fix="remove one of them")
            seen.add(key.text)
            items.append((key, self._node(next(events), events, level + 1)))
        return Fields(tuple(items), self._at(start))

    def _at(self, event: Any) -> str:
        mark = event.start_mark
        return f"{self._name}:{mark.line + 1}:{mark.column + 1}" if self._in_file else self._name


def _fix(text: str, mark: Any) -> str:
    lines = text.splitlines()
    number: int = mark.line if mark is not None else len(lines)
    line = lines[number] if number < len(lines) else ""
    if "\t" in line:
        return "indent with spaces"
    return f"the line is: {line.strip()[:80]}" if line.strip() else "quote the value if it holds special letters"
