"""Crashes in C code: Python's faulthandler says the signal and the Python frames, at the end of the run's log."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cupola.lognotes import log_path

_SIGNALS = {
    b"Segmentation fault": "SIGSEGV",
    b"Aborted": "SIGABRT",
    b"Bus error": "SIGBUS",
    b"Illegal instruction": "SIGILL",
    b"Floating-point exception": "SIGFPE",
    b"Floating point exception": "SIGFPE",
}
_TAIL_BYTES = 64 * 1024


def report_crashes() -> Callable[[], None]:
    """Let a crash write what it was to descriptor 2 before the process ends; return the undo.

    Where the user has faulthandler on already, it stays as it is.
    """
    import faulthandler

    if faulthandler.is_enabled():
        return lambda: None
    try:
        faulthandler.enable(file=2, all_threads=False)
    except (OSError, ValueError, RuntimeError):  # there is no descriptor 2
        return lambda: None
    return faulthandler.disable


def crash_signal(folder: Path) -> str:
    """Return the signal that a crash reported at the end of a run's log; empty when none did."""
    try:
        with open(log_path(folder), "rb") as file:
            file.seek(max(0, file.seek(0, 2) - _TAIL_BYTES))
            _before, found, report = file.read().rpartition(b"Fatal Python error: ")
    except OSError:
        return ""
    return next((name for word, name in _SIGNALS.items() if found and report.startswith(word)), "")
