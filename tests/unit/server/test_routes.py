"""What a client that goes leaves behind, and one that never sends its body."""

from __future__ import annotations

import asyncio
import logging
import time

import httpx
import pytest
from starlette.routing import Route
from starlette.testclient import TestClient

from bert_handler.errors import RequestTooLargeError, SlowBodyError
from bert_handler.metrics import REQUEST_LOGGER
from bert_handler.schema import Reply
from bert_handler.server import asgi
from bert_handler.server.asgi import Application, ClientGoneError, Endpoint, HttpRequest, Watch
from bert_handler.server.routes import Routes


def request(*messages, then=60, **headers):
    """A request whose client sends these messages, and goes after `then` seconds."""
    left = list(messages)

    async def receive():
        if not left:
            await asyncio.sleep(then)
            return {"type": "http.disconnect"}
        return left.pop(0)

    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return HttpRequest({"headers": pairs, "path_params": {}}, receive)


def part(body, *, more=False):
    return {"type": "http.request", "body": body, "more_body": more}


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setattr(asgi, "WATCH_AFTER_S", 0.01)


async def answer(request, seconds):
    with Watch(request) as watch:
        watch.received()
        await asyncio.sleep(seconds)


async def test_an_answer_that_nobody_waits_for_is_cancelled():
    started = time.monotonic()
    with pytest.raises(ClientGoneError):
        await answer(request(then=0.05), 60)
    assert time.monotonic() - started < 30


async def test_an_answer_in_time_is_given():
    await answer(request(), 0.06)
    # Its watcher has ended with it.
    await asyncio.sleep(0)
    assert len(asyncio.all_tasks()) == 1


async def test_a_server_that_cancels_is_not_a_client_that_goes():
    task = asyncio.ensure_future(answer(request(), 60))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_body_that_never_ends_is_408(monkeypatch):
    monkeypatch.setattr(asgi, "BODY_TIMEOUT_S", 0.05)
    silent = request(part(b"a", more=True))
    with pytest.raises(SlowBodyError, match="did not arrive within"), Watch(silent):
        await silent.body(100)


async def test_a_body_is_read_up_to_its_limit():
    parts = [part(b"ab", more=True), part(b"", more=True), part(b"c")]
    assert await request(*parts).body(3) == b"abc"
    with pytest.raises(RequestTooLargeError, match="more bytes than max_body_bytes, which is 2"):
        await request(*parts).body(2)
    for stated in ("3", "9" * 5000):
        with pytest.raises(RequestTooLargeError, match="max_body_bytes is 2"):
            await request(*parts, content_length=stated).body(2)
    with pytest.raises(ClientGoneError):
        await request(parts[0], then=0).body(3)


def test_of_a_header_that_is_sent_twice_the_first_counts():
    twice = HttpRequest({"headers": [(b"x", b"1"), (b"y", b"2"), (b"x", b"3")], "path_params": {}}, None)
    assert twice.headers == {"x": "1", "y": "2"}


async def test_a_defect_of_a_route_tells_the_client_nothing():
    async def broken(request):
        raise KeyError("internals")

    app = Application([Route("/", broken), Route("/own", Endpoint("/own", broken), methods=["GET", "POST"])])
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
        responses = [await client.get("/"), await client.get("/own"), await client.post("/own")]
    for response in responses:
        assert response.status_code == 500
        assert response.json() == {"error": "internal error; the server's log has the details"}


def test_what_a_route_refuses_is_logged_with_its_request_id(caplog):
    caplog.set_level(logging.DEBUG, REQUEST_LOGGER)
    client = TestClient(Application(Routes(dict).routes()))
    assert client.post("/v2/models/bert/infer", content=b"x", headers={"X-Request-Id": "r-17"}).status_code == 404
    assert client.get("/v2/models/bert/ready").status_code == 404
    (line,) = caplog.messages
    assert line.startswith("/v2/models/{name}/infer request_id='r-17' status=404 ")


@pytest.mark.parametrize(
    ("accept", "status", "content"),
    [
        ("application/json, text/event-stream", 200, {"predictions"}),
        ("text/event-stream;q=0, */*", 200, {"predictions"}),
        ("text/event-stream", 422, {"error"}),
    ],
)
def test_who_takes_json_gets_it_from_a_model_without_events(zoo, load, accept, status, content):
    kserve_model = pytest.importorskip("bert_handler.kserve_model")
    models = {"bert": kserve_model.LocalModel("bert", load(zoo("bert", "sequence_classification")))}
    client = TestClient(Application(Routes(lambda: models).routes()))
    response = client.post("/v1/models/bert:predict", content=b'{"instances": ["a"]}', headers={"accept": accept})
    assert (response.status_code, set(response.json())) == (status, content)


class Named:
    """A model that answers with its name and the headers that it was given."""

    streams = False

    def __init__(self, name):
        self.name = name

    async def reply(self, body, headers, protocol):
        return Reply(self.name.encode(), headers={"explain": headers.get("explain", "no")})


def test_who_replaces_a_model_while_a_body_comes_answers_it():
    models = {"bert": Named("old")}

    def body():
        yield b"a"
        models["bert"] = Named("new")
        yield b"b"

    client = TestClient(Application(Routes(lambda: models).routes()))
    assert client.post("/v1/models/bert:predict", content=body()).text == "new"


def test_the_route_alone_says_what_is_explained():
    client = TestClient(Application(Routes(lambda: {"bert": Named("bert")}).routes()))
    sent = {"explain": "True"}
    assert client.post("/v1/models/bert:predict", content=b"a", headers=sent).headers["explain"] == "no"
    assert client.post("/v1/models/bert:explain", content=b"a").headers["explain"] == "True"
