"""A program in the background whose answer is fetched when it is there, without a thread."""

from __future__ import annotations

import math
import os
import select
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

import msgspec

MOST_BYTES = 16 * 2**20
"""Longest answer that is taken, in bytes."""


class Answer(msgspec.Struct, frozen=True):
    """What a program said: its output, and why it said nothing, empty when all is well."""

    output: bytes
    trouble: str = ""


class Call:
    """One call of a program.

    Args:
        command: The program and its arguments; it is looked for on the PATH.
        name: What people call it.
        explain: Returns why it failed, from what it wrote on standard error and its status.
        environment: Its environment.

    Attributes:
        answer: What it said; None while it runs.
    """

    def __init__(
        self,
        command: list[str],
        name: str,
        *,
        explain: Callable[[str, int], str],
        environment: Mapping[str, str],
    ) -> None:
        self.answer: Answer | None = None
        self._name = name
        self._explain = explain
        self._pid = 0
        self._texts: dict[int, bytearray] = {}
        self._open: list[int] = []
        try:
            self._start(command, environment)
        except FileNotFoundError:
            self.answer = Answer(b"", f"{name} is not installed")
        except (OSError, ValueError) as error:
            self.answer = Answer(b"", f"{name} can't be started: {getattr(error, 'strerror', None) or error}")

    def wait(self, timeout_s: float) -> Answer | None:
        """Return the answer as soon as it is there; None when it isn't after so many seconds."""
        deadline = time.monotonic() + timeout_s
        while self.answer is None:
            left = max(0.0, deadline - time.monotonic())
            ready = _readable(self._open, left)
            if not ready and left <= 0:
                return None
            for file in ready:
                if self.answer is None:
                    self._read(file)
            if self.answer is None and not self._open:
                self._end()
        return self.answer

    def stop(self, why: str, number: int = signal.SIGKILL) -> Answer:
        """End the program if it still runs, and return its answer, or why there is none."""
        if self.answer is None:
            with suppress(ProcessLookupError):
                os.kill(self._pid, number)
            for file in self._open:
                os.close(file)
            self._open = []
            _status_of(self._pid)
            self.answer = Answer(b"", why)
        return self.answer

    def _start(self, command: list[str], environment: Mapping[str, str]) -> None:
        output, errors = os.pipe(), os.pipe()
        try:
            self._pid = os.posix_spawnp(
                command[0],
                command,
                environment,
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_DUP2, output[1], 1),
                    (os.POSIX_SPAWN_DUP2, errors[1], 2),
                ],
                # Ctrl-C is for the steps; this ends by itself.
                setpgroup=0,
                setsigmask=(),
                setsigdef=(signal.SIGPIPE, signal.SIGINT, signal.SIGTERM),
            )
        except BaseException:
            os.close(output[0])
            os.close(errors[0])
            raise
        finally:
            os.close(output[1])
            os.close(errors[1])
        self._open = [output[0], errors[0]]
        self._texts = {output[0]: bytearray(), errors[0]: bytearray()}

    def _read(self, file: int) -> None:
        data = os.read(file, 1 << 16)
        text = self._texts[file]
        text += data
        if not data:
            os.close(file)
            self._open.remove(file)
        elif len(text) > MOST_BYTES:
            self.stop(f"what {self._name} says is longer than {MOST_BYTES >> 20} MiB")

    def _end(self) -> None:
        output, errors = (bytes(text) for text in self._texts.values())
        status = _status_of(self._pid)
        if status < 0:
            trouble = f"{self._name} was ended by {signal.Signals(-status).name}"
        else:
            trouble = self._explain(errors.decode(errors="replace"), status) if status else ""
        self.answer = Answer(b"" if trouble else output, trouble)


def _readable(files: Sequence[int], timeout_s: float) -> list[int]:
    # Not `select.select`, which refuses descriptors above 1023.
    poller = select.poll()
    for file in files:
        poller.register(file, select.POLLIN)
    return [file for file, _event in poller.poll(math.ceil(timeout_s * 1000))]


def _status_of(pid: int) -> int:
    try:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    except ChildProcessError:
        return 0  # a step waited for any child of its process and got ours
