"""The nursery: the process between a driver and its workers. It forks them, reaps them, and lets none outlive the run.

It has no threads, so forking is safe, and takes milliseconds where starting Python takes a tenth of a second. Processes
whose parent ends become its children, so it finds daemons as well. When its link to the driver ends, or the driver
dies, it ends all that stands below it.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import struct
import sys
from contextlib import suppress
from types import FrameType
from typing import Any

import msgspec

from cupola.engine import processes
from cupola.engine.pool_worker import run_forked
from cupola.engine.wire import (
    Born,
    Close,
    Died,
    End,
    Ended,
    Fork,
    Setup,
    ToNursery,
    cut_frames,
    decoder,
    frame,
    socket,
    write_all,
)

_READ_BYTES = 64 * 1024
_DESCRIPTORS = 64
"""Descriptors that one message from the driver may bring."""


def main(control: int, driver: int) -> None:
    """Serve a driver through a socket until it closes it."""
    with suppress(OSError):
        os.setsid()  # the terminal's signals are the driver's to pass on
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    Nursery(socket.socket(fileno=control), driver).serve()


class Nursery:
    """The workers of one driver.

    Args:
        link: Socket to the driver.
        driver: Its process id.
    """

    def __init__(self, link: Any, driver: int) -> None:
        self._link = link
        self._me = os.getpid()
        self._setup: Setup | None = None
        self._buffer = bytearray()
        self._received: list[int] = []
        self._workers: set[int] = set()
        self._ending: dict[int, int] = {}
        self._is_over = False
        self._grace_s = processes.GRACE_S
        self._signals, self._wake = os.pipe()
        for end in (self._signals, self._wake):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _note)
        signal.signal(signal.SIGTERM, self._leave)
        processes.become_subreaper()
        processes.die_with_parent(driver, signal.SIGTERM)

    def serve(self) -> None:
        """Do what the driver asks until it is gone; nothing below this process survives."""
        poll = select.poll()
        poll.register(self._link.fileno(), select.POLLIN)
        poll.register(self._signals, select.POLLIN)
        gc.collect()
        gc.freeze()
        while not self._is_over:
            for file, _event in poll.poll():
                if file == self._signals:
                    self._reap()
                else:
                    self._read()
        processes.end_tree([self._me], self._grace_s)
        self._reap()

    def _leave(self, _number: int, _frame: FrameType | None) -> None:
        self._is_over = True

    def _read(self) -> None:
        try:
            data, rights, _flags, _address = self._link.recvmsg(_READ_BYTES, socket.CMSG_SPACE(4 * _DESCRIPTORS))
        except OSError:
            data, rights = b"", ()
        ancillary: list[tuple[int, int, bytes]] = list(rights)
        for _level, kind, content in ancillary:
            if kind == socket.SCM_RIGHTS:
                self._received += struct.unpack(f"{len(content) // 4}i", content[: len(content) // 4 * 4])
        if not data:
            self._is_over = True
            return
        self._buffer += data
        for message in cut_frames(self._buffer):
            if self._setup is None:
                self._setup = msgspec.msgpack.decode(message, type=Setup)
            else:
                self._obey(decoder(ToNursery).decode(message))

    def _obey(self, message: Fork | End | Close) -> None:
        match message:
            case Fork():
                self._fork(message, self._received.pop(0))
            case End():
                self._end(message)
            case Close():
                self._grace_s = message.grace_s
                self._is_over = True

    def _fork(self, order: Fork, link: int) -> None:
        assert self._setup is not None
        pid = os.fork()
        if not pid:
            self._become_worker(order, link)
        os.close(link)
        self._workers.add(pid)
        self._tell(Born(order.number, pid))

    def _become_worker(self, order: Fork, link: int) -> None:
        """Be a forked child: a session of its own, the signals as Python has them, nothing of the nursery's open."""
        assert self._setup is not None
        try:
            self._let_go()
            os.setsid()
            processes.die_with_parent(self._me, signal.SIGKILL)
            # What a step starts and leaves behind stays below its worker, so that it can be ended with the step.
            processes.become_subreaper()
        except BaseException:
            os._exit(1)
        run_forked(self._setup, order.number, link, order.env)

    def _let_go(self) -> None:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        self._link.close()
        os.close(self._signals)
        os.close(self._wake)
        for file in self._received:
            os.close(file)

    def _end(self, order: End) -> None:
        """Let a process of its own end a worker and what it started, since that takes as long as they like."""
        roots = {order.pid} if order.pid in self._workers else self._orphans(order.since)
        if not roots:
            self._tell(Ended(order.pid))
            return
        pid = os.fork()
        if not pid:
            try:
                self._let_go()
                processes.end_tree(roots, order.grace_s)
            finally:
                os._exit(0)
        self._ending[pid] = order.pid

    def _orphans(self, since: int) -> set[int]:
        """Return the children that this process adopted from dead workers, if they were started since a time."""
        own = self._workers | self._ending.keys()
        adopted = processes.descendants(self._me) - own
        for pid in own:
            adopted -= processes.descendants(pid)
        return {pid for pid in adopted if _ticks(processes.start_time(pid)) >= since}

    def _reap(self) -> None:
        with suppress(BlockingIOError):
            while os.read(self._signals, 4096):
                pass
        ended: list[int] = []
        with suppress(ChildProcessError):
            while dead := processes.reap(-1, block=False):
                if dead.pid in self._workers:
                    self._workers.discard(dead.pid)
                    self._tell(Died(dead.pid, dead.exit_code, dead.signal, dead.cpu_s, dead.peak_bytes))
                elif dead.pid in self._ending:
                    ended.append(self._ending.pop(dead.pid))
        # How a worker died is always said before that it is gone with all that it started.
        for pid in ended:
            self._tell(Ended(pid))

    def _tell(self, message: Born | Died | Ended) -> None:
        try:
            write_all(self._link.fileno(), frame(message))
        except OSError:
            self._is_over = True


def _note(_number: int, _frame: FrameType | None) -> None:
    """Do nothing: that a signal came stands in the wake-up pipe."""


def _ticks(started: str) -> int:
    return int(started) if started.isdigit() else sys.maxsize
