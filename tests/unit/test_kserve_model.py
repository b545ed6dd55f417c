"""The KServe host's way of a request that is no plain prediction: its deadline, its client, and its count."""

from __future__ import annotations

import asyncio
import json
import threading
import time

import pytest

from bert_handler import Predictor

pytest.importorskip("kserve")
from bert_handler.kserve_model import LocalModel

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
    explainer = model.predictor.explainer
    goes = [asyncio.ensure_future(model.reply(b"a fox", EXPLAIN, None)) for _ in range(2)]
    await asyncio.sleep(0.05)
    assert len(explainer._waiting) == 2
    for task in goes:
        task.cancel()
    await asyncio.wait(goes)
    await asyncio.sleep(0)
    assert not explainer._waiting


async def test_a_model_that_stops_answers_its_explanations_and_refuses_others(zoo):
    model = LocalModel("m", Predictor.load(zoo("bert", "sequence_classification"), device="cpu", environ={}))
    accepted = [asyncio.ensure_future(model.reply(b"a fox", EXPLAIN, None)) for _ in range(3)]
    await asyncio.sleep(0.01)
    await asyncio.to_thread(model.stop)
    assert [(await item).status for item in accepted] == [200] * 3
    reply = await model.reply(b"a fox", EXPLAIN, None)
    assert (reply.status, json.loads(reply.body)) == (429, {"error": "the model is being unloaded"})
