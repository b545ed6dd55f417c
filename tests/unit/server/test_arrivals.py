"""Requests that come in one turn of the loop are begun together, and answered each for itself."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from bert_handler.errors import DeadlineError, InternalError
from bert_handler.schema import Prediction, Request
from bert_handler.server.arrivals import MAX_TOGETHER, Arrivals
from bert_handler.serving import Call

TEXTS = ["a fox", "the quick brown dog", "lazy", "a fox jumps over the dog"]


@pytest.fixture
def predictor(zoo, load):
    return load(zoo("bert", "sequence_classification"))


@pytest.fixture
def gate(predictor, monkeypatch):
    """Open it to let forwards begin."""
    opened, run = threading.Event(), predictor.scheduler._run
    monkeypatch.setattr(predictor.scheduler, "_run", lambda rows, threads: opened.wait(10) and run(rows, threads))
    yield opened
    opened.set()


@pytest.fixture
def calls_of(predictor, monkeypatch):
    """How many texts each call of the tokenizer has had."""
    sizes, encode = [], predictor.task.encode
    monkeypatch.setattr(predictor.task, "encode", lambda examples: sizes.append(len(examples)) or encode(examples))
    return sizes


def ask(arrivals, texts, *, small=True, **own):
    return asyncio.gather(*(arrivals.answer(Call(Request([text], **own)), small=small) for text in texts))


@pytest.mark.parametrize("small", [True, False])
async def test_each_caller_has_its_own_answer(predictor, small):
    answers = await ask(Arrivals(predictor), TEXTS, small=small)
    for text, answer in zip(TEXTS, answers):
        assert answer.call.request.instances == [text]
        (alone,) = predictor.predict([text])
        assert answer.response.predictions[0]["score"] == pytest.approx(alone["score"], abs=1e-5)


async def test_one_turn_takes_one_call_of_the_tokenizer(predictor, calls_of):
    arrivals = Arrivals(predictor)
    await ask(arrivals, TEXTS)
    await ask(arrivals, TEXTS[:1])
    await ask(arrivals, TEXTS[:1] * (MAX_TOGETHER + 3))
    assert calls_of == [4, 1, MAX_TOGETHER, 3]


async def test_a_forward_wakes_the_loop_once(predictor, gate, monkeypatch):
    loop = asyncio.get_running_loop()
    woken, wake = [], loop.call_soon_threadsafe
    monkeypatch.setattr(loop, "call_soon_threadsafe", lambda *given: woken.append(len(given[1])) or wake(*given))
    answers = ask(Arrivals(predictor), ["a fox"] * 8)
    await asyncio.sleep(0.05)
    gate.set()
    await answers
    assert woken == [8]


async def test_a_caller_that_goes_takes_its_rows_along(predictor, gate, calls_of):
    arrivals, before = Arrivals(predictor), predictor.metrics.instances
    stays = [asyncio.ensure_future(arrivals.answer(Call(Request(["a"])), small=True)) for _ in range(2)]
    await asyncio.sleep(0.05)
    goes = asyncio.ensure_future(arrivals.answer(Call(Request(["a fox"])), small=True))
    at_once = asyncio.ensure_future(arrivals.answer(Call(Request(["a fox"])), small=True))
    await asyncio.sleep(0)
    at_once.cancel()
    await asyncio.sleep(0.05)
    goes.cancel()
    gate.set()
    await asyncio.gather(*stays)
    assert goes.cancelled() and at_once.cancelled()
    # Who has gone in the turn of its arrival is not even tokenized.
    assert calls_of == [2, 1]
    assert predictor.metrics.instances == before + 2


@pytest.mark.parametrize("stated_s", [None, 60])
async def test_the_settings_deadline_holds_while_the_engine_is_stuck(zoo, load, monkeypatch, stated_s):
    predictor, gate = load(zoo("bert", "sequence_classification"), request_timeout_s=0.05), threading.Event()
    monkeypatch.setattr(predictor.scheduler, "_run", lambda rows, threads: gate.wait(10) and [])
    own = None if stated_s is None else time.monotonic() + stated_s
    answer = await Arrivals(predictor).answer(Call(Request(["a fox"], deadline=own)), small=True)
    gate.set()
    assert isinstance(answer.call.error, DeadlineError)


async def test_a_defect_that_one_request_shows_leaves_its_neighbours_alone(predictor, monkeypatch):
    parse = predictor._intake._parse

    def broken(request):
        if request.id == "bad":
            raise KeyError
        return parse(request)

    monkeypatch.setattr(predictor._intake, "_parse", broken)
    arrivals = Arrivals(predictor)
    requests = [Request(["a fox"]), Request(["a fox"], id="bad"), Request(["a fox"])]
    first, bad, last = await asyncio.gather(*(arrivals.answer(Call(request), small=True) for request in requests))
    assert isinstance(bad.call.error, InternalError)
    assert all(isinstance(item.response.predictions[0], Prediction) for item in (first, last))


async def test_a_refused_request_is_answered_without_a_forward(predictor, gate):
    answer = await Arrivals(predictor).answer(Call(Request(["a"], outputs=("nothing",))), small=True)
    assert str(answer.response.predictions[0].error).startswith("unknown output 'nothing'")
