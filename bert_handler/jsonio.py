"""JSON in and out: orjson where it is installed, the standard library in a bare TorchServe image.

Both take the same texts (UTF-8 without a byte order mark, no NaN, no lone surrogates, up to MAX_DEPTH
levels; integers beyond 64 bits are read as floats) and write the same bytes: compact, UTF-8, NumPy
values as numbers, NaN and infinities as null.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from json.encoder import encode_basestring
from pathlib import Path
from typing import Any, TypeVar, Union

import numpy as np

from bert_handler.errors import ConfigError

try:
    import orjson
except ImportError:  # the self-contained archive runs with torch, transformers and TorchServe alone
    orjson = None  # type: ignore[assignment, unused-ignore]

MAX_DEPTH = 100
"""Lists and objects within each other: far more than any request has, far less than a stack holds."""


Content = TypeVar("Content", dict[str, Any], list[Any])


class DepthError(ValueError):
    """Too many lists and objects are within each other; the message repeats nothing of the text."""

    def __init__(self) -> None:
        super().__init__(f"more than {MAX_DEPTH} lists or objects are within each other")


def loads(text: bytes | bytearray | str) -> Any:
    """Parse JSON; ValueError says where it breaks."""
    if orjson is not None:
        value = orjson.loads(text)
    else:
        value = _parse(text if isinstance(text, str) else text.decode("utf-8"))
    if _n_brackets(text) > MAX_DEPTH:
        _check_depth(value)
    return value


def read_file(path: Path, kind: type[Content], form: str = "") -> Content:
    """The content of a model's file, an empty one where there is no file; ConfigError where it is not of that kind.

    form: what the file must be, for the message.
    """
    if not path.is_file():
        return kind()
    try:
        content = loads(path.read_bytes())
    except ValueError as exc:
        raise ConfigError(f"{path.name} is not JSON: {exc}") from exc
    if not isinstance(content, kind):
        raise ConfigError(f"{path.name} must be {form or ('a JSON object' if kind is dict else 'a JSON list')}")
    return content


def dumps(value: Any) -> bytes:
    """Serialize to compact UTF-8 JSON; NumPy arrays and scalars are written as numbers."""
    if orjson is not None:
        return orjson.dumps(value, default=_plain, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS)
    return _text(value).encode("utf-8")


def _n_brackets(text: bytes | bytearray | str) -> int:
    if isinstance(text, str):
        return text.count("[") + text.count("{")
    return text.count(b"[") + text.count(b"{")


def _check_depth(value: Any) -> None:
    level, depth = [value], 0
    while level:
        if depth >= MAX_DEPTH:
            raise DepthError
        level = [item for parent in level for item in _children(parent) if isinstance(item, (list, dict))]
        depth += 1


def _children(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def _plain(value: Any) -> Any:
    # orjson takes C-contiguous native arrays only; anything else arrives here.
    if isinstance(value, np.ndarray):
        return np.ascontiguousarray(value) if value.dtype != np.float16 else value.astype(np.float32)
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} is not JSON")


# ---- the same without orjson ----------------------------------------------------------------


def _parse(text: str) -> Any:
    text.encode("utf-8")
    try:
        value = json.loads(text, parse_constant=_refuse_constant, parse_float=_float, parse_int=_int)
    except RecursionError as exc:
        raise DepthError from exc
    if "\\ud" in text or "\\uD" in text:
        # A pair of surrogates has become one character; a lone one cannot be encoded.
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    return value


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _float(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError("a number is out of range")
    return number


def _int(text: str) -> Union[int, float]:
    # Shorter than the bounds of 64 bits, or compared with them.
    if len(text) > 20:
        return _float(text)
    number = int(text)
    return number if -(2**63) <= number < 2**64 else float(number)


def _text(value: Any) -> str:
    if isinstance(value, str):
        return encode_basestring(value)
    if value is None or isinstance(value, (bool, np.bool_)):
        return "null" if value is None else "true" if value else "false"
    if isinstance(value, (int, np.integer)):
        return str(int(value))
    if isinstance(value, np.float16):
        value = np.float32(value)
    if isinstance(value, (float, np.floating)):
        return _number(value)
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{_key(key)}:{_text(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple, np.ndarray)):
        return "[" + ",".join(map(_text, value)) + "]"
    raise TypeError(f"{type(value).__name__} is not JSON")


def _key(key: Any) -> str:
    return encode_basestring(key if isinstance(key, str) else _text(key))


def _number(value: Any) -> str:
    """The shortest digits that give the value back, spelled as orjson spells them."""
    if not math.isfinite(value):
        return "null"
    # str() of a float32 is its shortest form, which is what orjson writes; repr() names the type.
    low, high = (1e-6, 1e13) if isinstance(value, np.float32) else (1e-5, 1e16)
    if low <= abs(value) < high:
        return np.format_float_positional(value, unique=True, trim="0")
    digits, mark, exponent = str(value).partition("e")
    return f"{digits}e{_exponent(exponent)}" if mark else digits


def _exponent(text: str) -> str:
    return f"-{text[1:].lstrip('0')}" if text.startswith("-") else text
