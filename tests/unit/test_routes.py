"""What a client that goes leaves behind, and one that never sends its body."""

from __future__ import annotations

import asyncio
import logging
import time

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect
from starlette.routing import Route
from starlette.testclient import TestClient

from bert_handler import routes
from bert_handler.errors import SlowBodyError
from bert_handler.metrics import REQUEST_LOGGER
from bert_handler.routes import Routes


class Going:
    """A request whose client goes after a moment."""

    async def receive(self):
        await asyncio.sleep(0.05)
        return {"type": "http.disconnect"}


class Staying:
    """A request whose client waits."""

    async def receive(self):
        await asyncio.sleep(60)


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setattr(routes, "WATCH_AFTER_S", 0.01)


class Silent:
    """A request whose body never ends."""

    def __init__(self):
        self.headers = {"content-length": "5"}

    async def stream(self):
        yield b"a"
        await asyncio.sleep(60)


async def test_an_answer_that_nobody_waits_for_is_cancelled():
    started = time.monotonic()
    with pytest.raises(ClientDisconnect), routes._Watch(Going()):
        await asyncio.sleep(60)
    assert time.monotonic() - started < 30


async def test_an_answer_in_time_is_given():
    with routes._Watch(Staying()):
        await asyncio.sleep(0.06)
    # Its watcher has ended with it.
    await asyncio.sleep(0)
    assert len(asyncio.all_tasks()) == 1


async def test_a_server_that_cancels_is_not_a_client_that_goes():
    async def answer():
        with routes._Watch(Staying()):
            await asyncio.sleep(60)

    task = asyncio.ensure_future(answer())
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_body_that_never_ends_is_408(monkeypatch):
    monkeypatch.setattr(routes, "BODY_TIMEOUT_S", 0.05)
    with pytest.raises(SlowBodyError, match="did not arrive within"):
        await Routes(dict)._body(Silent())


async def test_a_defect_of_a_route_tells_the_client_nothing():
    async def broken(request):
        raise KeyError("internals")

    app = routes.application([Route("/", broken)])
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
        response = await client.get("/")
    assert response.status_code == 500
    assert response.json() == {"error": "internal error; the server's log has the details"}


def test_what_a_route_refuses_is_logged_with_its_request_id(caplog):
    caplog.set_level(logging.DEBUG, REQUEST_LOGGER)
    client = TestClient(Starlette(routes=Routes(dict).routes()))
    assert client.post("/v2/models/bert/infer", content=b"x", headers={"X-Request-Id": "r-17"}).status_code == 404
    assert client.get("/v2/models/bert/ready").status_code == 404
    (line,) = caplog.messages
    assert line.startswith("/v2/models/{name}/infer request_id='r-17' status=404 ")
