"""What people wrote, before anybody knows what it means: scalars with their text and place, mappings with their keys.

Made from YAML files by `yaml_tree.py`, from the command line and the environment by `config.py`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any, TypeGuard

import msgspec

from cupola.compiler import scalars
from cupola.errors import ConfigError

_VARIABLE = r"\$(\$(?=\{))|\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}"


class Text(msgspec.Struct, frozen=True):
    """A scalar as it was written.

    Attributes:
        text: The text itself.
        quoted: Whether it can only mean a text.
        place: Where it stands, for people: `run.yaml:3:9`, `--param rate`.
        folder: Folder that a relative path in it starts at; empty for the source root.
        variables: Whether `${NAME}` and `${NAME:-default}` in it stand for environment variables.
        implicit_null: Whether nothing at all means null, as in YAML.
    """

    text: str
    quoted: bool = False
    place: str = ""
    folder: str = ""
    variables: bool = False
    implicit_null: bool = False

    def expanded(self) -> str:
        """Return the text with environment variables filled in; `$${` is a plain `${`.

        Raises:
            ConfigError: A variable isn't set and has no default.
        """
        if not self.variables or "${" not in self.text:
            return self.text
        return re.sub(_VARIABLE, self._variable, self.text)

    def _variable(self, found: re.Match[str]) -> str:
        escaped, name, default = found.groups()
        if escaped:
            return "$"
        value = os.environ.get(name)
        if value is None:
            value = default
        if value is None:
            raise ConfigError(
                f"the environment variable {name} isn't set",
                where=self.place,
                fix=f"set {name}, or write ${{{name}:-a default}}",
            )
        return value

    def may_hold_structure(self) -> bool:
        """Tell whether the text of a command line looks like a YAML list, mapping or quoted text."""
        return not self.quoted and not self.implicit_null and self.text.lstrip()[:1] in ("[", "{", '"', "'")


class Fields(msgspec.Struct, frozen=True):
    """A mapping as it was written: keys and what stands below them, in order; no key stands twice."""

    items: tuple[tuple[Text, Any], ...]
    place: str = ""

    def get(self, name: str) -> Any:
        """Return what stands below a key, or None."""
        return next((item for key, item in self.items if key.text == name), None)


def plain(tree: Any) -> Any:
    """Return what was written with the meaning of YAML 1.2's core schema."""
    if isinstance(tree, Text):
        text = tree.expanded()
        return text if tree.quoted else scalars.core_meaning(text, empty=tree.implicit_null)
    if isinstance(tree, Fields):
        return {plain(key): plain(item) for key, item in tree.items}
    if is_list(tree):
        return [plain(item) for item in tree]
    return tree


def is_written(value: object) -> bool:
    """Tell whether something is, or holds in its lists, what was written rather than an object."""
    if is_list(value):
        return any(map(is_written, value))
    return isinstance(value, (Text, Fields))


def is_list(value: object) -> TypeGuard[list[Any]]:
    """Tell whether a value is a list."""
    return isinstance(value, list)


def is_dict(value: object) -> TypeGuard[dict[Any, Any]]:
    """Tell whether a value is a dict."""
    return isinstance(value, dict)


def is_mapping(value: object) -> TypeGuard[Mapping[Any, Any]]:
    """Tell whether a value is a mapping."""
    return isinstance(value, Mapping)
