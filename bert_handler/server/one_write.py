"""uvicorn's HTTP protocol, with the header and the body of an answer in one write.

uvicorn writes them one after the other, and uvloop sends each at once: two system calls, and a client
that wakes up twice.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol


class OneWriteProtocol(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
    """The protocol over a transport that gathers writes."""

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(Gathering(transport, self.loop))


class Gathering:
    """A transport that sends what is written in one turn of the loop together."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._gathered: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send it at the end of the turn, behind what was written before."""
        if not self._gathered:
            self._loop.call_soon(self._flush)
        self._gathered.append(data)

    def close(self) -> None:
        """Send what is gathered and close the connection."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        gathered, self._gathered = self._gathered, []
        # The client may have gone since.
        if gathered and not self._transport.is_closing():
            self._transport.writelines(gathered)
