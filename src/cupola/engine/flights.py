"""The steps of a run that have begun or are about to: those that wait to start, to be tried again, or that run."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from heapq import heappop, heappush
from pathlib import Path

import msgspec

from cupola.engine.cache import Inputs, Manifests, read_inputs
from cupola.store import CacheEntry
from cupola.worker import Task


class Flight(msgspec.Struct):
    """A step from the decision that it runs until it is over.

    Attributes:
        task: The attempt that runs, ran last, or is to be first.
        inputs: What the step reads.
        verified: An earlier result that this one is to be compared with.
        notes: What is to be said of it, such as that an earlier result couldn't be used.
        started_at: When this driver took it up.
        is_isolated: Whether it runs in a process of its own, since an earlier attempt ended its process.
        worker, log_end: Of the last attempt that is over, which worker it had and where its output ended.
    """

    task: Task
    inputs: Inputs
    verified: CacheEntry | None
    notes: list[str]
    started_at: float
    is_isolated: bool = False
    worker: int = 0
    log_end: int = 0


class Flights:
    """All flights of one run, by position."""

    def __init__(self) -> None:
        self._all: dict[int, Flight] = {}
        self._queue: deque[int] = deque()
        self._delayed: list[tuple[float, int]] = []

    def __len__(self) -> int:
        return len(self._all)

    def __getitem__(self, position: int) -> Flight:
        return self._all[position]

    def all(self) -> list[Flight]:
        """Return all flights."""
        return list(self._all.values())

    def waiting(self) -> int:
        """Return how many could start now."""
        return len(self._queue)

    def add(self, flight: Flight) -> None:
        """Let a step wait for its first attempt."""
        self._all[flight.task.position] = flight
        self._queue.append(flight.task.position)

    def end(self, flight: Flight) -> None:
        """Forget a step that is over."""
        del self._all[flight.task.position]

    def try_again(self, flight: Flight, delay_s: float) -> None:
        """Let a step wait for its next attempt."""
        task = flight.task
        flight.task = msgspec.structs.replace(task, attempt=task.attempt + 1, tries=task.tries + 1)
        heappush(self._delayed, (time.monotonic() + delay_s, task.position))

    def next(self) -> Flight | None:
        """Return the first that could start now, which `take_next` then takes from those that wait."""
        # What was tried before goes before what is new.
        while self._delayed and self._delayed[0][0] <= time.monotonic():
            self._queue.appendleft(heappop(self._delayed)[1])
        return self._all[self._queue[0]] if self._queue else None

    def take_next(self) -> None:
        """Take the flight that `next` returned from those that wait."""
        self._queue.popleft()

    def ahead(self, flight: Flight) -> list[Task]:
        """Return the attempts of the same lot that wait right behind one that is about to start, their first ones."""
        fan = flight.task.spec.fan
        lot: list[Task] = []
        if fan is None or fan.batch < 2 or flight.is_isolated:
            return lot
        step = flight.task.spec.name.rpartition("[")[0]
        for position in self._queue:
            task = self._all[position].task
            if len(lot) + 1 >= fan.batch or task.tries > 1 or task.spec.name.rpartition("[")[0] != step:
                break
            lot.append(task)
        return lot

    def take_ahead(self, count: int) -> None:
        """Take the first so many from those that wait: they went to a worker with the one before them."""
        for _ in range(count):
            self._queue.popleft()

    def put_back(self, tasks: Sequence[Task]) -> None:
        """Let attempts wait again that were sent ahead and never began."""
        self._queue.extendleft(task.position for task in reversed(tasks))

    def due_s(self) -> float | None:
        """Return the seconds until a delay is over; None when none goes on."""
        return max(0.0, self._delayed[0][0] - time.monotonic()) if self._delayed else None

    def withdraw_new(self) -> list[int]:
        """Forget the steps that have never started; return their positions."""
        new = [position for position in self._queue if self._all[position].task.tries == 1]
        for position in new:
            del self._all[position]
        self._queue = deque(position for position in self._queue if position in self._all)
        return new

    def take_waiting(self) -> list[Flight]:
        """Take all from those that wait to start or to be tried again; return them."""
        waiting = [*self._queue, *(position for _at, position in self._delayed)]
        self._queue, self._delayed = deque(), []
        return [self._all[position] for position in waiting]


def changed_file(flight: Flight, manifests: Manifests, root: Path) -> str:
    """Return what to say when a file that the step read changed since it was digested."""
    task, before = flight.task, flight.inputs.digests
    if not task.live.files and not task.options.cache_files:
        return ""
    after = read_inputs(task.spec, task.options, task.live.files, manifests, root)
    changed = [label for label, text in before.items() if after.digests.get(label) != text]
    return f"{', '.join(changed)} changed while the step ran" if changed else ""


def is_drawn(share: float) -> bool:
    """Decide whether a step that is cached runs nevertheless, as so great a share of them is to."""
    if not share:
        return False
    import random  # here, since it is heavy and seldom needed

    return random.random() < share
