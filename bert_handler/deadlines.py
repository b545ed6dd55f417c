"""How long a caller waits: a header, or a parameter of the request; what has expired is not computed."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, overload

from bert_handler.errors import InvalidRequestError
from bert_handler.parameters import Parameter

HEADER = "x-request-timeout-ms"
PARAMETER = "timeout_ms"
MAX_TIMEOUT_MS = 86_400_000
RESPONSE_TIMEOUT_S = 150
"""What waits for a model waits so long unless told: more than a model takes with the default settings."""
_TIMEOUT = Parameter(PARAMETER, int, None, "milliseconds that the caller waits for an answer", 1, MAX_TIMEOUT_MS)


def deadline_of(headers: Mapping[str, str], parameters: Mapping[str, Any]) -> float | None:
    """The time.monotonic() at which the caller gives up, None where it does not say.

    headers have lower-case names.  Of a header and a parameter, the shorter time counts.
    Raises InvalidRequestError on what is no number of milliseconds.
    """
    stated = []
    try:
        if HEADER in headers:
            stated.append(_TIMEOUT.parse(headers[HEADER], text=True))
    except ValueError as exc:
        raise InvalidRequestError(f"header {HEADER}: {exc}") from exc
    try:
        if parameters.get(PARAMETER) is not None:
            stated.append(_TIMEOUT.parse(parameters[PARAMETER]))
    except ValueError as exc:
        raise InvalidRequestError(f"parameter {exc}") from exc
    return time.monotonic() + min(stated) / 1000 if stated else None


def remaining_s(deadline: float | None) -> float | None:
    """Seconds that are left, not below zero; None without a deadline."""
    return None if deadline is None else max(0.0, deadline - time.monotonic())


def never() -> bool:
    """Nobody gives up: whoever asked waits, however long it takes."""
    return False


@overload
def sooner(one: float | None, other: float) -> float: ...
@overload
def sooner(one: float | None, other: float | None) -> float | None: ...
def sooner(one: float | None, other: float | None) -> float | None:
    """The earlier of two deadlines; None where there is neither."""
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)


def expired(deadline: float | None) -> bool:
    """Whether the caller has given up."""
    return deadline is not None and deadline <= time.monotonic()
