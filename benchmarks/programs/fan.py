"""fan.py N WORKERS [once]: a step, N trivial children of a mapped one, a gather; says seconds per child of a call.

The first call also imports what running needs and opens the store; the next one, over other items, shows what a child
costs. Memory is that of the driver at most, and of all that it has started when the children are done.
"""

import json
import os
import resource
import sys
import time
from pathlib import Path

from cupola import log_metadata, pipeline, step


def others_kib() -> int:
    """Return what the processes below this one hold, pages that several share counted in parts."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    below, found = {os.getpid()}, 0
    for pid, parent in sorted(parents.items()):
        if parent in below:
            below.add(pid)
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            found += next(int(line.split()[1]) for line in rollup if line.startswith("Pss:"))
    return found


@step
def find(length: int, start: int) -> list[int]:
    return list(range(start, start + length))


@step
def add(x: int) -> int:
    return x + 1


@step
def gather(xs: list[int]) -> int:
    log_metadata({"others_kib": others_kib()})
    return sum(xs)


@pipeline
def fan(length: int, start: int = 0) -> int:
    return gather(add.map(find(length, start)))


if __name__ == "__main__":
    length = int(sys.argv[1])
    os.environ["CUPOLA_WORKERS"] = sys.argv[2]
    seconds = []
    for start in (0, 10**9)[: 1 if "once" in sys.argv else 2]:
        began = time.perf_counter()
        run = fan(length=length, start=start)
        seconds.append((time.perf_counter() - began) / length)
        assert run.output.load() == sum(range(start + 1, start + length + 1))
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss + run.steps["gather"].metadata["others_kib"]
    print(json.dumps({"first": seconds[0], "per_step": seconds[-1], "peak_kib": peak_kib}))
