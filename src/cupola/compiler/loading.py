"""Importing the file or module that a command names: `run.py`, `flows/train.py:training`, `flows.train:training`.

The file is imported under its name below the source root, with the `sys.path` that `python FILE` would have had and
the root, so that both ways make the same snapshot. Its `__main__` block does not run.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import ModuleType

from cupola.compiler.source import (
    add_path,
    enter_project,
    find_root,
    marked_root,
    module_file,
    module_name,
    root_of,
    set_program,
)
from cupola.errors import CompileError, ConfigError, NotFound
from cupola.records import PROGRAM
from cupola.settings import read_setting

_OWN_FOLDER = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_importing: ContextVar[str] = ContextVar("cupola_importing", default="")


def importing() -> str:
    """Return the file that is only being imported here, by a command or by a spawned child; empty otherwise."""
    file = _importing.get()
    if file:
        return file
    # A child that `multiprocessing` spawned imports the program again before it does its task.
    process = sys.modules.get("multiprocessing.process")
    if process is not None and getattr(process.current_process(), "_inheriting", False):
        return module_file(sys.modules.get("__mp_main__")) or module_file(sys.modules.get("__main__")) or "the program"
    return ""


@contextmanager
def importing_file(file: str) -> Generator[None]:
    """Mark that a file is only being imported: starting a run is an error meanwhile."""
    token = _importing.set(file)
    try:
        yield
    finally:
        _importing.reset(token)


def load_target(text: str, cwd: Path, root: Path | None = None) -> tuple[ModuleType, str | None]:
    """Import what a command names.

    Args:
        text: `FILE`, `FILE:name`, `module:name` or `module`.
        cwd: Folder that a relative path starts at.
        root: The source root of a file; found by the rules of `find_root` when left out.

    Returns:
        The module, and the name behind the colon or None.

    Raises:
        NotFound: There is no such file or module.
        CompileError: Its name below the root belongs to something else, or a package of the user's shadows Cupola.
    """
    file, name = _split(text, cwd)
    if file is not None:
        return _load_file(file, root), name
    return _load_module(text.partition(":")[0], cwd), name


def import_for_worker(name: str, file: str) -> ModuleType:
    """Import in a worker process the module that its driver has under a name, from the file the driver has it from.

    The program itself is imported under its name below the root, so that its `__main__` block doesn't run.

    Raises:
        RunAtImport: The module starts a run while it is imported.
    """
    if name in PROGRAM:
        return _program_module(file)
    known = sys.modules.get(name)
    if known is None:
        try:
            with importing_file(file):
                known = importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not (name + ".").startswith(error.name + "."):
                raise
    # A command may have loaded a file that its name alone doesn't lead to.
    return known if known is not None and _same_file(module_file(known), file) else _execute(name, file)


def _program_module(file: str) -> ModuleType:
    name = module_name(file, root_of(file)) or os.path.splitext(os.path.basename(file))[0]
    known = sys.modules.get(name)
    if known is not None and not _same_file(module_file(known), file):
        # The name means something else, as that of a program `json.py` does.
        name, known = PROGRAM[-1], sys.modules.get(PROGRAM[-1])
    module = known or _execute(name, file)
    sys.modules["__main__"] = _stand_in(module)
    return module


def _stand_in(program: ModuleType) -> ModuleType:
    """Return a `__main__` in which pickles find what the program defines.

    It isn't the program's module itself, or `multiprocessing` would import the file in its children under a second
    name.
    """

    def find(name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(program, name)

    main = ModuleType("__main__")
    main.__dict__["__getattr__"] = find
    return main


def _split(text: str, cwd: Path) -> tuple[str | None, str | None]:
    path = os.path.join(os.path.abspath(cwd), os.path.expanduser(text))
    if os.path.isfile(path):
        return path, None
    head, _, name = text.rpartition(":")
    if head and os.path.isfile(path[: len(path) - len(name) - 1]):
        return path[: len(path) - len(name) - 1], name or None
    if os.path.isdir(path):
        raise ConfigError(f"{text!r} is a folder", where=str(cwd), fix=f"name a file in it, such as {text}/run.py")
    shown = head if head and "/" not in name and not name.endswith(".py") else text
    if shown.endswith(".py") or os.sep in shown or shown.startswith("."):
        raise NotFound(
            f"there is no file {shown!r}", where=f"looked in {cwd}", fix="relative paths start at the shell's folder"
        )
    module = text.partition(":")[0]
    if not all(part for part in module.split(".")) or text.count(":") > 1:
        raise ConfigError(f"{text!r} names neither a file nor a module", fix="write FILE, FILE:name or module:name")
    return None, text.partition(":")[2] or None


def _load_file(file: str, root: Path | None) -> ModuleType:
    file = os.path.normpath(file)
    root = root or find_root(Path(file))
    folder = os.path.dirname(file)
    _refuse_shadow(folder, os.fspath(root))
    _enter(folder, root)
    set_program(file, root)
    # A file that isn't below `CUPOLA_ROOT` has its stem as its name, as when Python runs it.
    name = module_name(file, root) or os.path.splitext(os.path.basename(file))[0]
    known = sys.modules.get(name)
    if known is not None:
        if _same_file(module_file(known), file):
            return known
        raise CompileError(
            f"{os.path.basename(file)} would be imported as {name!r}, but that name belongs to another module",
            where=f"{file}; {module_file(known) or 'a built-in module'}",
            fix="rename the file",
        )
    return _execute(name, file)


def _execute(name: str, file: str) -> ModuleType:
    parent = _parent(name, file)
    loader = importlib.machinery.SourceFileLoader(name, file)
    spec = importlib.util.spec_from_file_location(name, file, loader=loader)
    if spec is None:  # only for loaders that know no files
        raise NotFound(f"{file} can't be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        with importing_file(file):
            loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    # The module may have put another object in its place.
    module = sys.modules.get(name, module)
    if parent is not None:
        setattr(parent, name.rpartition(".")[2], module)
    return module


def _parent(name: str, file: str) -> ModuleType | None:
    """Import the package that a file is in; None if its name means something else, as `code/` or `test/` do."""
    package = name.rpartition(".")[0]
    if not package:
        return None
    try:
        with importing_file(file):
            parent = importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name is not None and (package + ".").startswith(error.name + "."):
            return None
        raise
    places = [os.path.realpath(place) for place in getattr(parent, "__path__", ())]
    return parent if os.path.dirname(os.path.realpath(file)) in places else None


def _load_module(name: str, cwd: Path) -> ModuleType:
    folder = os.path.abspath(cwd)
    root = find_root(cwd / "x") if read_setting("root") else (marked_root(folder) or Path(folder))
    _refuse_shadow(os.fspath(root))
    _enter(folder, root)
    try:
        with importing_file(name):
            spec = importlib.util.find_spec(name)
    except ModuleNotFoundError as error:
        if error.name is None or not (name + ".").startswith(error.name + "."):
            raise
        spec = None
    if spec is None or spec.origin is None:
        raise NotFound(
            f"there is no module {name!r}",
            where=f"looked in {root} and on sys.path",
            fix="name it as an import from the source root would, such as flows.train:training",
        )
    if spec.has_location:
        set_program(spec.origin, find_root(Path(spec.origin)))
        enter_project()
    with importing_file(spec.origin):
        return importlib.import_module(name)


def _enter(folder: str, root: Path) -> None:
    """Make `sys.path` start with a folder and the root, in the place of what the command itself had put there."""
    if sys.path and not sys.flags.safe_path and _is_of_command(sys.path[0]):
        del sys.path[0]
    add_path(root, 0)
    if folder in sys.path:
        sys.path.remove(folder)
    sys.path.insert(0, folder)
    importlib.invalidate_caches()


def _is_of_command(entry: str) -> bool:
    """Whether Python put an entry on `sys.path` for the command: the folder of its script, or the shell's with `-m`."""
    main = module_file(sys.modules.get("__main__"))
    if main.startswith(_OWN_FOLDER + os.sep):
        return entry in ("", os.getcwd())
    return entry == "" or os.path.abspath(entry) in (os.path.dirname(main), os.path.dirname(os.path.realpath(main)))


def _refuse_shadow(*folders: str) -> None:
    for folder in dict.fromkeys(folders):
        for path in (os.path.join(folder, "cupola", "__init__.py"), os.path.join(folder, "cupola.py")):
            if os.path.isfile(path) and not _same_file(os.path.dirname(path), _OWN_FOLDER):
                raise CompileError(
                    "a package of yours is called cupola and hides the library: imports from cupola would find yours",
                    where=path,
                    fix="rename it; a folder cupola/ without __init__.py may stay",
                )


def _same_file(one: str, other: str) -> bool:
    try:
        return bool(one) and os.path.samefile(one, other)
    except OSError:
        return False
