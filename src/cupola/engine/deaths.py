"""What became of an attempt whose process died, or was ended since its timeout couldn't stop it."""

from __future__ import annotations

import os
import resource
from pathlib import Path

from cupola.context import Recorded
from cupola.engine.carried import StepError
from cupola.engine.slots import Slot
from cupola.engine.wire import LINK_LOST, Died
from cupola.entities.run import Failure, StepStatus
from cupola.event import Usage
from cupola.failures import Terminated, describe_failure
from cupola.logfile import read_log
from cupola.middleware import retry
from cupola.middleware.limits import StepTimeout
from cupola.text import size, storable_text
from cupola.worker import Outcome, Task

LAST_LINES = 20
_OWN_FRAMES = (f'  File "{os.path.dirname(os.path.dirname(os.path.abspath(__file__)))}', '  File "<string>", line')
_TAIL_BYTES = 64 * 1024
_GROUPS = "/sys/fs/cgroup"
_LARGEST = 1 << 60
"""A limit as large as this is none."""


def ended_outcome(slot: Slot, folder: Path, kills: int) -> Outcome:
    """Return the outcome of an attempt whose processes are gone.

    Args:
        slot: Its worker.
        folder: The run's folder.
        kills: How many processes of this group the kernel killed for want of memory meanwhile.
    """
    task, died = slot.task, slot.died
    assert task is not None
    assert died is not None
    usage = Usage(died.cpu_s, died.peak_bytes)
    if slot.ending == "stopped":
        return stopped_attempt(slot.outcome, usage)
    if slot.outcome is not None:
        return slot.outcome
    if slot.ending == "overdue":
        return overdue_outcome(task, usage)
    log = slot.number, slot.log_start, slot.log_end
    return dead_outcome(task, died, folder, log, kills=kills, is_cut=slot.ending == "cut")


def dead_outcome(
    task: Task, died: Died, folder: Path, log: tuple[int, int, int], *, kills: int = 0, is_cut: bool = False
) -> Outcome:
    """Return the outcome of an attempt whose process ended.

    Args:
        task: The attempt.
        died: How it ended.
        folder: The run's folder.
        log: The worker's number, and where in its log the attempt's output begins and ends.
        kills: How many processes of this group the kernel killed for want of memory meanwhile.
        is_cut: Whether it was ended since it had closed the link to the driver.
    """
    worker, start, end = log
    name = task.spec.name
    if is_cut or died.exit_code == LINK_LOST:
        what = f"step {name!r} closed the descriptors of its worker process, so its result was lost"
    elif died.signal:
        what = f"step {name!r} was ended by {died.signal}"
        if died.signal == "SIGKILL":
            what += ": the machine or its limit ran out of memory" if kills else ", maybe for want of memory"
    else:
        what = f"step {name!r} ended its process with exit code {died.exit_code}"
    if died.peak_bytes:
        what += f"; its peak memory was {size(died.peak_bytes)}"
    limit, source = memory_limit()
    if limit:
        what += f", the limit ({source}) is {size(limit)}"
    text = storable_text("\n".join(_last_lines(folder, worker, start, end)))
    failure = Failure(
        type="Killed" if died.signal and not is_cut else "Exited",
        message=what,
        traceback=f"{what}\nThe last lines that it printed:\n{text}\n" if text else "",
        signal="" if is_cut else died.signal,
    )
    return Outcome(
        status=StepStatus.FAILED,
        recorded=Recorded(),
        usage=Usage(died.cpu_s, died.peak_bytes),
        failure=failure,
        error=StepError(f"{failure.type}: {what}"),
        again_after_s=_again_after_s(task, None),
    )


def overdue_outcome(task: Task, usage: Usage) -> Outcome:
    """Return the outcome of a step that its timeout couldn't stop from inside."""
    error = StepTimeout(
        f"step {task.spec.name!r} took longer than its timeout of {task.options.timeout_s:g} s; "
        "it didn't let itself be stopped and was killed"
    )
    kind = type(error)
    return Outcome(
        status=StepStatus.FAILED,
        recorded=Recorded(),
        usage=usage,
        failure=Failure(type=f"{kind.__module__}.{kind.__qualname__}", message=str(error), signal="SIGKILL"),
        error=error,
        again_after_s=_again_after_s(task, error),
    )


def stopped_attempt(outcome: Outcome | None, usage: Usage) -> Outcome:
    """Return the outcome of an attempt that was to stop, whatever it made of that, unless it was done before."""
    if outcome is not None:
        if outcome.status is StepStatus.FAILED:
            # The step turned the signal into an exception of its own, as a run that it started does.
            outcome.status = StepStatus.CANCELLED
        outcome.again_after_s = None
        return outcome
    error = Terminated("SIGTERM")
    return Outcome(
        status=StepStatus.CANCELLED,
        recorded=Recorded(),
        usage=usage,
        failure=describe_failure(error, None),
        error=error,
    )


def _again_after_s(task: Task, error: Exception | None) -> float | None:
    if task.tries >= task.options.attempts:
        return None
    on = task.live.retry_on
    is_worth_it = retry.is_worth_it(error, on) if error is not None else not on
    return retry.random_delay(task.tries, task.options) if is_worth_it else None


def _last_lines(folder: Path, worker: int, start: int, end: int) -> list[str]:
    start = max(start, end - _TAIL_BYTES)
    if end <= start:
        return []
    # A crash reports its frames, ours below those of the user's.
    lines = [line.text for line in read_log(folder, [(worker, start, end)]).tail(4 * LAST_LINES)]
    return [line for line in lines if not line.startswith(_OWN_FRAMES)][-LAST_LINES:]


def memory_limit() -> tuple[int, str]:
    """Return the memory that a process may have and what says so; 0 when nothing does."""
    found: list[tuple[int, str]] = []
    for path in ("memory.max", "memory/memory.limit_in_bytes"):
        text = _read_group(path)
        if text.isdigit():
            found.append((int(text), "control group"))
    space = resource.getrlimit(resource.RLIMIT_AS)[0]
    if space != resource.RLIM_INFINITY:
        found.append((space, "RLIMIT_AS"))
    return min((limit for limit in found if limit[0] < _LARGEST), default=(0, ""))


def memory_kills() -> int:
    """Return how many processes of this control group the kernel has killed for want of memory; 0 when unknown."""
    for path in ("memory.events", "memory/memory.oom_control"):
        for line in _read_group(path).splitlines():
            name, _, number = line.partition(" ")
            if name == "oom_kill" and number.isdigit():
                return int(number)
    return 0


def _read_group(file: str) -> str:
    """Return the text of a file of this process's control group, by either version of the interface; else empty."""
    kind, _, name = file.rpartition("/")
    for line in _read(f"/proc/{os.getpid()}/cgroup").splitlines():
        _number, kinds, path = line.split(":", 2)
        if kinds == kind:
            for folder in (f"{_GROUPS}/{kind}{path}", f"{_GROUPS}/{kind}"):
                if text := _read(f"{folder}/{name}"):
                    return text
    return ""


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            return file.read().strip()
    except (OSError, ValueError):
        return ""
