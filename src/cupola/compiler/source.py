"""The source root of a project, and the names of its modules relative to that root.

A module is named by where its file lies below the root, never by how it was started or imported, so that `run.py` as
`__main__` and as `run` is one module. Files that aren't below the root keep the name they were imported under.
Importing the file that a command names is `loading.py`; what code reaches is `reach.py`.
"""

from __future__ import annotations

import functools
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from cupola.errors import CompileError, ConfigError
from cupola.records import PROGRAM, set_module_namer
from cupola.settings import read_setting
from cupola.text import storable_text

MARKER = ".cupola"

_files: dict[str, str] = {}
_program_root: list[Path] = []
_program_file: list[str] = []


def find_root(script: Path | None) -> Path:
    """Return the source root of a program: `CUPOLA_ROOT`, the nearest folder with `.cupola/`, else its own folder.

    Args:
        script: The program's file; None when it has none (`python -c`, standard input).

    Raises:
        ConfigError: `CUPOLA_ROOT` is no folder.
        CompileError: There is no file to start from.
    """
    said = read_setting("root")
    if said:
        folder = os.path.abspath(os.path.expanduser(said))
        if not os.path.isdir(folder):
            raise ConfigError(
                f"CUPOLA_ROOT={said!r} is no folder", fix="unset it, or set it to the folder that your imports start at"
            )
        return Path(folder)
    if script is None:
        raise no_file()
    folder = os.path.dirname(os.path.abspath(script))
    return marked_root(folder) or marked_root(os.path.realpath(folder)) or Path(folder)


def marked_root(folder: str) -> Path | None:
    """Return the nearest folder with `.cupola/` in it, starting at a folder and going up; None if there is none."""
    while True:
        if os.path.isdir(os.path.join(folder, MARKER)):
            return Path(folder)
        parent = os.path.dirname(folder)
        if parent == folder:
            return None
        folder = parent


def no_file() -> CompileError:
    """Return the error for code that no file holds."""
    return CompileError(
        "steps and pipelines must stand in a file; this program has none (python -c, standard input or a prompt)",
        fix="save it as run.py and start it with: python run.py",
    )


def module_name(file: str | Path, root: str | Path) -> str:
    """Return the dotted name of a module's file relative to the root; empty if it isn't below the root.

    Parts that are no identifiers stay as they are: `my-run.py` is `my-run`. The file of a package has its folder's
    name.
    """
    relative = relative_path(file, root)
    if not relative:
        return ""
    parts = relative.split("/")
    stem = parts[-1].split(".")[0] if parts[-1].endswith((".so", ".pyd")) else os.path.splitext(parts[-1])[0]
    parts[-1] = stem
    if stem == "__init__" and len(parts) > 1:
        del parts[-1]
    return ".".join(parts)


def relative_path(file: str | Path, root: str | Path) -> str:
    """Return the path of a file relative to the root with `/` between its parts; empty if it isn't below the root."""
    return _relative_path(os.fspath(file), os.fspath(root))


@functools.lru_cache(maxsize=4096)
def _relative_path(file: str, root: str) -> str:
    # As it was written first: a folder that is linked into the project is part of it under the link's name.
    for path, base in (
        (os.path.abspath(file), os.path.abspath(root)),
        (os.path.realpath(file), os.path.realpath(root)),
    ):
        start = base if base.endswith(os.sep) else base + os.sep
        if path.startswith(start):
            return path[len(start) :].replace(os.sep, "/")
    return ""


def root_of(file: str | None) -> Path:
    """Return the source root that holds for code in a file: the program's, or, outside of that, the file's own."""
    program = program_root()
    if program and (file is None or relative_path(file, program)):
        return program
    return find_root(Path(file) if file else None)


def program_root() -> Path | None:
    """Return the source root of the running program; None if the program isn't a file of the user's."""
    script = program_file()
    if not script:
        return None
    if not _program_root:
        _program_root.append(find_root(Path(script)))
    return _program_root[0]


def program_file() -> str:
    """Return the absolute path of the program's file: what `load_target` loaded, else `__main__`'s; empty for tools."""
    if not _program_file:
        # Asked first while the program is being imported, so the current folder is still that of the start.
        _program_file.append(_main_file())
    return _program_file[0]


def set_program(file: str, root: Path) -> None:
    """Say which file is the program, when it isn't `__main__`."""
    _program_file[:] = [os.path.abspath(file)]
    _program_root[:] = [root]


def _main_file() -> str:
    for name in PROGRAM:
        file = module_file(sys.modules.get(name))
        if file:
            return "" if _is_tool(file) else file
    return ""


def _is_tool(file: str) -> bool:
    """Whether a program is something installed, such as pytest or a kernel, that only imports the user's code."""
    folder = os.path.dirname(file)
    script = folder in (os.path.join(sys.prefix, "bin"), os.path.dirname(sys.executable)) or not os.path.isfile(file)
    return script or is_installed(file) or file.startswith(os.path.dirname(os.__file__) + os.sep)


def module_file(module: object) -> str:
    """Return the absolute path of a module's source; empty if it has none, or isn't willing to tell."""
    # Through the dictionary: modules may be any object, and some raise whatever one asks them.
    namespace = getattr(module, "__dict__", None) if isinstance(module, ModuleType) else None
    return file_of(namespace) if namespace is not None else ""


def file_of(namespace: dict[str, Any]) -> str:
    """Return the absolute path of the file that a module's globals come from; empty if there is none."""
    file = namespace.get("__file__")
    if not isinstance(file, str) or not file or file.startswith("<"):
        return ""
    if file.endswith(".pyc"):
        spec = namespace.get("__spec__")
        cached = getattr(spec, "origin", None)
        file = cached if isinstance(cached, str) and cached.endswith(".py") else file
    return os.path.abspath(file)


def canonical_module(namespace: dict[str, Any], root: Path | None = None) -> str:
    """Return the name that a module has in records, from its globals.

    Args:
        namespace: The module's globals.
        root: The source root; the one that holds for the module's file when None.

    Raises:
        CompileError: It is the program and the program has no file.
    """
    name = namespace.get("__name__")
    name = name if isinstance(name, str) else ""
    file = file_of(namespace)
    if not file:
        if name in PROGRAM or not name:
            raise no_file()
        return name
    if root is None:
        root = root_of(file)
    below = "" if is_installed(file) else module_name(file, root)
    if below or name not in PROGRAM:
        return storable_text(below or name)
    return storable_text(os.path.splitext(os.path.basename(file))[0])


def is_installed(file: str) -> bool:
    """Whether a file lies in a folder that packages are installed in."""
    return "/site-packages/" in file or "/dist-packages/" in file


def underlying(function: Any) -> Any:
    """Return the plain function below wrappers: `functools.wraps`, partials, methods, callable objects."""
    current: Any = function
    for _ in range(100):  # a wrapper may wrap itself
        below = _below(current)
        if below is None:
            break
        current = below
    return current


def _below(function: Any) -> Any:
    if isinstance(function, functools.partial):
        return cast("functools.partial[Any]", function).func
    if hasattr(function, "__wrapped__"):
        return function.__wrapped__
    if hasattr(function, "__code__"):
        return None
    if hasattr(function, "__func__"):
        return function.__func__
    if not callable(function):
        return None
    call = cast("Any", type(function)).__call__
    return call if hasattr(call, "__code__") else None


def source_name(function: Any) -> str:
    """Return `module:qualname` of a function as records name it; never `__main__`.

    Raises:
        CompileError: The function stands in a program without a file.
    """
    plain = underlying(function)
    qualname = getattr(plain, "__qualname__", None) or type(plain).__qualname__
    namespace = getattr(plain, "__globals__", None)
    if namespace is None:
        module = sys.modules.get(getattr(plain, "__module__", None) or "")
        namespace = getattr(module, "__dict__", None) if isinstance(module, ModuleType) else None
    if namespace is None:
        return f"{getattr(plain, '__module__', None) or '?'}:{qualname}"
    return f"{canonical_module(namespace)}:{qualname}"


def adopt(function: Any) -> None:
    """Note a decorated function's module: the program also gets its own name, and a file has one name only.

    Raises:
        CompileError: The file was imported under two names that are both in use.
    """
    namespace = getattr(underlying(function), "__globals__", None)
    if namespace is None:
        return
    name = namespace.get("__name__")
    file = namespace.get("__file__")
    if not isinstance(name, str) or not isinstance(file, str) or _files.get(file) == name:
        return
    if name == "__main__":
        alias_program()
    path = file_of(namespace)
    before = _files.get(path)
    if before is not None and before != name and _in_use(before, path, namespace):
        raise CompileError(
            f"one file is imported under two names, {_shown(before)} and {_shown(name)}: "
            "each name has its own copies of its steps, classes and globals",
            where=path,
            fix="import it under one name everywhere; what both the program and its modules need goes into a module "
            "of its own",
        )
    _files[path] = _files[file] = name


def _in_use(name: str, path: str, namespace: dict[str, Any]) -> bool:
    module = sys.modules.get(name)
    return module_file(module) == path and getattr(module, "__dict__", None) is not namespace


def _shown(name: str) -> str:
    return f"{name!r} (the program)" if name in PROGRAM else repr(name)


def alias_program() -> None:
    """Give `__main__` its name below the root as well, so that importing it elsewhere gives the same objects."""
    main = sys.modules.get("__main__")
    file = module_file(main)
    if not file or main is None or _is_tool(file):
        return
    names = [module_name(file, root_of(file))]
    spec = getattr(main, "__spec__", None)
    if spec is not None:  # started with -m
        names.append(spec.name)
    # A name that something else has already, such as `json` for json.py, stays with it.
    for name in filter(None, names):
        sys.modules.setdefault(name, main)


def enter_project() -> None:
    """Put the source root on `sys.path` behind the program's folder, and give the program its own name.

    Called when the decorators are first asked for, which in a program stands above the imports that need it. Where
    the root is the program's folder, `sys.path` stays as it is.
    """
    set_module_namer(canonical_module)
    root = program_root()
    if root is None:
        return
    folder = os.path.dirname(program_file())
    if os.path.realpath(root) != os.path.realpath(folder):
        add_path(root, 1)
    alias_program()


def add_path(folder: Path, position: int) -> None:
    """Put a folder on `sys.path` unless it is there."""
    known = {os.path.realpath(entry) for entry in sys.path}
    if os.path.realpath(folder) not in known:
        sys.path.insert(position, os.fspath(folder))
