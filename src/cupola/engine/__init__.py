"""Driving a run: what may be reused, what must run, in which order, and the one writer of its events."""

from __future__ import annotations

from cupola.late import TYPE_CHECKING, late_modules

if TYPE_CHECKING:
    from cupola.engine import capacity, concurrency, explain, live, plan, pool, worker_echo

__all__ = ["capacity", "concurrency", "explain", "live", "plan", "pool", "worker_echo"]
__getattr__ = late_modules(__name__, *__all__)
