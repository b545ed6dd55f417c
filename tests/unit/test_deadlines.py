"""What has expired, or lost its caller, is not computed."""

from __future__ import annotations

import json
import threading
import time

import numpy as np
import pytest

from bert_handler import serving
from bert_handler.batching import SEARCH_EVERY_S, Limits, Scheduler
from bert_handler.cost import Cost
from bert_handler.deadlines import deadline_of, expired, remaining_s
from bert_handler.errors import DeadlineError, InternalError, InvalidRequestError, QueueFullError
from bert_handler.schema import Prediction, Request, Response, Row
from bert_handler.serving import Call


def row(length=4):
    return Row({"input_ids": np.arange(length)}, length)


class Gate:
    """Stands in for a model: holds every forward until it is opened, and counts the rows that it computed."""

    def __init__(self):
        self.open = threading.Event()
        self.entered = threading.Event()
        self.n_rows = 0

    def __call__(self, rows, threads):
        self.entered.set()
        assert self.open.wait(10)
        self.n_rows += len(rows)
        return [{"length": np.array(item.length)} for item in rows]


@pytest.fixture
def gate():
    return Gate()


@pytest.fixture
def scheduler(gate):
    made = Scheduler(gate, Limits(max_batch_tokens=8, max_batch_rows=2, max_queue_rows=6, cost=Cost(start=8)))
    yield made
    gate.open.set()
    made.close()


@pytest.fixture
def occupied(scheduler, gate):
    """A scheduler whose only core is busy with one row."""
    scheduler.submit([row()])
    assert gate.entered.wait(10)
    return scheduler


@pytest.mark.parametrize(
    ("headers", "parameters", "timeout_ms"),
    [
        ({"x-request-timeout-ms": "500"}, {}, 500),
        ({}, {"timeout_ms": 500}, 500),
        ({"x-request-timeout-ms": "500"}, {"timeout_ms": 9000}, 500),
        ({"x-request-timeout-ms": "9000"}, {"timeout_ms": 500}, 500),
    ],
)
def test_the_shorter_time_counts(headers, parameters, timeout_ms):
    assert remaining_s(deadline_of(headers, parameters)) == pytest.approx(timeout_ms / 1000, abs=0.05)


def test_nothing_stated_is_no_deadline():
    assert deadline_of({}, {"timeout_ms": None}) is None
    assert remaining_s(None) is None
    assert not expired(None)


@pytest.mark.parametrize("value", ["0", "-5", "soon", "1.5", "", "9" * 400])
def test_a_wrong_header_is_named(value):
    with pytest.raises(InvalidRequestError, match=r"^header x-request-timeout-ms: timeout_ms"):
        deadline_of({"x-request-timeout-ms": value}, {})


@pytest.mark.parametrize("value", [0, -1, "5", 1.5, True, [], 10**12])
def test_a_wrong_parameter_is_named(value):
    with pytest.raises(InvalidRequestError, match=r"^parameter timeout_ms"):
        deadline_of({}, {"timeout_ms": value})


def test_expired_rows_are_not_computed(occupied, gate):
    late = occupied.submit([row(), row()], time.monotonic() + 0.01)
    good = occupied.submit([row(), row()], time.monotonic() + 60)
    time.sleep(0.02)
    gate.open.set()
    assert [type(item) for item in late.result(10)] == [DeadlineError, DeadlineError]
    assert [int(item["length"]) for item in good.result(10)] == [4, 4]
    assert gate.n_rows == 3


def test_rows_of_a_caller_that_is_gone_are_not_computed(occupied, gate):
    gone, stays = occupied.submit([row()] * 2), occupied.submit([row()])
    gone.cancel()
    gate.open.set()
    stays.result(10)
    assert gate.n_rows == 2


def test_rows_of_a_caller_that_is_gone_free_the_queue(occupied):
    gone = occupied.submit([row()] * 6)
    with pytest.raises(QueueFullError):
        occupied.submit([row()])
    gone.cancel()
    time.sleep(SEARCH_EVERY_S)
    occupied.submit([row()] * 6)
    assert len(occupied) == 6


def test_a_full_queue_says_when_to_come_back(occupied, gate):
    gate.open.set()
    while len(occupied):
        time.sleep(0.001)
    occupied.submit([row()]).result(10)
    assert occupied._rows_per_s > 0
    gate.open.clear()
    gate.entered.clear()
    occupied.submit([row()])
    assert gate.entered.wait(10)
    occupied.submit([row()] * 6)
    occupied._rows_per_s = 2.0
    with pytest.raises(QueueFullError, match="6 sequences are waiting already; max_queue_rows is 6") as caught:
        occupied.submit([row()])
    assert caught.value.retry_after_s == 3


# ---- the same through a whole request -------------------------------------------------------


@pytest.fixture
def predictor(zoo, load):
    return load(zoo("bert", "sequence_classification"), max_instances=3, max_input_tokens=60, max_input_chars=2000)


def ask(predictor, document, **headers):
    call = serving.decode(json.dumps(document).encode(), {"content-type": "application/json", **headers})
    return serving.encode(predictor, serving.answers([call], serving.begin(predictor, [call]))[0])


def v2(*texts, **own):
    return {"inputs": [{"name": "t", "shape": [len(texts)], "datatype": "BYTES", "data": list(texts)}], **own}


@pytest.mark.parametrize(
    "document", [{"instances": ["a"], "parameters": {"timeout_ms": 1}}, v2("a", parameters={"timeout_ms": 1})]
)
def test_an_expired_request_is_504(predictor, document, monkeypatch):
    monkeypatch.setattr(serving, "begin", lambda model, calls: time.sleep(0.01) or begin(model, calls))
    reply = ask(predictor, document)
    assert (reply.status, json.loads(reply.body)) == (504, {"error": "the deadline passed before the request was read"})


begin = serving.begin


def test_a_deadline_in_time_changes_nothing(predictor):
    plain, timed = ask(predictor, v2("a")), ask(predictor, v2("a", parameters={"timeout_ms": 60_000}))
    assert plain == timed
    assert ask(predictor, v2("a"), **{"x-request-timeout-ms": "60000"}) == plain


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (v2("a", "b", "c", "d"), "the request has 4 instances; max_instances is 3"),
        (v2("word " * 200), "text has 402 tokens; max_input_tokens is 60"),
        (
            v2(json.dumps({"text": "a " * 40, "text_pair": "b " * 40})),
            "text and text_pair have 83 tokens; max_input_tokens is 60",
        ),
        (v2("a" * 2001), "text has 2001 characters; max_input_chars is 2000"),
    ],
)
def test_limits_are_named(predictor, document, message):
    reply = ask(predictor, document)
    assert (reply.status, json.loads(reply.body)) == (413, {"error": message})


def test_tokens_of_a_request_are_limited(zoo, load):
    predictor = load(zoo("bert", "sequence_classification"), max_request_tokens=30)
    assert ask(predictor, v2("a fox", "a dog")).status == 200
    reply = ask(predictor, v2(*["a quick brown fox"] * 5))
    assert reply.status == 413
    assert json.loads(reply.body)["error"].endswith("more tokens than max_request_tokens, which is 30")


@pytest.mark.parametrize(
    ("stated_ms", "left_s"), [(None, 7), (3000, 3), (86_400_000, 7)], ids=["none", "sooner", "later"]
)
def test_the_setting_bounds_what_a_request_may_take(zoo, load, stated_ms, left_s):
    headers = {} if stated_ms is None else {"x-request-timeout-ms": str(stated_ms)}
    predictor = load(zoo("bert", "sequence_classification"), request_timeout_s=7)
    call = serving.decode(b"a text", headers)
    (pending,) = serving.begin(predictor, [call])
    pending.wait()
    assert remaining_s(pending.deadline) == pytest.approx(left_s, abs=1)
    assert remaining_s(predictor.explainer.timed(call.request).deadline) == pytest.approx(left_s, abs=1)


def test_the_setting_bounds_what_a_stream_may_take(zoo, load, monkeypatch):
    predictor, seen = load(zoo("gpt2", "generation"), request_timeout_s=7), []
    monkeypatch.setattr(predictor, "stream", lambda request, deadline, wake: seen.append(remaining_s(deadline)))
    for stated in (None, time.monotonic() + 3, time.monotonic() + 60):
        serving.open_stream(predictor, Request(["the dog"], deadline=stated))
    assert seen == [pytest.approx(left_s, abs=1) for left_s in (7, 3, 7)]


@pytest.mark.parametrize(("left_s", "refused"), [(-0.001, True), (60, False), (None, False)])
def test_an_answer_that_comes_too_late_is_refused(left_s, refused):
    deadline = None if left_s is None else time.monotonic() + left_s
    response = Response(Request(["a"]), [Prediction({}, 1)], ())

    class Done:
        def __init__(self):
            self.deadline = deadline

        def wait(self):
            return response

    unread, answer = serving.answers([Call(error=InternalError()), Call(response.request)], [Done()])
    assert unread.response is None
    assert (answer.response is None) == refused
    assert isinstance(answer.call.error, DeadlineError) == refused
