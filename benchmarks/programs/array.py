"""array.py MIB [floor]: hand on so many MiB of float64; says seconds of writing, handing on and summing up.

The floor does the same with np.save and a mapped load. Making the array is not counted, reading all of it is.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

MEBIBYTES = int(sys.argv[1])
made = 0.0


def fill(mebibytes: int) -> np.ndarray:
    global made
    values = np.arange(mebibytes * 2**17, dtype=np.float64)
    made = time.perf_counter()
    return values


def floor() -> float:
    path = Path(tempfile.mkdtemp()) / "values.npy"
    np.save(path, fill(MEBIBYTES))
    return float(np.load(path, mmap_mode="r").sum())


def subject() -> float:
    from cupola import pipeline, step

    produce = step(fill)

    @step
    def total(values: np.ndarray) -> float:
        return float(values.sum())

    @pipeline
    def array(mebibytes: int) -> float:
        return total(produce(mebibytes))

    return array(mebibytes=MEBIBYTES).output.load()


if __name__ == "__main__":
    result = floor() if sys.argv[2:] == ["floor"] else subject()
    seconds = time.perf_counter() - made
    size = MEBIBYTES * 2**17
    assert result == size * (size - 1) / 2
    print(json.dumps({"seconds": seconds}))
