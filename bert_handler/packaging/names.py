"""What archives, routes and Kubernetes take for a name; everything else is refused with ConfigError."""

from __future__ import annotations

import re
from collections.abc import Collection

from bert_handler.errors import ConfigError
from bert_handler.parameters import quoted

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_SUBDOMAIN = re.compile(rf"{_LABEL.pattern}(\.{_LABEL.pattern})*")
_URI = re.compile(r"[a-z][a-z0-9+.-]*://\S+")
MAX_LABEL, MAX_SUBDOMAIN = 63, 253
MAX_NAME = 200
"""A file's name has 255 bytes at most, and some are made of a name and a suffix."""
SUFFIX = "-predictor"
"""KServe names objects by the InferenceService and this, or `-explainer`."""


def check_name(what: str, value: str) -> None:
    """Of an archive, its version, a route, or a folder."""
    if not _NAME.fullmatch(value) or len(value) > MAX_NAME:
        words = f"letters, digits, dots, dashes and underscores, {MAX_NAME} at most"
        raise ConfigError(f"{what} {quoted(value)} must be {words}")


def check_label(what: str, value: str, most: int = MAX_LABEL) -> None:
    """Of a namespace (RFC 1123)."""
    if not _LABEL.fullmatch(value) or len(value) > most:
        raise ConfigError(f"{what} {value!r} must be lower-case letters and digits, dashes between, {most} at most")


def check_subdomain(what: str, value: str) -> None:
    """Of a volume's claim (RFC 1123)."""
    if not _SUBDOMAIN.fullmatch(value) or len(value) > MAX_SUBDOMAIN:
        raise ConfigError(f"{what} {value!r} must be lower-case letters and digits, dashes and dots between")


def check_service(value: str) -> None:
    """Of an InferenceService (RFC 1035), with room for KServe's suffix."""
    if value[:1].isdigit():
        raise ConfigError(f"name {value!r} must begin with a letter")
    check_label("name", value, MAX_LABEL - len(SUFFIX))


def check_uri(what: str, value: str) -> None:
    """Of a place in a storage: SCHEME://PLACE."""
    if not _URI.fullmatch(value):
        raise ConfigError(f"{what} {value!r} is no URI; give one like pvc://CLAIM/FOLDER")


def check_choice(what: str, value: str, allowed: Collection[str]) -> None:
    """Of one of few."""
    if value not in allowed:
        raise ConfigError(f"{what} {value!r} is unknown; choose from {', '.join(allowed)}")
