"""eight.py N: the chain with a parameter of its own, so that eight of them share a store but no results."""

import json
import os
import sys
import time

from cupola import pipeline, step


@step
def add(total: int) -> int:
    return total + 1


@pipeline
def one_of_eight(start: int, length: int) -> int:
    total = start
    for _ in range(length):
        total = add(total)
    return total


if __name__ == "__main__":
    start, length = os.getpid() * 1_000_000, int(sys.argv[1])
    began = time.perf_counter()
    run = one_of_eight(start=start, length=length)
    seconds = time.perf_counter() - began
    assert run.output.load() == start + length
    print(json.dumps({"per_step": seconds / length}))
