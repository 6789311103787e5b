"""The pool: warm worker processes of this machine that run attempts of steps at the same time.

The driver's thread alone uses it: it starts attempts, waits for those that landed, stops some. Workers are made when
they are first needed and kept; one whose step died, was stopped or overran its timeout is ended with all that the step
started, and the next attempt gets a new one.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from cupola.compiler.stepcompile import LiveStep
from cupola.context import PipelineInfo, RunInfo
from cupola.engine.deaths import ended_outcome, memory_kills
from cupola.engine.nest import OWN, Lane, Nest, make_setup
from cupola.engine.orders import order_of, outcome_of
from cupola.engine.processes import GRACE_S
from cupola.engine.recipes import changed_code, make_recipe
from cupola.engine.results import Landed, Place, failed_outcome
from cupola.engine.site import Site
from cupola.engine.slots import Slot, boot_ticks, is_readable
from cupola.engine.wire import (
    Begun,
    Born,
    Died,
    Done,
    Ended,
    FromWorker,
    Recipe,
    Unlike,
    cut_frames,
    decoder,
    frame,
    write_all,
)
from cupola.engine.worker_echo import WorkerEcho
from cupola.entities.run import StepStatus
from cupola.failures import describe_failure
from cupola.loglines import log_size
from cupola.worker import Outcome, Task

_READ_BYTES = 256 * 1024
_ECHO_S = 0.1
_AHEAD_BYTES = 48 * 1024
"""Orders that a worker is sent ahead, in bytes: what its link holds, so that the driver never waits for it to read."""
_CUT_S = 0.2
"""How long a worker whose link ended is given to die before its step is taken to have closed the link."""


class Pool:
    """Runs attempts in worker processes of this machine; used by the driver's thread only.

    Args:
        site: Where the run happens.
        run, pipeline: What steps may ask about them.
        folder: The run's folder.
        size: How many attempts run at once at most.
        echo: Shows what workers print; nobody does when left out.
        nest: A nursery that was started beforehand; the pool closes it.
    """

    def __init__(
        self,
        site: Site,
        run: RunInfo,
        pipeline: PipelineInfo,
        folder: Path,
        size: int,
        *,
        echo: WorkerEcho | None = None,
        nest: Nest | None = None,
    ) -> None:
        self._site = site
        self._folder = folder
        self._size = size
        self._run, self._pipeline = run, pipeline
        self._nests: dict[Lane, Nest] = {}
        self._slots: dict[int, Slot] = {}
        self._links: dict[int, Slot] = {}
        self._busy: dict[int, Slot] = {}
        self._poll = select.poll()
        self._recipes: dict[int, tuple[Recipe, LiveStep]] = {}
        self._read = decoder(FromWorker)
        self._kills = memory_kills()
        self._echo = echo
        self._landed: list[Landed] = []
        self._adopt(OWN, nest or Nest())

    def free(self) -> int:
        """Return how many more attempts it takes now."""
        return self._size - len(self._busy)

    def busy(self) -> int:
        """Return how many attempts are under way."""
        return len(self._busy)

    def place(self, task: Task, extra_env: Mapping[str, str] | None = None, python: Lane | None = None) -> Place:
        """Choose the worker of an attempt, which `run` then starts; `free` must not be 0.

        Args:
            task: The attempt.
            extra_env: Environment variables that its worker is made with, such as the devices it may use.
            python: Another environment than the driver's.

        Raises:
            CupolaError: The step's function can neither be imported by a worker nor be sent to one.
        """
        lane, env = python or OWN, dict(extra_env or {})
        self._recipe_key(task)
        slot = self._find_slot(lane, env)
        slot.task = task
        slot.log_start = slot.log_end
        slot.started = boot_ticks()
        self._busy[task.position] = slot
        return Place(slot.number, slot.log_start)

    def run(self, position: int, ahead: Sequence[Task] = ()) -> int:
        """Start the attempt of a step in the worker that `place` chose.

        Args:
            position: The step.
            ahead: Attempts of the same step that the worker goes on with by itself, one after the other; `Landed` says
                when one begins.

        Returns:
            How many of these it takes: none before it has shown that it has the right code, no more than a link holds.
        """
        slot = self._busy[position]
        assert slot.task is not None
        key = self._recipe_key(slot.task)
        orders: list[bytes] = []
        room = _AHEAD_BYTES
        for task in ahead if key in slot.proven else ():
            orders.append(frame(order_of(task, key, slot.env)))
            room -= len(orders[-1])
            if room < 0:
                orders.pop()
                break
            slot.ahead.append(task)
        self._say_begun(slot)
        self._order(slot, key, b"".join(orders))
        return len(slot.ahead)

    def _say_begun(self, slot: Slot) -> None:
        if self._echo is not None and slot.task is not None:
            self._echo.begin(slot.number, slot.task.spec.name, slot.log_start, is_followed=bool(slot.ahead))

    def wait(self, timeout_s: float | None, wake: Sequence[int] = ()) -> list[Landed]:
        """Return the attempts that are over, once there is one, the time is up, or a descriptor can be read.

        An exception that a signal's handler raises comes through; nothing is lost by it but what a worker was just
        saying, and such a worker is ended with its step. Handlers that only write to a descriptor in `wake` are
        better.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        for file in wake:
            self._poll.register(file, select.POLLIN)
        try:
            while not self._landed:
                ready = self._poll.poll(self._patience_ms(deadline))
                for file, _event in ready:
                    if file not in wake:
                        self._hear(file)
                self._end_overdue()
                if self._echo is not None:
                    self._echo.copy(len(self._busy) > 1)
                if any(file in wake for file, _event in ready) or (deadline and time.monotonic() >= deadline):
                    break
        finally:
            for file in wake:
                self._poll.unregister(file)
        landed, self._landed = self._landed, []
        return landed

    def stop(self, positions: Collection[int], grace_s: float = GRACE_S) -> None:
        """Stop attempts: the step sees `Terminated`; after the grace it and all that it started are killed.

        They land as cancelled, by `wait`. Called again with a shorter grace it shortens that of those still there.
        """
        for position in positions:
            slot = self._busy.get(position)
            if slot is not None and slot.ending and slot.pid and grace_s < slot.grace_s:
                slot.grace_s = grace_s
                self._nests[slot.lane].end(slot.pid, grace_s, slot.started)
            elif slot is not None:
                self._end(slot, "stopped", grace_s)

    def close(self, grace_s: float = GRACE_S) -> None:
        """End all workers and all that steps started and left behind; calling it again does nothing."""
        for slot in list(self._slots.values()):
            self._close_link(slot)
        nests, self._nests = self._nests, {}
        for nest in nests.values():
            nest.close(grace_s)
        self._slots.clear()
        self._busy.clear()
        if self._echo is not None:
            self._echo.close()

    # Starting.

    def _nest(self, lane: Lane) -> Nest:
        known = self._nests.get(lane)
        if known is None or known.is_gone:
            known = self._adopt(lane, Nest(lane))
        return known

    def _adopt(self, lane: Lane, nest: Nest) -> Nest:
        self._nests[lane] = nest
        self._poll.register(nest.link, select.POLLIN)
        nest.set_up(make_setup(self._site, self._run, self._pipeline, self._folder, is_own=lane == OWN))
        return nest

    def _find_slot(self, lane: Lane, env: Mapping[str, str]) -> Slot:
        """Return an idle worker that fits, or a new one in place of an idle one that doesn't."""
        other: Slot | None = None
        for slot in self._slots.values():
            if slot.task is None:
                if slot.lane == lane and slot.env == env:
                    return slot
                other = slot
        if len(self._slots) < self._size:
            number = next(number for number in range(1, self._size + 1) if number not in self._slots)
        else:
            assert other is not None, "start is called while an attempt more can run"
            number = other.number
            self._dismiss(other)
        return self._make(number, lane, env)

    def _make(self, number: int, lane: Lane, env: Mapping[str, str]) -> Slot:
        link = self._nest(lane).fork(number, env)
        slot = Slot(number, lane, env, link, log_size(self._folder, number))
        self._slots[number] = self._links[link] = slot
        self._poll.register(link, select.POLLIN)
        return slot

    def _dismiss(self, slot: Slot) -> None:
        """Let an idle worker go; it ends when its link does."""
        self._close_link(slot)
        del self._slots[slot.number]

    def _close_link(self, slot: Slot) -> None:
        if slot.link >= 0:
            self._poll.unregister(slot.link)
            del self._links[slot.link]
            os.close(slot.link)
            slot.link = -1

    def _recipe_key(self, task: Task) -> int:
        """Return the key of the step's recipe, made when the step first comes."""
        key = id(task.live.annotations)  # one for all calls of a step with the same options
        if key not in self._recipes:
            self._recipes[key] = make_recipe(key, task.live, task.spec, self._site.blobs), task.live
        return key

    def _order(self, slot: Slot, key: int, ahead: bytes = b"") -> None:
        task = slot.task
        assert task is not None
        data = b""
        if key not in slot.taught:
            slot.taught.add(key)
            data = frame(self._recipes[key][0])
        try:
            write_all(slot.link, data + frame(order_of(task, key, slot.env)) + ahead)
        except OSError:
            return  # it died just now, which the nursery is about to say

    # Listening.

    def _patience_ms(self, deadline: float | None) -> float | None:
        times = [slot.deadline for slot in self._busy.values() if slot.deadline is not None]
        if deadline is not None:
            times.append(deadline)
        if self._echo is not None and self._busy:
            times.append(time.monotonic() + _ECHO_S)
        return max(0.0, min(times) - time.monotonic()) * 1000 if times else None

    def _hear(self, file: int) -> None:
        slot = self._links.get(file)
        if slot is not None:
            self._hear_worker(slot)
            return
        for lane, nest in list(self._nests.items()):
            if nest.link == file:
                for message in nest.read():
                    self._hear_nursery(lane, nest, message)
                if nest.is_gone:
                    self._lose(lane, nest)

    def _hear_worker(self, slot: Slot) -> None:
        try:
            data = os.read(slot.link, _READ_BYTES)
        except OSError:
            data = b""
        if not data:
            # How it died, the nursery says. If it lives, its step has closed the link.
            self._close_link(slot)
            if slot.task is not None and not slot.ending and slot.died is None:
                slot.is_cut = True
                slot.deadline = time.monotonic() + _CUT_S
            return
        slot.buffer += data
        for message in cut_frames(slot.buffer):
            self._take(slot, self._read.decode(message))

    def _take(self, slot: Slot, message: Begun | Unlike | Done) -> None:
        task = slot.task
        if task is None:
            return
        match message:
            case Begun():
                if task.options.timeout_s is not None:
                    slot.deadline = time.monotonic() + task.options.timeout_s + GRACE_S
            case Unlike():
                self._teach_again(slot, task, message)
            case Done():
                slot.log_end = message.log_end
                slot.deadline = None
                slot.proven.add(self._recipe_key(task))
                outcome = outcome_of(message)
                if slot.ending or message.is_timeout or outcome.status is StepStatus.CANCELLED:
                    slot.outcome = outcome
                    self._end(slot, "failed", GRACE_S)
                else:
                    self._land(slot, outcome)

    def _teach_again(self, slot: Slot, task: Task, message: Unlike) -> None:
        """Send a step by value whose module has other values in the driver than after an import; never other code."""
        recipe, live = self._recipes[message.recipe]
        try:
            error = changed_code(live, task.spec, message.parts)
            if error is None:
                again = make_recipe(recipe.key, live, task.spec, self._site.blobs, by_value=True)
                self._recipes[message.recipe] = again, live
                # Other workers that know the step by name have found it to be alike, or will ask as this one did.
                slot.taught.discard(message.recipe)
                self._order(slot, message.recipe)
                return
        except Exception as other:  # sending by value may fail in any way that a user's object can
            error = other
        self._land(slot, failed_outcome(error, describe_failure(error, self._site.root)))

    def _hear_nursery(self, lane: Lane, nest: Nest, message: Born | Died | Ended) -> None:
        if isinstance(message, Born):
            slot = self._slots.get(message.number)
            if slot is not None and slot.lane == lane and not slot.pid:
                slot.pid = message.pid
                if slot.ending:
                    nest.end(slot.pid, slot.grace_s, slot.started)
            return
        slot = next((slot for slot in self._slots.values() if slot.pid == message.pid), None)
        if slot is None:
            return
        if isinstance(message, Died):
            self._bury(slot, nest, message)
        elif slot.task is not None:
            slot.died = slot.died or Died(slot.pid, -1, "SIGKILL", 0.0, 0)
            self._land_ended(slot)

    def _bury(self, slot: Slot, nest: Nest, died: Died) -> None:
        """Note how a worker died, after all that it had said; end what its step left."""
        while slot.link >= 0 and is_readable(slot.link):
            self._hear_worker(slot)
        slot.died = died
        if self._slots.get(slot.number) is not slot:
            return
        if slot.task is None:
            self._close_link(slot)
            del self._slots[slot.number]
        elif not slot.ending:
            slot.ending = "failed"
            nest.end(slot.pid, GRACE_S, slot.started)

    def _end(self, slot: Slot, why: str, grace_s: float) -> None:
        if slot.ending:
            return
        slot.ending, slot.grace_s = why, grace_s
        slot.deadline = None
        if slot.pid:
            self._nests[slot.lane].end(slot.pid, grace_s, slot.started)

    def _end_overdue(self) -> None:
        now = time.monotonic()
        for slot in list(self._busy.values()):
            if slot.deadline is not None and slot.deadline <= now:
                self._end(slot, "cut" if slot.is_cut else "overdue", 0.0)

    def _lose(self, lane: Lane, nest: Nest) -> None:
        """Go on without a nursery that ended: its workers ended with it."""
        self._poll.unregister(nest.link)
        nest.close(0.0)
        self._nests.pop(lane, None)
        for slot in [slot for slot in self._slots.values() if slot.lane == lane]:
            slot.died = slot.died or Died(slot.pid, -1, "SIGKILL", 0.0, 0)
            if slot.task is not None:
                self._land_ended(slot)
            else:
                self._dismiss(slot)

    # Landing.

    def _land_ended(self, slot: Slot) -> None:
        """Land an attempt whose processes are gone."""
        slot.log_end = max(slot.log_end, log_size(self._folder, slot.number))
        outcome = ended_outcome(slot, self._folder, memory_kills() - self._kills)
        self._close_link(slot)
        del self._slots[slot.number]
        self._land(slot, outcome)

    def _land(self, slot: Slot, outcome: Outcome) -> None:
        task = slot.task
        assert task is not None
        if self._echo is not None:
            self._echo.finish(slot.number, slot.log_end, len(self._busy) > 1)
        del self._busy[task.position]
        slot.task = None
        left, following = tuple(slot.ahead), None
        if slot.ahead and self._slots.get(slot.number) is slot and not slot.ending:
            left, following = (), slot.ahead.popleft()
            slot.task = following
            slot.log_start = slot.log_end
            slot.started = boot_ticks()
            self._busy[following.position] = slot
            self._say_begun(slot)
        self._landed.append(Landed(task.position, outcome, slot.log_end, slot.number, next=following, left=left))
