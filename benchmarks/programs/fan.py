"""fan.py N [once]: one step, N trivial children of a mapped one, a gather; says seconds per child of a whole call.

The first call also imports what running needs and opens the store; the next one, over other items, shows what a child
costs.
"""

import json
import sys
import time

from cupola import pipeline, step


@step
def find(length: int, start: int) -> list[int]:
    return list(range(start, start + length))


@step
def add(x: int) -> int:
    return x + 1


@step
def gather(xs: list[int]) -> int:
    return sum(xs)


@pipeline
def fan(length: int, start: int = 0) -> int:
    return gather(add.map(find(length, start)))


if __name__ == "__main__":
    length = int(sys.argv[1])
    seconds = []
    for start in (0, 10**9)[: 1 if "once" in sys.argv else 2]:
        began = time.perf_counter()
        run = fan(length=length, start=start)
        seconds.append((time.perf_counter() - began) / length)
        assert run.output.load() == sum(range(start + 1, start + length + 1))
    print(json.dumps({"first": seconds[0], "per_step": seconds[-1]}))
