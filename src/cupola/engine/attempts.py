"""Where attempts of steps run: in the driver's own process while only one could, in worker processes otherwise.

Used by the driver's thread only. The pool is made when it is first needed, so that a run of a plain chain has none.
Hooks of steps are the driver's to call, wherever these run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import msgspec

from cupola import engine
from cupola.compiler.stepcompile import LiveStep
from cupola.engine.desk import Desk
from cupola.engine.processes import GRACE_S
from cupola.engine.results import Landed, Place, stopped_outcome
from cupola.engine.site import Site
from cupola.entities.run import StepStatus
from cupola.errors import CupolaError
from cupola.middleware.attempt import Moment
from cupola.middleware.hooks import call_hook
from cupola.worker import Services, Task, run_task

if TYPE_CHECKING:
    from cupola.engine.pool import Pool

_ENDS = {StepStatus.COMPLETED: ("on_success", "on_end"), StepStatus.FAILED: ("on_failure", "on_end")}


class Attempts:
    """Runs the attempts of one run.

    Attributes:
        log_end: Where the output of the last step that ran in this process ended. What is printed between two steps,
            by a thread that one left behind, belongs to the next one.
    """

    def __init__(self, site: Site, desk: Desk, services: Services) -> None:
        self._site = site
        self._desk = desk
        self._services = services
        self._said = desk.workers
        self._pool: Pool | None = None
        self._away: dict[int, Task] = {}
        self._told: dict[int, list[tuple[int, int]]] = {}
        self.log_end = desk.log.position()

    def room(self) -> int:
        """Return how many more attempts can be started now; while there is no pool, 1 or 0 as there may be one."""
        if self._pool is None:
            return 0 if self._said == 0 else 1
        return self._pool.free()

    def running(self) -> list[str]:
        """Return the names of the steps that run in workers now."""
        return [task.spec.name for task in self._away.values()]

    def can_start(self, task: Task, is_only: bool, is_isolated: bool) -> bool:
        """Tell whether an attempt can be started now.

        Args:
            task: The attempt.
            is_only: Whether no other step could run meanwhile.
            is_isolated: Whether it is to run in a process of its own whatever it is.
        """
        if self._pool is None:
            return True
        return not self._away if self._runs_here(task, is_only, is_isolated) else self._pool.free() > 0

    def place(self, task: Task, is_only: bool, is_isolated: bool) -> tuple[Place, str]:
        """Say where an attempt will run, and what a person should know of that; `run` starts it there."""
        if self._runs_here(task, is_only, is_isolated):
            return Place(0, self.log_end), ""
        try:
            place = self._open_pool().place(task)
        except (CupolaError, OSError) as error:
            # The step can't be sent to a worker, or there can be none: better here than not at all.
            reason = error.what if isinstance(error, CupolaError) else f"no worker process can be started: {error}"
            return Place(0, self.log_end), f"ran in the driver's process: {reason}"
        self._away[task.position] = task
        return place, ""

    def run(self, task: Task, ahead: Sequence[Task] = ()) -> tuple[Landed | None, int]:
        """Start an attempt where `place` said.

        Args:
            task: The attempt.
            ahead: Those that its worker may go on with by itself.

        Returns:
            What became of it, or None when that comes by `wait`; and how many of those ahead went with it.
        """
        if task.position not in self._away:
            return self._run_here(task), 0
        assert self._pool is not None
        self._tell_start(task)
        return None, self._pool.run(task.position, ahead)

    def begin_next(self, task: Task) -> None:
        """Note that a worker has begun an attempt that was sent ahead."""
        self._away[task.position] = task
        self._tell_start(task)

    def _tell_start(self, task: Task) -> None:
        if task.tries == 1:
            moment = Moment(task.position, task.spec.name, StepStatus.RUNNING, task.attempt)
            self._tell("on_start", task.live, moment)

    def wait(self, timeout_s: float) -> Iterator[Landed]:
        """Yield the attempts that are over, once there is one, the time is up, or a signal came."""
        interrupts = self._desk.interrupts
        if self._pool is None or not self._away:
            interrupts.sleep(timeout_s)
            return
        landed = self._pool.wait(timeout_s, interrupts.wake_files())
        interrupts.clear_wake()
        for one in landed:
            yield self._land(one)

    def end_early(self, task: Task, landed: Landed) -> Landed:
        """Call the hooks of a step that was to be tried again, which isn't done now; return its last attempt."""
        landed.outcome.again_after_s = None
        return self._end(task, landed)

    def tell_end(self, live: LiveStep, moment: Moment) -> None:
        """Call the hooks of a step that is over and whose function wasn't called in this process."""
        for event in _ENDS.get(moment.status, ("on_end",)):
            self._tell(event, live, moment)

    def stop(self, grace_s: float = GRACE_S) -> None:
        """Stop all attempts that run in workers; a second call with a shorter grace shortens it."""
        if self._pool is not None and self._away:
            self._pool.stop(list(self._away), grace_s)

    def close(self, grace_s: float = GRACE_S) -> None:
        """End all workers and what steps in them left behind."""
        if self._pool is not None:
            self._pool.close(grace_s)
            self._pool = None
            self._away.clear()

    def _runs_here(self, task: Task, is_only: bool, is_isolated: bool) -> bool:
        if self._said == 0:
            return True
        options = task.options
        if is_isolated or options.timeout_s is not None or options.resources or options.requirements:
            return False
        return is_only or self._size() < 2

    def _size(self) -> int:
        if self._said is None:
            self._said = engine.concurrency.default_workers()
        return self._said

    def _open_pool(self) -> Pool:
        if self._pool is None:
            desk, services = self._desk, self._services
            echo = engine.worker_echo.WorkerEcho(desk.folder, desk.log.show)
            self._pool = engine.pool.Pool(
                self._site, services.run, services.pipeline, desk.folder, max(1, self._size()), echo=echo
            )
        return self._pool

    def _run_here(self, task: Task) -> Landed:
        interrupts = self._desk.interrupts
        try:
            with interrupts.stopping(f"step {task.spec.name}"):
                outcome = run_task(task, self._services)
        except BaseException as error:
            # A signal may arrive in the few instructions around the step, where the worker no longer catches it.
            if not interrupts.signal:
                raise
            outcome = stopped_outcome(error)
        self.log_end = self._desk.log.position()
        return self._with_told(Landed(task.position, outcome, self.log_end, 0))

    def _land(self, landed: Landed) -> Landed:
        task = self._away.pop(landed.position)
        return landed if landed.outcome.again_after_s is not None else self._end(task, landed)

    def _end(self, task: Task, landed: Landed) -> Landed:
        outcome = landed.outcome
        moment = Moment(task.position, task.spec.name, outcome.status, task.attempt, outcome.failure)
        self.tell_end(task.live, moment)
        return self._with_told(landed)

    def _with_told(self, landed: Landed) -> Landed:
        """Return an attempt with what hooks of its step have printed here while it, or an earlier one, was away."""
        if landed.position not in self._told or landed.outcome.again_after_s is not None:
            return landed
        return msgspec.structs.replace(landed, told=tuple(self._told.pop(landed.position)))

    def _tell(self, event: str, live: LiveStep, moment: Moment) -> None:
        hook = live.hooks.get(event)
        if hook is None:
            return
        log, interrupts = self._desk.log, self._desk.interrupts
        start = log.position()
        try:
            with interrupts.stopping(f"hook {event} of step {moment.name}"):
                call_hook(event, hook, self._desk.tell_step_hook, moment)
        except BaseException:  # the signal that stopped the hook, or one that it made up, stops the run as well
            interrupts.note_stop("SIGINT")
        self.log_end = log.position()
        if self.log_end > start:
            self._told.setdefault(moment.position, []).append((start, self.log_end))
