"""One request on ASGI, from its scope to its answer, with nothing between that each request would pay for.

Starlette finds the routes and refuses what none takes.  Its own requests, responses and middlewares are a
sixth of the event loop's work for a short text, so that the routes are plain ASGI applications, and those
that take bodies are called without it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Iterable, Mapping, MutableMapping, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any, Callable, Union, cast

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from bert_handler.errors import (
    InternalError,
    NoRouteError,
    NotReadyError,
    RequestError,
    RequestTooLargeError,
    SlowBodyError,
    UnauthorizedError,
    WrongMethodError,
)
from bert_handler.metrics import caller_of, log_request
from bert_handler.protocols import error_reply
from bert_handler.schema import Reply
from bert_handler.server.alarms import alarms
from bert_handler.server.guard import STOPPING, Guard

logger = logging.getLogger(__name__)

CLIENT_GONE = 499
"""What the log and the metrics have of it, as nginx's, and of what is cut off at the end: no such status is sent."""
BODY_TIMEOUT_S = 60
WATCH_AFTER_S = 0.25
"""Most bodies and answers are there sooner than it pays to look after their client."""
HARDENING = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"referrer-policy", b"no-referrer"),
)
"""Headers of every answer."""

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class ClientGoneError(Exception):
    """Nobody waits for the answer any more."""


class HttpRequest:
    """What a client asks of a route.

    path_params: the parts of the path that the route names.
    headers: by lower-case names; of one that is sent twice, the first.
    """

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self.scope = scope
        self.path_params: Mapping[str, str] = scope["path_params"]
        pairs: Iterable[tuple[bytes, bytes]] = reversed(scope["headers"])
        self.headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in pairs}
        self._receive = receive

    async def body(self, limit: int) -> bytes:
        """The whole body.  RequestTooLargeError where it has more bytes than `limit`."""
        stated = self.headers.get("content-length", "0")
        if stated.isascii() and stated.isdigit() and (len(stated) > 18 or int(stated) > limit):
            raise RequestTooLargeError(f"the body has {stated[:18]} bytes; max_body_bytes is {limit}")
        body, more = bytearray(), True
        while more:
            message = await self.receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > limit:
                raise RequestTooLargeError(f"the body has more bytes than max_body_bytes, which is {limit}")
        return bytes(body)

    async def receive(self) -> MutableMapping[str, Any]:
        """The next message of the client; ClientGoneError when none will come."""
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        return message


class Watch:
    """Cancels what runs within when the client sends no body in time, or goes while it waits.

    What nobody waits for leaves the queue.  Raises SlowBodyError or ClientGoneError in the place of the
    cancellation.
    """

    def __init__(self, request: HttpRequest) -> None:
        self._request = request
        self._has_body = False
        self._reason: Exception | None = None
        self._watcher: asyncio.Task[None] | None = None

    def __enter__(self) -> Watch:
        self._alarms = alarms()
        self._task = asyncio.current_task(self._alarms.loop)
        self._began = time.monotonic()
        self._alarm = self._alarms.set(self._began + WATCH_AFTER_S, self._look)
        return self

    def received(self) -> None:
        """The body is there: now the client is to wait."""
        self._has_body = True

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._alarms.clear(self._alarm)
        if self._watcher is not None:
            self._watcher.cancel()
        if self._reason is not None and kind is asyncio.CancelledError:
            raise self._reason

    def _look(self) -> None:
        if self._has_body:
            self._watcher = asyncio.ensure_future(self._watch())
        elif (now := time.monotonic()) - self._began >= BODY_TIMEOUT_S:
            self._end(SlowBodyError(f"the body did not arrive within {BODY_TIMEOUT_S} s"))
        else:
            self._alarm = self._alarms.set(now + WATCH_AFTER_S, self._look)

    async def _watch(self) -> None:
        try:
            while True:
                await self._request.receive()
        except ClientGoneError as exc:
            self._end(exc)

    def _end(self, reason: Exception) -> None:
        self._reason = reason
        if self._task is not None:
            self._task.cancel()


Handler = Callable[[HttpRequest], Awaitable[Union[Reply, StreamingResponse]]]


class Endpoint:
    """A route's handler as an ASGI application, which refuses in the contract's form."""

    def __init__(self, path: str, handler: Handler) -> None:
        self._path = path
        self._handler = handler

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        request = HttpRequest(scope, receive)
        try:
            answer = await self._handler(request)
        except ClientGoneError:
            answer = Reply(b"", CLIENT_GONE)
        except RequestError as exc:
            answer = self._refused(request, exc, started)
        except Exception:
            logger.exception("a request on %s failed, request_id=%a", self._path, caller_of(request.headers))
            answer = self._refused(request, InternalError(), started)
        if isinstance(answer, Reply):
            await write(answer, send)
        else:
            await answer(scope, receive, send)

    def _refused(self, request: HttpRequest, error: RequestError, started: float) -> Reply:
        # A line for each probe of a model that is still loading would say nothing.
        if request.scope["method"] in ("POST", "PUT"):
            log_request(self._path, caller_of(request.headers), error.status, time.perf_counter() - started)
        return error_reply(error)


def route(methods: str, path: str, handler: Handler) -> Route:
    """A route with its endpoint.  methods: their names, with spaces between."""
    return Route(path, Endpoint(path, handler), methods=methods.split())


async def write(reply: Reply, send: Send) -> None:
    """Send a whole answer."""
    headers = [
        (b"content-type", reply.content_type.encode("latin-1")),
        (b"content-length", b"%d" % len(reply.body)),
        *HARDENING,
    ]
    for name, value in reply.headers.items():
        headers.append((name.lower().encode("latin-1"), value.encode("latin-1")))
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})


def _hardened(send: Send) -> Send:
    def hardened(message: MutableMapping[str, Any]) -> Awaitable[None]:
        if message["type"] == "http.response.start":
            headers = list(message.get("headers", ()))
            present = {name.lower() for name, _ in headers}
            message["headers"] = headers + [pair for pair in HARDENING if pair[0] not in present]
        return send(message)

    return hardened


class Application:
    """The ASGI application of some routes behind a guard, which answers in the contract's form whatever is asked."""

    def __init__(self, routes: Sequence[Route], guard: Guard | None = None) -> None:
        self._guard = guard or Guard()
        posted = [route for route in routes if "POST" in (route.methods or ())]
        self._direct = [route for route in posted if isinstance(route.app, Endpoint)]
        # Clients ask for few paths; what somebody tries out is soon forgotten.
        self._found = lru_cache(maxsize=256)(self._find)
        self._all = Starlette(routes=routes, exception_handlers={HTTPException: _unrouted, Exception: _defect})
        self._all.router.redirect_slashes = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._all(scope, receive, send)
            return
        guard, method, path = self._guard, scope["method"], scope["path"]
        try:
            guard.admit_http(method, path, scope["headers"])
        except RequestError as exc:
            await write(_refusal(exc), send)
            return
        guard.n_active += 1
        try:
            found = self._found(path) if method == "POST" else None
            if found is None:
                await self._all(scope, receive, _hardened(send))
            else:
                app, scope["path_params"] = found
                await app(scope, receive, send)
        except asyncio.CancelledError:
            if not guard.draining:
                raise
            # The time to stop is over; where an answer has begun, it stays cut.
            with suppress(RuntimeError):
                await write(_refusal(NotReadyError(STOPPING)), send)
        finally:
            guard.n_active -= 1

    def _find(self, path: str) -> tuple[Endpoint, Mapping[str, str]] | None:
        for route in self._direct:
            match = route.path_regex.match(path)
            if match:
                return cast(Endpoint, route.app), match.groupdict()
        return None


def _refusal(error: RequestError) -> Reply:
    """The answer to what the guard does not admit."""
    reply = error_reply(error)
    if isinstance(error, UnauthorizedError):
        return reply._replace(headers={"WWW-Authenticate": "Bearer"})
    if isinstance(error, NotReadyError):
        return reply._replace(headers={"Retry-After": "1", "Connection": "close"})
    return reply


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


def _response(reply: Reply) -> Response:
    # Not through media_type: it would append a charset to text/plain a second time.
    return Response(reply.body, reply.status, {**reply.headers, "content-type": reply.content_type})
