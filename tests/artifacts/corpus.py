"""A corpus of values over every materializer, for the laws of digests; run as a program in fresh processes.

`python corpus.py HOME save` stores all and prints their digests; `python corpus.py HOME load` loads what another
process stored into the same home, compares it with values of its own, and prints the digests of its own.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import json
import math
import os
import sys
import uuid
import warnings
import zoneinfo
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa

from cupola.artifacts.blobs import Blobs
from cupola.artifacts.materializer import load_value, store_value
from cupola.entities.artifact import Manifest
from cupola.files import File, Folder


class Colour(enum.Enum):
    RED = "red"


class Point(msgspec.Struct):
    x: int
    tags: set[str]


def plain() -> dict[str, object]:
    texts = {f"word {n}" for n in range(50)}
    zurich = zoneinfo.ZoneInfo("Europe/Zurich")
    return {
        "none": None,
        "numbers": [0, -0.0, 0.0, 2**70, -(2**63) - 1, 1e308, math.inf, -math.inf, math.nan, 1 + 2j, True],
        "sets": {"a": texts, "b": frozenset(texts), "c": {(1, "x"), (2, "y")}},
        "keys": {1: "int", "1": "str", None: 0, 2.5: 1, (1, 2): 2, datetime.date(2026, 1, 2): 3, Colour.RED: 4},
        "dates": [
            datetime.datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=zurich),
            datetime.datetime(2026, 1, 1),
            datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
            datetime.timedelta(days=-1, microseconds=3),
        ],
        "others": [decimal.Decimal("1.10"), uuid.UUID(int=5), Path("a/b"), b"\0\xff", bytearray(b"x"), range(3), ...],
        "structs": [Point(1, {"b", "a"}), Colour.RED, [Point(2, set())]],
        "scalars": [np.float32(0.1), np.int64(3), np.bool_(True), np.str_("a"), np.datetime64("NaT", "ns")],
        "large": {f"key {n}": [n, str(n), (n, None)] for n in range(2000)},
        "bytes": bytes(range(256)) * 40,
        "bytearray": bytearray(b"abc"),
    }


def arrays() -> dict[str, object]:
    random = np.random.default_rng(3)
    gaps = np.dtype({"names": ["a", "b"], "formats": ["<f8", ">i2"], "offsets": [0, 12], "itemsize": 24})
    structured = np.empty(3, gaps)
    structured["a"], structured["b"] = [1.5, np.nan, -0.0], [1, 2, 3]
    return {
        "zero dimensions": np.array(3.5),
        "empty": np.zeros((0, 3), ">f4"),
        "fortran": random.random((300, 40)).T,
        "view with gaps": random.random((100, 40))[::3, ::2],
        "view backwards": np.arange(2000.0)[::-1],
        "broadcast": np.broadcast_to(np.arange(3), (500, 3)),
        "nan": np.array([1.0, np.nan, np.inf, -np.inf, -0.0]),
        "half": np.array([1, np.nan], "f2"),
        "complex": np.array([1 + 2j, complex(np.nan, 1)]),
        "texts": np.array(["", "é", "漢字"]),
        "no texts": np.array([], "U"),
        "raw": np.array([b"a", b"bc"]),
        "dates": np.array(["NaT", "2026-01-01T00:00:01"], "M8[us]"),
        "spans": np.array([1, "NaT"], "m8[D]"),
        "structured": structured,
        "nested": np.zeros(2, [("x", "i1"), ("y", [("z", "f8"), ("w", "U3", (2,))])]),
        "big endian": np.array([1, 2], ">i8"),
        "flags": np.array([[True], [False]]),
        "large": random.random(500_000),
    }


def frames() -> dict[str, object]:
    zurich = pd.date_range("2026-03-28 23:00", periods=3, freq="h", tz="Europe/Zurich", name="at")
    every = pd.DataFrame(
        {
            "int": np.array([1, 2, 3], "i2"),
            "float": [1.5, np.nan, -0.0],
            "half": np.array([1, 2, np.nan], "f2"),
            "flag": [True, False, True],
            "text": ["a", None, "ü"],
            "NA text": pd.array(["a", None, "b"], dtype="string"),
            "python text": pd.array(["a", None, "b"], dtype=pd.StringDtype("python")),
            "objects": pd.Series(["a", None, "b"], dtype=object),
            "nan objects": pd.Series(["a", np.nan, "b"], dtype=object),
            "bytes": pd.Series([b"\xff", None, b""], dtype=object),
            "nothing": pd.Series([None, None, None], dtype=object),
            "category": pd.Categorical(["lo", None, "hi"], categories=["lo", "mid", "hi"], ordered=True),
            "number category": pd.Categorical([3, 1, 3]),
            "cut": pd.cut([1.0, 2.0, 3.0], 3),
            "nullable": pd.array([1, None, 3], dtype="Int64"),
            "nullable flag": pd.array([True, None, False], dtype="boolean"),
            "nullable float": pd.array([1.5, None, 0.5], dtype="Float32"),
            "moment": pd.to_datetime(["2026-01-01", None, "2026-02-01"]),
            "seconds": np.array(["2026", "NaT", "2027"], "M8[s]"),
            "zoned": zurich,
            "offset": pd.to_datetime(["2026-01-01T00:00+02:00"] * 3),
            "span": pd.to_timedelta([1, None, 3], unit="s"),
            "period": pd.PeriodIndex(["2026-01", None, "2026-03"], freq="M"),
            "interval": pd.arrays.IntervalArray.from_tuples([(0, 1), None, (2, 3)], closed="left"),
            "arrow": pd.array([[1], None, []], dtype=pd.ArrowDtype(pa.list_(pa.int64()))),
        }
    )
    noted = pd.DataFrame({"a": [1]})
    noted.attrs = {"unit": ("m", 1), "more": {"x": b"1"}}
    unique = pd.DataFrame({"a": [1]}).set_flags(allows_duplicate_labels=False)
    levels = pd.MultiIndex.from_arrays([zurich, ["a", "b", None]], names=["at", None])
    return {
        "every dtype": every,
        "part of it": every.iloc[1:].reset_index(drop=True),
        "no rows": every.iloc[:0],
        "nothing": pd.DataFrame(),
        "only an index": pd.DataFrame(index=["x", "y"]),
        "only columns": pd.DataFrame(columns=["a", "b"]),
        "zoned index": pd.DataFrame({"v": [1, 2, 3]}, index=zurich),
        "levels": pd.DataFrame({"v": [1, 2, 3]}, index=levels),
        "unused levels": pd.DataFrame({"v": [1, 2, 3]}, index=levels).iloc[:1],
        "repeated labels": pd.DataFrame([[1, 2]], columns=["x", "x"], index=[7]),
        "repeated index": pd.DataFrame({"v": [1, 2]}, index=[7, 7]),
        "integer columns": pd.DataFrame({0: [1], 1: [2]}),
        "range columns": pd.DataFrame(np.arange(6.0).reshape(2, 3)),
        "mixed columns": pd.DataFrame({"x": [1], 2: [3]}),
        "column levels": pd.DataFrame({("a", 1): [1], ("b", 2): [2]}),
        "tuples as columns": pd.DataFrame([[1]], columns=pd.Index([("a", 1)], tupleize_cols=False)),
        "dates as columns": pd.DataFrame([[1, 2]], columns=pd.date_range("2026", periods=2)),
        "named columns": pd.DataFrame({"a": [1]}).rename_axis(columns="n"),
        "stepped": pd.DataFrame({"x": range(5)}).iloc[::2],
        "attrs": noted,
        "flags": unique,
        "series": pd.Series([1.5, None], name=("t", 1), index=pd.Index(["a", None], dtype=object)),
        "category series": pd.Series(pd.Categorical(["a", "b"])),
        "empty series": pd.Series([], dtype=object),
        "index": pd.Index(["a", "b"], name="n"),
        "range": pd.RangeIndex(1, 9, 2, name="r"),
        "spans": pd.timedelta_range("1h", periods=3),
        "years": pd.period_range("2026", periods=2, freq="Y"),
        "intervals": pd.interval_range(0, 3),
        "category index": pd.CategoricalIndex(["a", "b", "a"]),
    }


def tables() -> dict[str, object]:
    table = pa.table(
        {
            "i": pa.array([1, None, 3]),
            "f": [1.5, None, 2.5],
            "b": [True, None, False],
            "s": ["a", None, "ccc"],
            "raw": [b"x", None, b""],
            "l": [[1, 2], None, []],
            "st": [{"a": 1, "b": "x"}, None, {"a": None, "b": None}],
            "d": pa.array(["x", "y", None]).dictionary_encode(),
            "t": pa.array([0, None, 1], pa.timestamp("us", "Europe/Zurich")),
            "n": pa.nulls(3),
        }
    ).replace_schema_metadata({"k": "v"})
    return {
        "table": table,
        "slice": table.slice(1),
        "no rows": table.slice(0, 0),
        "chunks": pa.concat_tables([table.slice(0, 1), table.slice(1)]),
        "batch": table.to_batches()[0],
        "no columns": pa.table({}),
    }


def estimators() -> dict[str, object]:
    from sklearn import cluster, compose, decomposition, ensemble, impute, linear_model, neighbors, pipeline, svm, tree
    from sklearn import preprocessing as prep
    from sklearn.model_selection import GridSearchCV
    from sklearn.naive_bayes import GaussianNB
    from sklearn.neural_network import MLPClassifier

    random = np.random.default_rng(1)
    data = random.random((120, 5))
    target = (data[:, 0] + data[:, 1] > 1).astype(int)
    frame = pd.DataFrame(data, columns=list("abcde")).assign(kind=["u", "v", "w"] * 40)
    frame.loc[3, "a"] = np.nan
    numbers = pipeline.make_pipeline(impute.SimpleImputer(), prep.StandardScaler())
    columns = compose.ColumnTransformer([("n", numbers, list("abc")), ("k", prep.OneHotEncoder(), ["kind"])])
    simple = [
        linear_model.LinearRegression(), linear_model.Ridge(), linear_model.Lasso(alpha=0.01),
        linear_model.LogisticRegression(), linear_model.SGDClassifier(random_state=0), GaussianNB(),
        tree.DecisionTreeClassifier(random_state=0), tree.DecisionTreeRegressor(random_state=0),
        ensemble.RandomForestClassifier(5, random_state=0),
        ensemble.RandomForestRegressor(5, random_state=np.random.RandomState(1)),
        ensemble.ExtraTreesClassifier(3, random_state=0), ensemble.AdaBoostClassifier(n_estimators=3, random_state=0),
        ensemble.GradientBoostingClassifier(n_estimators=4, random_state=0),
        ensemble.GradientBoostingRegressor(n_estimators=4, random_state=0),
        ensemble.HistGradientBoostingClassifier(max_iter=4, random_state=0),
        ensemble.HistGradientBoostingRegressor(max_iter=4, random_state=0),
        ensemble.IsolationForest(n_estimators=5, random_state=0), cluster.KMeans(3, random_state=0, n_init=1),
        decomposition.PCA(2), decomposition.TruncatedSVD(2, random_state=0),
        prep.StandardScaler(), prep.MinMaxScaler(), prep.OneHotEncoder(), prep.LabelEncoder(),
        prep.FunctionTransformer(np.log1p), svm.SVC(), svm.SVR(), svm.LinearSVC(random_state=0),
        neighbors.KNeighborsClassifier(), neighbors.KNeighborsRegressor(algorithm="ball_tree", metric="manhattan"),
        MLPClassifier((4,), max_iter=5, random_state=0),
    ]  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = {
            type(one).__name__: one.fit(target) if isinstance(one, prep.LabelEncoder) else one.fit(data, target)
            for one in simple
        }
        chain = pipeline.make_pipeline(columns, ensemble.RandomForestClassifier(3, random_state=0)).fit(frame, target)
        search = GridSearchCV(svm.SVC(), {"C": [1, 2]}, cv=2, scoring="roc_auc").fit(data, target)
    # How long a fit took is part of a search, and no two take equally long.
    search.refit_time_ = 0.0
    search.cv_results_ = {key: item for key, item in search.cv_results_.items() if not key.endswith("_time")}
    return {**fitted, "pipeline": chain, "search": search, "not fitted": linear_model.Ridge(alpha=2.0)}


def files() -> dict[str, object]:
    import tempfile

    folder = Path(tempfile.mkdtemp()) / "data ü"
    (folder / "sub folder").mkdir(parents=True)
    (folder / "empty").mkdir()
    (folder / "sub folder" / "a\nb").write_text("text")
    (folder / "run.sh").write_text("#!/bin/sh\n")
    (folder / "run.sh").chmod(0o700)
    (folder / "link").symlink_to("sub folder/a\nb")
    return {
        "file": File(folder / "sub folder" / "a\nb"),
        "executable": File(folder / "run.sh"),
        "folder": Folder(folder),
    }


class Pair(NamedTuple):
    table: pd.DataFrame
    notes: dict[str, object]


@dataclasses.dataclass
class Weights:
    name: str
    layers: dict[str, np.ndarray]


def containers() -> dict[str, object]:
    random = np.random.default_rng(5)
    layers = {"a": random.random(3), "b": random.random((300, 40))}
    frame = pd.DataFrame({"x": [1.5, np.nan], "t": ["a", None]})
    from sklearn import linear_model

    ridge = linear_model.Ridge().fit([[0.0], [1.0]], [0, 1])
    return {
        "dict of arrays": layers,
        "list of frames": [frame, frame.iloc[:0]],
        "tuple of arrays": (np.arange(3), np.arange(3)),
        "one array twice": (np.arange(3), np.arange(3), np.arange(3)),
        "named tuple": Pair(frame, {"rows": 2}),
        "dataclass": Weights("w", layers),
        "set of estimators": {"models": {ridge}, "scores": {("a", 1.0), ("b", 2.0)}},
        "deep": [{"k": ({"z": [pa.table({"a": [1, None]})]},)}],
        "many": [np.full(3, number) for number in range(300)],
        "files": list(files().values()),
        "moments": [pd.Timestamp(1), pd.NaT, np.datetime64("2026"), np.array(["NaT"], "M8[s]")],
    }


GROUPS = {
    "containers": containers,
    "plain": plain, "arrays": arrays, "frames": frames, "tables": tables, "estimators": estimators, "files": files,
}  # fmt: skip


def all_values() -> dict[str, object]:
    return {f"{group}: {name}": value for group, make in GROUPS.items() for name, value in make().items()}


def same(left: object, right: object) -> bool:
    """Tell whether two values are equal in type and content, with NaN equal to itself."""
    if type(left) is not type(right):
        return False
    if isinstance(left, np.ndarray):
        equal_nan = left.dtype.kind in "fc"
        laid_out = left.dtype == right.dtype and left.dtype.str == right.dtype.str and left.shape == right.shape
        if left.dtype.names:
            return laid_out and all(same(left[name], right[name]) for name in left.dtype.names)
        if left.dtype.kind in "mM":
            left, right = left.view("i8"), right.view("i8")
        return laid_out and np.array_equal(left, right, equal_nan=equal_nan)
    if isinstance(left, pd.DataFrame):
        pd.testing.assert_frame_equal(left, right)
        labels = [(type(one), one) for one in left.columns] == [(type(one), one) for one in right.columns]
        return labels and left.attrs == right.attrs and left.flags == right.flags
    if isinstance(left, pd.Series):
        pd.testing.assert_series_equal(left, right)
        return left.attrs == right.attrs
    if isinstance(left, pd.Index):
        pd.testing.assert_index_equal(left, right, exact=True)
        return getattr(left, "freq", None) == getattr(right, "freq", None)
    if isinstance(left, pa.Table | pa.RecordBatch):
        return left.equals(right, check_metadata=True)
    if hasattr(left, "get_params"):
        return _same_estimator(left, right)
    if isinstance(left, Folder):
        return _tree(left.path) == _tree(right.path)
    if isinstance(left, File):
        same_bits = left.path.stat().st_mode & 0o100 == right.path.stat().st_mode & 0o100
        return left.path.read_bytes() == right.path.read_bytes() and left.name == right.name and same_bits
    if isinstance(left, dict):
        return list(left) == list(right) and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, set):
        return same(sorted(left, key=str), sorted(right, key=str))
    if isinstance(left, Weights):
        return same(vars(left), vars(right))
    return repr(left) == repr(right) or left == right


def _same_estimator(left: object, right: object) -> bool:
    random = np.random.default_rng(2)
    data = random.random((40, getattr(left, "n_features_in_", 1)))
    if hasattr(left, "feature_names_in_"):
        data = pd.DataFrame(data[:, :5], columns=list("abcde")).assign(kind=["u", "v"] * 20)
    for method in ("predict", "transform"):
        if not hasattr(left, "n_features_in_") or not hasattr(left, method):
            continue
        try:
            wanted = getattr(left, method)(data)
        except ValueError:
            continue  # an encoder meets what it hasn't seen
        got = getattr(right, method)(data)
        wanted, got = (one.toarray() if hasattr(one, "toarray") else one for one in (wanted, got))
        if not np.array_equal(wanted, got, equal_nan=True):
            return False
    return True


def _tree(folder: Path) -> list[object]:
    found: list[object] = []
    for place in sorted(folder.rglob("*")):
        name = str(place.relative_to(folder))
        if place.is_symlink():
            found.append((name, os.readlink(place)))
        elif place.is_dir():
            found.append((name, "folder"))
        else:
            found.append((name, place.read_bytes(), bool(place.stat().st_mode & 0o100)))
    return found


def main(home: str, what: str) -> None:
    blobs = Blobs(Path(home))
    index = Path(home) / "manifests"
    mine = all_values()
    if what == "save":
        manifests = {name: store_value(value, None, blobs, path=name) for name, value in mine.items()}
        index.write_bytes(msgspec.msgpack.encode(manifests))
    else:
        manifests = msgspec.msgpack.decode(index.read_bytes(), type=dict[str, Manifest])
        loaded = {name: load_value(manifest, blobs) for name, manifest in manifests.items()}
        different = [name for name, value in loaded.items() if not same(mine[name], value)]
        assert not different, different
        again = {name: store_value(value, None, blobs, path=name) for name, value in loaded.items()}
        changed = [name for name in mine if again[name].digest != manifests[name].digest]
        assert not changed, changed
        manifests = {name: store_value(value, None, blobs, path=name) for name, value in mine.items()}
    print(json.dumps({name: manifest.digest for name, manifest in manifests.items()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
