"""Network addresses: how they are written, which are this machine's own, and whose proxy the others go through."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from urllib.parse import urlsplit

from bert_handler.errors import ConfigError


def authority(host: str, port: int) -> str:
    """HOST:PORT as URLs and gRPC have it: an IPv6 address in brackets (RFC 3986, section 3.2.2)."""
    return f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"


def is_loopback(url: str) -> bool:
    """Whether a URL, or HOST:PORT, is this machine's own: what is sent there is not for a proxy to see.

    Names are not resolved: `localhost` and what ends with it are taken by their word (RFC 6761, section 6.3).
    Raises ConfigError where the URL has no valid host.
    """
    host = (_host(url) or "").rstrip(".")
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        # Also 127.1 and the like, which the system's resolver takes.
        address = ip_address(host if ":" in host else socket.inet_aton(host))
    except (ValueError, OSError):
        return False
    address = getattr(address, "ipv4_mapped", None) or address
    # To connect to 0.0.0.0 is to connect to this machine.
    return address.is_loopback or address.is_unspecified


def _host(url: str) -> str | None:
    try:
        return urlsplit(url if "//" in url else f"//{url}").hostname
    except ValueError as exc:
        raise ConfigError(f"{url!r} is no address: {exc}") from exc


@contextmanager
def environment_proxy() -> Iterator[None]:
    """Raise ConfigError where httpx is to make a client and cannot use the environment's proxy.

    The proxy is not repeated: its URL may have a password.
    """
    import httpx

    variables = "HTTP_PROXY, HTTPS_PROXY or ALL_PROXY"
    try:
        yield
    except ImportError:
        raise ConfigError(f"the SOCKS proxy of {variables} needs: pip install 'httpx[socks]'") from None
    except (ValueError, httpx.InvalidURL):
        raise ConfigError(f"the proxy of {variables} is none that can be used") from None
