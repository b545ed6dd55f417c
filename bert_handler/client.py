"""A client of the Open Inference Protocol (V2) over REST; `client_grpc` has its gRPC twin.

It goes where curl goes: through a gateway that routes by Host header and asks for a
session cookie.  Cookies and tokens are sent and never shown: not in errors, logs or reprs.
"""

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

import httpx

from bert_handler import jsonio
from bert_handler.errors import (
    BertHandlerError,
    ConfigError,
    DeadlineError,
    InvalidRequestError,
    ModelNotFoundError,
    NotReadyError,
    QueueFullError,
    RequestError,
    RequestTooLargeError,
    UnservableError,
)

Texts = Union[str, Mapping[str, Any], Sequence[Union[str, Mapping[str, Any]]]]
"""One text or JSON instance, or a list of them."""

_ERRORS = (
    InvalidRequestError,
    ModelNotFoundError,
    RequestTooLargeError,
    UnservableError,
    QueueFullError,
    NotReadyError,
    DeadlineError,
)


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
class Answer:
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
    """What a client of either transport does: build requests, retry, turn refusals into errors."""

    def __init__(self, url: str, retry: Retry | None = None) -> None:
        self.url = url.rstrip("/")
        self.retry = retry or Retry()
        self._sleep: Callable[[float], None] = time.sleep

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"

    def __enter__(self) -> V2Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

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
    ) -> Answer:
        """Post a V2 request as it is.  Raises the server's refusal as the RequestError of its status."""

    def infer(self, model: str, texts: Texts, *, version: str | None = None, **request: Any) -> Answer:
        """Answer texts; `request` takes outputs, parameters and id."""
        return self.send(model, document(texts, **request), version=version)

    def explain(self, model: str, texts: Texts, *, version: str | None = None, **request: Any) -> Answer:
        """Attribute the answers to the texts' tokens; `request` as in `infer`."""
        return self.send(model, document(texts, **request), version=version, explain=True)

    def _answered(self, attempt: Callable[[], Exchange]) -> Answer:
        waited_s = 0.0
        for number in range(1, self.retry.attempts + 1):
            started = time.perf_counter()
            exchange = attempt()
            elapsed_s = time.perf_counter() - started
            if exchange.status == 200:
                return Answer(exchange.document, elapsed_s, number, waited_s, exchange.headers)
            if exchange.status not in self.retry.statuses or number == self.retry.attempts:
                break
            wait_s = self.retry.wait_s(number, exchange.headers.get("retry-after"))
            self._sleep(wait_s)
            waited_s += wait_s
        raise refusal(exchange, number)


class Client(V2Client):
    """V2 over REST.

    host: Host header, for a gateway that routes by it.  cookies: for its session.  token: sent as
    bearer.  ca_file: certificates that https:// is checked with, beside the system's.
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
        super().__init__(url, retry)
        headers = {"host": host, "authorization": token and f"Bearer {token}"}
        if cookies:
            # As one header: a cookie jar would hold them back from a Host that is not the URL's.
            headers["cookie"] = "; ".join(f"{name}={value}" for name, value in cookies.items())
        self._http = httpx.Client(
            headers={name: value for name, value in headers.items() if value},
            timeout=timeout_s,
            verify=_certificates(ca_file),
        )

    def close(self) -> None:
        self._http.close()

    def live(self) -> bool:
        return self._get("/v2/health/live").status == 200

    def ready(self, model: str | None = None) -> bool:
        return self._get(f"/v2/models/{model}/ready" if model else "/v2/health/ready").status == 200

    def models(self) -> list[str]:
        listed = self._answered(lambda: self._get("/v2/models")).document
        # Other servers list objects: {"models": [{"name": ...}]}.
        return [item["name"] if isinstance(item, dict) else str(item) for item in listed.get("models", ())]

    def metadata(self, model: str | None = None, version: str | None = None) -> Mapping[str, Any]:
        return self._answered(lambda: self._get(_model_path(model, version) if model else "/v2")).document

    def send(
        self, model: str, body: Mapping[str, Any] | bytes, *, version: str | None = None, explain: bool = False
    ) -> Answer:
        path = f"{_model_path(model, version)}/{'explain' if explain else 'infer'}"
        content = body if isinstance(body, bytes) else jsonio.dumps(body)
        headers = {"content-type": "application/json"}
        return self._answered(lambda: self._exchange("POST", path, content=content, headers=headers))

    def _get(self, path: str) -> Exchange:
        return self._exchange("GET", path)

    def _exchange(self, method: str, path: str, **content: Any) -> Exchange:
        try:
            response = self._http.request(method, self.url + path, **content)
        except httpx.TimeoutException as exc:
            raise DeadlineError(f"{self.url} did not answer within {self._http.timeout.read:g} s") from exc
        except (httpx.HTTPError, httpx.InvalidURL) as exc:
            raise NotReadyError(f"{self.url} cannot be reached: {exc}") from exc
        return _judged(response)


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


def refusal(exchange: Exchange, attempts: int = 1) -> BertHandlerError:
    """The error of a refused request: the server's words under the class of its status."""
    tried = f" (after {attempts} attempts)" if attempts > 1 else ""
    kinds = {kind.status: kind for kind in _ERRORS}
    error: RequestError = kinds.get(exchange.status, RequestError)(
        f"{exchange.status}: {exchange.message or 'no reason given'}{tried}"
    )
    error.status = exchange.status
    if isinstance(error, QueueFullError):
        error.retry_after_s = round(_retry_after_s(exchange.headers.get("retry-after")) or 1)
    return error


def _judged(response: httpx.Response) -> Exchange:
    headers = {name.lower(): value for name, value in response.headers.items()}
    try:
        content = jsonio.loads(response.content) if response.content else None
    except ValueError:
        content = None
    if response.is_redirect:
        # Followed, it would end on a login page, and take the cookie to another host.
        target = httpx.URL(headers.get("location", "")).copy_with(query=None, fragment=None)
        return Exchange(401, message=f"redirected to {target}: the session cookie is missing or has expired")
    if response.status_code == 200 and content is None:
        return Exchange(502, message=f"the answer is {headers.get('content-type', 'empty')}, not JSON", headers=headers)
    return Exchange(response.status_code, content, _message(content) or response.reason_phrase, headers)


def _message(content: Any) -> str:
    """The words of a refusal: V2's `error`, FastAPI's `detail`, TorchServe's `message`."""
    if not isinstance(content, dict):
        return ""
    found = next((content[key] for key in ("error", "detail", "message") if key in content), "")
    return found if isinstance(found, str) else jsonio.dumps(found).decode()


def _model_path(model: str, version: str | None) -> str:
    return f"/v2/models/{model}" + (f"/versions/{version}" if version else "")


def _certificates(ca_file: Path | None) -> Any:
    if ca_file is None:
        return True
    import ssl

    context = ssl.create_default_context()
    try:
        context.load_verify_locations(ca_file)
    except OSError as exc:
        raise ConfigError(f"the certificates {ca_file} cannot be read: {exc}") from exc
    return context


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
