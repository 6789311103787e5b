"""What becomes of a blob that isn't what its name says: it is moved away, and an error says which and what to do."""

from __future__ import annotations

import os
from pathlib import Path

from cupola.errors import Damaged


def missing(name: str, path: str, error: OSError) -> Damaged:
    """Return the error for a blob that isn't there or can't be read."""
    what = "is missing" if isinstance(error, FileNotFoundError) else f"can't be read: {error.strerror or error}"
    return Damaged(
        f"blob {name} {what}",
        where=path,
        fix="run the pipeline again: the step that made it runs again and stores it anew",
    )


def quarantine(name: str, path: str, home: Path) -> Damaged:
    """Move a damaged blob to the folder `quarantine` of a home; return the error."""
    folder = home / "quarantine"
    target = folder / f"{name.partition(':')[2]}-{os.urandom(4).hex()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        os.rename(path, target)
        where = f"moved to {target}"
    except OSError as error:
        where = f"{path}; it could not be moved away: {error.strerror or error}"
    return Damaged(
        f"blob {name} is damaged: its bytes are not those that were stored",
        where=where,
        fix="run the pipeline again: the step that made it runs again and stores it anew; "
        "`cupola doctor store` lists what else is damaged",
    )
