"""The live view of a run in a terminal: finished steps and output scroll, what goes on now stands in a block below.

All drawing is done in one place, under one lock, at most 20 times a second. The block is erased by the number of rows
it takes at the width that the terminal has then, so that a window made narrower leaves nothing behind.
"""

from __future__ import annotations

import os
import threading
import time

from cupola.engine.reporter import EchoSink, Plain, Screen
from cupola.entities.run import Failure, RunStatus, StepStatus
from cupola.logfile import strip_controls
from cupola.middleware.echo import Sink
from cupola.text import cells, cut, duration, printable

EVERY_S = 0.05
TICK_S = 0.1
RUNNING_SHOWN = 4
"""Running steps that the block lists; the rest is counted."""
PENDING_LETTERS = 65536
SPIN = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"


class Block:
    """The lower part of a terminal that is drawn again and again, and the text that scrolls away above it.

    `lock` guards all that is here: the driver's thread, the one that passes on output, and the one that keeps the time
    draw in turns.
    """

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._lock = threading.Lock()
        self._above = ""
        self._partial = ""
        self._drawn: list[str] = []
        self._drawn_at = 0.0
        self._ended = threading.Event()
        self._clock: threading.Thread | None = None
        self.colour = not os.environ.get("NO_COLOR")
        self.running: dict[str, tuple[int, float]] = {}
        self.title = ""
        self.steps = 0
        self.done = 0
        self.started_at = time.monotonic()

    def start(self) -> None:
        """Begin to keep the time shown."""
        self.started_at = time.monotonic()
        self._clock = threading.Thread(target=self._keep_time, name="cupola-live", daemon=True)
        self._clock.start()

    def write(self, text: str) -> None:
        """Let text scroll above the block; a line without its end waits in the block for the rest."""
        with self._lock:
            *whole, self._partial = (self._partial + text).split("\n")
            for line in whole:
                self._above += self._shown(line) + "\n"
            if len(self._partial) > PENDING_LETTERS:
                self._above += self._shown(self._partial) + "\n"
                self._partial = ""
            self._draw_when_due(len(self._above) > PENDING_LETTERS)

    def write_bytes(self, data: bytes) -> None:
        """Let what a step printed scroll above the block."""
        self.write(data.decode(errors="replace"))

    def update(self) -> None:
        """Draw what changed, unless that was done just now."""
        with self._lock:
            self._draw_when_due(False)

    def close(self) -> None:
        """Take the block away, leave all text, and give back the terminal."""
        self._ended.set()
        if self._clock is not None:
            self._clock.join()
        with self._lock:
            if self._partial:
                self._above += self._shown(self._partial) + "\n"
                self._partial = ""
            self.title = ""
            self.running.clear()
            self._draw()
        self._screen.close()

    def _shown(self, line: str) -> str:
        # A progress bar overwrites its line: its last state stays. Moves of the cursor would tear the block.
        return strip_controls(line.rstrip("\r").rpartition("\r")[2], colour=self.colour)

    def _keep_time(self) -> None:
        while not self._ended.wait(TICK_S):
            self.update()

    def _draw_when_due(self, now: bool) -> None:
        if now or time.monotonic() - self._drawn_at >= EVERY_S:
            self._draw()

    def _draw(self) -> None:
        width = self._screen.width()
        rows = sum(max(1, -(-cells(line) // width)) for line in self._drawn)
        erase = f"\r\x1b[{rows}A\x1b[J" if rows else ""
        self._drawn = [cut(line, width - 1) for line in self._lines(width)]
        block = "".join(line + "\n" for line in self._drawn)
        self._screen.write(erase + self._above + block)
        self._above = ""
        self._drawn_at = time.monotonic()

    def _lines(self, width: int) -> list[str]:
        if not self.title:
            return []
        now = time.monotonic()
        spin = SPIN[int(now / TICK_S) % len(SPIN)] if self._screen.unicode else "*"
        partial = [printable(self._shown(self._partial)[-4 * width :])] if self._partial else []
        lines = [
            f"{spin} {printable(name)}  {_since(now, started)}" + (f" (attempt {attempt})" if attempt > 1 else "")
            for name, (attempt, started) in list(self.running.items())[:RUNNING_SHOWN]
        ]
        if len(self.running) > RUNNING_SHOWN:
            lines.append(f"  and {len(self.running) - RUNNING_SHOWN} more")
        return [*partial, *lines, f"{self.title}  {self.done}/{self.steps} steps, {duration(now - self.started_at)}"]


def _since(now: float, started: float) -> str:
    # A step that waits for its next attempt starts later.
    return duration(now - started) if now >= started else f"waiting {duration(started - now)}"


class Live:
    """The reporter for terminals that can move the cursor."""

    def __init__(self, screen: Screen) -> None:
        self._block = Block(screen)
        self._lines = Plain(self._block)

    def run_started(self, name: str, run: str, pipeline: str, steps: int) -> None:
        """Begin the block."""
        self._lines.run_started(name, run, pipeline, steps)
        self._block.title, self._block.steps = printable(name), steps
        self._block.start()

    def lists_step(self, status: StepStatus, seconds: float) -> bool:  # noqa: ARG002 — each one changes the block
        """Tell that each step shows: as a line, or in the block."""
        return True

    def steps_added(self, count: int) -> None:
        """Count them."""
        self._block.steps += count
        self._lines.steps_added(count)

    def step_started(self, name: str, attempt: int) -> None:
        """Show the step in the block."""
        self._block.running[name] = attempt, time.monotonic()
        self._block.update()

    def step_retrying(self, name: str, attempt: int, failure: Failure, delay_s: float) -> None:
        """Say why another attempt follows, and show it."""
        self._lines.step_retrying(name, attempt, failure, delay_s)
        self._block.running[name] = attempt + 1, time.monotonic() + delay_s

    def step_finished(self, name: str, status: StepStatus, seconds: float, detail: str = "") -> None:
        """Move the step from the block to the lines above."""
        self._block.running.pop(name, None)
        self._block.done += 1
        self._lines.step_finished(name, status, seconds, detail)

    def echo(self, data: bytes) -> None:
        """Show what steps print above the block."""
        self._lines.echo(data)

    def sink(self) -> Sink | None:
        """Take what steps print: the block is on the same terminal."""
        return EchoSink(self)

    def warn(self, message: str) -> None:
        """Show a line above the block."""
        self._lines.warn(message)

    def run_finished(self, status: RunStatus, seconds: float, detail: str = "") -> None:
        """Say how the run ended."""
        self._lines.run_finished(status, seconds, detail)

    def close(self) -> None:
        """Take the block away and give back the terminal."""
        self._lines.close()
