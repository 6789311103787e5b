"""Which code a run ran, as its facts tell: `Run.code`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from cupola.engine.provenance.facts import UNKNOWN

_NOT_YET = "it isn't found out before the run's first step has begun"


class Code(msgspec.Struct, frozen=True, kw_only=True):
    """Which code a run ran; what isn't known is None.

    Attributes:
        commit: The commit that was checked out.
        branch: The branch that was checked out.
        remote: Where the repository came from, without credentials.
        dirty: Whether the files of the program differed from the commit.
        path: The program's file within the repository.
        source: Digest of the source tree, which says more than the commit does where that is dirty.
        unknown: Why something isn't known, by name.
    """

    commit: str | None = None
    branch: str | None = None
    remote: str | None = None
    dirty: bool | None = None
    path: str | None = None
    source: str | None = None
    unknown: dict[str, str] = {}

    def __str__(self) -> str:
        if self.commit is None:
            return f"commit unknown: {self.unknown.get('commit', '')}"
        where = f" on {self.branch}" if self.branch else ""
        state = "unknown whether dirty" if self.dirty is None else "dirty" if self.dirty else "clean"
        return f"{self.commit[:12]}{where}, {state}"


def read_code(facts: Mapping[str, str]) -> Code:
    """Return what the facts of a run tell of its code."""
    unknown = {name.removeprefix(UNKNOWN): why for name, why in facts.items() if name.startswith(UNKNOWN)}
    # A run that was resumed may have found out then what it couldn't before.
    unknown = {name: why for name, why in unknown.items() if name not in facts}
    if "source" not in facts and not unknown:
        unknown = {"commit": _NOT_YET, "source": _NOT_YET}
    dirty = facts.get("dirty")
    return Code(
        commit=facts.get("commit"),
        branch=facts.get("branch"),
        remote=facts.get("remote"),
        dirty=None if dirty is None else dirty == "yes",
        path=facts.get("path"),
        source=facts.get("source"),
        unknown=unknown,
    )


def plain_code(code: Code) -> dict[str, Any]:
    """Return it as plain data."""
    return msgspec.structs.asdict(code)
