"""Values with arrays, frames, estimators or files inside: each part is stored by its own form."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import threading
from pathlib import Path
from typing import Annotated, Any, Generic, NamedTuple, Optional, TypeVar

import attrs
import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pydantic
import pytest

from cupola import Client, CompileError, pipeline, save_artifact, step
from cupola.artifacts import registry
from cupola.artifacts.blobs import Blobs
from cupola.artifacts.materializer import load_value, preview_value, store_value, value_metadata
from cupola.artifacts.materializers.containers import Part, Stored
from cupola.artifacts.port import Materializer
from cupola.client.doctor import check_store
from cupola.entities.artifact import INLINE_BYTES
from cupola.errors import Damaged, MaterializerError
from cupola.files import File

pytestmark = pytest.mark.feature("CORE-05")
T = TypeVar("T")


class Split(NamedTuple):
    train: pd.DataFrame
    test: Optional[pd.DataFrame] = None  # noqa: UP045 — users write both


@dataclasses.dataclass
class Box(Generic[T]):
    content: T
    also: T | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Slim:
    weights: np.ndarray
    name: str = "slim"


@attrs.define
class Converted:
    weights: Any = attrs.field(converter=np.asarray)


class Packed(msgspec.Struct, frozen=True):
    weights: np.ndarray


class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(arbitrary_types_allowed=True)
    weights: np.ndarray = pydantic.Field(alias="w")
    _cache: Any = pydantic.PrivateAttr(default=None)


class Note:
    def __init__(self, text: str) -> None:
        self.text = text


class NoteMaterializer(Materializer[Note]):
    id = "note"
    types = (Note,)
    stable = False

    def save(self, value: Note, folder: Path) -> None:
        (folder / "note.txt").write_text(value.text)

    def load(self, folder: Path, type: type[Note] | None) -> Note:  # noqa: A002 — the name is part of the port
        return (type or Note)((folder / "note.txt").read_text())


class LoudNote(Note):
    """What a reader may ask for instead."""


@pytest.fixture
def blobs(home: Path) -> Blobs:
    return Blobs(home)


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch):
    for name in ("_by_id", "_by_type", "_answers"):
        monkeypatch.setattr(registry, name, dict(getattr(registry, name)))


def store(value: object, blobs: Blobs) -> Any:
    return store_value(value, None, blobs, path="fit.output")


def again(value: object, blobs: Blobs) -> Any:
    manifest = store(value, blobs)
    loaded = load_value(manifest, blobs)
    assert type(loaded) is type(value)
    assert store(loaded, blobs).digest == manifest.digest
    return loaded


def test_steps_hand_on_containers_of_arrays_and_frames_and_hit_the_cache():
    @step
    def weights() -> dict[str, np.ndarray]:
        return {"a": np.arange(3), "b": np.ones((300, 40))}

    @step
    def tables(given: dict[str, np.ndarray]) -> list[pd.DataFrame]:
        return [pd.DataFrame({"x": given["b"][0]}), pd.DataFrame({"y": given["a"]})]

    @step
    def pair(given: list[pd.DataFrame]) -> Annotated[tuple[pd.DataFrame, dict[str, int]], "pair"]:
        return given[1], {"rows": len(given[1])}

    @pipeline
    def training() -> Annotated[tuple[pd.DataFrame, dict[str, int]], "pair"]:
        return pair(tables(weights()))

    first, second = training(), training()
    for run in (first, second):
        frame, facts = run.steps["pair"].output.load()
        assert frame["y"].tolist() == [0, 1, 2]
        assert facts == {"rows": 3}
    assert [str(second.steps[name].status) for name in ("weights", "tables", "pair")] == ["cached"] * 3
    assert "numpy.ndarray" in second.steps["weights"].output.preview()


def test_a_hit_whose_part_is_damaged_is_a_miss(home):
    @step
    def weights() -> list[np.ndarray]:
        return [np.zeros(5000), np.ones(5000)]

    @pipeline
    def training() -> list[np.ndarray]:
        return weights()

    version = training().output
    path = Path(Blobs(home).path(version.record.manifest.files[-1].blob))
    path.chmod(0o644)
    path.write_bytes(b"x" * path.stat().st_size)
    run = training()
    assert str(run.steps["weights"].status) == "completed"
    assert {array[0] for array in run.output.load()} == {0.0, 1.0}


@pytest.mark.parametrize(
    "value",
    [
        Split(pd.DataFrame({"a": [1]})),
        Split(pd.DataFrame({"a": [1]}), pd.DataFrame()),
        Box(np.arange(3), np.arange(4)),
        Box([Box({"k": np.arange(3)})]),
        Slim(weights=np.arange(3)),
        Converted(weights=np.arange(3)),
        Packed(np.arange(3)),
        Model(w=np.arange(3)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_data_classes_keep_arrays_and_frames_in_their_fields(blobs, value):
    assert repr(again(value, blobs)) == repr(value)


def test_parts_are_loaded_as_objects_of_their_own(blobs):
    shared = np.zeros(5000)
    manifest = store([shared, shared], blobs)
    assert len(manifest.files) == 1
    first, second = load_value(manifest, blobs)
    first[0] = 1
    assert second[0] == 0
    assert load_value(manifest, blobs)[0][0] == 0


def test_the_digest_covers_the_parts_and_not_their_places(blobs, tmp_path):
    array = np.zeros(5000)
    same = [store(value, blobs).digest for value in ([array, array], [array, array.copy()], [array.copy(), array])]
    assert len(set(same)) == 1
    others = [[array], (array, array), [array, array.astype("f4")], [array, array + 1], {"a": array, "b": array}]
    assert len({*same, *(store(value, blobs).digest for value in others)}) == 6


def test_small_parts_travel_in_the_record_and_many_small_ones_in_one_blob(blobs):
    assert store({"a": np.arange(3)}, blobs).files == ()
    manifest = store([np.arange(number) for number in range(400)], blobs)
    assert manifest.inline is None
    assert [file.path for file in manifest.files] == ["value"]
    large = store([np.zeros(5000), File(__file__)], blobs)
    assert len(large.files) == 2
    assert large.inline is not None
    assert len(large.inline) <= INLINE_BYTES


def test_one_unstable_part_makes_the_whole_unstable_and_the_annotation_reaches_it(blobs):
    registry.register_materializer(NoteMaterializer)
    manifest = store({"a": [Note("x")], "b": np.arange(2)}, blobs)
    assert not manifest.stable
    assert load_value(manifest, blobs)["a"][0].text == "x"
    assert type(load_value(manifest, blobs, dict[str, list[LoudNote] | np.ndarray])["a"][0]) is LoudNote


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ({"weights": [1, 2, np.array([object()])]}, r"fit\.output\['weights'\]\[2\] is an array of objects"),
        ([pd.DataFrame({"a": [{}]})], r"fit\.output\[0\], column 'a', is a column of objects"),
        (Box({"k": (np.ma.masked_array([1]),)}), r"fit\.output\.content\['k'\]\[0\] is a numpy\.ma\.MaskedArray"),
        ({"a": np.arange(2), "b": threading.Lock()}, r"fit\.output\['b'\] is of type _thread\.lock"),
        ({"f": [File("gone")]}, r"fit\.output\['f'\]\[0\] is File\('gone'\), which doesn't exist"),
    ],
)
def test_what_cant_be_kept_is_named_with_its_path_inside(blobs, value, place):
    with pytest.raises(MaterializerError, match=place) as caught:
        store(value, blobs)
    assert caught.value.fix
    assert "\0" not in str(caught.value)


def test_preview_and_metadata_tell_of_the_parts(blobs):
    value = {"rate": 0.5, "weights": np.arange(4), "table": pd.DataFrame({"x": [1]})}
    manifest = store(value, blobs)
    shown = preview_value(manifest, blobs)
    assert "'rate': 0.5" in shown
    assert "int64 array of shape (4,)" in shown
    assert "1 rows × 1 columns" in shown
    facts = value_metadata(value, manifest)
    assert facts["parts"] == {"numpy.ndarray": 1, "pandas.DataFrame": 1}


def test_a_materializer_that_fails_to_load_a_part_is_named(blobs, monkeypatch):
    registry.register_materializer(NoteMaterializer)
    manifest = store([Note("x")], blobs)

    def fail(self: object, folder: Path, kind: object) -> Note:
        raise KeyError("gone")

    monkeypatch.setattr(NoteMaterializer, "load", fail)
    with pytest.raises(MaterializerError, match="can't be loaded by 'note': KeyError"):
        load_value(manifest, blobs)


def test_the_doctor_looks_at_the_blobs_of_parts(home):
    save_artifact({"w": [np.zeros(5000)]}, "weights")
    version = Client().artifacts.get("weights")
    assert check_store(home).is_clean
    path = Path(Blobs(home).path(version.record.manifest.files[0].blob))
    path.unlink()
    (finding,) = check_store(home).findings
    assert "is missing" in finding.what
    assert "weights" in finding.what
    with pytest.raises(Damaged):
        version.load()


def test_in_a_pipeline_arrays_are_still_no_inputs():
    @step
    def total(given: list[np.ndarray]) -> int:
        return len(given)

    @pipeline
    def training() -> int:
        return total([np.arange(3)])

    with pytest.raises(CompileError, match=r"total\.given\[0\] is of type numpy\.ndarray"):
        training.compile()


@pytest.mark.parametrize("kind", ["pickle", "container", "value", "os.system"])
def test_a_record_cant_bring_a_pickle_in_as_a_part(blobs, kind):
    manifest = store([np.arange(3)], blobs)
    stored = msgspec.msgpack.decode(manifest.inline, type=Stored)
    part = stored.parts[0]
    forged = Part(part.note, msgspec.structs.replace(part.manifest, materializer=kind))
    changed = msgspec.structs.replace(manifest, inline=msgspec.msgpack.encode(Stored(stored.value, [forged])))
    with pytest.raises((Damaged, MaterializerError)):
        load_value(changed, blobs, allow_pickle=True)


def test_the_bytes_of_format_1_are_those_of_its_release(blobs):
    manifest = store({"a": np.arange(2, dtype="<i2"), "b": [1]}, blobs)
    assert manifest.digest == GOLDEN_DIGEST
    assert manifest.inline is not None
    assert manifest.inline.hex() == GOLDEN


def test_tables_in_sets_of_tuples_and_keys_come_back(blobs):
    batch = pa.record_batch({"a": [1, None]})
    assert again({("k", 1): batch}, blobs)[("k", 1)].equals(batch)
    nested: Any = np.arange(2)
    for _ in range(90):
        nested = [nested]
    loaded = again(nested, blobs)
    while isinstance(loaded, list):
        loaded = loaded[0]
    assert loaded.tolist() == [0, 1]


GOLDEN_DIGEST = "val:ccf0960e6057a1b4d056eefe336983f298be8e31"
GOLDEN = (
    "92c43b82a161c7312292d92c76616c3a36343234386264376139303536623836633834336566316635663334653738643736"
    "613130316435c400a16291019192c40099a56e756d707901ad6e756d70792e6e646172726179d92c76616c3a363432343862"
    "6437613930353662383663383433656631663566333465373864373661313031643504c4040000010090c3c40dc70a0493a3"
    "3c6932d5049102c2"
)


def test_processes_that_store_the_same_parts_at_once_get_the_same_and_leave_nothing(home):
    program = """
import sys
from pathlib import Path
import numpy as np
from cupola.artifacts.blobs import Blobs
from cupola.artifacts.materializer import load_value, store_value
blobs = Blobs(Path(sys.argv[1]))
for number in range(15):
    manifest = store_value({"a": np.full(100_000, number), "b": "x" * 5000 + str(number)}, None, blobs, path="x")
    assert load_value(manifest, blobs)["a"][0] == number
print(manifest.digest)
"""
    command = [sys.executable, "-c", program, str(home)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    told = {process.communicate(timeout=60)[0] for process in running}
    assert [process.returncode for process in running] == [0, 0, 0]
    assert len(told) == 1
    assert list((home / "blobs" / "tmp").iterdir()) == []


def test_what_was_loaded_stays_when_its_blobs_are_deleted(blobs, home):
    manifest = store({"a": np.arange(5000), "t": pd.DataFrame({"x": range(5000)})}, blobs)
    loaded = load_value(manifest, blobs)
    for path in (home / "blobs").rglob("*"):
        if path.is_file():
            path.unlink()
    assert loaded["a"].sum() == loaded["t"]["x"].sum() == sum(range(5000))
    with pytest.raises(Damaged, match="is missing"):
        load_value(manifest, Blobs(home))
