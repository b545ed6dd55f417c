"""From a body as a host has it to the reply, where hosts and clients differ."""

from __future__ import annotations

import json
import logging
import tracemalloc

import pytest

from bert_handler import serving

HALF = "\ud800"
MODELS = {
    "classify": (("bert", "sequence_classification"), {}, {}),
    "fill": (("bert", "fill_mask"), {}, {}),
    "embed": (("bert", "embedding"), {}, {"mode": "text_embedding"}),
    "generate": (("gpt2", "generation"), {}, {}),
}


@pytest.fixture
def ask(zoo, load, caplog):
    def send(model, body, **headers):
        which, config, settings = MODELS[model]
        predictor = load(zoo(*which, **config), **settings)
        call = serving.decode(body, {name.replace("_", "-"): value for name, value in headers.items()})
        if call.kind == "explain":
            return serving.encode(predictor, serving.explained(predictor, call))
        return serving.encode(predictor, serving.answers([call], serving.begin(predictor, [call]))[0])

    yield send
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def tensor(*texts, **own):
    return {"inputs": [{"name": "t", "shape": [len(texts)], "datatype": "BYTES", "data": list(texts)}], **own}


def tokens(shape, data=()):
    return {"inputs": [{"name": "input_ids", "shape": shape, "datatype": "INT64", "data": data}]}


FIELDS = [{"name": name, "shape": -1, "datatype": "BYTES", "data": ["a"] * 9000} for name in ("question", "context")]


@pytest.mark.parametrize(
    "body",
    [
        {"instances": [1] * 9000},
        [1] * 9000,
        tensor(*["{"] * 9000),
        {"inputs": [*tensor(*["{"] * 4500)["inputs"], *tensor(*["{"] * 4500)["inputs"]]},
        {"inputs": FIELDS},
        tokens([9000, 1], [1] * 9000),
        tokens([9000, 0]),
        tokens(-1, [[]] * 9000),
    ],
    ids=["V1", "raw", "V2", "two tensors", "fields", "tokens", "no tokens", "nested"],
)
def test_too_many_instances_are_refused_before_they_are_made(body):
    body = json.dumps(body).encode()
    tracemalloc.start()
    call = serving.decode(body, {"content-type": "application/json"}, max_instances=4096)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert str(call.error) == "the request has 9000 instances; max_instances is 4096"
    # What was parsed is there; nine thousand instances and their refusals would be more.
    assert peak < 2.5 * 2**20


@pytest.mark.parametrize(
    ("model", "body", "field"),
    [
        ("classify", tensor("a", id=HALF), "id"),
        ("classify", tensor("a", parameters={"function_to_apply": HALF}), "parameter function_to_apply"),
        ("classify", {"text": f"a{HALF}"}, "text"),
        ("fill", {"text": "a [MASK]", "targets": ["a", HALF]}, "parameter targets"),
        ("generate", {"instances": ["the dog"], "parameters": {"stop": HALF}}, "parameter stop"),
    ],
)
def test_half_of_a_character_in_a_body_that_torchserve_has_parsed_is_named(ask, model, body, field):
    reply = ask(model, body, content_type="application/json")
    place = 1 if field == "text" else 0
    assert (reply.status, json.loads(reply.body)) == (
        400,
        {"error": f"{field} is not valid Unicode (a lone surrogate at {place})"},
    )


@pytest.mark.parametrize(
    ("model", "options", "field"),
    [
        ("classify", {"baseline_text": HALF}, "parameter baseline_text"),
        ("classify", {"target": HALF}, "target"),
        ("embed", {"target": ["a", HALF]}, "target"),
    ],
)
def test_half_of_a_character_in_an_explanations_options_is_named(ask, model, options, field):
    reply = ask(model, {"text": "a", **options}, explain="True")
    assert (reply.status, json.loads(reply.body)) == (
        400,
        {"error": f"{field} is not valid Unicode (a lone surrogate at 0)"},
    )


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"", "text/plain"),
        ("", "text/plain"),
        ("", ""),
        (b"data=", "application/x-www-form-urlencoded"),
        (b'--x\r\nContent-Disposition: form-data; name="data"\r\n\r\n\r\n--x--', "multipart/form-data; boundary=x"),
    ],
)
def test_an_empty_body_is_refused_in_a_form_too(body, content_type):
    assert str(serving.decode(body, {"content-type": content_type}).error).startswith("the body is empty; ")


@pytest.mark.parametrize("body", [b'{"instances": ["a"]}', b'["a"]'])
@pytest.mark.parametrize("space", [b"", b"\n" * 64, b" \t\r\n" * 5000], ids=len)
def test_json_behind_any_space_is_json(ask, body, space):
    reply = ask("classify", space + body)
    assert (reply.content_type, reply) == ("application/json", ask("classify", body))


@pytest.mark.parametrize("body", [b"\xef\xbb\xbfa fox", b"\xef\xbb\xbf[a] fox", "\ufeffa fox", "\ufb01lm".encode()])
def test_a_plain_text_may_begin_with_a_byte_order_mark(ask, body):
    assert ask("classify", body).content_type == "text/plain; charset=utf-8"


@pytest.mark.parametrize(
    ("accept", "where_there_are_events", "where_there_are_none"),
    [
        ("", False, False),
        ("application/json", False, False),
        ("*/*", False, False),
        ("text/event-stream", True, True),
        ("text/event-stream; q=0.5", True, True),
        ("Text/Event-Stream; Q=0.5", True, True),
        ("text/event-stream;q=0", False, False),
        ("application/json, text/event-stream;q=0.0", False, False),
        ("application/json, text/event-stream", True, False),
        ("text/event-stream, */*;q=0.1", True, False),
        ("text/event-stream;q=0.9,application/*;q=0.2,*/*", True, False),
        ("text/event-stream;q=0.5, application/json", False, False),
        ("text/event-stream, application/json;q=0", True, True),
        ("text/event-stream;q=much", True, True),
        ("text/html, text/event-stream ; charset=utf-8", True, True),
    ],
)
def test_events_are_for_those_who_take_them_before_json(accept, where_there_are_events, where_there_are_none):
    headers = {"accept": accept}
    assert serving.wants_stream(headers, streams=True) == where_there_are_events
    assert serving.wants_stream(headers, streams=False) == where_there_are_none
    assert (serving.decode(b"a", headers, streams=False).kind == "stream") == where_there_are_none
