"""What a client of either transport does: build V2 requests, ask again, turn refusals into errors."""

from __future__ import annotations

import random
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Callable, Union

from bert_handler import jsonio
from bert_handler.addresses import is_loopback
from bert_handler.errors import ConfigError, QueueFullError, RequestError, of_status

Texts = Union[str, Mapping[str, Any], Sequence[Union[str, Mapping[str, Any]]]]
"""One text or JSON instance, or a list of them."""


@dataclass(frozen=True)
class Retry:
    """When to ask again: on 429 and 503 only, where the server has computed nothing.

    A Retry-After is honoured up to max_wait_s; without one the wait doubles from backoff_s, with jitter.
    """

    attempts: int = 5
    backoff_s: float = 0.5
    max_wait_s: float = 30.0
    statuses: frozenset[int] = frozenset({429, 503})

    def wait_s(self, attempt: int, retry_after: str | None) -> float:
        """Seconds to wait after the attempt of that number, counted from 1."""
        stated = _retry_after_s(retry_after)
        if stated is not None:
            return min(self.max_wait_s, stated)
        longest = min(self.max_wait_s, self.backoff_s * 2.0 ** (attempt - 1))
        return longest * random.uniform(0.5, 1)  # noqa: S311  (spreads clients, keeps no secret)


@dataclass(frozen=True)
class InferResponse:
    """A V2 answer, and what it took.

    elapsed_s: of the attempt that was answered.  waited_s: between attempts.
    """

    document: Mapping[str, Any]
    elapsed_s: float = 0.0
    attempts: int = 1
    waited_s: float = 0.0
    headers: Mapping[str, str] = field(default_factory=dict)

    def __getitem__(self, output: str) -> list[Any]:
        """Data of an output by its name; KeyError names those that there are."""
        tensors = {tensor["name"]: tensor["data"] for tensor in self.document.get("outputs", ())}
        if output not in tensors:
            raise KeyError(f"{output}; the answer has {', '.join(tensors) or 'no outputs'}")
        data: list[Any] = tensors[output]
        return data


@dataclass(frozen=True)
class Exchange:
    """One attempt's outcome before it is judged.  message: the server's words where it refused."""

    status: int
    document: Any = None
    message: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


class V2Client(ABC):
    """What a client of either transport does: build requests, retry, turn refusals into errors.

    host: for a gateway that routes by it.  cookies: for its session.  token: sent as bearer.
    timeout_s: of one attempt.  ca_file: certificates that https:// is checked with, beside the system's.
    Raises ConfigError where the URL is none, or a header would not be printable ASCII.
    """

    def __init__(
        self,
        url: str,
        *,
        host: str | None = None,
        cookies: Mapping[str, str] | None = None,
        token: str | None = None,
        timeout_s: float = 60.0,
        retry: Retry | None = None,
        ca_file: Path | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        self.local = is_loopback(url)
        self.timeout_s = timeout_s
        self.retry = retry or Retry()
        self._sleep: Callable[[float], None] = time.sleep
        self._connect(request_headers(host, cookies, token), ca_file)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"

    def __enter__(self) -> V2Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @abstractmethod
    def _connect(self, headers: dict[str, str], ca_file: Path | None) -> None:
        """Make what sends requests with these headers; nothing is sent yet."""

    @abstractmethod
    def close(self) -> None:
        """Close the connections."""

    @abstractmethod
    def live(self) -> bool:
        """Whether the server's process answers."""

    @abstractmethod
    def ready(self, model: str | None = None) -> bool:
        """Whether all models, or the named one, would answer now."""

    @abstractmethod
    def models(self) -> list[str]:
        """Names of the served models."""

    @abstractmethod
    def metadata(self, model: str | None = None, version: str | None = None) -> Mapping[str, Any]:
        """Metadata of the server, or of one model."""

    @abstractmethod
    def send(
        self, model: str, body: Mapping[str, Any] | bytes, *, version: str | None = None, explain: bool = False
    ) -> InferResponse:
        """Post a V2 request as it is.  Raises the server's refusal as the RequestError of its status."""

    def infer(self, model: str, texts: Texts, *, version: str | None = None, **request: Any) -> InferResponse:
        """Answer texts; `request` takes outputs, parameters and id."""
        return self.send(model, document(texts, **request), version=version)

    def explain(self, model: str, texts: Texts, *, version: str | None = None, **request: Any) -> InferResponse:
        """Attribute the answers to the texts' tokens; `request` as in `infer`."""
        return self.send(model, document(texts, **request), version=version, explain=True)

    def _answered(self, attempt: Callable[[], Exchange]) -> InferResponse:
        waited_s = 0.0
        for number in range(1, self.retry.attempts + 1):
            started = time.perf_counter()
            exchange = attempt()
            elapsed_s = time.perf_counter() - started
            if exchange.status == 200:
                return InferResponse(exchange.document, elapsed_s, number, waited_s, exchange.headers)
            if exchange.status not in self.retry.statuses or number == self.retry.attempts:
                break
            wait_s = self.retry.wait_s(number, exchange.headers.get("retry-after"))
            self._sleep(wait_s)
            waited_s += wait_s
        raise refusal(exchange, number)


def document(
    texts: Texts,
    *,
    outputs: Sequence[str] = (),
    parameters: Mapping[str, Any] | None = None,
    id: str | None = None,
) -> dict[str, Any]:
    """A V2 request: a scalar tensor of one text, or a vector of a list."""
    scalar = isinstance(texts, (str, Mapping))
    items = [texts] if scalar else list(texts)
    data = [item if isinstance(item, str) else jsonio.dumps(item).decode() for item in items]
    tensor = {"name": "text", "shape": [] if scalar else [len(data)], "datatype": "BYTES", "data": data}
    request: dict[str, Any] = {"id": id} if id else {}
    request["inputs"] = [tensor]
    if parameters:
        request["parameters"] = dict(parameters)
    if outputs:
        request["outputs"] = [{"name": name} for name in outputs]
    return request


def request_headers(host: str | None, cookies: Mapping[str, str] | None, token: str | None) -> dict[str, str]:
    """What a gateway routes and asks by, as headers without white space around; those not given are left out.

    Raises ConfigError where one is not printable ASCII, without repeating it: it may be a secret.
    """
    # As one header: a cookie jar would hold them back from a Host that is not the URL's.
    pairs = "; ".join(f"{name}={value}" for name, value in (cookies or {}).items())
    given = {"host": (host or "").strip(), "cookies": pairs.strip(), "token": (token or "").strip()}
    for name, value in given.items():
        if not value.isascii() or not value.isprintable():
            raise ConfigError(f"{name} must be printable ASCII")
    bearer = given["token"] and f"Bearer {given['token']}"
    headers = {"host": given["host"], "authorization": bearer, "cookie": given["cookies"]}
    return {name: value for name, value in headers.items() if value}


def refusal(exchange: Exchange, attempts: int = 1) -> RequestError:
    """The error of a refused request: the server's words under the class of its status."""
    tried = f" (after {attempts} attempts)" if attempts > 1 else ""
    error = of_status(exchange.status, f"{exchange.status}: {exchange.message or 'no reason given'}{tried}")
    if isinstance(error, QueueFullError):
        error.retry_after_s = round(_retry_after_s(exchange.headers.get("retry-after")) or 1)
    return error


def _retry_after_s(value: str | None) -> float | None:
    """Seconds of a Retry-After header, which is a number or a date; None where it is neither."""
    if not value:
        return None
    if value.strip().isdigit():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError):
        return None
