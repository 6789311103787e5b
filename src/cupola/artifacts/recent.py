"""What a process has just stored, kept for the steps that read it next: few bytes, and never more than so many."""

from __future__ import annotations

KEPT_BYTES = 1 << 20
"""Twice this many bytes are kept at most."""


class Recent:
    """Bytes by the name of their blob. Two halves: when the younger one is full, the older one is dropped whole."""

    def __init__(self) -> None:
        self._young: dict[str, bytes] = {}
        self._old: dict[str, bytes] = {}
        self._young_bytes = 0

    def get(self, name: str) -> bytes | None:
        """Return the bytes of a blob if they are kept."""
        return self._young.get(name) or self._old.get(name)

    def keep(self, name: str, data: bytes) -> None:
        """Keep bytes that nobody can change."""
        self._young[name] = data
        self._young_bytes += len(data)
        if self._young_bytes > KEPT_BYTES:
            self._old, self._young, self._young_bytes = self._young, {}, 0
