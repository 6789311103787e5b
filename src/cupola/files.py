"""Files and folders as values: parameters count by their content, outputs are stored and outlive their source.

A `File` is a path like any other (`open(file)`, `pandas.read_csv(file)`). A relative one starts at the source root,
wherever the program was started. One that comes from the store is a private copy, made when its path is asked for.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Self

_source_root: list[str] = []


def set_source_root(folder: str | os.PathLike[str]) -> None:
    """Say where relative files and folders start in this process; the working folder until it is said."""
    _source_root[:] = [os.path.abspath(folder)]


class File:
    """A file that counts by its content. Immutable; equal if the path is.

    Args:
        path: Path of the file; a relative one starts at the source root.
    """

    __slots__ = ("_fetch", "_text")

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._text = path._text if isinstance(path, File) else os.fspath(path)
        self._fetch: Callable[[], str] | None = path._fetch if isinstance(path, File) else None

    @classmethod
    def stored(cls, name: str, fetch: Callable[[], str]) -> Self:
        """Return one that is in the store; for Cupola itself. `fetch` makes a copy and returns its absolute path."""
        made = cls(name)
        made._fetch = fetch
        return made

    @property
    def text(self) -> str:
        """The path as it was given, relative or not; of one that comes from the store, the path of its copy."""
        return self._text if self._fetch is None else self.__fspath__()

    @property
    def path(self) -> Path:
        """The absolute path. For one that comes from the store: of a copy that only this object names."""
        return Path(self.__fspath__())

    @property
    def name(self) -> str:
        """The last part of the path."""
        return os.path.basename(os.path.normpath(self._text))

    def __fspath__(self) -> str:
        if self._fetch is not None:
            self._text = self._fetch()
            self._fetch = None
        if os.path.isabs(self._text):
            return self._text
        return os.path.join(_source_root[0] if _source_root else os.getcwd(), self._text)

    def __str__(self) -> str:
        return self.__fspath__()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._text!r})"

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other._text == self._text

    def __hash__(self) -> int:
        return hash((type(self).__name__, self._text))


class Folder(File):
    """A folder that counts by its content: the names, bytes, executable bits and links in it.

    Args:
        path: Path of the folder; a relative one starts at the source root.
    """

    __slots__ = ()


os.PathLike.register(File)
