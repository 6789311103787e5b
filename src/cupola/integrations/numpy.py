"""Arrays of numpy: their bytes as a blob that is mapped on load, dtype, shape and order beside them.

Loading never unpickles. An array comes back as a plain `ndarray` over private pages: writing to it changes nothing
stored.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import numpy.lib.format as npy

from cupola import values
from cupola.artifacts.port import Piece, PieceForm, Sink, name_of_type
from cupola.entities.artifact import Manifest
from cupola.errors import Damaged, MaterializerError

PART_BYTES = 1 << 21
"""Arrays are checked, hashed and written in parts of this size, while a part is in the processor's cache."""

Array = np.ndarray[Any, Any]
DType = np.dtype[Any]


class ArrayForm(PieceForm):
    """Arrays of numbers, texts, bytes, dates and structures of them."""

    id = "numpy"

    def write(self, value: Any, sink: Sink, path: str) -> bytes:
        check_array(value, path)
        for part in canonical_parts(value):
            sink.write(part)
        return array_spec(value)

    def read(self, piece: Piece, spec: bytes, as_type: Any) -> Array:
        return array_from(piece.map(), spec)

    def metadata(self, value: Array, manifest: Manifest) -> dict[str, Any]:
        return {"shape": list(value.shape), "dtype": str(value.dtype), "size_bytes": manifest.size_bytes}

    def show(self, piece: Piece, manifest: Manifest) -> str:
        array = self.read(piece, manifest.spec, None)
        with np.printoptions(threshold=100, edgeitems=3):
            return f"{array.dtype} array of shape {array.shape}\n{array}"


def check_array(value: Any, path: str) -> None:
    """Raise `MaterializerError` unless an array can be kept exactly."""
    if type(value) is not np.ndarray:
        hint = "return `numpy.asarray(x)`, or its parts" if hasattr(value, "__array__") else ""
        raise MaterializerError(f"{path} is a {name_of_type(value)}, which is no plain numpy array", fix=hint)
    dtype: DType = value.dtype
    if dtype.hasobject:
        raise MaterializerError(
            f"{path} is an array of objects (dtype {dtype}), which can't be kept exactly",
            fix='give it a dtype of its own, such as `array.astype("U")` for texts, or return a list',
        )
    if not _is_kept(dtype):
        raise MaterializerError(
            f"{path} is an array of dtype {dtype}, which can't be kept exactly",
            fix="convert it to a dtype of numpy's own, such as `array.astype(numpy.float32)`",
        )


def _is_kept(dtype: DType) -> bool:
    if dtype.subdtype is not None:
        return _is_kept(dtype.subdtype[0])
    if dtype.names is not None:
        try:
            same = npy.descr_to_dtype(npy.dtype_to_descr(dtype)) == dtype
        except ValueError:  # fields that overlap or are out of order
            return False
        return same and all(_is_kept(dtype[name]) for name in dtype.names)
    # Extension types such as bfloat16 hide behind kinds of numpy; long doubles have bytes without meaning.
    return dtype.kind in "biufcmMUSV" and dtype.char not in "gG" and dtype.type.__module__ == "numpy"


def array_spec(value: Array) -> bytes:
    """Return dtype, shape and order of an array, encoded."""
    return values.encode((npy.dtype_to_descr(value.dtype), value.shape, _is_fortran(value)))


def _is_fortran(value: Array) -> bool:
    return value.flags.f_contiguous and not value.flags.c_contiguous


def array_from(buffer: Any, spec: bytes) -> Array:
    """Return the array over a buffer that `canonical_parts` wrote, without a copy.

    Raises:
        Damaged: Description and bytes don't fit.
    """
    try:
        described, shape, fortran = cast_spec(values.decode(spec))
        dtype = npy.descr_to_dtype(described)
        if dtype.hasobject or min(shape, default=0) < 0:
            raise ValueError("an array of objects, or of a negative length")
        if dtype.itemsize == 0 or math.prod(shape) == 0:
            return np.zeros(shape, dtype, order="F" if fortran else "C")
        return np.ndarray(shape, dtype, buffer=buffer, order="F" if fortran else "C")
    except (SyntaxError, TypeError, ValueError) as error:  # numpy reads some descriptions as Python's literals
        raise Damaged(f"a stored array doesn't fit its description: {error}") from error


def cast_spec(spec: Any) -> tuple[Any, tuple[int, ...], bool]:
    """Return the parts of a decoded description."""
    described, shape, fortran = spec
    return described, shape, fortran


def canonical_parts(value: Array) -> Iterator[memoryview]:
    """Yield the bytes of an array in its own order, in parts, with one bit pattern for NaN and zeros for padding."""
    laid_out = value.T if _is_fortran(value) else value
    if value.dtype.itemsize == 0:
        return
    if laid_out.flags.c_contiguous:
        flat = laid_out.reshape(-1)
        step = max(PART_BYTES // value.dtype.itemsize, 1)
        pieces = (flat[start : start + step] for start in range(0, flat.size, step))
    else:
        # A view with gaps is copied a few rows at a time, not as a whole.
        step = max(PART_BYTES // max(laid_out[:1].nbytes, 1), 1)
        pieces = (
            np.ascontiguousarray(laid_out[start : start + step]).reshape(-1)
            for start in range(0, laid_out.shape[0], step)
        )
    for piece in pieces:
        yield memoryview(cast(Any, _canonical(piece).view(np.uint8)))


def _canonical(part: Array) -> Array:
    dtype: DType = part.dtype
    if dtype.names is not None or dtype.subdtype is not None:
        clean = np.zeros(part.shape, dtype)
        for name in dtype.names or ():
            clean[name] = _canonical_field(part[name])
        return clean
    if dtype.kind not in "fc":
        return part
    numbers = part.view(part.real.dtype) if dtype.kind == "c" else part
    # The smallest of numbers with a NaN is NaN: one pass, and no second array unless there is one.
    if not numbers.size or not np.isnan(numbers.min()):
        return part
    numbers = numbers.copy()
    numbers[np.isnan(numbers)] = np.nan
    return numbers.view(dtype)


def _canonical_field(field: Array) -> Array:
    return _canonical(np.ascontiguousarray(field).reshape(-1)).reshape(field.shape)


ARRAY = ArrayForm()
