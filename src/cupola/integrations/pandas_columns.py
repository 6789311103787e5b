"""One column of pandas as one Arrow array and a description, and back: for each kind of dtype how it is kept exactly.

Missing dates and category codes keep pandas' own mark under Arrow's null, so that any reader of the file sees a null
and pandas maps the column without a copy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas
import pyarrow
import pyarrow.compute

from cupola.errors import MaterializerError
from cupola.integrations.arrow import bits, canonical, one_chunk, one_nan

pd: Any = pandas
pa: Any = pyarrow
pc: Any = pyarrow.compute
Spec = dict[str, Any]
Column = tuple[Any, Spec]


class Mapped:
    """A buffer that Arrow arrays lie in, to get at their bytes as arrays that may be written to.

    Args:
        buffer: The private, writable bytes of the whole file.
        arrow: The same as Arrow sees them.
    """

    def __init__(self, buffer: Any, arrow: Any) -> None:
        self._buffer = buffer
        self._address = arrow.address

    def array(self, array: Any, dtype: Any) -> Any:
        """Return the values of an Arrow array of fixed width as a writable numpy array over the same bytes."""
        content = array.buffers()[1]
        if len(array) == 0 or content is None:
            return np.empty(0, dtype)
        start = content.address - self._address + array.offset * np.dtype(dtype).itemsize
        return np.ndarray((len(array),), dtype, buffer=self._buffer, offset=start)


def take_column(array: Any, path: str) -> Column:
    """Return a column as an Arrow array and what is needed to make it again.

    Raises:
        MaterializerError: It can't be kept exactly; the message names it.
    """
    dtype = array.dtype
    if isinstance(dtype, np.dtype) or type(array) is pd.arrays.NumpyExtensionArray:
        return _take_numpy(np.asarray(array), path)
    for name, kind, take, _ in _KINDS:
        if isinstance(dtype, kind):
            arrow, spec = take(array, path)
            return arrow, {"kind": name, **spec}
    raise _refused(path, f"has dtype {dtype}")


def make_column(arrow: Any, spec: Spec, mapped: Mapped) -> Any:
    """Return the array for pandas that `take_column` was given; writing to it changes private memory only."""
    if spec["kind"] == "numpy":
        return _make_numpy(arrow, spec, mapped)
    if spec["kind"] == "object":
        return _make_object(arrow, spec, mapped)
    make = next(make for name, _, _, make in _KINDS if name == spec["kind"])
    return make(arrow, spec, mapped)


def _refused(path: str, why: str) -> MaterializerError:
    return MaterializerError(f"{path} {why}, which can't be kept exactly", fix=_HINT)


_HINT = "convert it, such as with `.astype(str)` or to columns of plain types, or return it as a value of its own"


def _take_numpy(values: Any, path: str) -> Column:
    dtype = values.dtype
    if dtype.kind == "O":
        return _take_object(values, path)
    if dtype.kind not in "biufmM" or dtype.char in "gG":
        raise _refused(path, f"has dtype {dtype}")
    spec = {"kind": "numpy", "dtype": dtype.str}
    values = np.ascontiguousarray(values.astype(dtype.newbyteorder("="), copy=False))
    if dtype.kind == "b":
        return pa.Array.from_buffers(pa.bool_(), len(values), [None, bits(values)]), spec
    if dtype.kind in "mM":
        return _take_moments(values, None), spec
    if dtype.kind == "f":
        values = one_nan(values)
    kind = pa.from_numpy_dtype(values.dtype)
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(values)]), spec


def _take_moments(values: Any, zone: str | None) -> Any:
    unit = np.datetime_data(values.dtype)[0]
    kind = pa.duration(unit) if values.dtype.kind == "m" else pa.timestamp(unit, zone)
    numbers = values.view(np.int64)
    return _with_nulls(kind, numbers, numbers == np.iinfo(np.int64).min)


def _with_nulls(kind: Any, values: Any, missing: Any) -> Any:
    count = int(np.count_nonzero(missing))
    validity = bits(~missing) if count else None
    return pa.Array.from_buffers(kind, len(values), [validity, pa.py_buffer(np.ascontiguousarray(values))], count)


def _make_numpy(arrow: Any, spec: Spec, mapped: Mapped) -> Any:
    dtype = np.dtype(spec["dtype"])
    if dtype.kind == "b":
        return np.array(arrow.to_numpy(zero_copy_only=False))
    return mapped.array(arrow, dtype.newbyteorder("=")).astype(dtype, copy=False)


def _take_object(values: Any, path: str) -> Column:
    found = set(map(type, values))
    texts = found & {str, bytes}
    blanks = found - texts
    if len(texts) > 1 or len(blanks) > 1 or not blanks <= {type(None), float}:
        names = ", ".join(sorted(kind.__name__ for kind in found))
        raise _refused(path, f"is a column of objects with {names} in it")
    missing = np.array([type(value) not in (str, bytes) for value in values], bool)
    if float in blanks and not all(value != value for value in values[missing]):
        raise _refused(path, "is a column of objects with numbers in it")
    kind = pa.large_binary() if bytes in texts else pa.large_string()
    try:
        arrow = pa.array(values, kind, mask=missing)
    except (pa.ArrowInvalid, UnicodeError) as error:
        raise _refused(path, f"has a text that is no Unicode ({error})") from error
    return canonical(one_chunk(arrow), path), {"kind": "object", "nan": float in blanks}


def _make_object(arrow: Any, spec: Spec, mapped: Mapped) -> Any:
    values = np.empty(len(arrow), object)
    values[:] = arrow.to_pylist()
    if spec["nan"]:
        values[pc.is_null(arrow).to_numpy(zero_copy_only=False)] = np.nan
    return values


def _take_text(array: Any, path: str) -> Column:
    try:
        arrow = one_chunk(pa.array(array, from_pandas=True)).cast(pa.large_string())
    except (pa.ArrowInvalid, UnicodeError) as error:
        raise _refused(path, f"has a text that is no Unicode ({error})") from error
    blank = "NA" if array.dtype.na_value is pd.NA else "nan"
    return canonical(arrow, path), {"storage": array.dtype.storage, "blank": blank}


def _make_text(arrow: Any, spec: Spec, mapped: Mapped) -> Any:
    blank = pd.NA if spec["blank"] == "NA" else np.nan
    return pd.StringDtype(spec["storage"], na_value=blank).__from_arrow__(pa.chunked_array([arrow]))


def _take_category(array: Any, path: str) -> Column:
    ordered = bool(array.ordered)
    arrow, spec = take_codes(np.asarray(array.codes), array.categories, f"the categories of {path}", ordered=ordered)
    return arrow, {"ordered": ordered, **spec}


def take_codes(codes: Any, labels: Any, path: str, *, ordered: bool = False) -> Column:
    """Return codes, -1 where there is none, and the index that they count as a dictionary array."""
    dictionary, inner = take_column(labels.array, path)
    indices = _with_nulls(pa.from_numpy_dtype(codes.dtype), codes, codes == -1)
    arrow = pa.DictionaryArray.from_arrays(indices, dictionary, ordered=ordered, safe=False)
    return arrow, {"categories": inner, "freq": freq_of(labels, path)}


def _make_category(arrow: Any, spec: Spec, mapped: Mapped) -> Any:
    categories = make_index(arrow.dictionary, spec["categories"], None, spec["freq"], mapped)
    codes = codes_of(arrow, mapped)
    dtype = pd.CategoricalDtype(categories, ordered=spec["ordered"])
    return pd.Categorical.from_codes(codes, dtype=dtype, validate=False)


def codes_of(arrow: Any, mapped: Mapped) -> Any:
    """Return the indices of a dictionary array as pandas counts them: -1 where there is none."""
    codes = mapped.array(arrow.indices, arrow.indices.type.to_pandas_dtype())
    missing = pc.is_null(arrow.indices).to_numpy(zero_copy_only=False)
    codes[missing] = -1
    return codes


def _take_masked(array: Any, path: str) -> Column:
    return canonical(one_chunk(pa.array(array)), path), {"dtype": array.dtype.name}


def _make_masked(arrow: Any, spec: Spec, mapped: Mapped) -> Any:
    return pd.api.types.pandas_dtype(spec["dtype"]).__from_arrow__(arrow)


def _take_zoned(array: Any, path: str) -> Column:
    values = array.tz_convert("UTC").tz_localize(None).to_numpy()
    return _take_moments(np.ascontiguousarray(values), str(array.tz)), {"unit": array.unit, "zone": array.tz}


def _make_zoned(arrow: Any, spec: Spec, mapped: Mapped) -> Any:
    values = mapped.array(arrow, f"M8[{spec['unit']}]")
    return pd.DatetimeIndex(values).tz_localize("UTC").tz_convert(spec["zone"]).array


def _take_period(array: Any, path: str) -> Column:
    numbers = np.asarray(array.asi8)
    return _with_nulls(pa.int64(), numbers, numbers == np.iinfo(np.int64).min), {"freq": array.freqstr}


def _make_period(arrow: Any, spec: Spec, mapped: Mapped) -> Any:
    return pd.arrays.PeriodArray(mapped.array(arrow, np.int64), dtype=pd.PeriodDtype(spec["freq"]))


def _take_interval(array: Any, path: str) -> Column:
    left, left_spec = take_column(array.left.array, f"the left side of {path}")
    right, right_spec = take_column(array.right.array, f"the right side of {path}")
    arrow = pa.StructArray.from_arrays([left, right], names=["left", "right"])
    return arrow, {"closed": array.closed, "left": left_spec, "right": right_spec}


def _make_interval(arrow: Any, spec: Spec, mapped: Mapped) -> Any:
    sides = [make_index(arrow.field(side), spec[side], None, None, mapped) for side in ("left", "right")]
    return pd.arrays.IntervalArray.from_arrays(*sides, closed=spec["closed"])


def _take_arrow(array: Any, path: str) -> Column:
    return canonical(one_chunk(pa.chunked_array(array.__arrow_array__())), path), {}


def _make_arrow(arrow: Any, spec: Spec, mapped: Mapped) -> Any:
    return pd.arrays.ArrowExtensionArray(pa.chunked_array([arrow]))


_Take = Callable[[Any, str], Column]
_Make = Callable[[Any, Spec, Mapped], Any]
_MASKED = tuple(
    getattr(pd, name)
    for name in ("Int8Dtype", "Int16Dtype", "Int32Dtype", "Int64Dtype", "UInt8Dtype", "UInt16Dtype", "UInt32Dtype",
                 "UInt64Dtype", "Float32Dtype", "Float64Dtype", "BooleanDtype")
)  # fmt: skip
_KINDS: tuple[tuple[str, Any, _Take, _Make], ...] = (
    ("text", pd.StringDtype, _take_text, _make_text),
    ("category", pd.CategoricalDtype, _take_category, _make_category),
    ("masked", _MASKED, _take_masked, _make_masked),
    ("zoned", pd.DatetimeTZDtype, _take_zoned, _make_zoned),
    ("period", pd.PeriodDtype, _take_period, _make_period),
    ("interval", pd.IntervalDtype, _take_interval, _make_interval),
    ("arrow", pd.ArrowDtype, _take_arrow, _make_arrow),
)


def freq_of(index: Any, path: str) -> str | None:
    """Return the step of a regular index of dates, which is part of it.

    Raises:
        MaterializerError: The step has more to it than its name, such as holidays.
    """
    freq = getattr(index, "freq", None)
    if freq is None or isinstance(index, pd.PeriodIndex):
        return None
    name: str = freq.freqstr
    if pd.tseries.frequencies.to_offset(name) != freq:
        raise MaterializerError(
            f"{path} has the step {freq!r}, which can't be kept exactly",
            fix="take the step away with `index.freq = None`, which leaves the dates as they are",
        )
    return name


def make_index(arrow: Any, spec: Spec, name: Any, freq: str | None, mapped: Mapped) -> Any:
    """Return an index of one level from its Arrow array."""
    values = make_column(arrow, spec, mapped)
    # Without a dtype pandas would guess one for objects.
    index = pd.Index(values, dtype=object if spec["kind"] == "object" else None, copy=False)
    index.name = name
    if freq is not None:
        index.freq = freq
    return index
