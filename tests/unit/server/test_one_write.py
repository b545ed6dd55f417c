"""An answer leaves in one piece, whatever writes it in several."""

from __future__ import annotations

import asyncio

from bert_handler.server.one_write import Gathering


class Transport:
    """Stands in for a connection: notes what reaches it."""

    def __init__(self):
        self.sent = []
        self.closed = False

    def writelines(self, parts):
        assert not self.closed
        self.sent.append(b"".join(parts))

    def is_closing(self):
        return self.closed

    def close(self):
        self.closed = True


async def test_what_is_written_in_one_turn_is_sent_together():
    transport = Transport()
    gathering = Gathering(transport, asyncio.get_running_loop())
    gathering.write(b"header ")
    gathering.write(b"body")
    assert transport.sent == []
    await asyncio.sleep(0)
    gathering.write(b"next")
    await asyncio.sleep(0)
    assert transport.sent == [b"header body", b"next"]


async def test_closing_sends_what_is_written_first():
    transport = Transport()
    gathering = Gathering(transport, asyncio.get_running_loop())
    gathering.write(b"last")
    gathering.close()
    await asyncio.sleep(0)
    assert (transport.sent, gathering.is_closing()) == ([b"last"], True)


async def test_what_is_written_to_a_client_that_goes_is_lost():
    transport = Transport()
    gathering = Gathering(transport, asyncio.get_running_loop())
    gathering.write(b"late")
    transport.closed = True
    await asyncio.sleep(0)
    assert transport.sent == []
