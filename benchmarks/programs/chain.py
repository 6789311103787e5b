"""chain.py N: a chain of N steps; says seconds per step, of the whole call."""

import json
import sys
import time

from cupola import pipeline, step


@step
def add(total: int) -> int:
    return total + 1


@pipeline
def chain(length: int) -> int:
    total = 0
    for _ in range(length):
        total = add(total)
    return total


if __name__ == "__main__":
    length = int(sys.argv[1])
    began = time.perf_counter()
    run = chain(length=length)
    seconds = time.perf_counter() - began
    assert run.output.load() == length
    print(json.dumps({"per_step": seconds / length}))
