"""What a process has just stored, kept for the steps that read it next: little, and never more than so many bytes."""

from __future__ import annotations

from typing import Any

KEPT_BYTES = 1 << 20
"""Twice this many bytes are kept at most."""


class Recent:
    """Things by the name of their blob. Two halves: when the younger one is full, the older one is dropped whole."""

    def __init__(self) -> None:
        self._young: dict[str, Any] = {}
        self._old: dict[str, Any] = {}
        self._young_bytes = 0

    def get(self, name: str) -> Any:
        """Return what is kept of a blob: its bytes, a dict or list that stands for them, or None."""
        return self._young.get(name) or self._old.get(name)

    def keep(self, name: str, held: Any, size_bytes: int) -> None:
        """Keep the bytes of a blob, or a dict or list of scalars that nobody else has; readers get copies of it."""
        self._young[name] = held
        self._young_bytes += size_bytes
        if self._young_bytes > KEPT_BYTES:
            self._old, self._young, self._young_bytes = self._young, {}, 0
