"""Text for people: names made safe to show, durations, sizes, ages and times, and how wide they are in a terminal.

Pure functions of their arguments; the console, pages and error messages read the same words.
"""

from __future__ import annotations

import time

_KEPT = frozenset("\u200c\u200d")
"""Joiners that scripts and emoji need; they can't reorder or hide text as other invisible letters can."""


def storable_text(text: str) -> str:
    """Return text that every encoding of ours takes.

    Under an ASCII locale Python holds the bytes of paths and arguments as surrogates: they are read as UTF-8. Other
    surrogates become `\\udc00` and the like.
    """
    try:
        text.encode()
        return text
    except UnicodeEncodeError:
        pass
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace").decode()


def printable(text: str) -> str:
    r"""Return text on one line that can't move a cursor, reorder what stands beside it or hide itself.

    Example:
        >>> print(printable("a\x1b[2Jb\nc"))
        a\x1b[2Jb\x0ac
    """
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() or letter in _KEPT else _escaped(letter) for letter in text)


def printable_lines(text: str) -> str:
    """Return text with its lines and tabs kept and everything else as `printable` shows it."""
    if text.isprintable():
        return text
    return "\n".join("\t".join(map(printable, line.split("\t"))) for line in text.split("\n"))


def escape_html(text: str) -> str:
    """Return text in which nothing is markup, also within quoted attributes.

    The same as `html.escape`, whose import costs a list of the command line more than its query.
    """
    return "".join(_ENTITIES.get(letter, letter) for letter in text)


_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#x27;"}


def _escaped(letter: str) -> str:
    code = ord(letter)
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def cells(text: str) -> int:
    """Return how many columns of a terminal a printable text takes."""
    if text.isascii():
        return len(text)
    return sum(map(_letter_cells, text))


def _letter_cells(letter: str) -> int:
    if letter < "\u0300":
        return 1
    from unicodedata import combining, east_asian_width  # only where letters beyond Latin are shown

    if combining(letter) or letter in _KEPT or "\ufe00" <= letter <= "\ufe0f":
        return 0
    return 2 if east_asian_width(letter) in "WF" else 1


def cut(text: str, width: int) -> str:
    """Return a printable text cut to so many columns, with `…` where something is missing."""
    if cells(text) <= width:
        return text
    taken, used = "", 0
    for letter in text:
        used += _letter_cells(letter)
        if used > width - 1:
            break
        taken += letter
    return taken + "…" if width > 0 else ""


def pad(text: str, width: int) -> str:
    """Return a printable text filled with spaces to so many columns."""
    return text + " " * (width - cells(text))


def duration(seconds: float) -> str:
    """Return a duration with two or three digits that matter.

    Example:
        >>> [duration(value) for value in (0.00004, 0.0123, 3.21, 75, 7300, 200000)]
        ['0.04 ms', '12 ms', '3.2 s', '1 min 15 s', '2 h 01 min', '2 d 7 h']
    """
    if seconds < 0.0995:
        return f"{seconds * 1000:.0f} ms" if seconds >= 0.00095 or seconds <= 0 else f"{seconds * 1000:.2f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s" if seconds >= 0.995 else f"{seconds:.2f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def size(size_bytes: int) -> str:
    """Return a number of bytes in the unit that fits.

    Example:
        >>> [size(value) for value in (0, 999, 1200, 25_000_000, 3_000_000_000)]
        ['0 B', '999 B', '1.2 kB', '25 MB', '3.0 GB']
    """
    if size_bytes < 1000:
        return f"{size_bytes} B"
    value = float(size_bytes)
    for unit in ("kB", "MB", "GB", "TB", "PB"):
        value /= 1000
        if value < 999.5 or unit == "PB":
            return f"{value:.1f} {unit}" if value < 9.95 else f"{value:.0f} {unit}"
    raise AssertionError("unreachable: the last unit takes everything")


def age(seconds: float) -> str:
    """Return how long ago something was, in its largest unit.

    Example:
        >>> [age(value) for value in (0.4, 42, 200, 7300, 400000)]
        ['just now', '42 s ago', '3 min ago', '2 h ago', '4 d ago']
    """
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        if seconds >= length:
            return f"{int(seconds // length)} {unit} ago"
    return "just now"


def moment(at: float) -> str:
    """Return a time in seconds since 1970 as local date and time."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


def count(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural where it is one.

    Example:
        >>> count(1, "run"), count(3, "run"), count(2, "entry")
        ('1 run', '3 runs', '2 entries')
    """
    if number == 1:
        return f"1 {noun}"
    return f"{number} {noun[:-1]}ies" if noun.endswith("ry") else f"{number} {noun}s"


def shell_word(text: str) -> str:
    """Return a text as one word of a shell's command line.

    Example:
        >>> shell_word("fit_2"), shell_word("fit[3]")
        ('fit_2', "'fit[3]'")
    """
    plain = text.replace("_", "").replace("-", "").replace("/", "").replace(".", "")
    return text if plain.isalnum() else "'" + text.replace("'", "'\"'\"'") + "'"
