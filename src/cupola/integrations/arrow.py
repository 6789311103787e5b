"""Tables of pyarrow as uncompressed Arrow files, mapped on load; and the canonical form that frames of pandas share.

Arrow leaves open what stands under nulls, in padding and before an offset, and how a column is cut into chunks. Before
a table is hashed each column is rebuilt as one chunk with zeros there, so that equal tables have equal bytes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow
import pyarrow.compute

from cupola.artifacts.port import Piece, PieceForm, Sink, name_of_type
from cupola.entities.artifact import Manifest
from cupola.errors import Damaged, MaterializerError

# Without types of its own as far as checkers see.
pa: Any = pyarrow
pc: Any = pyarrow.compute
_TABLE, _BATCH = b"table", b"batch"


class ArrowForm(PieceForm):
    """Tables and record batches, with the metadata of their schema. How a column was cut into chunks is not kept."""

    id = "arrow"

    def write(self, value: Any, sink: Sink, path: str) -> bytes:
        if type(value) not in (pa.Table, pa.RecordBatch):
            raise MaterializerError(
                f"{path} is a {name_of_type(value)}, which is no table",
                fix="return a `pyarrow.Table`, such as `pyarrow.table({'name': array})`",
            )
        if value.num_rows and not value.num_columns:
            raise MaterializerError(
                f"{path} is a table of {value.num_rows:,} rows without a column, of which nothing would be kept",
                fix="keep a column, or return the number of rows",
            )
        columns = [
            canonical(one_chunk(column), f"{path}, column {field.name!r},")
            for field, column in zip(value.schema, value.columns, strict=True)
        ]
        write_arrays(columns, value.schema, sink)
        return _TABLE if type(value) is pa.Table else _BATCH

    def read(self, piece: Piece, spec: bytes, as_type: Any) -> Any:
        table = read_table(piece)
        if spec == _TABLE:
            return table
        batches = table.to_batches()
        return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=table.schema)

    def metadata(self, value: Any, manifest: Manifest) -> dict[str, Any]:
        return {
            "rows": value.num_rows,
            "columns": value.num_columns,
            "dtypes": {field.name: str(field.type) for field in value.schema},
            "nulls": {field.name: column.null_count for field, column in zip(value.schema, value.columns, strict=True)},
            "size_bytes": manifest.size_bytes,
        }

    def show(self, piece: Piece, manifest: Manifest) -> str:
        table = read_table(piece)
        return f"{table.num_rows:,} rows × {table.num_columns} columns\n{table.slice(0, 10).to_string(preview_cols=20)}"


class _File:
    """What pyarrow needs to write into a sink."""

    closed = False

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._position = 0

    def write(self, data: Any) -> int:
        view = memoryview(data)
        self._position += view.nbytes
        return self._sink.write(view)

    def tell(self) -> int:
        return self._position

    def flush(self) -> None:
        """Nothing is held back here."""

    def close(self) -> None:
        self.closed = True


def write_arrays(arrays: list[Any], schema: Any, sink: Sink) -> None:
    """Write arrays of one length as an Arrow file with one record batch."""
    output = pa.PythonFile(_File(sink), mode="w")
    options = pa.ipc.IpcWriteOptions(compression=None, use_threads=False)
    with pa.ipc.new_file(output, schema, options=options) as writer:
        writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))


def read_table(piece: Piece) -> Any:
    """Return the table in an Arrow file, without reading its columns.

    Raises:
        Damaged: It isn't an Arrow file.
    """
    try:
        table = pa.ipc.open_file(pa.BufferReader(pa.py_buffer(piece.map()))).read_all()
        check_arrow(table, piece)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise Damaged(f"a stored table can't be read: {error}") from error
    return table


def check_arrow(data: Any, piece: Piece) -> None:
    """Raise `ArrowInvalid` unless lengths and buffers fit, which compiled code relies on.

    Bytes in a record are checked to the last offset; those of a blob, which its digest has proved, without being read.
    """
    data.validate(full=piece.inline is not None)


def one_chunk(column: Any) -> Any:
    """Return a column as one array."""
    if isinstance(column, pa.ChunkedArray):
        if column.num_chunks == 1:
            return column.chunk(0)
        return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    return column


def canonical(array: Any, path: str) -> Any:
    """Return an array that equals another one and has only meaningful bytes.

    Raises:
        MaterializerError: Its type can't be made canonical; the message says which column.
    """
    kind = array.type
    if isinstance(kind, pa.BaseExtensionType) or not _rebuilder_of(kind):
        raise MaterializerError(
            f"{path} has the Arrow type {kind}, which can't be kept with a stable digest",
            fix="cast it to a plain type, such as `large_string`, a number, a list or a struct",
        )
    return _rebuilder_of(kind)(array, _validity(array), path)


def _rebuilder_of(kind: Any) -> Any:
    for applies, rebuild in _REBUILDERS:
        if applies(kind):
            return rebuild
    return None


def bits(flags: Any) -> Any:
    """Return a buffer of one bit for each flag."""
    return pa.py_buffer(np.packbits(flags, bitorder="little").tobytes())


def _validity(array: Any) -> Any:
    if array.null_count == 0 or pa.types.is_null(array.type):
        return None
    return bits(pc.is_valid(array).to_numpy(zero_copy_only=False))


def _as_is(array: Any, validity: Any, path: str) -> Any:
    return array


def _numbers(array: Any, validity: Any, path: str) -> Any:
    kind = array.type
    width = kind.bit_width // 8
    raw = np.frombuffer(array.buffers()[1] or b"", np.uint8)
    content = raw[array.offset * width : (array.offset + len(array)) * width]
    if pa.types.is_floating(kind):
        content = one_nan(content.view(f"f{width}")).view(np.uint8)
    if validity is not None:
        content = content.copy()
        content.reshape(-1, width)[pc.is_null(array).to_numpy(zero_copy_only=False)] = 0
    return pa.Array.from_buffers(kind, len(array), [validity, pa.py_buffer(content)], array.null_count)


def _flags(array: Any, validity: Any, path: str) -> Any:
    filled = pc.fill_null(array, False).to_numpy(zero_copy_only=False)
    return pa.Array.from_buffers(array.type, len(array), [validity, bits(filled)], array.null_count)


def _texts(array: Any, validity: Any, path: str) -> Any:
    kind = array.type
    count = array.null_count
    if validity is not None:
        array = pc.fill_null(array, pa.scalar(b"" if "binary" in str(kind) else "", kind))
    starts = _offsets(array)
    data = array.buffers()[2]
    content = data.slice(int(starts[0]), int(starts[-1] - starts[0])) if data is not None else pa.py_buffer(b"")
    return pa.Array.from_buffers(kind, len(array), [validity, _zero_based(starts), content], count)


def _offsets(array: Any) -> Any:
    width = np.int64 if str(array.type).startswith("large_") else np.int32
    buffer = array.buffers()[1]
    if buffer is None or buffer.size == 0:
        return np.zeros(1, width)
    return np.frombuffer(buffer, width)[array.offset : array.offset + len(array) + 1]


def _zero_based(starts: Any) -> Any:
    return pa.py_buffer(np.ascontiguousarray(starts - starts[0] if starts[0] else starts))


def _lists(array: Any, validity: Any, path: str) -> Any:
    width = np.int64 if pa.types.is_large_list(array.type) else np.int32
    lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False)
    starts = np.zeros(len(array) + 1, width)
    np.cumsum(lengths, out=starts[1:])
    items = canonical(array.flatten(), path)
    buffers = [validity, pa.py_buffer(starts)]
    return pa.Array.from_buffers(array.type, len(array), buffers, array.null_count, children=[items])


def _structs(array: Any, validity: Any, path: str) -> Any:
    # Flattening hands a struct's nulls on to its fields, so that zeros stand under them too.
    children = [canonical(child, path) for child in array.flatten()]
    return pa.Array.from_buffers(array.type, len(array), [validity], array.null_count, children=children)


def _dictionaries(array: Any, validity: Any, path: str) -> Any:
    indices = canonical(array.indices, path)
    ordered = array.type.ordered
    return pa.DictionaryArray.from_arrays(indices, canonical(array.dictionary, path), ordered=ordered, safe=False)


_types = pa.types
_REBUILDERS: tuple[tuple[Any, Any], ...] = (
    (_types.is_null, _as_is),
    (_types.is_boolean, _flags),
    (_types.is_dictionary, _dictionaries),
    (_types.is_primitive, _numbers),
    (_types.is_decimal, _numbers),
    (_types.is_fixed_size_binary, _numbers),
    (_types.is_string, _texts),
    (_types.is_large_string, _texts),
    (_types.is_binary, _texts),
    (_types.is_large_binary, _texts),
    (_types.is_list, _lists),
    (_types.is_large_list, _lists),
    (_types.is_struct, _structs),
)


def one_nan(numbers: Any) -> Any:
    """Return floats in which each NaN has the same bits; the very array if that is so already."""
    canonical_bits = np.array(np.nan, numbers.dtype).view(f"u{numbers.dtype.itemsize}")
    for start in range(0, len(numbers), _STEP):
        part = numbers[start : start + _STEP]
        if not np.isnan(part.min()):
            continue
        found = part.view(canonical_bits.dtype)[np.isnan(part)]
        if (found != canonical_bits).any():
            fixed = numbers.copy()
            fixed[np.isnan(fixed)] = np.nan
            return fixed
    return numbers


_STEP = 1 << 17
ARROW = ArrowForm()
