"""The modules that code is in, as the walk over code sees them: name, file, loaded names, and whose they are."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import msgspec

from cupola.compiler.libraries import PROJECT, Origin, origin_of
from cupola.compiler.parsed import ParsedFile
from cupola.compiler.source import canonical_module, file_of
from cupola.errors import CodeChanged, CompileError


class CodeModule(msgspec.Struct, eq=False):
    """A module of the project.

    Attributes:
        name: Its name in records.
        imported: The name it is imported by, which relative imports start at.
        file: Its absolute path.
        names: Its globals; None when it is only read, not loaded.
        parsed: Its source; None when it has none that can be read.
    """

    name: str
    imported: str
    file: str
    names: dict[str, Any] | None
    parsed: ParsedFile | None

    @property
    def package(self) -> str:
        """The package that relative imports of the module start at."""
        if self.names is not None and isinstance(self.names.get("__package__"), str):
            return cast("str", self.names["__package__"])
        return self.imported if self.file.endswith("__init__.py") else self.imported.rpartition(".")[0]


# By the `id` of a module's globals, which are kept along, so that no other module gets it.
_loaded: dict[int, tuple[object, Path, CodeModule]] = {}
_origins: dict[int, tuple[dict[str, Any], Origin]] = {}
_parsed: dict[str, tuple[bytes, ParsedFile | None]] = {}
_files: list[Any] = [0, {}]
_located: dict[str, tuple[str, list[str]] | None] = {}


def attributes(module: ModuleType) -> dict[str, Any]:
    """Return a module's globals without asking the module, which may be lazy or unwilling."""
    return cast("dict[str, Any]", ModuleType.__getattribute__(module, "__dict__"))


def origin(names: dict[str, Any]) -> Origin:
    """Return whose a loaded module is, from its globals; of a library the version that was loaded."""
    known = _origins.get(id(names))
    if known is None:
        name = names.get("__name__")
        known = _origins[id(names)] = names, origin_of(file_of(names), name if isinstance(name, str) else "")
    return known[1]


def loaded_module(names: dict[str, Any], root: Path) -> CodeModule:
    """Return a loaded module of the project from its globals.

    Raises:
        CompileError: Its file is loaded under another name as well.
        CodeChanged: It was loaded from stale bytecode.
    """
    spec = names.get("__spec__")
    known = _loaded.get(id(names))
    # A reload keeps the globals and has a new spec. Else what was read first is what was loaded, whatever the file
    # says by now.
    if known is not None and known[0] is spec:
        if known[1] == root:
            return known[2]
        parsed = known[2].parsed
    else:
        parsed = _read_loaded(names)
    imported = names.get("__name__")
    imported = imported if isinstance(imported, str) else ""
    # What `exec` ran in a dictionary of its own is in no module.
    name = canonical_module(names, root) if imported else "<made>"
    module = CodeModule(name, imported, file_of(names), names, parsed)
    _loaded[id(names)] = spec, root, module
    return module


def _read_loaded(names: dict[str, Any]) -> ParsedFile | None:
    file = file_of(names)
    _refuse_two_names(str(names.get("__name__")), file, names)
    parsed = _parse(file)
    if parsed is not None:
        _refuse_stale(parsed, names)
    return parsed


def read_module(imported: str, root: Path) -> CodeModule | Origin | None:
    """Return a module by its import name without importing it: a module of the project, or whose else it is.

    None if there is no such module.
    """
    found = _locate(imported)
    if found is None:
        return None
    file, places = found
    whose = origin_of(file or (places[0] + "/__init__.py" if places else ""), imported)
    if whose.kind != PROJECT:
        return whose
    parsed = _parse(file) if file else None
    name = canonical_module({"__name__": imported, "__file__": file}, root) if file else imported
    return CodeModule(name, imported, file, None, parsed)


def _locate(name: str) -> tuple[str, list[str]] | None:
    if name not in _located:
        _located[name] = _search(name)
    return _located[name]


def _search(name: str) -> tuple[str, list[str]] | None:
    parent, _, _ = name.rpartition(".")
    path = None
    if parent:
        above = _locate(parent)
        if above is None:
            return None
        path = above[1]
    for finder in sys.meta_path:
        find = getattr(finder, "find_spec", None)
        spec = find(name, path, None) if find is not None else None
        if spec is not None:
            file = spec.origin if spec.has_location and isinstance(spec.origin, str) else ""
            return file, list(spec.submodule_search_locations or ())
    return None


def _parse(file: str) -> ParsedFile | None:
    if not file.endswith(".py") and file.endswith((".so", ".pyd", ".pyc")):
        return None
    try:
        with open(file, "rb") as source:
            data = source.read()
    except OSError:
        return None
    known = _parsed.get(file)
    if known is None or known[0] != data:
        try:
            known = data, ParsedFile(file, data)
        except (SyntaxError, ValueError):  # the file was edited after it was loaded; its functions will be missed in it
            known = data, None
        _parsed[file] = known
    return known[1]


def _names_of(file: str) -> list[str]:
    """Return the names that a file is loaded under; the table is made anew when modules came or went."""
    if _files[0] != len(sys.modules):
        table: dict[str, list[str]] = {}
        for name, module in list(sys.modules.items()):
            if type(module) is ModuleType:
                found = attributes(module)
                if found.get("__name__") == name and isinstance(found.get("__file__"), str):
                    table.setdefault(found["__file__"], []).append(name)
        _files[:] = [len(sys.modules), table]
    return [name for name in _files[1].get(file, ()) if type(sys.modules.get(name)) is ModuleType]


def _refuse_two_names(name: str, file: str, names: dict[str, Any]) -> None:
    for other_name in _names_of(file):
        if other_name not in (name, "__main__", "__mp_main__") and attributes(sys.modules[other_name]) is not names:
            raise CompileError(
                f"one file is imported under two names, {name!r} and {other_name!r}: "
                "each name has its own copies of its steps, classes and globals",
                where=file,
                fix="import it under one name everywhere",
            )


def _refuse_stale(parsed: ParsedFile, names: dict[str, Any]) -> None:
    """Raise `CodeChanged` if the bytecode that Python kept for a file isn't what the file says.

    Python compares times in whole seconds and sizes: two edits within a second may leave the first one's bytecode.
    """
    cached = names.get("__cached__") or getattr(names.get("__spec__"), "cached", None)
    if not isinstance(cached, str) or not _is_plain_loader(names):
        return
    try:
        with open(cached, "rb") as file:
            data = file.read()
    except OSError:
        return
    import marshal

    try:
        code = marshal.loads(data[16:])
    except (ValueError, EOFError, TypeError):
        return
    if code == parsed.code or not _is_current(data, parsed.path):
        return
    raise CodeChanged(
        "the bytecode that was loaded is not what the file says: it was edited twice within a second",
        where=parsed.path,
        fix=f"remove {cached} and start again",
    )


def _is_current(bytecode: bytes, path: str) -> bool:
    import os

    if bytecode[4:8] != b"\0\0\0\0":  # checked by hash
        return False
    found = os.stat(path)
    words = int.from_bytes(bytecode[8:12], "little"), int.from_bytes(bytecode[12:16], "little")
    return words == (int(found.st_mtime) & 0xFFFFFFFF, found.st_size & 0xFFFFFFFF)


def _is_plain_loader(names: dict[str, Any]) -> bool:
    """Whether a module was loaded as it stands; pytest and type checkers at run time rewrite it."""
    loader = names.get("__loader__")
    return type(loader).__name__ in ("SourceFileLoader", "NoneType") or names.get("__name__") == "__main__"


def is_rewritten(module: CodeModule) -> bool:
    """Whether the code of a module was changed by what loaded it, so that it can't be compared with its source."""
    return module.names is not None and not _is_plain_loader(module.names)
