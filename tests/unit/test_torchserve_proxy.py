"""The front of a TorchServe: what it passes on, and what it knows of the model behind it."""

from __future__ import annotations

import asyncio
import gc
import sys

import httpx
import pytest

from bert_handler import jsonio, torchserve_proxy
from bert_handler.errors import ConfigError, ModelNotFoundError, NotReadyError
from bert_handler.server.routes import find
from bert_handler.torchserve_proxy import FrontModel, TorchServe


class Behind:
    """Stands in for TorchServe: notes the headers that arrive, and describes one version."""

    def __init__(self):
        self.version = "1.0"
        self.headers = []
        self.described = 0

    def __call__(self, request):
        if self.version is None:
            raise httpx.ConnectError("away")
        self.headers.append(dict(request.headers.raw))
        if "describe" in request.headers:
            self.described += 1
            return httpx.Response(200, content=jsonio.dumps({"name": "m", "versions": [self.version]}))
        return httpx.Response(200, content=b'{"predictions": []}', headers={"content-type": "application/json"})


@pytest.fixture
def behind():
    return Behind()


@pytest.fixture
async def front(behind):
    server = TorchServe("http://torchserve")
    async with httpx.AsyncClient(base_url=server.url, transport=httpx.MockTransport(behind)) as client:
        server._client = client
        yield FrontModel("m", server)


async def test_header_values_pass_as_the_bytes_that_came(front, behind):
    value = "naïve 東京".encode().decode("latin-1")
    reply = await front.reply(b"a text", {"x-request-id": value, "content-type": "text/plain; charset=é"}, None)
    assert reply.status == 200
    assert behind.headers[0][b"x-request-id"] == "naïve 東京".encode()
    assert behind.headers[0][b"content-type"] == "text/plain; charset=é".encode("latin-1")


async def test_what_torchserve_would_read_as_a_form_is_sent_as_bytes(front, behind):
    for content_type in (None, "Application/X-WWW-Form-Urlencoded", "multipart/form-data; boundary=x"):
        sent = {"content-encoding": "br", **({"content-type": content_type} if content_type else {})}
        await front.reply(b"a text", sent, None)
        assert behind.headers[-1][b"content-type"] == b"application/octet-stream"
        assert behind.headers[-1][b"content-encoding"] == b"br", "its handler refuses it"


async def test_the_model_is_not_described_for_every_request(front, behind):
    for _ in range(3):
        assert (await front.metadata())["versions"] == ["1.0"]
    assert behind.described == 1


async def test_a_new_version_behind_the_front_is_found(front, behind, monkeypatch):
    monkeypatch.setattr(torchserve_proxy, "METADATA_S", 0)
    assert await find({"m": front}, "m", "1.0") is front
    behind.version = "2.0"
    assert await find({"m": front}, "m", "2.0") is front
    with pytest.raises(ModelNotFoundError, match=r"has version 2\.0, not '1\.0'"):
        await find({"m": front}, "m", "1.0")
    behind.version = None
    assert (await front.metadata())["versions"] == ["2.0"]


async def test_what_was_never_described_is_not_ready(front, behind):
    behind.version = None
    with pytest.raises(NotReadyError, match="does not describe 'm' yet"):
        await front.metadata()
    behind.version = "1.0"
    assert (await front.metadata())["versions"] == ["1.0"]


EVENTS = [b'data: {"text":"a"}\n\n', b'data: {"predict":"a"}\n\n']


class Body(httpx.AsyncByteStream):
    def __init__(self, error=None, chunks=EVENTS):
        self.closed = False
        self.error = error
        self.chunks = chunks

    async def __aiter__(self):
        for chunk in self.chunks:
            yield chunk
            if self.error is not None:
                raise self.error

    async def aclose(self):
        self.closed = True


@pytest.fixture
def answering():
    """`answering(status, **response)`: a front model whose TorchServe gives that answer."""

    def make(status, **response):
        server = TorchServe("http://torchserve")
        transport = httpx.MockTransport(lambda request: httpx.Response(status, **response))
        server._client = httpx.AsyncClient(base_url=server.url, transport=transport)
        return FrontModel("m", server)

    return make


async def test_a_client_that_goes_is_counted(front, monkeypatch):
    monkeypatch.setattr(front, "_reply", lambda *given: asyncio.sleep(10))
    task = asyncio.ensure_future(front.reply(b"a", {}, None))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert front.metrics.requests == {"499": 1}


async def test_a_stream_is_passed_on_and_counted_at_its_end(answering):
    body = Body()
    model = answering(200, headers={"content-type": "text/event-stream"}, stream=body)
    events = await model.stream(b"a", {"accept": "text/event-stream"}, None)
    assert not model.metrics.requests
    assert [event async for event in events] == EVENTS
    assert model.metrics.requests == {"200": 1}
    assert body.closed


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (httpx.ReadError("gone"), "TorchServe is not reachable; try again"),
        (httpx.ReadTimeout("late"), "TorchServe did not answer in time"),
    ],
)
@pytest.mark.parametrize(("chunks", "between"), [(EVENTS, b""), ([b'data: {"te'], b"\n\n")])
async def test_a_stream_whose_torchserve_goes_ends_with_an_error_event(answering, caplog, error, told, chunks, between):
    body = Body(error, chunks)
    model = answering(200, headers={"content-type": "text/event-stream"}, stream=body)
    events = [event async for event in await model.stream(b"a", {"x-request-id": "r-17"}, None)]
    assert events == [chunks[0], between + b'event: error\ndata: {"error":"%s"}\n\n' % told.encode()]
    assert body.closed
    assert "request_id='r-17'" in caplog.text


async def test_a_stream_that_nobody_begins_to_read_gives_its_connection_back(answering):
    body = Body()
    model = answering(200, headers={"content-type": "text/event-stream"}, stream=body)
    events = await model.stream(b"a", {"accept": "text/event-stream"}, None)
    del events
    gc.collect()
    await asyncio.sleep(0.05)
    assert body.closed
    assert model.metrics.requests == {"200": 1}


SAID_OF_BOTH = {
    "code": 503,
    "type": "ServiceUnavailableException",
    "message": 'Model "m" has no worker to serve inference request. Please use scale workers API to add workers.',
}


@pytest.mark.parametrize("ask", ["reply", "stream"])
@pytest.mark.parametrize(("worker", "status", "retry"), [("READY", 429, "1"), ("LOADING", 503, None)])
async def test_a_full_queue_is_told_from_a_missing_worker(ask, worker, status, retry):
    def answer(request):
        if request.method == "GET":
            return httpx.Response(200, json=[{"workers": [{"status": worker}]}])
        return httpx.Response(503, json=SAID_OF_BOTH)

    server = TorchServe("http://torchserve")
    server._client = httpx.AsyncClient(base_url=server.url, transport=httpx.MockTransport(answer))
    reply = await getattr(FrontModel("m", server), ask)(b"a", {"accept": "text/event-stream"}, None)
    assert (reply.status, reply.headers.get("Retry-After")) == (status, retry)
    assert list(jsonio.loads(reply.body)) == ["error"]


@pytest.mark.parametrize(("status", "given"), [(400, {"error": "wrong"}), (503, {"code": 503, "message": "away"})])
async def test_a_refused_stream_is_counted(answering, status, given):
    model = answering(status, json=given)
    assert (await model.stream(b"a", {"accept": "text/event-stream"}, None)).status == status
    assert model.metrics.requests == {str(status): 1}


async def test_a_refusal_that_breaks_off_is_counted(answering):
    class Broken(httpx.AsyncByteStream):
        async def __aiter__(self):
            yield b"{"
            raise httpx.RemoteProtocolError("cut")

    model = answering(503, stream=Broken())
    assert (await model.stream(b"a", {"accept": "text/event-stream"}, None)).status == 503
    assert model.metrics.requests == {"503": 1}


def test_models_of_all_pages_are_listed(monkeypatch):
    names = [f"m{number}" for number in range(5)]

    def get(url, params, **_):
        start = int(params.get("next_page_token", 0))
        page = {"models": [{"modelName": name} for name in names[start : start + 2]]}
        if start + 2 < len(names):
            page["nextPageToken"] = str(start + 2)
        return httpx.Response(200, json=page, request=httpx.Request("GET", url))

    monkeypatch.setattr(httpx, "get", get)
    assert TorchServe("http://torchserve").models() == names


@pytest.mark.parametrize(("host", "passed"), [("127.0.0.1", 0), ("localhost", 0), ("example.invalid", 3)])
async def test_a_torchserve_on_this_machine_is_asked_without_a_proxy(monkeypatch, host, passed):
    """Neither the texts nor the keys for it."""
    seen = []

    async def answer(reader, writer):
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 418 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    proxy = await asyncio.start_server(answer, "127.0.0.1", 0)
    for name in ("HTTP_PROXY", "ALL_PROXY", "http_proxy", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    server = TorchServe(f"http://{host}:9")
    await FrontModel("m", server).reply(b"a text", {}, None)
    assert not await server.is_ready("m")
    with pytest.raises(ConfigError, match="does not list its models"):
        await asyncio.to_thread(server.models)
    assert len(seen) == passed
    proxy.close()


async def test_a_proxy_that_cannot_be_used_is_said_at_the_start(monkeypatch):
    monkeypatch.setitem(sys.modules, "socksio", None)
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:9")
    with pytest.raises(ConfigError, match="the SOCKS proxy of HTTP_PROXY"):
        TorchServe("http://example.invalid")
