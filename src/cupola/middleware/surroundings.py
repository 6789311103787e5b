"""Gives a step its environment variables and puts back what it changed of the process it shares with its caller.

Put back are the working folder, environment variables, signal handlers, `sys.path`; `logs` puts the root logger back.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import threading
from _thread import allocate_lock
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import msgspec

from cupola.middleware.attempt import Attempt, Proceed

# The public one makes an enum of each answer, 4 µs a signal.
getsignal: Callable[[int], Any] = importlib.import_module("_signal").getsignal
_SIGNALS = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGALRM,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGCHLD,
)


class _Surroundings(msgspec.Struct, frozen=True):
    """What steps may change of the process they share with their caller."""

    folder: str
    environment: dict[Any, Any]
    handlers: tuple[Any, ...]
    path: list[str]


def applies(attempt: Attempt) -> bool:  # noqa: ARG001 — the port gives it to every middleware
    """Tell whether the step needs it: every step that runs in its caller's process."""
    return True


def wrap(proceed: Proceed) -> Proceed:
    """Return `proceed` with the surroundings kept around it."""

    def run(attempt: Attempt) -> Any:
        given = attempt.options.env
        if given:
            _give(given)
        try:
            return proceed(attempt)
        finally:
            if given:
                _take_back(given)
            attempt.put_back()

    return run


_given: dict[str, tuple[str | None, int]] = {}
"""Variables that running steps were given: what each was before, and how many steps have it now, which may be several
where threads drive runs at once; guarded by `_giving`."""
_giving = allocate_lock()


def _give(variables: Mapping[str, str]) -> None:
    with _giving:
        for name, value in variables.items():
            before, count = _given.get(name, (os.environ.get(name), 0))
            _given[name] = before, count + 1
            os.environ[name] = value


def _take_back(variables: Mapping[str, str]) -> None:
    with _giving:
        for name in variables:
            before, count = _given.pop(name)
            if count > 1:
                _given[name] = before, count - 1
            elif before is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = before


def keep_surroundings() -> Callable[[], None]:
    """Return what puts the process back to what it is like now.

    Called once for a run: since it is put back after each step, it is what the next one begins with.
    """
    try:
        folder = os.getcwd()
    except FileNotFoundError:
        folder = ""
    environment = dict(_environment())
    with _giving:
        # A step of another thread may have these now; they aren't what the process is like.
        for name, (value, _count) in _given.items():
            environment.pop(os.fsencode(name), None)
            if value is not None:
                environment[os.fsencode(name)] = os.fsencode(value)
    now = _Surroundings(folder, environment, tuple(map(getsignal, _SIGNALS)), sys.path[:])
    return lambda: _put_back(now)


def _environment() -> dict[Any, Any]:
    # The public mapping decodes each variable at each look, 15 µs in all; its own dict copies in one.
    return vars(os.environ)["_data"]


def _put_back(before: _Surroundings) -> None:
    with suppress(OSError):
        if before.folder and os.getcwd() != before.folder:
            os.chdir(before.folder)
    if _environment() != before.environment:
        _restore_environment(before.environment)
    if sys.path != before.path:
        sys.path[:] = before.path
    if threading.current_thread() is threading.main_thread():
        for number, handler in zip(_SIGNALS, before.handlers, strict=True):
            # A handler that was not installed from Python reads as None and can't be set again.
            if handler is not None and getsignal(number) is not handler:
                signal.signal(number, handler)


def _restore_environment(wanted: dict[Any, Any]) -> None:
    names = {os.fsdecode(name): os.fsdecode(value) for name, value in wanted.items()}
    with _giving:
        for name in set(os.environ) - set(names) - set(_given):
            del os.environ[name]
        for name, value in names.items():
            if os.environ.get(name) != value and name not in _given:
                os.environ[name] = value
