"""Flushes the buffer of C's `stdout`, which Python doesn't know of.

It costs a library to load, so nothing happens until the process has loaded an extension that may print at all.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

# Extensions that don't print, and that most runs have.
_SILENT = frozenset({"msgspec", "blake3", "yaml", "_yaml", "cupola"})


class CStdout:
    """C's `stdout` of this process.

    Only that stream is flushed, not all: flushing all waits for a thread that reads C's `stdin`, maybe for ever.
    """

    def __init__(self) -> None:
        self._seen = 0
        self._flush: Callable[[], object] | None = None

    def flush(self) -> None:
        """Write out what C code has printed so far."""
        if self._flush is None:
            if len(sys.modules) == self._seen:
                return
            self._seen = len(sys.modules)
            if not _may_print_from_c():
                return
            self._flush = _load_flush()
        self._flush()


def _load_flush() -> Callable[[], object]:
    import ctypes

    library = ctypes.CDLL(None)
    # macOS has it under another name.
    name = "__stdoutp" if sys.platform == "darwin" else "stdout"
    file = ctypes.c_void_p.in_dll(library, name)
    return lambda: library.fflush(file)


def _may_print_from_c() -> bool:
    if "_ctypes" in sys.modules:
        return True
    known = sys.stdlib_module_names
    for name, module in list(sys.modules.items()):
        root = name.partition(".")[0]
        if root in known or root in _SILENT:
            continue
        # Read from the dictionary: strange entries raise when asked for the attribute.
        file = getattr(module, "__dict__", {}).get("__file__")
        if isinstance(file, str) and file.endswith(".so"):
            return True
    return False
