"""How a run shows itself while it runs: the port that the driver calls, and its plain and silent forms.

The driver's thread reports what happens to steps; a thread that follows the log may hand over what steps print. A
reporter writes to a duplicate of the terminal made before any output is captured, so nothing of it ends in a step's
log. Reporters never raise: a terminal that is gone ends the display and not the run.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from typing import Protocol

from cupola.entities.run import Failure, RunStatus, StepStatus
from cupola.middleware.echo import Sink
from cupola.text import count, cut, duration, printable

LISTED = 100
"""Steps that the plain form lists one by one; of a longer run it lists slow and failed ones and counts the rest."""
SLOW_S = 1.0
MARKS = {
    StepStatus.COMPLETED: "✓",
    StepStatus.CACHED: "=",
    StepStatus.SKIPPED: "-",
    StepStatus.FAILED: "✗",
    StepStatus.CANCELLED: "✗",
    StepStatus.LOST: "✗",
    StepStatus.RUNNING: "▸",
    StepStatus.RETRYING: "↻",
    StepStatus.PENDING: "·",
}


class Reporter(Protocol):
    """What the driver tells of a run. Called in the order of the events; `echo` may come from another thread."""

    def run_started(self, name: str, run: str, pipeline: str, steps: int) -> None:
        """Say that a run of so many steps began."""
        ...

    def steps_added(self, count: int) -> None:
        """Say that the run has so many steps more than it had, as the children of a mapped step."""
        ...

    def step_started(self, name: str, attempt: int) -> None:
        """Say that an attempt of a step began."""
        ...

    def step_retrying(self, name: str, attempt: int, failure: Failure, delay_s: float) -> None:
        """Say that an attempt failed and another follows after so many seconds."""
        ...

    def step_finished(self, name: str, status: StepStatus, seconds: float, detail: str = "") -> None:
        """Say how a step ended: after how many seconds (for a cached one: that it saved), and why in few words."""
        ...

    def lists_step(self, status: StepStatus, seconds: float) -> bool:
        """Tell whether a step in this state after so many seconds gets a line of its own."""
        ...

    def echo(self, data: bytes) -> None:
        """Pass on what steps print, in pieces of any size."""
        ...

    def sink(self) -> Sink | None:
        """Return what takes the steps' output instead of the streams they print to, or None to leave it to those."""
        ...

    def warn(self, message: str) -> None:
        """Say what a person should know of the run."""
        ...

    def run_finished(self, status: RunStatus, seconds: float, detail: str = "") -> None:
        """Say how the run ended."""
        ...

    def close(self) -> None:
        """Give back the terminal; called once, whatever happened."""
        ...


class EchoSink:
    """Hands what steps print to a reporter that draws on the same terminal."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter

    def write(self, data: bytes, stream: int) -> None:  # noqa: ARG002 — on one terminal both streams look alike
        """Show some bytes."""
        self._reporter.echo(data)


class InOrder:
    """Hands on what happens to steps once all that was printed before is shown, so that both read in one order.

    The echo of what steps print is up to a tenth of a second behind; it calls what waits for it.
    """

    def __init__(self, reporter: Reporter, when_shown: Callable[[Callable[[], None]], None]) -> None:
        self._reporter = reporter
        self._when_shown = when_shown

    def steps_added(self, count: int) -> None:
        """Say that the run has more steps."""
        self._reporter.steps_added(count)

    def step_started(self, name: str, attempt: int) -> None:
        """Say that an attempt of a step began."""
        if self._reporter.lists_step(StepStatus.RUNNING, 0.0):
            self._when_shown(lambda: self._reporter.step_started(name, attempt))
        else:
            self._reporter.step_started(name, attempt)

    def step_retrying(self, name: str, attempt: int, failure: Failure, delay_s: float) -> None:
        """Say that an attempt failed and another follows."""
        self._when_shown(lambda: self._reporter.step_retrying(name, attempt, failure, delay_s))

    def step_finished(self, name: str, status: StepStatus, seconds: float, detail: str = "") -> None:
        """Say how a step ended."""
        if self._reporter.lists_step(status, seconds):
            self._when_shown(lambda: self._reporter.step_finished(name, status, seconds, detail))
        else:
            self._reporter.step_finished(name, status, seconds, detail)

    def warn(self, message: str) -> None:
        """Say what a person should know of the run."""
        self._when_shown(lambda: self._reporter.warn(message))


class StepReporter(Protocol):
    """The part of a reporter that the driver calls; the rest frames the run and is called by who launches it."""

    def steps_added(self, count: int) -> None:
        """Say that the run has so many steps more than it had, as the children of a mapped step."""
        ...

    def step_started(self, name: str, attempt: int) -> None:
        """Say that an attempt of a step began."""
        ...

    def step_retrying(self, name: str, attempt: int, failure: Failure, delay_s: float) -> None:
        """Say that an attempt failed and another follows after so many seconds."""
        ...

    def step_finished(self, name: str, status: StepStatus, seconds: float, detail: str = "") -> None:
        """Say how a step ended: after how many seconds, and why in few words."""
        ...

    def warn(self, message: str) -> None:
        """Say what a person should know of the run."""
        ...


class Screen:
    """Where a reporter writes: a duplicate of standard error, or the stream that stands for it in a notebook or test.

    Attributes:
        is_terminal: Whether people see it at once and the cursor can be moved.
        unicode: Whether it takes more than ASCII.
    """

    def __init__(self) -> None:
        self._stream = sys.stderr
        self._file = -1
        try:
            if self._stream.fileno() == 2:
                self._file = os.dup(2)
        except (OSError, ValueError, AttributeError):  # no descriptor, a closed stream, or no stream at all
            self._file = -1
        self.is_terminal = self._file >= 0 and os.isatty(self._file)
        encoding = (getattr(self._stream, "encoding", None) or "utf-8").lower()
        self.unicode = encoding.startswith(("utf", "cp65001"))

    def write(self, text: str) -> None:
        """Write text; letters that the terminal can't show become `?`."""
        if self._file >= 0:
            self.write_bytes(text.encode("utf-8" if self.unicode else "ascii", "replace"))
        elif self._stream is not None:  # pyright: ignore[reportUnnecessaryComparison] — None under pythonw and daemons
            try:
                self._stream.write(text)
                self._stream.flush()
            except (OSError, ValueError):  # closed meanwhile: the run matters, not its display
                return

    def write_bytes(self, data: bytes) -> None:
        """Write bytes as they are."""
        if self._file < 0:
            self.write(data.decode(errors="replace"))
            return
        try:
            while data:
                data = data[os.write(self._file, data) :]
        except OSError:  # the terminal is gone: the run matters, not its display
            self.close()

    def width(self) -> int:
        """Return the number of columns now; 80 when unknown."""
        try:
            return int(os.environ.get("COLUMNS", "")) or 80
        except ValueError:
            pass
        try:
            return os.get_terminal_size(self._file).columns or 80
        except OSError:
            return 80

    def close(self) -> None:
        """Give back the duplicate."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


class Silent:
    """Says nothing of the run; passes on what steps print."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen

    def run_started(self, name: str, run: str, pipeline: str, steps: int) -> None:
        """Say nothing."""

    def steps_added(self, count: int) -> None:
        """Say nothing."""

    def step_started(self, name: str, attempt: int) -> None:
        """Say nothing."""

    def step_retrying(self, name: str, attempt: int, failure: Failure, delay_s: float) -> None:
        """Say nothing."""

    def step_finished(self, name: str, status: StepStatus, seconds: float, detail: str = "") -> None:
        """Say nothing."""

    def lists_step(self, status: StepStatus, seconds: float) -> bool:  # noqa: ARG002 — it lists none
        """Tell that no step gets a line."""
        return False

    def echo(self, data: bytes) -> None:
        """Pass on what steps print."""
        self._screen.write_bytes(data)

    def sink(self) -> Sink | None:
        """Leave output to the streams it was printed to."""
        return None

    def warn(self, message: str) -> None:
        """Say nothing; warnings stand in the record."""

    def run_finished(self, status: RunStatus, seconds: float, detail: str = "") -> None:
        """Say nothing."""

    def close(self) -> None:
        """Give back the terminal."""
        self._screen.close()


class Writer(Protocol):
    """What lines are written to: a screen, or the part of it above a live block."""

    def write(self, text: str, /) -> None:
        """Take text of our own."""
        ...

    def write_bytes(self, data: bytes, /) -> None:
        """Take what steps print."""
        ...

    def close(self) -> None:
        """Give back the terminal."""
        ...


class Plain:
    """Lines for files, pipes and dumb terminals: one when a step begins and one when it ends."""

    def __init__(self, screen: Writer) -> None:
        self._screen = screen
        # Guards the lines, so that those of two threads never mix, and the counts.
        self._lock = threading.RLock()
        self._open_line = False
        self._steps = 0
        self._done = 0
        self._counts: dict[StepStatus, int] = {}
        self._label = ""

    def run_started(self, name: str, run: str, pipeline: str, steps: int) -> None:
        """Write the first line."""
        self._steps = steps
        self._label = f"run {printable(name)}"
        # How many steps a dynamic pipeline will have, nobody knows.
        known = f": {count(steps, 'step')}" if steps else ""
        self._line(f"{self._label} of {printable(pipeline)} started{known} ({run})")

    def steps_added(self, count: int) -> None:
        """Count them."""
        self._steps += count

    def step_started(self, name: str, attempt: int) -> None:
        """Write a line, unless there are many steps."""
        if self._done < LISTED:
            self._line(f"  ▸ {printable(name)}" + (f" (attempt {attempt})" if attempt > 1 else ""))

    def step_retrying(self, name: str, attempt: int, failure: Failure, delay_s: float) -> None:
        """Write a line with the reason."""
        reason = cut(printable(str(failure)), 200)
        self._line(f"  ↻ {printable(name)} failed in attempt {attempt}, next one in {duration(delay_s)}: {reason}")

    def step_finished(self, name: str, status: StepStatus, seconds: float, detail: str = "") -> None:
        """Write a line for the first steps, slow and failed ones."""
        with self._lock:
            is_listed = self.lists_step(status, seconds)
            self._done += 1
            self._counts[status] = self._counts.get(status, 0) + 1
            if is_listed:
                self._line("  " + step_line(name, status, seconds, detail))
            if self._done == LISTED and self._steps > LISTED:
                self._line(f"  … from here on only slow and failed steps of {self._steps} are listed")

    def lists_step(self, status: StepStatus, seconds: float) -> bool:
        """Tell whether it is one of the first steps, slow, or failed."""
        if self._done < LISTED or status is StepStatus.FAILED:
            return True
        return status is StepStatus.COMPLETED and seconds >= SLOW_S

    def echo(self, data: bytes) -> None:
        """Pass on what steps print."""
        with self._lock:
            self._screen.write_bytes(data)
            self._open_line = not data.endswith(b"\n")

    def sink(self) -> Sink | None:
        """Leave output to the streams it was printed to."""
        return None

    def warn(self, message: str) -> None:
        """Write a line."""
        self._line(f"  ! {printable(message)}")

    def run_finished(self, status: RunStatus, seconds: float, detail: str = "") -> None:
        """Write the last line."""
        self._line(run_line(self._label, status, seconds, self._counts, detail))

    def close(self) -> None:
        """Give back the terminal."""
        self._screen.close()

    def _line(self, text: str) -> None:
        with self._lock:
            # What a step printed may have ended without a newline.
            self._screen.write(("\n" if self._open_line else "") + text + "\n")
            self._open_line = False


def step_line(name: str, status: StepStatus, seconds: float, detail: str = "") -> str:
    """Return one line on how a step ended."""
    words = {
        StepStatus.COMPLETED: duration(seconds),
        StepStatus.CACHED: f"cached, {duration(seconds)} saved",
        StepStatus.FAILED: f"failed after {duration(seconds)}",
    }
    end = f": {cut(printable(detail), 200)}" if detail else ""
    return f"{MARKS[status]} {printable(name)}  {words.get(status, str(status))}{end}"


def run_line(label: str, status: RunStatus, seconds: float, counts: dict[StepStatus, int], detail: str) -> str:
    """Return one line on how a run ended, with its steps counted by status."""
    counted = ", ".join(f"{number} {word}" for word, number in counts.items())
    end = f": {cut(printable(detail), 300)}" if detail else ""
    return f"{label} {status} in {duration(seconds)}" + (f" ({counted})" if counted else "") + end
