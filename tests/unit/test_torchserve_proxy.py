"""The front's way of a stream, with a stand-in for the TorchServe behind it."""

from __future__ import annotations

import asyncio
import gc

import httpx
import pytest

pytest.importorskip("kserve")
from bert_handler.torchserve_proxy import FrontModel, TorchServe

EVENTS = [b'data: {"text":"a"}\n\n', b'data: {"predict":"a"}\n\n']


class Body(httpx.AsyncByteStream):
    def __init__(self):
        self.closed = False

    async def __aiter__(self):
        for event in EVENTS:
            yield event

    async def aclose(self):
        self.closed = True


@pytest.fixture
def front():
    """`front(status, **response)`: a front model whose TorchServe gives that answer."""

    def make(status, **response):
        server = TorchServe("http://torchserve")
        transport = httpx.MockTransport(lambda request: httpx.Response(status, **response))
        server._client = httpx.AsyncClient(base_url=server.url, transport=transport)
        return FrontModel("m", server)

    return make


async def test_a_stream_is_passed_on_and_counted_at_its_end(front):
    body = Body()
    model = front(200, headers={"content-type": "text/event-stream"}, stream=body)
    events = await model.stream(b"a", {"accept": "text/event-stream"}, None)
    assert not model.metrics.requests
    assert [event async for event in events] == EVENTS
    assert model.metrics.requests == {"200": 1}
    assert body.closed


async def test_a_stream_that_nobody_begins_to_read_gives_its_connection_back(front):
    body = Body()
    model = front(200, headers={"content-type": "text/event-stream"}, stream=body)
    events = await model.stream(b"a", {"accept": "text/event-stream"}, None)
    del events
    gc.collect()
    await asyncio.sleep(0.05)
    assert body.closed
    assert model.metrics.requests == {"200": 1}


@pytest.mark.parametrize(("status", "given"), [(400, {"error": "wrong"}), (503, {"code": 503, "message": "away"})])
async def test_a_refused_stream_is_counted(front, status, given):
    model = front(status, json=given)
    assert (await model.stream(b"a", {"accept": "text/event-stream"}, None)).status == status
    assert model.metrics.requests == {str(status): 1}
