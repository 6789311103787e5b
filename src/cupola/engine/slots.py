"""What the driver knows of each of its workers."""

from __future__ import annotations

import os
import select
import time
from collections import deque
from collections.abc import Mapping

import msgspec

from cupola.engine.nest import Lane
from cupola.engine.processes import GRACE_S
from cupola.engine.wire import Died
from cupola.worker import Outcome, Task

_TICKS = os.sysconf("SC_CLK_TCK")


class Slot(msgspec.Struct, eq=False):
    """A worker as the driver sees it.

    Attributes:
        number: Its number, from 1; a worker that takes the place of an ended one has its number and its log.
        lane, env: What it was made for.
        link: Descriptor of the link to it; -1 when that is closed.
        pid: Its process id; 0 until the nursery said it.
        task: What it runs; None when it is idle.
        ahead: The rest of a lot: attempts that it has been sent, and begins one after the other.
        proven: Recipes whose function it has called: what is sent ahead needs no answer on its code.
        log_start, log_end: Where the output of the attempt began, and where the log ended last.
        deadline: When an attempt that its timeout can't stop is ended; None when nothing is due.
        is_cut: Whether the link ended, as it does when the worker dies or its step closes it.
        ending: Why worker and attempt are being ended: `stopped`, `overdue`, `cut`, `failed`; else empty.
        outcome: What became of the attempt, while its processes are being ended.
        died: How the worker died.
        taught: Recipes that it knows.
    """

    number: int
    lane: Lane
    env: Mapping[str, str]
    link: int
    log_end: int
    pid: int = 0
    task: Task | None = None
    log_start: int = 0
    started: int = 0
    deadline: float | None = None
    is_cut: bool = False
    ending: str = ""
    grace_s: float = GRACE_S
    outcome: Outcome | None = None
    died: Died | None = None
    taught: set[int] = set()
    ahead: deque[Task] = msgspec.field(default_factory=deque[Task])
    proven: set[int] = set()
    buffer: bytearray = msgspec.field(default_factory=bytearray)


def boot_ticks() -> int:
    """Return the time since the boot as the system counts it for the start of a process; 0 where it doesn't."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return int(time.clock_gettime(clock) * _TICKS) - 1 if clock is not None else 0


def is_readable(file: int) -> bool:
    """Tell whether a descriptor has something to read now, be it its end."""
    poll = select.poll()
    poll.register(file, select.POLLIN)
    return bool(poll.poll(0))
