"""Identifiers and the clock: the only place that asks the machine for time or randomness.

Ids are UUIDs of version 7 (RFC 9562) as 32 hex digits: they sort by creation, strictly within one process.
"""

from __future__ import annotations

import os
import time

_last = 0


def user_name() -> str:
    """Return who runs this process: a name, or the number where there is none. It need not be text that can be stored.

    Without the database of users, which a container may lack.
    """
    return os.environ.get("USER") or os.environ.get("LOGNAME") or str(os.getuid())


def now() -> float:
    """Return the wall clock in seconds since 1970, for people only; order comes from the store."""
    return time.time()


def new_id() -> str:
    """Return a new id that sorts after every id made before in this process."""
    global _last
    # 48 bits of milliseconds and 12 bits of their fraction, as RFC 9562 6.2 method 3 allows.
    tick = time.time_ns() * 4096 // 1_000_000
    _last = tick = max(tick, _last + 1)
    tail = int.from_bytes(os.urandom(8), "big") & (1 << 62) - 1
    return f"{tick >> 12:012x}7{tick & 0xFFF:03x}{1 << 63 | tail:016x}"


def created_at(identifier: str) -> float:
    """Return the time in seconds that an id carries."""
    return int(identifier[:12], 16) / 1000
