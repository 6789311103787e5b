"""Brings each record of `logging` into the run's log exactly once, however the user configured logging.

While a run captures, `Logger.callHandlers` goes through here: the user's handlers do their work, and if none of them
printed the record, a line is written for it. Handlers, levels and the root logger stay as they are.
"""

from __future__ import annotations

import sys
from _thread import get_ident
from typing import TYPE_CHECKING, Any, Protocol

from cupola.lognotes import STDERR, STDOUT
from cupola.middleware.streams import Mark
from cupola.settings import read_setting

if TYPE_CHECKING:
    import logging
    from importlib.machinery import ModuleSpec

_FORMAT = "%(levelname)s %(name)s: %(message)s"


class RecordLog(Protocol):
    """The log that records go to: the capture of the run."""

    @property
    def marks(self) -> dict[int, Mark]:
        """Records that threads are busy with, by thread."""
        ...

    def settle(self) -> int:
        """Write out what was printed before, and return where the log ends."""
        ...

    def read(self, start: int) -> bytes:
        """Return what was written since a byte, as far as it is of interest for a record."""
        ...

    def write_record(self, line: str, mark: Mark) -> None:
        """Write a record that no handler printed."""
        ...

    def note_record(self, start: int, mark: Mark, stream: int) -> None:
        """Note that a record was printed after a byte, past the Python-level streams."""
        ...


_logs: list[RecordLog] = []
_original: list[Any] = []
_formatter: list[logging.Formatter] = []
_named: dict[str, logging.Logger] = {}
_raised: dict[str, int] = {}


def get_logger(name: str | None = None) -> logging.Logger:
    """Return the logger of a name, as `logging.getLogger` does.

    Inside a run it writes what is at least `CUPOLA_LOG_LEVEL` (`info` when unset) into the step's log, although the
    root logger shows warnings only. Outside of one, or once it was given a level, it is like any other logger.
    """
    import logging

    logger = logging.getLogger(name)
    if name:
        _named[name] = logger
        if _logs:
            _open_level(name, logger)
    return logger


def attach(log: RecordLog) -> None:
    """Bring records into a log until `detach`; of several the last one attached gets them."""
    _logs.append(log)
    if len(_logs) == 1:
        if "logging" in sys.modules:
            _hook()
        else:
            sys.meta_path.insert(0, _watcher)


def detach(log: RecordLog) -> None:
    """End what `attach` began."""
    if log in _logs:
        _logs.remove(log)
    if not _logs:
        if _watcher in sys.meta_path:
            sys.meta_path.remove(_watcher)
        _unhook()


def _hook() -> None:
    import logging

    if not _original:
        _original.append(logging.Logger.callHandlers)
        logging.Logger.callHandlers = _call_handlers  # type: ignore[method-assign] — for as long as the run goes on
    for name, logger in list(_named.items()):
        _open_level(name, logger)


def _unhook() -> None:
    if not _original:
        return
    import logging

    original = _original.pop()
    if logging.Logger.callHandlers is _call_handlers:
        logging.Logger.callHandlers = original  # type: ignore[method-assign] — it is what stood there
    for name, level in _raised.items():
        if _named[name].level == level:
            _named[name].setLevel(logging.NOTSET)
    _raised.clear()


def _open_level(name: str, logger: logging.Logger) -> None:
    level = {"debug": 10, "info": 20, "warning": 30, "error": 40}[read_setting("log_level")]
    if logger.level == 0 and logger.getEffectiveLevel() > level:
        logger.setLevel(level)
        _raised[name] = level


def _call_handlers(self: logging.Logger, record: logging.LogRecord) -> None:
    original = _original[-1] if _original else None
    if not _logs or original is None:
        if original is not None:
            original(self, record)
        return
    log = _logs[-1]
    thread = get_ident()
    outer = log.marks.get(thread)
    mark = Mark(record.levelno, record.created)
    start = log.settle()
    log.marks[thread] = mark
    try:
        original(self, record)
    finally:
        if outer is None:
            log.marks.pop(thread, None)
        else:
            log.marks[thread] = outer
    if not mark.printed:
        _write_unless_printed(log, self, record, mark, start)


def _write_unless_printed(
    log: RecordLog, logger: logging.Logger, record: logging.LogRecord, mark: Mark, start: int
) -> None:
    """Write a record, unless a handler that keeps descriptor 1 or 2 from before the run has printed it."""
    written = log.read(start) if log.settle() > start else b""
    console = _console(logger, record) if written else None
    if console or (written and _message(record).encode(errors="replace") in written):
        log.note_record(start, mark, console or STDERR)
    else:
        log.write_record(_format(record), mark)


def _console(logger: logging.Logger, record: logging.LogRecord) -> int | None:
    """Return the descriptor, 1 or 2, that a handler of the record prints to."""
    import logging

    node: logging.Logger | None = logger
    while node is not None:
        for handler in node.handlers:
            stream = getattr(handler, "stream", None)
            number = _number(stream) if isinstance(handler, logging.StreamHandler) else None
            if number in (STDOUT, STDERR) and record.levelno >= handler.level:
                return number
        node = node.parent if node.propagate else None
    return None


def _number(stream: Any) -> int | None:
    try:
        return stream.fileno()
    except Exception:  # it is the user's object; without a descriptor it prints nowhere that we know of
        return None


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # arguments that don't fit their format are the user's mistake; logging never raises for it
        return f"{record.msg} {record.args}"


def _format(record: logging.LogRecord) -> str:
    import logging

    if not _formatter:
        _formatter.append(logging.Formatter(_FORMAT))
    try:
        return _formatter[0].format(record)
    except Exception:  # as in `_message`
        return f"{record.levelname} {record.name}: {_message(record)}"


class _Watcher:
    """Notices that `logging` is imported while a run goes on, since importing it beforehand costs too much."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name != "logging":
            return None
        sys.meta_path.remove(self)
        for finder in sys.meta_path:
            spec = finder.find_spec(name, path, target)
            if spec is not None and spec.loader is not None:
                _hook_after(spec.loader)
                return spec
        return None


def _hook_after(loader: Any) -> None:
    load = loader.exec_module

    def load_and_hook(module: Any) -> None:
        del loader.exec_module
        load(module)
        _hook()

    loader.exec_module = load_and_hook


_watcher: Any = _Watcher()
