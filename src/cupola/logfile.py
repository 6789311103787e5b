"""Reads the log of a run: what its steps printed, as bytes in the order written; a step's output is parts of it.

Each process that runs steps writes a file of its own; of the run as a whole the lines of all are merged by their time.
It is given as text and as lines with time, level and stream, with progress bars folded, whole or as it grows. However
long a log is, little of it is in memory.
"""

from __future__ import annotations

import functools
import heapq
import re
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from cupola.loglines import BLOCK_BYTES, Follower, Line, log_size, present, read_lines, read_pieces
from cupola.lognotes import log_path, log_workers

Part = tuple[int, int, int | None]
"""A worker's number (0: the driver), and start and end in bytes in its log; None stands for all that follows."""
_Fixed = tuple[int, int, int]

# A longer log is text with its middle left out, which bounds memory.
_HEAD, _TAIL = 1024 * 1024, 3 * 1024 * 1024
_POLL_S = 0.1


class Log(str):
    """The log of a run or step: text that can be iterated as lines.

    As text it is whole up to 4 MiB; of a longer one it is the beginning and the end, and says so between them. Lines,
    `in` and `count` always see all of it, and read it piece by piece.

    Example:
        >>> [line.level for line in run.logs() if "converged" in line]  # doctest: +SKIP
        ['INFO']
    """

    __slots__ = ("_folder", "_is_cut", "_is_merged", "_parts")

    _folder: Path
    _parts: tuple[_Fixed, ...]
    _is_cut: bool
    _is_merged: bool

    def __new__(
        cls, text: str, folder: Path, parts: tuple[_Fixed, ...], *, is_cut: bool, is_merged: bool = False
    ) -> Log:
        """Make one from its text and where its lines are; for `read_log`."""
        log = super().__new__(cls, text)
        log._folder, log._parts, log._is_cut, log._is_merged = folder, parts, is_cut, is_merged
        return log

    def __iter__(self) -> Iterator[Line]:
        """Yield the lines, as `lines` does."""
        return self.lines()

    def lines(self) -> Iterator[Line]:
        """Yield the lines with time, level and stream."""
        if self._is_merged:
            return _merge(read_lines(self._folder, [(start, end)], worker) for worker, start, end in self._parts)
        return _in_order(self._folder, self._parts)

    def tail(self, count: int) -> list[Line]:
        """Return the last lines, reading no more of a long log than they need."""
        if self._is_merged:
            lines = _merge(iter(_tail(self._folder, [part], count)) for part in self._parts)
            return list(deque(lines, max(count, 0)))
        return _tail(self._folder, self._parts, count)

    def __contains__(self, text: object) -> bool:
        if isinstance(text, str) and self._is_cut:
            return any(text in line.text for line in self.lines())
        return isinstance(text, str) and super().__contains__(text)

    def count(self, text: str, *bounds: int) -> int:  # type: ignore[override] — str's own bounds may also be None
        """Count how often a text occurs."""
        if self._is_cut and not bounds:
            return sum(line.text.count(text) for line in self.lines())
        return super().count(text, *bounds)


def read_log(folder: Path, parts: Sequence[Part] | None = None) -> Log:
    """Read what a run printed as of now, or the parts of it that belong to a step.

    Args:
        folder: The run's folder; if the run was sealed meanwhile, it is found where it has gone.
        parts: Parts to read, in order; all when left out, in the order in which it was printed.
    """
    is_whole = parts is None
    wanted = [(worker, 0, None) for worker in log_workers(present(folder))] if parts is None else parts
    sizes = {worker: log_size(folder, worker) for worker, _start, _end in wanted}
    fixed = tuple(
        (worker, start, sizes[worker] if end is None else min(end, sizes[worker])) for worker, start, end in wanted
    )
    fixed = tuple(part for part in fixed if part[1] < part[2])
    is_merged = is_whole and len(fixed) > 1
    total = sum(end - start for _worker, start, end in fixed)
    if total <= _HEAD + _TAIL:
        whole = Log("", folder, fixed, is_cut=False, is_merged=is_merged)
        text = "\n".join(whole.lines()) if is_merged else _read_text(folder, fixed)
        return Log(text, folder, fixed, is_cut=False, is_merged=is_merged)
    left_out = (total - _HEAD - _TAIL) / 1e6
    if is_merged:
        head, tail = _merged_ends(folder, fixed)
    else:
        head = _read_text(folder, _cut(fixed, 0, _HEAD))
        tail = _read_text(folder, _cut(fixed, total - _TAIL, total))
    text = f"{head}\n[{left_out:.1f} MB are left out here: iterate over the lines for all of it]\n{tail}"
    return Log(text, folder, fixed, is_cut=True, is_merged=is_merged)


def _in_order(folder: Path, parts: Iterable[_Fixed]) -> Iterator[Line]:
    for worker, start, end in parts:
        yield from read_lines(folder, [(start, end)], worker)


def _read_text(folder: Path, parts: Sequence[_Fixed]) -> str:
    """Return lines as one text, without what is known of them: a `Line` each takes much more memory."""
    text = bytearray()
    folder = present(folder)
    for worker, start, end in parts:
        for _at, data in read_pieces(folder, [(start, end)], worker):
            text += data
            text += b"\n"
    return text[:-1].decode("utf-8", "backslashreplace")


def _tail(folder: Path, parts: Sequence[_Fixed], count: int) -> list[Line]:
    total = sum(end - start for _worker, start, end in parts)
    window = BLOCK_BYTES
    while count > 0:
        # A window may begin inside a line, so one more than wanted proves the wanted ones whole.
        lines = deque(_in_order(folder, _cut(parts, max(0, total - window), total)), count + 1)
        if len(lines) > count or window >= total:
            return list(lines)[-count:]
        window *= 4
    return []


def _merged_ends(folder: Path, parts: Sequence[_Fixed]) -> tuple[str, str]:
    """Return the beginning and the end of the merged lines of several workers."""
    head: list[str] = []
    size = 0
    for line in Log("", folder, tuple(parts), is_cut=True, is_merged=True).lines():
        if size > _HEAD:
            break
        head.append(line)
        size += len(line) + 1
    ends = [_cut([part], max(0, part[2] - part[1] - _TAIL), part[2] - part[1]) for part in parts]
    tail: deque[str] = deque()
    size = 0
    for line in _merge(_in_order(folder, end) for end in ends):
        tail.append(line)
        size += len(line) + 1
        while size > _TAIL:
            size -= len(tail.popleft()) + 1
    return "\n".join(head), "\n".join(tail)


def _merge(sources: Iterable[Iterator[Line]]) -> Iterator[Line]:
    """Yield the lines of several workers by their time; the order of each worker's own lines stays."""
    for _at, _number, line in heapq.merge(*(_timed(lines, n) for n, lines in enumerate(sources)), key=_order):
        yield line


def _timed(lines: Iterable[Line], number: int) -> Iterator[tuple[float, int, Line]]:
    latest = 0.0
    for line in lines:
        latest = max(latest, line.time)
        yield latest, number, line


def _order(item: tuple[float, int, Line]) -> tuple[float, int]:
    return item[:2]


def follow_log(folder: Path, parts: Callable[[], Sequence[Part] | None], is_over: Callable[[], bool]) -> Iterator[Line]:
    """Yield lines as they are written, from the start of the first part until the run or step is over.

    Args:
        folder: The run's folder, which may be sealed and moved meanwhile.
        parts: Tells which parts to show, as known now: more may come, and the last one may have no end yet; None is
            the run as a whole.
        is_over: Tells whether nothing will come any more.
    """
    followers: dict[int, Follower] = {}
    try:
        while True:
            over = is_over()
            yield from _read_on(present(folder), parts(), followers, over)
            if over:
                return
            time.sleep(_POLL_S)
    finally:
        for follower in followers.values():
            follower.close()


def _read_on(folder: Path, parts: Sequence[Part] | None, followers: dict[int, Follower], over: bool) -> Iterator[Line]:
    is_whole = parts is None
    wanted = [(worker, 0, None) for worker in log_workers(folder)] if parts is None else parts
    new: list[Iterator[Line]] = []
    for worker in dict.fromkeys(part[0] for part in wanted):
        if worker not in followers:
            if not log_path(folder, worker).exists():
                continue
            followers[worker] = Follower(folder, worker)
        new.append(followers[worker].read([part[1:] for part in wanted if part[0] == worker], over))
    if is_whole and len(new) > 1:
        yield from _merge(iter(new))
    else:
        for lines in new:
            yield from lines


def strip_controls(line: str, *, colour: bool) -> str:
    """Return a line without control characters and escape sequences, for display; colours stay if wanted."""
    if line.isprintable():
        return line
    shown = _controls().sub(lambda found: (found["colour"] or "") if colour else "", line)
    # A colour that a line leaves on must not run into what is printed after it.
    return shown + "\x1b[0m" if "\x1b[" in shown and not shown.endswith(("\x1b[0m", "\x1b[m")) else shown


@functools.cache
def _controls() -> re.Pattern[str]:
    return re.compile(
        r"(?P<colour>\x1b\[[0-9;:]*m)"
        r"|(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
        r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f]).*?(?:\x07|\x1b\\|\x9c|$)"
        r"|\x1b[ -/]*[0-~]"
        r"|[\x00-\x08\x0b-\x1f\x7f-\x9f]"
    )


def _cut(parts: Sequence[_Fixed], first: int, last: int) -> list[_Fixed]:
    """Return where the bytes `first` to `last` of some parts, counted over all of them, are."""
    found: list[_Fixed] = []
    passed = 0
    for worker, start, end in parts:
        low, high = max(start, start + first - passed), min(end, start + last - passed)
        if low < high:
            found.append((worker, low, high))
        passed += end - start
    return found
