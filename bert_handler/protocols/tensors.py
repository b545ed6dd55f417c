"""V2 tensors: datatypes, shapes and data, checked against each other."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import chain, dropwhile
from math import prod
from typing import Any, NamedTuple, Union

import numpy as np
from numpy.typing import NDArray

from bert_handler.errors import InvalidRequestError
from bert_handler.parameters import describe, unknown

DTYPES = {
    "BOOL": np.dtype("?"),
    "UINT8": np.dtype("<u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("<i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}
INTEGERS = frozenset(name for name, dtype in DTYPES.items() if dtype.kind in "iu")
DATATYPES = (*DTYPES, "BYTES")

MAX_DIMENSIONS = 32

_PLAIN_TYPES: dict[str, set[type]] = {"b": {bool}, "i": {int}, "u": {int}, "f": {int, float}}
"""Types of parsed JSON that a NumPy kind takes: a boolean is no number, 1.0 no integer."""

Elements = list[Union[str, bytes]]


class Tensor(NamedTuple):
    """One input tensor, its data flat.

    shape: as declared, () for a scalar, None where the client left it open (-1).
    data: elements of BYTES as they came, or a flat NumPy array.
    bare: BYTES data came as one string instead of a list.
    """

    name: str
    datatype: str
    shape: tuple[int, ...] | None
    data: Elements | NDArray[Any]
    bare: bool = False

    @property
    def scalar(self) -> bool:
        """Whether it is one element outside of any list."""
        return self.bare or self.shape == ()

    @property
    def n_rows(self) -> int:
        """Rows of numbers, as the shape says."""
        return self.shape[0] if self.shape and len(self.shape) > 1 else 1

    def rows(self) -> NDArray[Any]:
        """Numbers as rows: (n, length), or (1, length) of a single flat row."""
        data = np.asarray(self.data)
        # Of no rows, the length may be more than NumPy takes.
        return data.reshape(self.n_rows, data.size // self.n_rows if self.n_rows else 0)


def check_datatype(value: Any, field: str) -> str:
    """The datatype of a tensor; InvalidRequestError names the nearest known one."""
    if not isinstance(value, str):
        raise InvalidRequestError(f"{field}.datatype must be one of {', '.join(DATATYPES)}")
    if value not in DATATYPES:
        raise InvalidRequestError(f"{field}.datatype: {unknown(value, DATATYPES, 'datatype')}")
    return value


def check_shape(value: Any, field: str) -> tuple[int, ...] | None:
    """A shape as clients send it: a list, an integer, or -1 where it is left open."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = None if value == -1 else [value]
    if value is None:
        return None
    if not isinstance(value, (list, tuple)):
        raise InvalidRequestError(f"{field}.shape must be a list of integers, not {describe(value)}")
    if len(value) > MAX_DIMENSIONS:
        raise InvalidRequestError(f"{field}.shape has {len(value)} dimensions; at most {MAX_DIMENSIONS} are taken")
    for size in value:
        if not isinstance(size, int) or isinstance(size, bool):
            raise InvalidRequestError(f"{field}.shape must hold integers, not {describe(size)}")
    if min(value, default=0) < -1 or value.count(-1) > 1:
        raise InvalidRequestError(f"{field}.shape {list(value)} must hold sizes from 0, and -1 at most once")
    return tuple(value)


def fit_shape(shape: tuple[int, ...] | None, nesting: tuple[int, ...], field: str) -> tuple[int, ...] | None:
    """Fill a -1 and compare the shape with the data; InvalidRequestError on a lie.

    nesting: sizes of the lists that the data came in.  Nested lists are the shape where it is left open, and
    are held against it where it is not, but for lists of one around them all; a flat one may be of any shape.
    """
    nested = len(nesting) > 1
    if shape is None or (nested and shape == (-1,)):
        return nesting if nested else None
    count = prod(nesting)
    if -1 in shape:
        known = prod(size for size in shape if size != -1)
        if known and count % known == 0:
            shape = tuple(count // known if size == -1 else size for size in shape)
    if prod(shape) != count or -1 in shape:
        raise InvalidRequestError(f"{field}.shape {list(shape)} does not fit its data of {count} elements")
    if nested and _within_ones(shape) != _within_ones(nesting):
        raise InvalidRequestError(f"{field}.shape {list(shape)} does not fit its data, nested as {list(nesting)}")
    return shape


def _within_ones(sizes: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(dropwhile(lambda size: size == 1, sizes))


def from_json(datatype: str, data: Any, field: str) -> tuple[Elements | NDArray[Any], tuple[int, ...]]:
    """Flatten JSON data; also the sizes of the lists that it came in, () of one bare string."""
    if datatype == "BYTES":
        if isinstance(data, (str, bytes)):
            return [data], ()
        if not isinstance(data, (list, tuple)):
            raise InvalidRequestError(f"{field}.data must be a list of strings, not {describe(data)}")
        return _flatten(data, {str, bytes}, "strings", field)
    if not isinstance(data, (list, tuple)):
        raise InvalidRequestError(f"{field}.data must be a list, not {describe(data)}")
    dtype = DTYPES[datatype]
    flat, nesting = _flatten(data, _PLAIN_TYPES[dtype.kind], f"{datatype} values", field)
    if dtype.kind in "iu" and flat:
        bounds: Any = np.iinfo(dtype.name)
        if min(flat) < bounds.min or max(flat) > bounds.max:
            raise InvalidRequestError(f"{field}.data has a value that is no {datatype}")
    with np.errstate(over="ignore"):
        return np.array(flat, dtype=dtype), nesting


def from_bytes(datatype: str, raw: bytes, field: str) -> Elements | NDArray[Any]:
    """Decode a binary tensor: little-endian values, or elements behind their 4-byte length."""
    if datatype == "BYTES":
        return _split(raw, field)
    dtype = DTYPES[datatype]
    if len(raw) % dtype.itemsize:
        raise InvalidRequestError(f"{field} has {len(raw)} bytes, not a multiple of {dtype.itemsize} ({datatype})")
    return np.frombuffer(raw, dtype=dtype)


def to_bytes(datatype: str, values: Any) -> bytes:
    """Encode an output as a binary tensor: the inverse of `from_bytes`."""
    if datatype == "BYTES":
        return b"".join(struct.pack("<I", len(item)) + item for item in (_utf8(value) for value in values))
    return np.ascontiguousarray(values, dtype=DTYPES[datatype]).tobytes()


def _split(raw: bytes, field: str) -> Elements:
    elements: Elements = []
    view, start = memoryview(raw), 0
    while start < len(view):
        if start + 4 > len(view):
            raise InvalidRequestError(f"{field} ends inside the length of element {len(elements)}")
        (length,) = struct.unpack_from("<I", view, start)
        start += 4
        if start + length > len(view):
            raise InvalidRequestError(f"{field} ends inside element {len(elements)}")
        elements.append(bytes(view[start : start + length]))
        start += length
    return elements


def _flatten(data: Sequence[Any], wanted: set[type], what: str, field: str) -> tuple[list[Any], tuple[int, ...]]:
    """The leaves of lists of like depth and length, and the lengths.

    Never through NumPy's own guess: one long string among numbers would make it allocate for all.
    """
    level: list[Sequence[Any]] = [data]
    nesting: tuple[int, ...] = ()
    for _ in range(MAX_DIMENSIONS):
        items = list(chain.from_iterable(level))
        nesting = (*nesting, len(level[0]))
        found = set(map(type, items))
        if found <= wanted:
            return items, nesting
        if not found & {list, tuple}:
            other = next(item for item in items if type(item) not in wanted)
            raise InvalidRequestError(f"{field}.data must hold {what}, not {describe(other)}")
        if not found <= {list, tuple}:
            raise InvalidRequestError(f"{field}.data is nested unevenly")
        level = items
        if len(set(map(len, level))) > 1:
            raise InvalidRequestError(f"{field}.data is nested unevenly")
    raise InvalidRequestError(f"{field}.data has more than {MAX_DIMENSIONS} dimensions")


def _utf8(value: str | bytes) -> bytes:
    return value.encode("utf-8") if isinstance(value, str) else value
