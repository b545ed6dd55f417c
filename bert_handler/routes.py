"""The HTTP routes of the KServe host: the Open Inference Protocol, V1, and TorchServe's own.

They stand in the place of the SDK's: those refuse requests that clients send (shapes of -1, bare
strings, missing content types), parse each body twice, and answer errors in another form.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from typing import Any, Callable, Optional, Union
from typing import Protocol as Interface

from starlette.applications import Starlette
from starlette.convertors import Convertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

import bert_handler
from bert_handler import jsonio, openapi
from bert_handler.errors import (
    InternalError,
    ModelNotFoundError,
    NoRouteError,
    NotReadyError,
    RequestError,
    RequestTooLargeError,
    SlowBodyError,
    WrongMethodError,
)
from bert_handler.metrics import log_request
from bert_handler.protocols import V2_REST, Protocol, error_reply
from bert_handler.schema import Reply
from bert_handler.serving import EVENT_STREAM, EXPLAIN_HEADER, wants_stream
from bert_handler.timeouts import timeout

logger = logging.getLogger(__name__)

DEFAULT_BODY_BYTES = 32 * 2**20
BODY_TIMEOUT_S = 60
WATCH_AFTER_S = 0.25
"""Most answers are there sooner than it pays to look whether the client still is."""
EXTENSIONS = ["binary_tensor_data"]
_JSON = "application/json"
_STREAM = {"content-type": EVENT_STREAM, "cache-control": "no-cache"}

Events = AsyncIterator[bytes]


class ModelName(Convertor[str]):
    """A name before `:predict`, so that a GET of that path is a wrong method and no unknown model."""

    regex = "[^/:]+"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("model", ModelName())


class ServedModel(Interface):
    """What a route needs of a model, be it in this process or behind another server."""

    async def reply(self, body: bytes, headers: Mapping[str, str], protocol: Optional[Protocol]) -> Reply:
        """Answer one body; never raises for a refused request."""

    async def stream(
        self, body: bytes, headers: Mapping[str, str], protocol: Optional[Protocol]
    ) -> Union[Reply, Events]:
        """Answer one body with server-sent events, or refuse it."""

    async def metadata(self) -> Mapping[str, Any]:
        """V2 model metadata."""

    async def healthy(self) -> bool:
        """Whether it would answer now."""


Models = Callable[[], Mapping[str, ServedModel]]
Endpoint = Callable[[Request], Awaitable[Response]]


class Routes:
    """The endpoints over a live view of the served models."""

    def __init__(self, models: Models, max_body_bytes: int = DEFAULT_BODY_BYTES) -> None:
        self._models = models
        self._max_body_bytes = max_body_bytes

    def routes(self) -> list[Route]:
        """All routes, most requested first."""
        table: list[tuple[str, str, Endpoint]] = [
            ("POST", "/v2/models/{name}/infer", self._infer(V2_REST)),
            ("POST", "/v2/models/{name}/versions/{version}/infer", self._infer(V2_REST)),
            ("POST", "/v1/models/{name}:predict", self._infer(None)),
            ("POST", "/predictions/{name}", self._infer(None)),
            ("POST", "/predictions/{name}/{version}", self._infer(None)),
            ("POST", "/v2/models/{name}/explain", self._infer(V2_REST, explain=True)),
            ("POST", "/v2/models/{name}/versions/{version}/explain", self._infer(V2_REST, explain=True)),
            ("POST", "/v1/models/{name}:explain", self._infer(None, explain=True)),
            ("POST", "/explanations/{name}", self._infer(None, explain=True)),
            ("POST", "/explanations/{name}/{version}", self._infer(None, explain=True)),
            ("GET", "/", self.live),
            ("GET", "/v2", self.server_metadata),
            ("GET", "/v2/", self.server_metadata),
            ("GET", "/v2/health/live", self.live),
            ("GET", "/v2/health/ready", self.ready),
            ("GET", "/v2/models", self.list_models),
            ("GET", "/v1/models", self.list_models),
            ("GET", "/v2/models/{name}", self.model_metadata),
            ("GET", "/v2/models/{name}/versions/{version}", self.model_metadata),
            ("GET", "/v2/models/{name}/ready", self.model_ready),
            ("GET", "/v2/models/{name}/versions/{version}/ready", self.model_ready),
            ("GET", "/v1/models/{name:model}", self.model_ready),
            ("GET", "/openapi.json", self.described),
        ]
        return [Route(path, _guarded(endpoint), methods=[method]) for method, path, endpoint in table]

    async def server_metadata(self, request: Request) -> Response:
        """Name, version and extensions of the server."""
        return _json({"name": "bert-handler", "version": bert_handler.__version__, "extensions": EXTENSIONS})

    async def live(self, request: Request) -> Response:
        """The process answers."""
        return _json({"live": True})

    async def ready(self, request: Request) -> Response:
        """Every model is loaded and has passed its self-test."""
        models = self._models()
        waiting = [name for name, model in models.items() if not await model.healthy()]
        if waiting or not models:
            raise NotReadyError(f"not ready: {', '.join(waiting) or 'no model is loaded'}")
        return _json({"ready": True})

    async def list_models(self, request: Request) -> Response:
        """Names of the models."""
        return _json({"models": list(self._models())})

    async def model_metadata(self, request: Request) -> Response:
        """Inputs and outputs of one model."""
        return _json(await (await self._model(request)).metadata())

    async def model_ready(self, request: Request) -> Response:
        """Whether one model would answer now."""
        name = request.path_params["name"]
        if not await (await self._model(request)).healthy():
            raise NotReadyError(f"model {name!r} is not ready")
        return _json({"name": name, "ready": True})

    async def described(self, request: Request) -> Response:
        """OpenAPI of the routes that this server has."""
        paths = [route.path for route in request.app.routes]
        return _json(openapi.description(paths, self._models()))

    def _infer(self, protocol: Protocol | None, *, explain: bool = False) -> Endpoint:
        async def infer(request: Request) -> Response:
            model = await self._model(request)
            body = await self._body(request)
            headers = dict(request.headers)
            if explain:
                headers[EXPLAIN_HEADER] = "True"
            elif wants_stream(headers):
                opened = await model.stream(body, headers, protocol)
                return _response(opened) if isinstance(opened, Reply) else StreamingResponse(opened, 200, _STREAM)
            with _Watch(request):
                return _response(await model.reply(body, headers, protocol))

        return infer

    async def _model(self, request: Request) -> ServedModel:
        return await find(self._models(), request.path_params["name"], request.path_params.get("version"))

    async def _body(self, request: Request) -> bytes:
        try:
            async with timeout(BODY_TIMEOUT_S):
                return await self._received(request)
        except asyncio.TimeoutError as exc:
            raise SlowBodyError(f"the body did not arrive within {BODY_TIMEOUT_S} s") from exc

    async def _received(self, request: Request) -> bytes:
        limit = self._max_body_bytes
        stated = request.headers.get("content-length", "0")
        if stated.isascii() and stated.isdigit() and (len(stated) > 18 or int(stated) > limit):
            raise RequestTooLargeError(f"the body has {stated[:18]} bytes; max_body_bytes is {limit}")
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > limit:
                raise RequestTooLargeError(f"the body has more bytes than max_body_bytes, which is {limit}")
        return bytes(body)


class _Watch:
    """Cancels what runs within when its client goes: what nobody waits for leaves the queue.

    Raises ClientDisconnect then.
    """

    def __init__(self, request: Request) -> None:
        self._request = request
        self._gone = False
        self._watcher: asyncio.Task[None] | None = None

    def __enter__(self) -> None:
        self._watched = asyncio.current_task()
        self._timer = asyncio.get_running_loop().call_later(WATCH_AFTER_S, self._start)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._timer.cancel()
        if self._watcher is not None:
            self._watcher.cancel()
        if self._gone and kind is asyncio.CancelledError:
            raise ClientDisconnect

    def _start(self) -> None:
        self._watcher = asyncio.ensure_future(self._watch())

    async def _watch(self) -> None:
        while (await self._request.receive())["type"] != "http.disconnect":
            pass
        self._gone = True
        if self._watched is not None:
            self._watched.cancel()


async def find(models: Mapping[str, ServedModel], name: str, version: str | None) -> ServedModel:
    """The model of that name, and version where one is asked for; ModelNotFoundError without it."""
    model = models.get(name)
    if model is None:
        raise ModelNotFoundError(f"model {name!r} is not served here; served: {', '.join(models) or 'none'}")
    if version:
        versions = (await model.metadata())["versions"]
        if version not in versions:
            raise ModelNotFoundError(f"model {name!r} has version {', '.join(versions)}, not {version!r}")
    return model


def application(routes: Sequence[Route]) -> Starlette:
    """The ASGI application of some routes, which answers in the contract's form whatever is asked of it."""
    made = Starlette(routes=routes, exception_handlers={HTTPException: _unrouted, Exception: _defect})
    made.router.redirect_slashes = False
    return made


async def _unrouted(request: Request, exc: Exception) -> Response:
    """Refuse what no route takes; OPTIONS is told the methods that one does take."""
    assert isinstance(exc, HTTPException)
    if exc.status_code != WrongMethodError.status:
        return _response(error_reply(NoRouteError("there is no such route; /openapi.json has those that there are")))
    methods = ", ".join(sorted((exc.headers or {}).get("Allow", "").split(", ")))
    if request.method == "OPTIONS":
        return Response(status_code=204, headers={"Allow": methods})
    response = _response(error_reply(WrongMethodError(f"this route takes {methods} only")))
    response.headers["Allow"] = methods
    return response


async def _defect(request: Request, exc: Exception) -> Response:
    """Tell the client nothing; the server logs what is raised."""
    return _response(error_reply(InternalError()))


def _guarded(endpoint: Endpoint) -> Endpoint:
    async def guarded(request: Request) -> Response:
        started = time.perf_counter()
        try:
            return await endpoint(request)
        except ClientDisconnect:
            return Response(status_code=499)
        except RequestError as exc:
            reply = error_reply(exc)
        except Exception:
            logger.exception("a request on %s failed", request.scope["route"].path)
            reply = error_reply(InternalError())
        # A line for each probe of a model that is still loading would say nothing.
        if request.method == "POST":
            identifier = request.headers.get("x-request-id", "-")
            log_request(request.scope["route"].path, identifier, reply.status, time.perf_counter() - started)
        return _response(reply)

    return guarded


def _json(content: Any) -> Response:
    return Response(jsonio.dumps(content), media_type=_JSON)


def _response(reply: Reply) -> Response:
    # Not through media_type: it would append a charset to text/plain a second time.
    return Response(reply.body, reply.status, {**reply.headers, "content-type": reply.content_type})
