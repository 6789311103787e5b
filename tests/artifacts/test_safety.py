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
