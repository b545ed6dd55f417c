"""Predictions as tensors: typed where they are rectangular, JSON documents where they are not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from bert_handler import jsonio
from bert_handler.protocols.base import error_document
from bert_handler.protocols.tensors import DTYPES
from bert_handler.schema import Failure, OutputSpec, Prediction, Response


class OutputTensor(NamedTuple):
    """One output of a response: `data` is flat, a list of strings for BYTES, else an array."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: Any


def output_tensors(response: Response, specs: Mapping[str, OutputSpec]) -> list[OutputTensor]:
    """The requested outputs of every instance, stacked; a scalar request has no batch dimension.

    In the place of a failed instance stands an error document (BYTES) or NaN.
    """
    return [_stack(response, specs[name]) for name in response.outputs]


def _stack(response: Response, spec: OutputSpec) -> OutputTensor:
    values = [item[spec.name] if isinstance(item, Prediction) else item for item in response.predictions]
    good = [value for value in values if not isinstance(value, Failure)]
    if spec.datatype != "BYTES" and not any(isinstance(value, (list, dict)) for value in good):
        tensor = _stack_numbers(values, good, spec)
        if tensor is not None:
            return _unbatched(tensor, response.request.scalar)
    return _unbatched(_stack_bytes(values, good, spec), response.request.scalar)


def _stack_numbers(values: Sequence[Any], good: Sequence[Any], spec: OutputSpec) -> OutputTensor | None:
    dtype = DTYPES[spec.datatype]
    arrays = [np.asarray(value, dtype=dtype) for value in good]
    shapes = {array.shape for array in arrays}
    if len(shapes) > 1:
        return None
    shape = shapes.pop() if shapes else tuple(max(size, 0) for size in spec.shape)
    blank = np.full(shape, np.nan if dtype.kind == "f" else 0, dtype=dtype)
    rows = [blank if isinstance(value, Failure) else np.asarray(value, dtype=dtype) for value in values]
    data = np.stack(rows) if rows else np.empty((0, *shape), dtype=dtype)
    return OutputTensor(spec.name, spec.datatype, data.shape, data.ravel())


def _stack_bytes(values: Sequence[Any], good: Sequence[Any], spec: OutputSpec) -> OutputTensor:
    widths = {len(value) if isinstance(value, tuple) else None for value in good}
    width = widths.pop() if len(widths) == 1 else None
    data: list[str] = []
    for value in values:
        if isinstance(value, Failure):
            data += [jsonio.dumps(error_document(value)).decode()] * (width or 1)
        elif width is not None:
            data += value
        else:
            data.append(value if isinstance(value, str) else jsonio.dumps(value).decode())
    shape = (len(values),) if width is None else (len(values), width)
    return OutputTensor(spec.name, "BYTES", shape, data)


def _unbatched(tensor: OutputTensor, scalar: bool) -> OutputTensor:
    return OutputTensor(tensor.name, tensor.datatype, tensor.shape[1:], tensor.data) if scalar else tensor
