"""Values of rows where a format has fewer types than they came with."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from datetime import date, time, timedelta
from typing import Any

import numpy as np

from bert_handler import jsonio


def document(value: Any) -> bytes:
    """JSON of a value of any column."""
    try:
        return jsonio.dumps(value)
    except TypeError:
        return jsonio.dumps(_plain(value))


def cell(value: Any) -> str | float | int | None:
    """A value of a CSV file: text and numbers as they are, dates and the like as text, all else as JSON."""
    value = _plain(value)
    return value if value is None or isinstance(value, (str, float, int)) else jsonio.dumps(value).decode()


def text(value: Any) -> str | None:
    """A value of a column of texts: what is none is written as JSON."""
    value = _plain(value)
    return value if value is None or isinstance(value, str) else jsonio.dumps(value).decode()


def _plain(value: Any) -> Any:
    """A value as JSON has it: bytes in base64, dates and times in ISO 8601, durations in seconds, decimals as text."""
    if value is None or isinstance(value, (str, float, int)):
        return value
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, bytes):
        return b64encode(value).decode("ascii")
    if isinstance(value, (date, time)):
        return value.isoformat()
    return value.total_seconds() if isinstance(value, timedelta) else str(value)
