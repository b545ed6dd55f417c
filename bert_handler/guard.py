"""What stands before every route of the KServe host: tokens, draining, management, response headers."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Any

from bert_handler.errors import ConfigError, ForbiddenError, NotReadyError, RequestError, UnauthorizedError
from bert_handler.protocols import error_reply

TOKENS_VARIABLE = "BERT_HANDLER_TOKENS"
MIN_TOKEN_LENGTH = 16
OPEN_PATHS = re.compile(
    r"/|/v2/health/(live|ready)|/v2/models/[^/]+(/versions/[^/]+)?/ready|/v1/models/[^/:]+|/ui(/[a-z.]*)?"
)
"""Probes of a kubelet carry no token; they say nothing but whether a model is ready. Nor does a browser
that opens the playground: its files are the same everywhere, and what they call is guarded."""
MANAGEMENT_PATH = "/v2/repository/"
HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"referrer-policy", b"no-referrer"),
)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Tokens:
    """Bearer tokens, kept as digests and compared in constant time."""

    def __init__(self, tokens: Sequence[str]) -> None:
        short = sum(len(token) < MIN_TOKEN_LENGTH for token in tokens)
        if short or not tokens:
            raise ConfigError(f"{short} of {len(tokens)} tokens are shorter than {MIN_TOKEN_LENGTH} characters")
        self._digests = [hashlib.sha256(token.encode()).digest() for token in tokens]

    @classmethod
    def read(cls, path: Path | None, environ: Mapping[str, str]) -> Tokens | None:
        """Tokens of a file, one a line, and of BERT_HANDLER_TOKENS, comma-separated; None without either."""
        words = [word.strip() for word in environ.get(TOKENS_VARIABLE, "").split(",") if word.strip()]
        if path is not None:
            try:
                lines = path.read_text(encoding="utf-8").splitlines()
            except (OSError, ValueError) as exc:
                raise ConfigError(f"the token file {path} cannot be read") from exc
            found = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
            if not found:
                raise ConfigError(f"the token file {path} has no token")
            words += found
        return cls(words) if words else None

    def check(self, authorization: str | None) -> None:
        """Raises UnauthorizedError unless the header holds one of the tokens."""
        scheme, _, token = (authorization or "").partition(" ")
        given = hashlib.sha256(token.strip().encode("utf-8", "surrogateescape")).digest()
        # Every token is compared, also after a match: the time says nothing.
        matches = [hmac.compare_digest(given, digest) for digest in self._digests]
        if scheme.lower() != "bearer" or not any(matches):
            raise UnauthorizedError("send a valid token: Authorization: Bearer TOKEN")


class Guard:
    """Who may pass, and whether anything may while the server drains."""

    def __init__(self, tokens: Tokens | None = None, *, management: bool = False) -> None:
        self._tokens = tokens
        self._management = management
        self.draining = False
        self.n_active = 0

    def admit(self, authorization: str | None, *, probe: bool = False, management: bool = False) -> None:
        """Raises UnauthorizedError, ForbiddenError where management is off, NotReadyError while draining."""
        if self._tokens is not None and not probe:
            self._tokens.check(authorization)
        if management and not self._management:
            raise ForbiddenError("models cannot be loaded or unloaded; start the server with --enable-repository")
        if self.draining:
            raise NotReadyError("the server is stopping; try again")


class GuardMiddleware:
    """The guard as ASGI middleware."""

    def __init__(self, app: Any, guard: Guard) -> None:
        self._app = app
        self._guard = guard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"]
        headers = {name: value.decode("latin-1") for name, value in scope["headers"] if name == b"authorization"}
        probe = scope["method"] in ("GET", "HEAD") and OPEN_PATHS.fullmatch(path) is not None
        try:
            self._guard.admit(headers.get(b"authorization"), probe=probe, management=path.startswith(MANAGEMENT_PATH))
        except RequestError as exc:
            await _refuse(exc, _hardened(send))
            return
        self._guard.n_active += 1
        try:
            await self._app(scope, receive, _hardened(send))
        finally:
            self._guard.n_active -= 1


def _hardened(send: Send) -> Send:
    def hardened(message: MutableMapping[str, Any]) -> Awaitable[None]:
        if message["type"] == "http.response.start":
            headers = list(message.get("headers", ()))
            present = {name.lower() for name, _ in headers}
            message["headers"] = headers + [pair for pair in HEADERS if pair[0] not in present]
        return send(message)

    return hardened


async def _refuse(error: RequestError, send: Send) -> None:
    reply = error_reply(error)
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(reply.body)).encode())]
    if isinstance(error, UnauthorizedError):
        headers.append((b"www-authenticate", b"Bearer"))
    if isinstance(error, NotReadyError):
        headers += [(b"retry-after", b"1"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})
