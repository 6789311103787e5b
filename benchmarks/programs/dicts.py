"""dicts.py N: a chain of N steps that hand on a dict of 10 kB; says seconds per step."""

import json
import sys
import time

from cupola import pipeline, step


@step
def change(record: dict[str, int | str]) -> dict[str, int | str]:
    return {**record, "n": record["n"] + 1}


@pipeline
def dicts(length: int) -> dict[str, int | str]:
    record = {"n": 0} | {f"field_{number:03d}": f"{number:085d}" for number in range(100)}
    for _ in range(length):
        record = change(record)
    return record


if __name__ == "__main__":
    length = int(sys.argv[1])
    began = time.perf_counter()
    run = dicts(length=length)
    seconds = time.perf_counter() - began
    assert run.output.load()["n"] == length
    print(json.dumps({"per_step": seconds / length}))
