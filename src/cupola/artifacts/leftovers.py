"""Removes temporary files of processes that were killed while they wrote: their names begin with host and process."""

from __future__ import annotations

import os
import time

OLD_S = 600.0
"""Age, in seconds, under which a file is left alone: a container of the same name may have processes unseen here."""


def remove_leftovers(folder: str, host: str) -> None:
    """Remove what ended processes of a host left in a folder, files `host-process-…` and folders of the same name.

    Nothing that fails is told: what stays is found by `cupola doctor store`.
    """
    try:
        with os.scandir(folder) as entries:
            found = [entry.path for entry in entries if _is_left(entry, host)]
    except OSError:
        return
    for path in found:
        try:
            if os.path.isdir(path):
                import shutil  # here, since it brings three libraries of compression

                shutil.rmtree(path)
            else:
                os.unlink(path)
        except OSError:
            continue


def _is_left(entry: os.DirEntry[str], host: str) -> bool:
    process = entry.name.removeprefix(f"{host}-").partition("-")[0]
    if not entry.name.startswith(f"{host}-") or not process.isdecimal() or _is_alive(int(process)):
        return False
    try:
        # Not the modification time, which a blob gets as its seal before it is moved into place.
        return time.time() - entry.stat(follow_symlinks=False).st_ctime > OLD_S
    except OSError:
        return False


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
