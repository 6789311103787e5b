"""DataFrame, Series and Index of pandas as uncompressed Arrow files, mapped on load.

Values lie in the Arrow file, one column each, index last; what Arrow has no place for (labels, index, dtypes, attrs)
lies in the description. Equal frames give equal bytes; what can't be kept exactly is refused with its column's name.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas
import pyarrow

from cupola import values
from cupola.artifacts.port import Piece, PieceForm, Sink, name_of_type
from cupola.entities.artifact import Manifest
from cupola.errors import CupolaError, Damaged, MaterializerError
from cupola.integrations.arrow import check_arrow, write_arrays
from cupola.integrations.pandas_columns import (
    Mapped,
    Spec,
    codes_of,
    freq_of,
    make_column,
    make_index,
    take_codes,
    take_column,
)

# Their types are too wide to help: what is meant is said by the names here.
pd: Any = pandas
pa: Any = pyarrow
_INDEXES = (
    pd.Index, pd.RangeIndex, pd.MultiIndex, pd.DatetimeIndex, pd.TimedeltaIndex, pd.PeriodIndex, pd.IntervalIndex,
    pd.CategoricalIndex,
)  # fmt: skip
_COUNTED_CELLS = 1_000_000
_LISTED_COLUMNS = 100


class PandasForm(PieceForm):
    """Frames, series and indexes."""

    id = "pandas"

    def write(self, value: Any, sink: Sink, path: str) -> bytes:
        taken = _Taken(path)
        if type(value) is pd.DataFrame:
            spec = _take_frame(value, taken)
        elif type(value) is pd.Series:
            spec = _take_series(value, taken)
        elif type(value) in _INDEXES:
            spec = {"kind": "index", "index": _take_index(value, taken)}
        else:
            raise MaterializerError(
                f"{path} is a {name_of_type(value)}, which is no plain frame, series or index of pandas"
            )
        encoded = values.encode(spec, path=path)
        write_arrays(taken.arrays, pa.schema(taken.fields), sink)
        return encoded

    def read(self, piece: Piece, spec: bytes, as_type: Any) -> Any:
        decoded: Any = values.decode(spec)
        given = _Given(piece)
        try:
            if decoded["kind"] == "frame":
                return _make_frame(decoded, given)
            if decoded["kind"] == "series":
                return _make_series(decoded, given)
            return _make_index(decoded["index"], given)
        except CupolaError:
            raise
        except Exception as error:  # changed bytes may give the constructors of pandas anything
            raise Damaged(f"a stored frame doesn't fit its description: {type(error).__name__}: {error}") from error

    def metadata(self, value: Any, manifest: Manifest) -> dict[str, Any]:
        facts: dict[str, Any] = {"rows": len(value), "size_bytes": manifest.size_bytes}
        if isinstance(value, pd.DataFrame):
            facts["columns"] = value.shape[1]
            shown = list(value.dtypes.items())[:_LISTED_COLUMNS]
            facts["dtypes"] = {str(label): str(dtype) for label, dtype in shown}
            if value.size <= _COUNTED_CELLS:
                counts = list(value.isna().sum().items())[:_LISTED_COLUMNS]
                facts["nulls"] = {str(label): int(count) for label, count in counts}
        elif not isinstance(value, pd.MultiIndex):
            facts["dtype"] = str(value.dtype)
        return facts

    def show(self, piece: Piece, manifest: Manifest) -> str:
        value = self.read(piece, manifest.spec, None)
        if isinstance(value, pd.DataFrame):
            return f"{len(value):,} rows × {value.shape[1]} columns\n{value.head(10).to_string(max_cols=20)}"
        if isinstance(value, pd.Series):
            return f"{len(value):,} rows\n{value.head(10).to_string()}"
        return f"{len(value):,} labels\n{value[:10]!r}"


class _Taken:
    """The Arrow arrays that were taken so far, in the order in which they will be given back."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.arrays: list[Any] = []
        self.fields: list[Any] = []

    def add(self, name: str, array: Any) -> None:
        self.arrays.append(array)
        self.fields.append(pa.field(name, array.type))

    def add_column(self, label: Any, array: Any, called: str) -> Spec:
        arrow, spec = take_column(array, f"{self.path}, {called},")
        self.add(label if isinstance(label, str) else str(len(self.arrays)), arrow)
        return spec


class _Given:
    """The Arrow arrays of a file, to be taken one after the other."""

    def __init__(self, piece: Piece) -> None:
        buffer = piece.map()
        arrow = pa.py_buffer(buffer)
        try:
            batch = pa.ipc.open_file(pa.BufferReader(arrow)).get_batch(0)
            check_arrow(batch, piece)
            self._columns = iter(batch.columns)
        except (pa.ArrowException, IndexError, OSError, UnicodeDecodeError) as error:
            raise Damaged(f"a stored frame can't be read: {error}") from error
        self.mapped = Mapped(buffer, arrow)

    def column(self) -> Any:
        return next(self._columns)


def _take_frame(frame: Any, taken: _Taken) -> Spec:
    labels = list(frame.columns)
    columns = [
        taken.add_column(label, frame.iloc[:, place].array, f"column {label!r}") for place, label in enumerate(labels)
    ]
    return {
        "kind": "frame",
        "columns": columns,
        "labels": _take_labels(frame.columns, taken.path),
        "index": _take_index(frame.index, taken),
        "attrs": frame.attrs,
        "unique": not frame.flags.allows_duplicate_labels,
    }


def _make_frame(spec: Spec, given: _Given) -> Any:
    columns = [(kept["kind"], make_column(given.column(), kept, given.mapped)) for kept in spec["columns"]]
    index = _make_index(spec["index"], given)
    data = {place: _as_series(kind, array, index) for place, (kind, array) in enumerate(columns)}
    frame = pd.DataFrame(data, index=index, copy=False)
    frame.columns = _make_labels(spec["labels"])
    return _with_notes(frame, spec)


def _as_series(kind: str, array: Any, index: Any) -> Any:
    # Without a dtype pandas would guess one for objects.
    return pd.Series(array, index=index, dtype=object if kind == "object" else None, copy=False)


def _with_notes(made: Any, spec: Spec) -> Any:
    made.attrs = spec["attrs"]
    if spec["unique"]:
        made.flags.allows_duplicate_labels = False
    return made


def _take_series(series: Any, taken: _Taken) -> Spec:
    return {
        "kind": "series",
        "column": taken.add_column(series.name, series.array, f"the series {series.name!r}"),
        "name": series.name,
        "index": _take_index(series.index, taken),
        "attrs": series.attrs,
        "unique": not series.flags.allows_duplicate_labels,
    }


def _make_series(spec: Spec, given: _Given) -> Any:
    array = make_column(given.column(), spec["column"], given.mapped)
    series = _as_series(spec["column"]["kind"], array, _make_index(spec["index"], given))
    series.name = spec["name"]
    return _with_notes(series, spec)


def _take_index(index: Any, taken: _Taken) -> Spec:
    if type(index) not in _INDEXES:
        raise MaterializerError(f"{taken.path} has an index of type {name_of_type(index)}, which can't be kept")
    if isinstance(index, pd.RangeIndex):
        return {"kind": "range", "range": (index.start, index.stop, index.step), "name": index.name}
    if isinstance(index, pd.MultiIndex):
        levels = [_take_level(index, place, taken) for place in range(index.nlevels)]
        return {"kind": "multi", "levels": levels, "names": list(index.names)}
    column = taken.add_column(index.name, index.array, f"the index {index.name!r}")
    return {"kind": "plain", "column": column, "name": index.name, "freq": freq_of(index, f"the index of {taken.path}")}


def _take_level(index: Any, place: int, taken: _Taken) -> Spec:
    path = f"{taken.path}, level {place} of the index,"
    labels, codes, inner = index.levels[place], np.asarray(index.codes[place]), None
    if isinstance(labels, pd.CategoricalIndex):
        # A dictionary in a dictionary can't be read back, so the rows count the categories themselves.
        if labels.hasnans:
            raise MaterializerError(f"{path} has a label that is missing, which can't be kept exactly")
        inner = {"codes": labels.codes.tolist(), "ordered": bool(labels.ordered)}
        codes = np.append(labels.codes, -1)[codes].astype(labels.codes.dtype)
        labels = labels.categories
    arrow, spec = take_codes(codes, labels, path)
    name = index.names[place]
    taken.add(name if isinstance(name, str) else str(len(taken.arrays)), arrow)
    return {**spec, "level": inner}


def _make_index(spec: Spec, given: _Given) -> Any:
    if spec["kind"] == "range":
        return pd.RangeIndex(*spec["range"], name=spec["name"])
    if spec["kind"] == "plain":
        return make_index(given.column(), spec["column"], spec["name"], spec["freq"], given.mapped)
    levels: list[Any] = []
    codes: list[Any] = []
    for kept in spec["levels"]:
        arrow = given.column()
        labels = make_index(arrow.dictionary, kept["categories"], None, kept["freq"], given.mapped)
        counted = codes_of(arrow, given.mapped)
        if kept.get("level"):
            labels, counted = _make_categorical_level(labels, counted, kept["level"])
        levels.append(labels)
        codes.append(counted)
    return pd.MultiIndex(levels=levels, codes=codes, names=spec["names"], verify_integrity=False)


def _make_categorical_level(categories: Any, codes: Any, kept: Spec) -> tuple[Any, Any]:
    """Return a level that is categorical, and codes that count its labels instead of the categories."""
    held = np.array(kept["codes"], np.int64)
    place = np.full(len(categories) + 1, -1)
    place[held] = np.arange(len(held))
    dtype = pd.CategoricalDtype(categories, ordered=kept["ordered"])
    return pd.CategoricalIndex(pd.Categorical.from_codes(held, dtype=dtype)), place[codes]


def _take_labels(labels: Any, path: str) -> Spec:
    """Describe the labels of columns: as values where they are objects or texts, else as an index in its own file."""
    if isinstance(labels, pd.RangeIndex):
        return _take_index(labels, _Taken(path))
    text = isinstance(labels.dtype, pd.StringDtype)
    if type(labels) is pd.Index and (labels.dtype == object or text):
        blank = None
        if text:
            blank = (labels.dtype.storage, labels.dtype.na_value is pd.NA)
        return {"kind": "labels", "labels": labels.tolist(), "text": blank, "name": labels.name}
    taken = _Taken(f"the column labels of {path}")
    spec = _take_index(labels, taken)
    collected = _Collected()
    write_arrays(taken.arrays, pa.schema(taken.fields), collected)
    return {"kind": "file", "index": spec, "file": b"".join(collected.parts)}


class _Collected:
    def __init__(self) -> None:
        self.parts: list[bytes] = []

    def write(self, data: Any, /) -> int:
        self.parts.append(bytes(data))
        return len(self.parts[-1])


def _make_labels(spec: Spec) -> Any:
    if spec["kind"] == "range":
        return pd.RangeIndex(*spec["range"], name=spec["name"])
    if spec["kind"] == "file":
        return _make_index(spec["index"], _Given(Piece(spec["file"], None)))
    dtype: Any = object
    if spec["text"]:
        storage, is_na = spec["text"]
        dtype = pd.StringDtype(storage, na_value=pd.NA if is_na else float("nan"))
    return pd.Index(spec["labels"], dtype=dtype, name=spec["name"], tupleize_cols=False)


PANDAS = PandasForm()
