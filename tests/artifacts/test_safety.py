"""Law 6: loading runs no code, whatever the stored bytes are."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from cupola.artifacts.blobs import Blobs
from cupola.artifacts.materializer import load_value, preview_value, store_value
from cupola.files import File

pytestmark = pytest.mark.feature("CORE-05")


class Touches:
    """Stands for hostile code: unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("name", ["x.npy", "y.pkl", "z.joblib"])
def test_a_file_that_holds_a_pickle_is_handed_over_as_a_file(home, tmp_path, name):
    mark, source = tmp_path / "ran", tmp_path / name
    if name == "x.npy":
        array = np.empty(1, object)
        array[0] = Touches(mark)
        np.save(source, array, allow_pickle=True)
    else:
        source.write_bytes(pickle.dumps([Touches(mark)]))
    blobs = Blobs(home)
    manifest = store_value(File(source), None, blobs, path="x")
    preview_value(manifest, blobs)
    loaded = load_value(manifest, blobs)
    assert isinstance(loaded, File)
    assert loaded.path.read_bytes() == source.read_bytes()
    assert not mark.exists()


def test_the_preview_of_a_pickle_doesnt_open_it(home, tmp_path):
    mark = tmp_path / "ran"
    blobs = Blobs(home)
    manifest = store_value(Touches(mark), None, blobs, materializer="pickle", path="x")
    assert "Touches" in preview_value(manifest, blobs)
    assert not mark.exists()
    load_value(manifest, blobs, allow_pickle=True)
    assert mark.exists()


CHANGED_BYTES = """
import random, sys
from pathlib import Path
import msgspec, numpy as np, pandas as pd, pyarrow as pa
from cupola.artifacts.blobs import Blobs
from cupola.artifacts.materializer import load_value, store_value
from cupola.errors import CupolaError
frame = pd.DataFrame({"x": [1, 2], "s": ["a", "b"], "c": pd.Categorical(["a", "b"]),
                      "t": pd.to_datetime(["2026-01-01"] * 2).tz_localize("UTC")})
given = [
    frame, frame["s"], pa.table({"s": ["a", None], "l": [[1], None]}), np.zeros(2, [("a", "i4")]), [1, "text", (2.5,)],
    {"a": np.arange(5), "b": [frame], "t": (pd.Timestamp(1), pd.NaT, pd.Period("2020", freq="Y"))},
]
blobs, dice, refused = Blobs(Path(sys.argv[1])), random.Random(7), 0
for value in given:
    manifest = store_value(value, None, blobs, path="x")
    for number in range(300):
        field = "spec" if manifest.spec and number % 2 else "inline"
        data = bytearray(getattr(manifest, field))
        for _ in range(dice.choice((1, 1, 2, 5))):
            data[dice.randrange(len(data))] = dice.randrange(256)
        try:
            load_value(msgspec.structs.replace(manifest, **{field: bytes(data)}), blobs)
        except CupolaError:
            refused += 1
print(refused)
"""


def test_changed_bytes_are_refused_or_read_as_another_value_and_never_crash(home, run_python):
    done = run_python("-W", "ignore", "-X", "faulthandler", "-c", CHANGED_BYTES, home)
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stdout) > 300
