"""The KServe host's way of a request that is no plain prediction: its deadline, its client, and its count."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
import time
import weakref
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from starlette.testclient import TestClient

from bert_handler import Predictor
from bert_handler.errors import ModelNotFoundError
from bert_handler.generation import TextStream
from bert_handler.metrics import REQUEST_LOGGER
from bert_handler.server import repository
from bert_handler.server.asgi import HARDENING, Application
from bert_handler.server.routes import Routes

pytest.importorskip("kserve")
from bert_handler.kserve_model import LOOP_BYTES, LocalModel
from bert_handler.server.arrivals import tell
from bert_handler.server.repository import Repository
from bert_handler.serving import freeze_heap

EXPLAIN = {"explain": "True"}


@pytest.fixture
def model(zoo, load):
    return LocalModel("m", load(zoo("bert", "sequence_classification")))


@pytest.fixture
def gate(model, monkeypatch):
    """Open it to let explanations go on."""
    opened, explain = threading.Event(), model.predictor.explainer._explain
    monkeypatch.setattr(model.predictor.explainer, "_explain", lambda *given: opened.wait(10) and explain(*given))
    yield opened
    opened.set()


async def test_an_explanation_is_504_at_its_deadline_whatever_runs_before_it(model, gate):
    first = asyncio.ensure_future(model.reply(b"a fox", EXPLAIN, None))
    await asyncio.sleep(0.05)
    started = time.monotonic()
    reply = await model.reply(b"a fox", {**EXPLAIN, "x-request-timeout-ms": "50"}, None)
    assert 0.04 < time.monotonic() - started < 5
    assert reply.status == 504
    assert json.loads(reply.body) == {"error": "the deadline passed before the answer was computed"}
    gate.set()
    assert (await first).status == 200


async def test_a_client_that_goes_takes_its_explanation_along(model, gate):
    queue = model.predictor.explainer.queue
    goes = [asyncio.ensure_future(model.reply(b"a fox", EXPLAIN, None)) for _ in range(2)]
    await asyncio.sleep(0.05)
    assert len(queue._waiting) == 2
    for task in goes:
        task.cancel()
    await asyncio.wait(goes)
    await asyncio.sleep(0)
    assert not queue._waiting


@pytest.mark.parametrize("body", [b"a fox", b"a fox " * LOOP_BYTES], ids=len)
async def test_a_client_that_goes_is_counted_and_logged(model, gate, caplog, monkeypatch, body):
    caplog.set_level("DEBUG", REQUEST_LOGGER)
    before = Counter(model.metrics.requests)
    if len(body) > LOOP_BYTES:
        # It goes while its body is decoded.
        monkeypatch.setattr(model, "_decode", lambda *given: gate.wait(10))
    task = asyncio.ensure_future(model.reply(body, {**EXPLAIN, "x-request-id": "r-18"}, None))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert model.metrics.requests - before == {"499": 1}
    assert caplog.messages[0].startswith("m request_id='r-18' status=499 ")


async def test_a_model_that_stops_answers_its_explanations_and_refuses_others(zoo):
    model = LocalModel("m", Predictor.load(zoo("bert", "sequence_classification"), device="cpu", environ={}))
    accepted = [asyncio.ensure_future(model.reply(b"a fox", EXPLAIN, None)) for _ in range(3)]
    await asyncio.sleep(0.01)
    await asyncio.to_thread(model.stop)
    assert [(await item).status for item in accepted] == [200] * 3
    reply = await model.reply(b"a fox", EXPLAIN, None)
    assert (reply.status, json.loads(reply.body)) == (503, {"error": "the model is being unloaded"})


# ---- streams ------------------------------------------------------------------------------------

EVENTS = {"accept": "text/event-stream", "x-request-id": "r-17"}


@pytest.fixture
def generator(zoo, load):
    return LocalModel("g", load(zoo("gpt2", "generation")))


@pytest.fixture
def counted(generator, caplog):
    """What has been counted and logged since."""
    caplog.set_level("DEBUG", REQUEST_LOGGER)
    before = Counter(generator.metrics.requests)
    return lambda: (generator.metrics.requests - before, caplog.messages)


async def test_a_stream_is_counted_and_logged_at_its_end(generator, counted):
    events = await generator.stream(b'{"text": "the dog", "max_new_tokens": 2}', EVENTS, None)
    assert (await events.__anext__()).startswith(b'data: {"text":')
    assert counted() == ({}, [])
    assert [event async for event in events]
    assert counted()[0] == {"200": 1}
    assert counted()[1][0].startswith("g request_id='r-17' status=200 ")


@pytest.mark.parametrize("body", [b"{", b'{"text": "a", "max_new_tokens": 0}'])
async def test_a_refused_stream_is_counted_and_logged(generator, counted, body):
    assert (await generator.stream(body, EVENTS, None)).status == 400
    assert counted()[0] == {"400": 1}
    assert counted()[1][0].startswith("g request_id='r-17' status=400 ")


async def test_a_stream_that_nobody_begins_to_read_is_closed(generator, counted, monkeypatch):
    closed, close = [], TextStream.close
    monkeypatch.setattr(TextStream, "close", lambda stream: closed.append(stream) or close(stream))
    events = await generator.stream(b'{"text": "the dog", "max_new_tokens": 100}', EVENTS, None)
    del events
    gc.collect()
    await asyncio.sleep(0.05)
    assert len(closed) == 1
    assert counted()[0] == {"200": 1}


@pytest.fixture
def engine(generator, monkeypatch):
    """Open it to let texts be generated."""
    opened, engine = threading.Event(), type(generator.predictor.engine)
    generate = engine.generate
    monkeypatch.setattr(engine, "generate", lambda self, *given: opened.wait(10) and generate(self, *given))
    yield opened
    opened.set()


async def test_streams_that_wait_hold_no_threads(generator, engine):
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2))
    body = b'{"text": "the dog", "max_new_tokens": 2}'
    streams = [await generator.stream(body, EVENTS, None) for _ in range(6)]
    before = threading.active_count()
    readers = [asyncio.ensure_future(_read(events)) for events in streams]
    await asyncio.sleep(0.05)
    assert threading.active_count() <= before
    assert await asyncio.wait_for(asyncio.to_thread(len, "free"), 5) == 4
    engine.set()
    texts = await asyncio.wait_for(asyncio.gather(*readers), 10)
    assert all(b'"finish_reason":' in text for text in texts)


async def test_a_stream_that_waits_ends_with_an_error_event_at_its_deadline(generator, engine, counted):
    events = await generator.stream(b"the dog", {**EVENTS, "x-request-timeout-ms": "50"}, None)
    text = await asyncio.wait_for(_read(events), 5)
    assert text.startswith(b"event: error\ndata: ") and b"before the text was complete" in text
    assert counted()[0] == {"200": 1}


async def test_a_reader_that_is_cancelled_closes_its_stream(generator, engine, counted, monkeypatch):
    closed, close = threading.Event(), TextStream.close
    monkeypatch.setattr(TextStream, "close", lambda stream: closed.set() or close(stream))
    reader = asyncio.ensure_future(_read(await generator.stream(b"the dog", EVENTS, None)))
    await asyncio.sleep(0.05)
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert closed.is_set()
    assert counted()[0] == {"200": 1}


async def test_the_memory_of_a_model_is_free_when_it_is_unloaded(zoo, tmp_path, monkeypatch):
    monkeypatch.setattr(repository, "RETIRE_AFTER_S", 0)
    models = {"m": LocalModel("m", Predictor.load(zoo("bert", "sequence_classification"), device="cpu", environ={}))}
    await models["m"].reply(b"a fox", {}, None)
    engine = weakref.ref(models["m"].predictor.engine)
    freeze_heap()
    keeper = Repository(models, tmp_path, None)
    await keeper.unload("m")
    await asyncio.gather(*keeper._tasks)
    assert engine() is None


@pytest.fixture
async def loading(model, tmp_path):
    """A repository that loads `m`: its models, itself, the load, and an event that lets it go on."""
    (tmp_path / "m.mar").touch()
    begun, go_on, models = threading.Event(), threading.Event(), {}

    def load(name, path):
        begun.set()
        assert go_on.wait(10)
        return model

    keeper = Repository(models, tmp_path, load)
    loaded = asyncio.ensure_future(keeper.load("m"))
    await asyncio.to_thread(begun.wait, 10)
    return models, keeper, loaded, go_on


async def test_a_model_is_unloaded_behind_what_loads_it(loading):
    models, keeper, loaded, go_on = loading
    unloaded = asyncio.ensure_future(keeper.unload("m"))
    await asyncio.sleep(0.05)
    go_on.set()
    await asyncio.gather(loaded, unloaded)
    assert models == {}
    for name in ("m", "other"):
        with pytest.raises(ModelNotFoundError):
            await keeper.unload(name)
    assert set(keeper._locks) == {"m"}


async def test_what_is_loaded_is_served_whoever_has_gone(model, loading):
    models, keeper, asked, go_on = loading
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    assert keeper._locks["m"].locked()
    go_on.set()
    await asyncio.gather(*keeper._tasks)
    assert models == {"m": model}


def test_a_closed_loop_does_not_reach_the_engine():
    loop = asyncio.new_event_loop()
    loop.close()
    TextStream(wake=partial(tell, loop, print)).put("a")


def test_streams_have_the_headers_of_every_answer(generator):
    client = TestClient(Application(Routes(lambda: {"g": generator}).routes()))
    response = client.post("/predictions/g", content=b"the dog", headers={"accept": "text/event-stream"})
    assert response.headers["content-type"] == "text/event-stream"
    assert {(name.encode(), value.encode()) for name, value in response.headers.items()} >= set(HARDENING)


async def _read(events):
    return b"".join([event async for event in events])
