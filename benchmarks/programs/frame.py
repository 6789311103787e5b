"""frame.py ROWS [floor]: hand on a DataFrame of so many rows; says seconds of writing, handing on and one sum.

The floor does the same with a Parquet file. Making the frame is not counted.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

ROWS = int(sys.argv[1])
made = 0.0


def fill(rows: int) -> pd.DataFrame:
    global made
    chance = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "number": np.arange(rows),
            "price": chance.random(rows),
            "quantity": chance.integers(0, 100, rows),
            "when": pd.date_range("2020-01-01", periods=rows, freq="s"),
            "place": pd.Categorical.from_codes(chance.integers(0, 3, rows), ["EWR", "JFK", "LGA"]),
        }
    )
    made = time.perf_counter()
    return frame


def floor() -> int:
    path = Path(tempfile.mkdtemp()) / "frame.parquet"
    fill(ROWS).to_parquet(path)
    return int(pd.read_parquet(path)["number"].sum())


def subject() -> int:
    from cupola import pipeline, step

    produce = step(fill)

    @step
    def total(frame: pd.DataFrame) -> int:
        return int(frame["number"].sum())

    @pipeline
    def frames(rows: int) -> int:
        return total(produce(rows))

    return frames(rows=ROWS).output.load()


if __name__ == "__main__":
    result = floor() if sys.argv[2:] == ["floor"] else subject()
    seconds = time.perf_counter() - made
    assert result == ROWS * (ROWS - 1) // 2
    print(json.dumps({"seconds": seconds}))
