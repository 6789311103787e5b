"""Arrays: mapped, private, exact; and what can't be kept is refused."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cupola import values
from cupola.artifacts.blobs import Blobs
from cupola.artifacts.materializer import load_value, preview_value, store_value
from cupola.errors import Damaged, MaterializerError

pytestmark = pytest.mark.feature("CORE-05")
DTYPES = st.one_of(
    hnp.scalar_dtypes(),
    hnp.unicode_string_dtypes(max_len=5),
    hnp.byte_string_dtypes(max_len=5),
    hnp.array_dtypes(hnp.scalar_dtypes()),
).filter(lambda dtype: dtype.char not in "gG" and dtype.itemsize > 0)


@pytest.fixture
def blobs(home: Path) -> Blobs:
    return Blobs(home)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_array_comes_back_with_its_dtype_shape_order_and_values(tmp_path_factory, data):
    blobs = Blobs(tmp_path_factory.getbasetemp())
    array = data.draw(hnp.arrays(data.draw(DTYPES), hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)))
    if array.dtype.subdtype:
        return
    turned = data.draw(st.sampled_from([array, array.T, np.asfortranarray(array)]))
    manifest = store_value(turned, None, blobs, path="x")
    loaded = load_value(manifest, blobs)
    assert type(loaded) is np.ndarray
    assert (loaded.dtype.str, loaded.shape) == (turned.dtype.str, turned.shape)
    assert loaded.dtype == turned.dtype
    assert store_value(loaded, None, blobs, path="x").digest == manifest.digest
    if turned.dtype.names is None:
        np.testing.assert_array_equal(loaded, turned)


def test_a_large_array_is_mapped_and_writing_to_it_changes_nothing_stored(blobs):
    array = np.arange(100_000.0)
    manifest = store_value(array, np.ndarray, blobs, path="x")
    first = load_value(manifest, blobs)
    first[:] = -1
    np.testing.assert_array_equal(load_value(manifest, blobs), array)
    small = store_value(np.arange(3), None, blobs, path="x")
    load_value(small, blobs)[0] = 9
    assert load_value(small, blobs)[0] == 0


def test_the_payload_of_nan_and_padding_dont_count_and_the_sign_of_zero_does(blobs):
    def digest_of(array: np.ndarray) -> str:
        return store_value(array, None, blobs, path="x").digest

    odd = np.array([np.nan, 1.0])
    odd.view("u8")[0] = 0xFFF8_0000_0000_0001
    assert digest_of(odd) == digest_of(np.array([np.nan, 1.0]))
    assert digest_of(np.array([0.0])) != digest_of(np.array([-0.0]))
    padded = np.dtype([("a", "i1"), ("b", "f8")], align=True)
    zeros, ones = np.zeros(2, padded), np.frombuffer(b"\xff" * 32, padded).copy()
    ones["a"], ones["b"] = 0, 0
    assert digest_of(zeros) == digest_of(ones)


class Sub(np.ndarray):
    pass


@pytest.mark.parametrize(
    ("array", "word"),
    [
        (np.array([None, "a"]), "objects"),
        (np.zeros(1, [("a", object)]), "objects"),
        (np.ma.array([1, 2], mask=[0, 1]), "MaskedArray"),
        (np.zeros(2).view(Sub), "Sub"),
        (np.zeros(1, "g"), "float128"),
        (np.zeros(1, {"names": ["a", "b"], "formats": ["<i4", "<i2"], "offsets": [0, 0]}), "offsets"),
        (np.rec.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]), "recarray"),
        (np.random.default_rng(), "Generator"),
    ],
)
def test_what_cant_be_kept_is_refused_by_name(blobs, array, word):
    with pytest.raises(MaterializerError, match=word) as caught:
        store_value(array, None, blobs, path="make.output")
    assert "make.output" in caught.value.what
    assert caught.value.fix


def test_an_extension_dtype_is_refused_by_name(blobs):
    extensions = pytest.importorskip("ml_dtypes")
    with pytest.raises(MaterializerError, match="bfloat16"):
        store_value(np.zeros(2, extensions.bfloat16), None, blobs, path="x")


@pytest.mark.parametrize(
    "spec", [("|O", (3,), False), ("<f8", (10**9,), False), ("nonsense", (1,), False), ("<f8", (-1,), False), 7]
)
def test_a_changed_description_is_damage_and_never_an_object(blobs, spec):
    manifest = store_value(np.arange(3.0), None, blobs, path="x")
    with pytest.raises(Damaged):
        load_value(msgspec.structs.replace(manifest, spec=values.encode(spec)), blobs)


def test_a_preview_reads_the_edges_of_a_large_array_only(blobs):
    manifest = store_value(np.arange(1_000_000), None, blobs, path="x")
    text = preview_value(manifest, blobs)
    assert "int64 array of shape (1000000,)" in text
    assert "999999" in text
    assert len(text) < 300


@pytest.mark.parametrize(
    "array",
    [
        np.arange(10)[::-2],
        np.arange(12).reshape(3, 4)[::-1, ::-1],
        np.lib.stride_tricks.as_strided(np.zeros(1), (0, 5), (1000, 8)),
        np.lib.stride_tricks.as_strided(np.zeros(1), (5, 4), (0, 0)),
        np.broadcast_to(np.arange(3.0), (4, 3)),
        np.arange(120.0).reshape(4, 5, 6).transpose(1, 0, 2),
        np.zeros((3, 0, 2), "U3", order="F"),
        np.zeros(3, "V0"),
        np.zeros(3, np.dtype([])),
        np.zeros((1,) * 30),
    ],
)
def test_arrays_laid_out_strangely_come_back_equal_and_with_the_same_digest(blobs, array):
    array = array.view()
    array.flags.writeable = False
    manifest = store_value(array, None, blobs, path="x")
    loaded = load_value(manifest, blobs)
    assert loaded.shape == array.shape
    assert loaded.dtype == array.dtype
    assert np.array_equal(loaded, array)
    assert store_value(loaded, None, blobs, path="x").digest == manifest.digest
    loaded[...] = np.zeros((), loaded.dtype)
