"""Frames: what is refused, what counts for the digest, and that readers share nothing. Round trips are in the laws."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import pandas as hpd

from cupola.artifacts.blobs import Blobs
from cupola.artifacts.materializer import load_value, preview_value, store_value
from cupola.errors import MaterializerError

pytestmark = pytest.mark.feature("CORE-05")


@pytest.fixture
def blobs(home: Path) -> Blobs:
    return Blobs(home)


def digest_of(value: object, blobs: Blobs) -> str:
    return store_value(value, None, blobs, path="x").digest


TEXTS = st.text(alphabet=st.characters(codec="utf-8"), max_size=5)
COLUMNS = [
    *hpd.columns(["a", "b"], dtype=float),
    hpd.column("c", elements=TEXTS),
    hpd.column("d", dtype="datetime64[ns]"),
    hpd.column("e", elements=st.booleans(), dtype=bool),
]


@settings(max_examples=60, deadline=None)
@given(frame=hpd.data_frames(COLUMNS, index=hpd.range_indexes(max_size=6)))
def test_any_frame_comes_back_and_has_one_digest(tmp_path_factory, frame):
    blobs = Blobs(tmp_path_factory.getbasetemp())
    manifest = store_value(frame, None, blobs, path="x")
    loaded = load_value(manifest, blobs)
    pd.testing.assert_frame_equal(loaded, frame)
    assert digest_of(loaded, blobs) == manifest.digest
    assert digest_of(frame.copy(deep=True), blobs) == manifest.digest


@pytest.mark.parametrize(
    "column",
    [
        pd.Series([1, "one", None, 2.5], dtype=object),
        pd.Series([{"a": 1}, {"b": 2}]),
        pd.Series([(1, 2)]),
        pd.Series([[1]]),
        pd.Series(["a", b"b"], dtype=object),
        pd.Series([None, np.nan, "a"], dtype=object),
        pd.Series([True, None], dtype=object),
        pd.Series([1 + 2j]),
        pd.Series(pd.arrays.SparseArray([0, 1])),
        pd.Series(["\ud800"], dtype=object),
        pd.Series(pd.Categorical([(1, 2), (3, 4)])),
    ],
)
def test_what_arrow_would_change_is_refused_with_the_name_of_the_column(blobs, column):
    with pytest.raises(MaterializerError, match="column 'bad'") as caught:
        store_value(pd.DataFrame({"good": range(len(column)), "bad": column}), None, blobs, path="make.table")
    assert "make.table" in caught.value.what


def test_attrs_that_cant_be_kept_are_refused_by_path(blobs):
    frame = pd.DataFrame({"a": [1]})
    frame.attrs["lock"] = object()
    with pytest.raises(MaterializerError, match="lock"):
        store_value(frame, None, blobs, path="make.table")


def test_equal_bytes_are_not_equal_frames(blobs):
    frame = pd.DataFrame({"a": np.array([1, 2])})
    others = [
        frame.rename(columns={"a": "b"}),
        frame.astype("uint64"),
        frame.astype("Int64"),
        frame.set_axis([1, 0]),
        frame.set_axis(pd.Index([0, 1])),
        frame.rename_axis("n"),
        frame["a"],
        pd.Index(frame["a"]),
        frame.astype("category"),
        frame.astype("datetime64[ns]"),
        frame.astype("datetime64[s]"),
    ]
    digests = [digest_of(one, blobs) for one in (frame, *others)]
    assert len(set(digests)) == len(digests)


def test_what_stands_under_nulls_doesnt_count(blobs):
    masked = pd.arrays.IntegerArray
    one = masked(np.array([1, 5]), np.array([False, True]))
    two = masked(np.array([1, 7]), np.array([False, True]))
    assert digest_of(pd.DataFrame({"a": one}), blobs) == digest_of(pd.DataFrame({"a": two}), blobs)
    table = pa.table({"a": pa.array([1, 5, 3])})
    buffers = [pa.py_buffer(b"\x05"), table["a"].chunk(0).buffers()[1]]
    hidden = pa.table({"a": pa.Array.from_buffers(pa.int64(), 3, buffers)})
    assert digest_of(hidden, blobs) == digest_of(pa.table({"a": pa.array([1, None, 3])}), blobs)


def test_a_reader_may_write_to_a_frame_and_others_see_nothing_of_it(blobs):
    frame = pd.DataFrame({"a": np.arange(2000.0), "s": ["x"] * 2000, "c": pd.Categorical(["u", "v"] * 1000)})
    manifest = store_value(frame, None, blobs, path="x")
    first = load_value(manifest, blobs)
    first.loc[0, "a"] = -1
    first.loc[0, "s"] = "y"
    first.loc[0, "c"] = "v"
    first["a"].to_numpy()
    pd.testing.assert_frame_equal(load_value(manifest, blobs), frame)


def test_a_preview_shows_the_first_rows_as_text(blobs):
    frame = pd.DataFrame({"<b>": range(1000)})
    text = preview_value(store_value(frame, None, blobs, path="x"), blobs)
    assert text.startswith("1,000 rows × 1 columns")
    assert "<b>" in text
    assert len(text.splitlines()) < 15


def test_a_level_of_an_index_that_is_categorical_stays_so(blobs):
    rows = pd.DataFrame(
        {
            "c": pd.Categorical(["b", None, "a", "b"], categories=["z", "b", "a"], ordered=True),
            "x": [1, 2, 3, 4],
            "v": [1.0, 2, 3, 4],
        }
    ).set_index(["c", "x"])
    unused = rows.iloc[[2]].copy()
    unused.index = unused.index.remove_unused_levels()
    nothing = rows.iloc[:0].set_index(pd.MultiIndex.from_arrays([pd.Categorical([]), []]))
    grouped = rows.groupby(level=["c", "x"], observed=False).sum()
    for frame in (rows, rows.iloc[1:3], unused, nothing, rows.T, grouped):
        loaded = load_value(store_value(frame, None, blobs, path="x"), blobs)
        pd.testing.assert_frame_equal(loaded, frame)
        assert digest_of(loaded, blobs) == digest_of(frame, blobs)


def test_a_step_of_dates_that_its_name_doesnt_tell_is_refused(blobs):
    days = pd.bdate_range("2026-10-24", periods=3, freq="C", holidays=["2026-10-26"])
    with pytest.raises(MaterializerError, match="CustomBusinessDay") as caught:
        store_value(pd.DataFrame({"v": range(3)}, index=days), None, blobs, path="x")
    assert "freq = None" in caught.value.fix
    named = pd.Series(range(3), index=pd.bdate_range("2026-10-24", periods=3))
    assert load_value(store_value(named, None, blobs, path="x"), blobs).index.freq == named.index.freq


def test_rows_without_a_column_are_refused_in_arrow_and_kept_in_pandas(blobs):
    with pytest.raises(MaterializerError, match="2 rows without a column"):
        store_value(pa.table({"a": [1, 2]}).select([]), None, blobs, path="x")
    assert len(load_value(store_value(pd.DataFrame(index=[1, 2]), None, blobs, path="x"), blobs)) == 2


def test_dates_around_the_change_of_clocks_are_kept_with_zone_and_step(blobs):
    for zone in ("Europe/Zurich", "America/St_Johns"):
        for unit in ("s", "ns"):
            index = pd.date_range("2026-10-24 22:00", periods=30, freq="h", tz=zone, name="at").as_unit(unit)
            frame = pd.DataFrame({"at": index, "v": range(30)}, index=index)
            loaded = load_value(store_value(frame, None, blobs, path="x"), blobs)
            pd.testing.assert_frame_equal(loaded, frame)
            assert loaded.index.freq == index.freq
            assert [moment.fold for moment in loaded.index] == [moment.fold for moment in index]
