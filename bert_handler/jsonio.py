"""JSON in and out: orjson where it is installed, the standard library in a bare TorchServe image.

Both write the same bytes: compact, UTF-8, NumPy values as numbers, NaN and infinities as null.
"""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np

try:
    import orjson
except ImportError:  # the self-contained archive runs with torch, transformers and TorchServe alone
    orjson = None  # type: ignore[assignment, unused-ignore]


def loads(text: bytes | bytearray | str) -> Any:
    """Parse JSON; ValueError says where it breaks."""
    if orjson is not None:
        return orjson.loads(text)
    return json.loads(text, parse_constant=_refuse_constant)


def dumps(value: Any) -> bytes:
    """Serialize to compact UTF-8 JSON; NumPy arrays and scalars are written as numbers."""
    if orjson is not None:
        return orjson.dumps(value, default=_plain, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS)
    text = json.dumps(_finite(value), separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8")


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _plain(value: Any) -> Any:
    # orjson takes C-contiguous native arrays only; anything else arrives here.
    if isinstance(value, np.ndarray):
        return np.ascontiguousarray(value) if value.dtype != np.float16 else value.astype(np.float32)
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} is not JSON")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, np.ndarray):
        return [_finite(item) for item in value]
    if isinstance(value, (float, np.floating)):
        # str() of a float32 is its shortest form, which is what orjson writes.
        return float(str(value)) if math.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value
