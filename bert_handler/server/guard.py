"""What stands before every route of the KServe host: tokens, draining, management."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from bert_handler.errors import ConfigError, ForbiddenError, NotReadyError, UnauthorizedError

TOKENS_VARIABLE = "BERT_HANDLER_TOKENS"
MIN_TOKEN_LENGTH = 16
OPEN_PATHS = re.compile(
    r"/|/v2/health/(live|ready)|/v2/models/[^/]+(/versions/[^/]+)?/ready|/v1/models/[^/:]+|/ui(/[a-z.]*)?"
)
"""Probes of a kubelet carry no token; they say nothing but whether a model is ready. Nor does a browser
that opens the playground: its files are the same everywhere, and what they call is guarded."""
STOPPING = "the server is stopping; try again"
UNMANAGED = "models cannot be loaded or unloaded; start the server with --enable-repository"
MANAGEMENT_PATH = "/v2/repository/"


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
            raise ForbiddenError(UNMANAGED)
        if self.draining:
            raise NotReadyError(STOPPING)

    def admit_http(self, method: str, path: str, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """The same for a request on HTTP.  headers have lower-case names."""
        authorization, probe = None, False
        if self._tokens is not None:
            authorization = next((value.decode("latin-1") for name, value in headers if name == b"authorization"), None)
            probe = method in ("GET", "HEAD") and OPEN_PATHS.fullmatch(path) is not None
        self.admit(authorization, probe=probe, management=path.startswith(MANAGEMENT_PATH))
