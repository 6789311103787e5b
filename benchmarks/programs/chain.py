"""chain.py N [once]: a chain of N steps; says seconds per step of a whole call, the first in its process and the next.

The first call also imports what running needs and opens the store; the next one, of another chain as long, shows what a
step costs. A pipeline that was run before is cached in both.
"""

import json
import sys
import time

from cupola import pipeline, step


@step
def add(total: int) -> int:
    return total + 1


@pipeline
def chain(length: int, start: int = 0) -> int:
    total = start
    for _ in range(length):
        total = add(total)
    return total


if __name__ == "__main__":
    length = int(sys.argv[1])
    seconds = []
    for start in (0, 10**9)[: 1 if "once" in sys.argv else 2]:
        began = time.perf_counter()
        run = chain(length=length, start=start)
        seconds.append((time.perf_counter() - began) / length)
        assert run.output.load() == start + length
    print(json.dumps({"first": seconds[0], "per_step": seconds[-1]}))
