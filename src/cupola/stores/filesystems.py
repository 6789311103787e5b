"""Refuses to keep a SQLite database on a network file system, where its locks don't hold."""

from __future__ import annotations

import os
import re
from pathlib import Path

from cupola.errors import ConfigError

NETWORK = frozenset(
    [
        "9p",
        "afs",
        "beegfs",
        "ceph",
        "cifs",
        "coda",
        "cvmfs",
        "fuse.ceph",
        "fuse.gcsfuse",
        "fuse.glusterfs",
        "fuse.juicefs",
        "fuse.rclone",
        "fuse.s3fs",
        "fuse.sshfs",
        "gfs",
        "gfs2",
        "glusterfs",
        "gpfs",
        "lustre",
        "ncpfs",
        "nfs",
        "nfs4",
        "ocfs2",
        "orangefs",
        "pvfs2",
        "smb",
        "smb2",
        "smb3",
        "smbfs",
        "webdav",
        "fuse.davfs",
        "davfs",
    ]
)
_ESCAPE = r"\\([0-7]{3})"
MOUNTS = Path("/proc/self/mountinfo")


def refuse_network(folder: Path, mounts: str | None = None) -> None:
    """Raise `ConfigError` when a folder is on a network file system; say nothing where that can't be known.

    Args:
        folder: An absolute path; it need not exist yet.
        mounts: The text of `/proc/self/mountinfo`; read when None.
    """
    if mounts is None:
        try:
            mounts = MOUNTS.read_text(encoding="utf-8", errors="surrogateescape")
        except OSError:
            return
    kind = kind_of(os.path.realpath(folder), mounts)
    if kind in NETWORK:
        raise ConfigError(
            f"CUPOLA_HOME is on a network file system ({kind}), where SQLite's locks don't hold and data gets lost",
            where=str(folder),
            fix="set CUPOLA_HOME to a folder on a local disk, or set CUPOLA_SERVER to use a server",
        )


def kind_of(path: str, mounts: str) -> str:
    """Return the type of the file system that a path is on, by the text of `mountinfo`; empty when unknown."""
    best, kind = -1, ""
    for line in mounts.splitlines():
        # Mount point is the fifth field; the type follows a lone dash after a varying number of fields.
        head, _, tail = line.partition(" - ")
        fields = head.split(" ")
        if len(fields) < 5 or not tail:
            continue
        point = re.sub(_ESCAPE, lambda match: chr(int(match[1], 8)), fields[4])
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        # A later mount on the same point hides the earlier one.
        if inside and len(point) >= best:
            best, kind = len(point), tail.split(" ")[0]
    return kind
