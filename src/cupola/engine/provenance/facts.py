"""What was found out of a run's code and surroundings, as the run's record has it."""

from __future__ import annotations

import msgspec

UNKNOWN = "unknown."
"""Before the name of a fact that isn't known; its text is the reason."""


class Facts(msgspec.Struct, frozen=True):
    """What was found out.

    Attributes:
        facts: Facts by name; one that isn't known has its reason under `unknown.<name>`.
        blobs: Digests of blobs by what they hold: `archive`, `diff`, `distributions`.
    """

    facts: dict[str, str] = {}
    blobs: dict[str, str] = {}
