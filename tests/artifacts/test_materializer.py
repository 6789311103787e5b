"""Values to manifests and back: which materializer takes what, what is refused and how, and what pickle needs."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path
from typing import Annotated, Any, Optional

import msgspec
import numpy as np
import pytest

from cupola import plugins
from cupola.artifacts import registry
from cupola.artifacts.blobs import Blobs
from cupola.artifacts.materializer import load_value, preview_value, store_value, value_metadata
from cupola.artifacts.port import Materializer
from cupola.entities.artifact import INLINE_BYTES
from cupola.entities.options import ArtifactConfig
from cupola.errors import MaterializerError

pytestmark = pytest.mark.feature("CORE-05")
PICKLED = Annotated[Any, ArtifactConfig(materializer="pickle")]


class Note:
    def __init__(self, text: str) -> None:
        self.text = text


class NoteMaterializer(Materializer[Note]):
    id = "note"
    types = (Note,)

    def save(self, value: Note, folder: Path) -> None:
        (folder / "parts").mkdir()
        (folder / "parts" / "note.txt").write_text(value.text)

    def load(self, folder: Path, type: type[Note] | None) -> Note:  # noqa: A002 — the name is part of the port
        return Note((folder / "parts" / "note.txt").read_text())

    def preview(self, value: Note) -> str:
        return value.text[:3]

    def metadata(self, value: Note) -> dict[str, Any]:
        return {"letters": len(value.text)}


@pytest.fixture
def blobs(home: Path) -> Blobs:
    return Blobs(home)


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch):
    for name in ("_by_id", "_by_type", "_answers"):
        monkeypatch.setattr(registry, name, dict(getattr(registry, name)))


def store(value: object, blobs: Blobs, annotation: object = None, **more: str) -> Any:
    return store_value(value, annotation, blobs, path="fit.output", **more)


def test_small_values_travel_in_the_record_and_large_ones_are_blobs(blobs, home):
    small = store("x" * (INLINE_BYTES - 10), blobs)
    assert small.inline is not None
    assert not list(home.iterdir())
    large = store("x" * INLINE_BYTES, blobs)
    assert large.inline is None
    assert load_value(large, blobs) == "x" * INLINE_BYTES
    assert large.files[0].size_bytes == large.size_bytes


@pytest.mark.parametrize(
    ("value", "annotation", "kind"),
    [
        (np.float64(0.5), float, float),
        (np.float32(0.5), float, float),
        (np.int64(3), int, int),
        (np.int64(3), Optional[int], int),  # noqa: UP045 — users write both
        (np.int64(3), int | str, int),
        (np.bool_(True), bool, bool),
        (np.str_("a"), str, str),
        (np.float32(0.1), np.float32, np.float32),
        (np.float64(0.1), Any, np.float64),
        (np.float64(0.1), None, np.float64),
        (np.int64(3), float, np.int64),
        (np.float64(0.5), Annotated[float, "score"], float),
    ],
)
def test_a_numpy_scalar_is_what_the_annotation_says(blobs, value, annotation, kind):
    got = load_value(store(value, blobs, annotation), blobs, annotation)
    assert type(got) is kind
    assert got == value


def test_what_has_no_materializer_is_refused_with_three_ways_out(blobs):
    with pytest.raises(MaterializerError) as caught:
        store({"model": {"guard": threading.Lock()}}, blobs)
    assert "fit.output['model']['guard']" in caught.value.what
    assert "_thread.lock" in caught.value.what
    assert all(way in caught.value.fix for way in ("plain", "Materializer", "pickle"))


def test_pickle_needs_the_word_of_the_writer_and_of_the_reader(blobs):
    value = Note("secret")
    with pytest.raises(MaterializerError):
        store(value, blobs)
    manifest = store(value, blobs, materializer="pickle")
    assert not manifest.stable
    with pytest.raises(MaterializerError, match="may run any code"):
        load_value(manifest, blobs)
    assert load_value(manifest, blobs, allow_pickle=True).text == "secret"
    assert load_value(manifest, blobs, PICKLED).text == "secret"
    assert "Note" not in preview_value(manifest, blobs).partition(",")[2]


def test_a_manifest_cant_bring_a_pickle_in_under_another_name(blobs):
    manifest = store(Note("x"), blobs, materializer="pickle")
    for other in ("value", "bytes", "numpy", "pandas", "arrow", "sklearn", "file"):
        changed = msgspec.structs.replace(manifest, materializer=other)
        with contextlib.suppress(MaterializerError):
            assert not isinstance(load_value(changed, blobs), Note)
    with pytest.raises(MaterializerError, match="no materializer is called"):
        load_value(msgspec.structs.replace(manifest, materializer="os.system"), blobs)


def test_a_newer_format_is_refused_by_number(blobs):
    manifest = msgspec.structs.replace(store(1, blobs), format=9)
    with pytest.raises(MaterializerError, match="format 9 of 'value'"):
        load_value(manifest, blobs)


def test_a_registered_materializer_takes_its_types_and_their_subclasses(blobs, home):
    registry.register_materializer(NoteMaterializer)

    class Longer(Note):
        pass

    manifest = store(Longer("hello"), blobs)
    assert manifest.materializer == "note"
    assert load_value(manifest, blobs).text == "hello"
    assert value_metadata(Note("hello"), manifest) == {"letters": 5, "preview": "hel"}
    assert "parts/note.txt" in preview_value(manifest, blobs)
    assert store(Note("hello"), blobs).digest == manifest.digest
    assert not list((home / "blobs" / "tmp").iterdir())


def test_registering_twice_is_fine_and_a_taken_id_is_refused(blobs):
    registry.register_materializer(NoteMaterializer)
    registry.register_materializer(NoteMaterializer())

    class Other(NoteMaterializer):
        pass

    with pytest.raises(MaterializerError, match="'note' is already taken"):
        registry.register_materializer(Other)

    class Thief(NoteMaterializer):
        id = "numpy"

    with pytest.raises(MaterializerError, match="'numpy' is already taken"):
        registry.register_materializer(Thief)


def test_what_an_installed_package_offers_is_found_when_nothing_else_takes_a_type(blobs, tmp_path, monkeypatch):
    metadata = tmp_path / "notes-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: notes\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        "[cupola.materializers]\nslip = slips:SlipMaterializer\nbad = nowhere:X\n"
    )
    (tmp_path / "slips.py").write_text(
        "from cupola.extend import Materializer\n"
        "class Slip:\n    pass\n"
        "class SlipMaterializer(Materializer):\n"
        "    id = 'slip'\n    types = (Slip,)\n"
        "    def save(self, value, folder): (folder / 'x').write_text('')\n"
        "    def load(self, folder, type): return Slip()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import slips

    manifest = store(slips.Slip(), blobs)
    assert manifest.materializer == "slip"
    assert isinstance(load_value(manifest, blobs), slips.Slip)
    assert dict(plugins.installed_targets(plugins.MATERIALIZER_GROUP))["slip"] == "slips:SlipMaterializer"


def test_plain_values_import_no_library_and_no_metadata_of_packages(run_python, home):
    program = """
import sys
from pathlib import Path
from cupola.artifacts.blobs import Blobs
from cupola.artifacts.materializer import load_value, preview_value, store_value, value_metadata
blobs = Blobs(Path(sys.argv[1]))
for value in (1, {"a": [1.5, None]}, "x" * 10_000, b"y" * 10_000):
    manifest = store_value(value, None, blobs, path="x")
    assert load_value(manifest, blobs) == value and value_metadata(value, manifest) == {}
    preview_value(manifest, blobs)
heavy = ("numpy", "pandas", "importlib.metadata", "pickle", "tempfile")
print([name for name in heavy if name in sys.modules])
"""
    done = run_python("-c", program, home)
    assert done.stdout.strip() == "[]", done.stderr


def test_metadata_tells_what_people_want_to_know(blobs):
    import pandas as pd
    from sklearn.linear_model import Ridge

    frame = pd.DataFrame({"a": [1.5, None], "b": ["x", "y"]})
    facts = value_metadata(frame, store(frame, blobs))
    assert facts["rows"] == 2
    assert facts["columns"] == 2
    assert facts["dtypes"] == {"a": "float64", "b": "str"}
    assert facts["nulls"] == {"a": 1, "b": 0}
    array = np.zeros((2, 3))
    assert value_metadata(array, store(array, blobs))["shape"] == [2, 3]
    model = Ridge(alpha=2.0).fit(array, [0, 1])
    facts = value_metadata(model, store(model, blobs))
    assert facts["class"] == "sklearn.linear_model.Ridge"
    assert facts["parameters"]["alpha"] == 2.0
    assert "Ridge" in preview_value(store(model, blobs), blobs)
