"""The seed's pod: V1, V2 and gRPC in front of a TorchServe that runs beside this process."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import kserve

from bert_handler import jsonio
from bert_handler.addresses import environment_proxy, is_loopback
from bert_handler.deadlines import HEADER as TIMEOUT_HEADER
from bert_handler.deadlines import RESPONSE_TIMEOUT_S, deadline_of, remaining_s
from bert_handler.errors import (
    ConfigError,
    DeadlineError,
    InternalError,
    NotReadyError,
    QueueFullError,
    RequestError,
    of_status,
)
from bert_handler.metrics import ModelMetrics, caller_of, record
from bert_handler.protocols import PROTOCOL_HEADER, Protocol, error_reply, is_form, unwrapped
from bert_handler.schema import Reply
from bert_handler.server.asgi import CLIENT_GONE
from bert_handler.server.routes import Events, begun
from bert_handler.serving import EVENT_STREAM, EXPLAIN_HEADER, error_event
from bert_handler.tracing import REQUEST_HEADERS

logger = logging.getLogger(__name__)

FORWARDED = (
    "accept",
    "content-encoding",
    "content-type",
    "inference-header-content-length",
    PROTOCOL_HEADER,
    TIMEOUT_HEADER,
    *REQUEST_HEADERS,
)
KEY_REFUSED = (400, 401, 403)
METADATA_S = 5.0
"""How long a model's metadata are taken as known: another version of it may be registered."""
NO_WORKER = "has no worker to serve inference request"
"""TorchServe's frontend says this of a full queue, too."""
RETURNED = ("inference-header-content-length", "x-truncated", "retry-after")


class TorchServe:
    """A TorchServe with inference and management on one address, over kept-alive connections.

    key_file: its key_file.json, where token authorization is on; read again when it changes.
    The environment's proxy is used, except for addresses of this machine.  Raises ConfigError where it cannot be.
    """

    def __init__(self, url: str, key_file: Path | None = None, timeout_s: float = RESPONSE_TIMEOUT_S) -> None:
        self.url = url.rstrip("/")
        self._key_file = key_file
        self._timeout = httpx.Timeout(timeout_s, connect=2)
        self._limits = httpx.Limits(max_connections=256, max_keepalive_connections=64)
        # A proxy would see texts and keys of what never leaves this machine; certificates of the environment stay.
        self._environment: dict[str, Any] = {
            "trust_env": not is_loopback(url),
            "verify": httpx.create_ssl_context(),
        }
        with environment_proxy():
            httpx.Client(**self._environment).close()
        self._client: httpx.AsyncClient | None = None

    async def infer(
        self, model: str, body: bytes, headers: Mapping[str, str], *, stream: bool = False
    ) -> httpx.Response:
        """Forward one body as it is; with `stream`, the response is returned before its body."""
        own = {name: headers[name] for name in FORWARDED if name in headers}
        if "content-type" not in own or is_form(own):
            # TorchServe would take it apart, and curl calls every body a form.
            body, own["content-type"] = unwrapped(body, own), "application/octet-stream"
        own.update(self._token("inference"))
        left = remaining_s(deadline_of(headers, {}))
        timeout = self._timeout if left is None else httpx.Timeout(left, connect=min(left, 2))
        path = f"/explanations/{model}" if headers.get(EXPLAIN_HEADER) == "True" else f"/predictions/{model}"
        # A header's bytes are any; httpx would encode text as ASCII.
        raw = {name.encode("latin-1"): value.encode("latin-1") for name, value in own.items()}
        request = self._http().build_request("POST", path, content=body, headers=raw, timeout=timeout)
        return await self._http().send(request, stream=stream)

    async def describe(self, model: str) -> Mapping[str, Any]:
        """V2 metadata of a model, from the handler itself, through the inference API."""
        own = {"describe": "True", "content-type": "text/plain", **self._token("inference")}
        response = await self._http().post(f"/predictions/{model}", content=b"metadata", headers=own, timeout=10)
        response.raise_for_status()
        found: Mapping[str, Any] = jsonio.loads(response.content)
        return found

    async def is_ready(self, model: str) -> bool:
        """Whether a worker of the model is up; False on any error, since the next poll asks again."""
        try:
            response = await self._http().get(f"/models/{model}", headers=self._token("management"), timeout=2)
            if response.status_code in KEY_REFUSED:
                # With inference and management on one port, TorchServe takes no key for management.
                return bool(await self.describe(model))
            response.raise_for_status()
            workers = jsonio.loads(response.content)[0]["workers"]
            return any(worker["status"] == "READY" for worker in workers)
        except (httpx.HTTPError, RequestError, ValueError, LookupError, TypeError, OSError):
            return False

    def models(self) -> list[str]:
        """Names of the registered models.  Raises ConfigError when TorchServe cannot be asked."""
        try:
            return [model["modelName"] for page in self._pages() for model in page["models"]]
        except (httpx.HTTPError, ValueError, LookupError, TypeError, AttributeError, OSError) as exc:
            raise ConfigError(
                f"TorchServe at {self.url} does not list its models ({exc}); name the model with --name "
                "to start before it is up"
            ) from exc

    def _pages(self) -> Iterator[Mapping[str, Any]]:
        """The list of models, of which TorchServe gives a hundred at a time."""
        query: dict[str, str] = {}
        while True:
            own: dict[str, Any] = {"headers": self._token("management"), "timeout": 10, **self._environment}
            response = httpx.get(f"{self.url}/models", params=query, **own)
            response.raise_for_status()
            page = jsonio.loads(response.content)
            yield page
            if page.get("nextPageToken") is None:
                return
            query = {"next_page_token": page["nextPageToken"]}

    def _http(self) -> httpx.AsyncClient:
        # Made on first use: the client belongs to the event loop that uses it.
        if self._client is None:
            own: dict[str, Any] = {"timeout": self._timeout, "limits": self._limits, **self._environment}
            self._client = httpx.AsyncClient(base_url=self.url, **own)
        return self._client

    def _token(self, api: str) -> dict[str, str]:
        if self._key_file is None:
            return {}
        try:
            return {"Authorization": f"Bearer {jsonio.loads(self._key_file.read_bytes())[api]['key']}"}
        except (OSError, ValueError, LookupError, TypeError) as exc:
            raise NotReadyError(f"the key file {self._key_file.name} has no {api} key yet") from exc


class FrontModel(kserve.Model):  # type: ignore[misc, unused-ignore]
    """A model that TorchServe runs, under the name that both servers know it by."""

    lost = False
    streams = True
    """TorchServe is asked, whose answer to one that does not is JSON."""

    def __init__(self, name: str, server: TorchServe) -> None:
        super().__init__(name)
        self.server = server
        self.metrics = ModelMetrics()
        # The front itself can serve at once; `healthy` says whether the model behind it can.
        self.ready = True
        self._metadata: Mapping[str, Any] | None = None
        self._fresh_until = 0.0

    async def reply(self, body: bytes, headers: Mapping[str, str], protocol: Protocol | None) -> Reply:
        """Forward one body, count it, and log its id."""
        started = time.perf_counter()
        try:
            reply = await self._reply(body, headers, protocol)
        except asyncio.CancelledError:
            record(self.name, self.metrics, headers, CLIENT_GONE, time.perf_counter() - started)
            raise
        record(self.name, self.metrics, headers, reply.status, time.perf_counter() - started)
        return reply

    async def _reply(self, body: bytes, headers: Mapping[str, str], protocol: Protocol | None) -> Reply:
        """Forward one body and pass the answer on as it is."""
        try:
            return await self._passed(await self._ask(body, headers, protocol))
        except RequestError as exc:
            return error_reply(exc)

    async def _ask(
        self, body: bytes, headers: Mapping[str, str], protocol: Protocol | None, *, stream: bool = False
    ) -> httpx.Response:
        """TorchServe's answer, which with `stream` is read already unless it is events.

        Raises RequestError where it cannot be asked.
        """
        if protocol is not None:
            headers = {**headers, PROTOCOL_HEADER: protocol.name}
        try:
            response = await self.server.infer(self.name, body, headers, stream=stream)
            if response.headers.get("content-type") != EVENT_STREAM:
                await response.aread()
        except httpx.HTTPError as exc:
            self._warn(exc, headers)
            raise _unreachable(exc) from exc
        return response

    async def stream(self, body: bytes, headers: Mapping[str, str], protocol: Protocol | None) -> Reply | Events:
        """Forward one body and pass the events on as they come, or the refusal; count it at its end."""
        started = time.perf_counter()
        opened = await self._stream(body, headers, protocol)
        if not isinstance(opened, Reply):
            return await begun(self._passed_on(opened, headers, started))
        record(self.name, self.metrics, headers, opened.status, time.perf_counter() - started)
        return opened

    async def _stream(
        self, body: bytes, headers: Mapping[str, str], protocol: Protocol | None
    ) -> Reply | httpx.Response:
        try:
            response = await self._ask(body, headers, protocol, stream=True)
            return response if response.headers.get("content-type") == EVENT_STREAM else await self._passed(response)
        except RequestError as exc:
            return error_reply(exc)

    async def _passed(self, response: httpx.Response) -> Reply:
        """An answer as it is; what TorchServe's frontend refuses, in the contract's form."""
        if response.status_code < 400 or "error" in _object(response.content):
            headers = {name.title(): response.headers[name] for name in RETURNED if name in response.headers}
            content_type = response.headers.get("content-type", "application/json")
            return Reply(response.content, response.status_code, content_type, headers)
        error = _frontend_error(response)
        if NO_WORKER in str(error) and await self.healthy():
            error = QueueFullError("TorchServe's queue for this model is full; try again")
        return error_reply(error)

    async def _passed_on(self, response: httpx.Response, headers: Mapping[str, str], started: float) -> Events:
        try:
            chunk = b""
            yield chunk
            async for chunk in response.aiter_raw():
                yield chunk
        except httpx.HTTPError as exc:
            self._warn(exc, headers)
            # A chunk may end within an event.
            yield (b"" if chunk.endswith(b"\n\n") else b"\n\n") + error_event(_unreachable(exc))
        finally:
            await response.aclose()
            record(self.name, self.metrics, headers, response.status_code, time.perf_counter() - started)

    def _warn(self, exc: httpx.HTTPError, headers: Mapping[str, str]) -> None:
        kind = type(exc).__name__
        logger.warning("TorchServe at %s: %s, request_id=%a", self.server.url, kind, caller_of(headers))

    async def metadata(self) -> Mapping[str, Any]:
        """V2 model metadata, as the handler behind TorchServe states it, or stated it last."""
        if self._metadata is None or time.monotonic() >= self._fresh_until:
            # Set before: those who come meanwhile take what is known.
            self._fresh_until = time.monotonic() + METADATA_S
            try:
                self._metadata = await self.server.describe(self.name)
            except (httpx.HTTPError, ValueError, OSError) as exc:
                if self._metadata is None:
                    raise NotReadyError(f"TorchServe does not describe {self.name!r} yet") from exc
        return self._metadata

    async def healthy(self) -> bool:
        """TorchServe's own state of the model."""
        return await self.server.is_ready(self.name)


def front_models(server: TorchServe, name: str | None) -> Sequence[FrontModel]:
    """The models to stand in front of: the named one, else all that TorchServe has."""
    return [FrontModel(item, server) for item in ([name] if name else server.models())]


def _unreachable(exc: httpx.HTTPError) -> RequestError:
    if isinstance(exc, httpx.TimeoutException):
        return DeadlineError("TorchServe did not answer in time")
    return NotReadyError("TorchServe is not reachable; try again")


def _object(body: bytes) -> Mapping[str, Any]:
    try:
        content = jsonio.loads(body)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _frontend_error(response: httpx.Response) -> RequestError:
    """What TorchServe's frontend says in a form and with statuses of its own."""
    content = _object(response.content)
    message = str(content.get("message", "TorchServe refused the request"))
    if response.status_code in (401, 403) or content.get("type") == "InvalidKeyException":
        return NotReadyError("TorchServe refused this server's token; check --torchserve-key-file")
    if response.status_code >= 500 and response.status_code != NotReadyError.status:
        return InternalError()
    return of_status(response.status_code, f"TorchServe: {message}")
