"""Private copies of stored files for one process: made when asked for, gone when the process ends."""

from __future__ import annotations

import atexit
import os
from pathlib import Path

from cupola.journal import cannot_write

_made: dict[str, int] = {}


def private_folder(home: Path) -> Path:
    """Return a new empty folder on the file system of the store, which is removed when this process ends.

    Raises:
        Unreachable: It can't be made.
    """
    views = home / "views"
    host = os.uname().nodename.replace("/", "_")[:40]
    folder = views / f"{host}+{os.getpid()}+{os.urandom(8).hex()}"
    try:
        if not _made:
            atexit.register(_remove_own)
            _remove_orphans(views, host)
        folder.mkdir(parents=True)
    except OSError as error:
        raise cannot_write(folder, error) from error
    _made[str(folder)] = os.getpid()
    return folder


def _remove_own() -> None:
    for folder, process in _made.items():
        # A forked child has the list of its parent but must leave the folders to it.
        if process == os.getpid():
            import shutil  # here, since it brings three libraries of compression

            shutil.rmtree(folder, ignore_errors=True)


def _remove_orphans(views: Path, host: str) -> None:
    """Remove what processes of this host left behind that were killed."""
    if not views.exists():
        return
    for folder in views.iterdir():
        owner, _, rest = folder.name.partition("+")
        process = rest.partition("+")[0]
        if owner == host and process.isdigit() and not _is_alive(int(process)):
            import shutil  # here, since it brings three libraries of compression

            shutil.rmtree(folder, ignore_errors=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
