"""What is large is read, tokenized and answered in threads, so that the event loop is there for others."""

from __future__ import annotations

import json
import threading

import pytest

from bert_handler import serving
from bert_handler.intake import Intake
from bert_handler.pending import Pending

kserve_model = pytest.importorskip("bert_handler.kserve_model")

NLI = {"id2label": {0: "contradiction", 1: "entailment"}, "label2id": {"contradiction": 0, "entailment": 1}}
MODELS = {
    "classify": (("bert", "sequence_classification"), {}, {}),
    "rank": (("bert", "sequence_classification"), {"num_labels": 1}, {"mode": "text_ranking"}),
    "label": (("bert", "sequence_classification"), NLI, {"mode": "zero_shot_classification"}),
    "fill": (("bert", "fill_mask"), {}, {}),
    "generate": (("gpt2", "generation"), {}, {}),
}


@pytest.fixture(scope="module")
def predictors(zoo, load):
    return {name: load(zoo(*which, **config), **settings) for name, (which, config, settings) in MODELS.items()}


@pytest.fixture
def model_of(predictors):
    return lambda name: kserve_model.LocalModel(name, predictors[name])


@pytest.fixture
def on_loop(predictors, monkeypatch):
    """The steps of requests that were taken on this thread, and of those that were not."""
    taken = {True: set(), False: set()}

    def watch(owner, name):
        step = getattr(owner, name)

        def watched(*args, **kwargs):
            taken[threading.current_thread() is threading.main_thread()].add(name)
            return step(*args, **kwargs)

        monkeypatch.setattr(owner, name, watched)

    watch(serving, "decode")
    watch(serving, "encode")
    watch(Intake, "_encode")
    watch(Pending, "response")
    return taken


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("classify", {"instances": ["a fox"] * 128}),
        ("rank", {"query": "a fox", "documents": ["a dog"] * 128}),
        ("label", {"instances": ["a fox"] * 8, "parameters": {"candidate_labels": ["fox", "dog"]}}),
        ("fill", {"text": "a [MASK] fox"}),
    ],
)
async def test_small_requests_stay_on_the_loop(model_of, on_loop, name, body):
    await model_of(name).reply(json.dumps(body).encode(), {}, None)
    assert on_loop == {True: {"decode", "_encode", "response", "encode"}, False: set()}


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("classify", {"instances": ["a fox"] * 129}),
        ("rank", {"query": "a fox", "documents": ["a dog"] * 129}),
        ("rank", {"query": "fox " * 200, "documents": ["a dog"] * 30}),
        ("label", {"instances": ["a fox"] * 100, "parameters": {"candidate_labels": ["fox", "dog"]}}),
        ("fill", {"text": "[MASK] " * 40}),
    ],
)
async def test_small_bodies_that_ask_for_much_leave_the_loop(model_of, on_loop, name, body):
    reply = await model_of(name).reply(json.dumps(body).encode(), {}, None)
    assert reply.status == 200
    assert on_loop == {True: {"decode"}, False: {"_encode", "response", "encode"}}


async def test_large_bodies_leave_the_loop(model_of, on_loop):
    body = json.dumps({"instances": ["a fox " * 3000]}).encode()
    assert (await model_of("classify").reply(body, {}, None)).status == 200
    assert on_loop == {True: set(), False: {"decode", "_encode", "response", "encode"}}


async def test_bodies_of_streams_leave_the_loop(model_of, on_loop):
    body = json.dumps({"text": "the dog " * 3000, "max_new_tokens": 2}).encode()
    events = await model_of("generate").stream(body, {"accept": "text/event-stream"}, None)
    assert [event async for event in events]
    assert on_loop[True] == set()


async def test_a_defect_in_a_large_answer_is_500(model_of, monkeypatch):
    monkeypatch.setattr(Pending, "response", lambda self: 1 / 0)
    reply = await model_of("classify").reply(json.dumps({"instances": ["a fox"] * 129}).encode(), {}, None)
    assert (reply.status, json.loads(reply.body)["error"][:14]) == (500, "internal error")
