"""The driver's side of a nursery: starts it, asks it for workers, hears how they died."""

from __future__ import annotations

import os
import select
import signal
import struct
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from cupola.compiler.source import program_file, program_root
from cupola.context import PipelineInfo, RunInfo
from cupola.engine.interrupts import spared
from cupola.engine.site import Site
from cupola.engine.wire import (
    Born,
    Close,
    Died,
    End,
    Ended,
    Fork,
    FromNursery,
    Setup,
    cut_frames,
    decoder,
    frame,
    socket,
)

_READ_BYTES = 64 * 1024
_OWN_FOLDER = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
_CLOSE_S = 4.0
"""How long a nursery may take to end, besides the grace of what it ends."""
_NURSERY = "cupola.engine.nursery"
# The decorators come along, since the user's modules import them.
_PROGRAM = """\
import sys
sys.path[:] = [entry for entry in sys.path if entry and entry != {cwd!r}] + [{folder!r}]
import gc
gc.disable()
import cupola.authoring.pipelines, cupola.authoring.steps
from {nursery} import main
main({control}, {driver})
"""


class Lane(msgspec.Struct, frozen=True):
    """An environment that steps run in: its interpreter; empty for the driver's own."""

    python: str = ""


OWN = Lane()


class Nest:
    """One nursery, which begins to start when this is made: 60 ms that the driver may spend on other things.

    It is used by the driver's thread only, which must outlive it; `close` ends it.

    Attributes:
        link: Descriptor that is readable when the nursery has something to say or is gone.
        is_gone: Whether it ended.
    """

    def __init__(self, lane: Lane = OWN) -> None:
        mine, theirs = socket.socketpair()
        self._socket = mine
        self.link: int = mine.fileno()
        self.is_gone = False
        self._buffer = bytearray()
        self._read = decoder(FromNursery)
        try:
            self._pid = _spawn(theirs.fileno(), lane)
        finally:
            theirs.close()
        spared.add(self._pid)

    def set_up(self, setup: Setup) -> None:
        """Say what its workers begin with; called once, before `fork`."""
        self._send(setup)

    def fork(self, number: int, env: Mapping[str, str]) -> int:
        """Ask for a worker; return the driver's end of the link to it. `Born` follows."""
        mine, theirs = socket.socketpair()
        try:
            data = frame(Fork(number, env))
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", theirs.fileno()))]
            sent = self._socket.sendmsg([data], rights)
            if sent < len(data):
                self._socket.sendall(data[sent:])
        except OSError:
            self.is_gone = True
        finally:
            theirs.close()
        return mine.detach()

    def end(self, pid: int, grace_s: float, since: int = 0) -> None:
        """Ask to end a worker and all that it started; `Ended` follows."""
        self._send(End(pid, grace_s, since))

    def read(self) -> Iterator[Born | Died | Ended]:
        """Yield what the nursery has said; `is_gone` is set when it said its last."""
        try:
            data = os.read(self.link, _READ_BYTES)
        except OSError:
            data = b""
        self.is_gone = self.is_gone or not data
        self._buffer += data
        for message in cut_frames(self._buffer):
            yield self._read.decode(message)

    def close(self, grace_s: float) -> None:
        """End it and all below it; nothing survives when this returns."""
        with suppress(OSError):
            self._socket.sendall(frame(Close(grace_s)))
        poll = select.poll()
        poll.register(self.link, select.POLLIN)
        deadline = time.monotonic() + grace_s + _CLOSE_S
        while not self.is_gone and (left_s := deadline - time.monotonic()) > 0:
            if poll.poll(left_s * 1000):
                for _message in self.read():
                    pass
        self._socket.close()
        if not self.is_gone:
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
        with suppress(ChildProcessError):  # a step that waits for any child may have got it
            os.waitpid(self._pid, 0)
        spared.discard(self._pid)
        self.is_gone = True

    def _send(self, message: Any) -> None:
        try:
            self._socket.sendall(frame(message))
        except OSError:
            self.is_gone = True


def _spawn(control: int, lane: Lane) -> int:
    number = 3 if control != 3 else 4
    text = _PROGRAM.format(cwd=_cwd(), folder=_OWN_FOLDER, nursery=_NURSERY, control=number, driver=os.getpid())
    python = lane.python or sys.executable
    # In a session of its own from the first moment: the terminal's signals are the driver's to pass on.
    actions = [
        (os.POSIX_SPAWN_DUP2, control, number),
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
    ]
    flags = [] if lane.python else _interpreter_flags()
    words = [python, *flags, "-c", text]
    try:
        return os.posix_spawn(python, words, os.environ, file_actions=actions, setsigmask=(), setsid=True)
    except NotImplementedError:  # where the system can't, it begins one itself
        return os.posix_spawn(python, words, os.environ, file_actions=actions, setsigmask=())


def _cwd() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError:
        return ""


def _interpreter_flags() -> list[str]:
    """Return the flags that this interpreter was started with, as far as they change how code runs."""
    flags = ["-" + "O" * sys.flags.optimize] if sys.flags.optimize else []
    for name, letter in (("isolated", "I"), ("no_user_site", "s"), ("ignore_environment", "E"), ("dev_mode", "")):
        if letter and getattr(sys.flags, name) and not (letter in "sE" and sys.flags.isolated):
            flags.append("-" + letter)
    if sys.flags.dont_write_bytecode:
        flags.append("-B")
    flags += [f"-W{option}" for option in sys.warnoptions]
    options = sys._xoptions  # pyright: ignore[reportPrivateUsage] — documented, whatever its name
    flags += ["-X" + (name if value is True else f"{name}={value}") for name, value in options.items()]
    return flags


def make_setup(site: Site, run: RunInfo, pipeline: PipelineInfo, folder: Path, *, is_own: bool) -> Setup:
    """Return what the workers of a run begin with; `is_own` tells whether they run the driver's interpreter."""
    root = program_root()
    return Setup(
        run=run,
        pipeline=pipeline,
        folder=os.fspath(folder),
        home=os.fspath(site.home),
        root=os.fspath(site.root),
        project=site.project,
        sync=site.sync,
        path=tuple(sys.path) if is_own else (),
        argv=tuple(sys.argv),
        program=program_file(),
        program_root=os.fspath(root) if root else "",
    )
