"""What each figure may be at most. Data only: the table that is printed, and what the exit code is decided by."""

from __future__ import annotations

import math
from typing import NamedTuple


class Target(NamedTuple):
    """A figure: its name, what it is, the most it may be, its unit (`×` is a ratio to the floor)."""

    name: str
    what: str
    at_most: float
    unit: str


TARGETS = (
    Target("import", "`import cupola`, over bare Python", 5, "ms"),
    Target("import_names", "`from cupola import step, pipeline`, over bare Python", 45, "ms"),
    Target("help", "`cupola --help`", 70, "ms"),
    Target("ps", "`cupola ps` in a store of 10⁶ runs", 90, "ms"),
    Target("hello", "hello: two steps, fresh process, start to exit", 1.6, "×"),
    Target("hello_memory", "its peak memory", 30, "MiB"),
    Target("chain", "a step in a chain of 1 000, fully recorded", 1.0, "×"),
    Target("chain_first", "the same, first call of its process, for information", math.inf, "×"),
    Target("long_chain", "the same at 10 000, to that at 1 000", 1.1, "×"),
    Target("long_chain_memory", "memory that a step more adds", 1.0, "kB"),
    Target("cached", "a step in a chain of 1 000, cached", 0.4, "×"),
    Target("cached_first", "the same, first call of its process, for information", math.inf, "×"),
    Target("eight", "8 processes at once: time for a step, to 8 floors at once", 1 / 0.6, "×"),
    Target("dicts", "a step with a dict of 10 kB, of 1 000", 1.2, "×"),
    Target("fan_out", "a child of 1 → 5 000 trivial steps → gather, in process", 0.8, "×"),
    Target("fan_out_workers", "the same, in two workers", 0.8, "×"),
    Target("fan_out_memory", "peak memory with 10 000 children, over all processes", 100, "MiB"),
    Target("array", "1 GiB of float64 from step to step, to np.save and mapped load", 1.3, "×"),
    Target("array_memory", "its peak memory, to the data", 1.1, "×"),
    Target("frame", "5 million rows of a DataFrame, to Parquet write and read", 0.4, "×"),
    Target("logs", "100 MB of log lines, to printing them to a file", 1.15, "×"),
    Target("logs_memory", "memory that they add", 16, "MiB"),
    Target("plan", "`plan` of 10 000 steps", 0.5, "s"),
    Target("install", "base install", 25, "MB"),
    Target("distributions", "distributions of it", 8, ""),
    Target("fsyncs", "system calls per step of a chain: fsync, fdatasync", 0, ""),
    Target("opens", "open, openat, creat", 0, ""),
    Target("mkdirs", "mkdir, mkdirat", 0, ""),
    Target("writes", "write, pwrite, writev", 3, ""),
)
