"""Generated text equals transformers', alone and in a mixed batch, at once and streamed."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from concurrent.futures import Future

import numpy as np
import pytest
import torch
import transformers

from bert_handler import serving
from bert_handler.engines.base import Engine
from bert_handler.engines.torch_engine import TorchEngine
from bert_handler.errors import (
    ConfigError,
    DeadlineError,
    InvalidRequestError,
    RequestTooLargeError,
    UnservableError,
)
from bert_handler.generation import Detokenizer
from bert_handler.schema import Failure, Request, Tokens
from tests.zoo import GENERATORS, build

TEXTS = [
    "The quick brown fox",
    "Paris",
    " ",
    "She sells sea shells on the sea shore, and the shells she sells",
    "東京は日本の首都です。 😀",
    "Don't worry",
]
N_NEW = 16


@pytest.fixture(scope="module")
def gpt2(zoo, load):
    return load(zoo("gpt2", "generation"))


@pytest.fixture(scope="module", params=GENERATORS)
def predictor(request, zoo, load):
    return load(zoo(request.param, "generation"))


@pytest.fixture(scope="module")
def pipeline(zoo):
    transformers.utils.logging.disable_progress_bar()
    return transformers.pipeline(
        "text-generation", model=str(zoo("gpt2", "generation")), device="cpu", return_full_text=False
    )


def texts_of(predictions):
    return [prediction["predict"] for prediction in predictions]


DECODINGS = [
    {},
    {"num_beams": 3},
    {"repetition_penalty": 1.5},
    {"num_beams": 2, "repetition_penalty": 1.3},
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("parameters", DECODINGS)
def test_gpt2_equals_the_pipeline(gpt2, pipeline, parameters):
    expected = [
        pipeline(text, max_new_tokens=N_NEW, do_sample=False, **parameters)[0]["generated_text"] for text in TEXTS
    ]
    assert texts_of(gpt2.predict(TEXTS, max_new_tokens=N_NEW, **parameters)) == expected


@pytest.mark.parametrize("parameters", DECODINGS)
def test_t5_equals_the_models_own_generate(zoo, load, parameters):
    # transformers 5 has no pipeline for encoder-decoder models.
    directory = zoo("t5", "generation")
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(str(directory)).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(directory))
    expected = []
    for text in ["", *TEXTS]:
        ids = tokenizer(text, return_tensors="pt").input_ids
        output = model.generate(ids, max_new_tokens=N_NEW, do_sample=False, **parameters)
        expected.append(tokenizer.decode(output[0], skip_special_tokens=True))
    predictor = load(directory)
    assert texts_of(predictor.predict(["", *TEXTS], max_new_tokens=N_NEW, **parameters)) == expected


@pytest.mark.parametrize("parameters", DECODINGS)
def test_a_mixed_batch_equals_each_text_alone(predictor, parameters):
    batch = predictor.predict(TEXTS, max_new_tokens=N_NEW, **parameters)
    alone = [predictor.predict([text], max_new_tokens=N_NEW, **parameters)[0] for text in TEXTS]
    assert [dict(item.outputs) for item in batch] == [dict(item.outputs) for item in alone]


@pytest.mark.filterwarnings("ignore")
def test_a_seed_draws_what_transformers_draws(gpt2, pipeline):
    options = {"do_sample": True, "temperature": 0.8, "top_p": 0.9, "top_k": 30}
    for seed in range(3):
        torch.manual_seed(seed)
        expected = pipeline(TEXTS[0], max_new_tokens=N_NEW, **options)[0]["generated_text"]
        assert texts_of(gpt2.predict([TEXTS[0]], max_new_tokens=N_NEW, seed=seed, **options)) == [expected]


def test_a_seed_draws_the_same_alone_in_a_batch_and_beside_others(predictor):
    options = {"max_new_tokens": N_NEW, "do_sample": True, "seed": 7}
    batch = texts_of(predictor.predict([*TEXTS, TEXTS[0]], **options))
    assert batch[0] == batch[-1]
    alone = [predictor.predict([text], **options)[0]["predict"] for text in TEXTS]
    assert batch[:-1] == alone
    results = {}
    threads = [
        threading.Thread(target=lambda i=i: results.update({i: texts_of(predictor.predict(TEXTS, **options))}))
        for i in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(results.values()) == [alone] * 4
    unseeded = [predictor.predict(TEXTS[:1], max_new_tokens=N_NEW, do_sample=True)[0]["predict"] for _ in range(3)]
    assert len(set(unseeded)) > 1


def test_requests_of_one_batch_decode_with_their_own_parameters(gpt2):
    own = [
        {"max_new_tokens": 3},
        {"max_new_tokens": 9},
        {"max_new_tokens": 9, "num_beams": 3},
        {"max_new_tokens": 9, "do_sample": True, "seed": 1},
        {"max_new_tokens": 9, "do_sample": True, "seed": 2},
        {"max_new_tokens": 9, "do_sample": True, "seed": 2, "top_k": 1},
        {"max_new_tokens": 9, "return_full_text": True},
    ]
    responses = gpt2.respond([Request([TEXTS[0]], parameters=parameters) for parameters in own])
    together = [response.predictions[0]["predict"] for response in responses]
    assert together == [gpt2.predict([TEXTS[0]], **parameters)[0]["predict"] for parameters in own]
    short, greedy, _, first, second, likeliest, full = together
    assert greedy.startswith(short)
    assert greedy == likeliest
    assert full == TEXTS[0] + greedy
    assert len({greedy, first, second}) == 3


def test_outputs_say_how_much_and_why_it_ended(gpt2):
    prediction = gpt2.predict([TEXTS[0]], max_new_tokens=5)[0]
    assert (prediction["n_tokens"], prediction["finish_reason"]) == (5, "length")
    assert prediction.input_tokens == 9
    assert gpt2.metadata()["outputs"] == [
        {"name": "predict", "datatype": "BYTES", "shape": [-1]},
        {"name": "n_tokens", "datatype": "INT64", "shape": [-1]},
        {"name": "finish_reason", "datatype": "BYTES", "shape": [-1]},
    ]


def test_the_end_token_ends_a_row_and_not_its_neighbours(tmp_path, load):
    directory = build("gpt2", "generation", tmp_path / "model")
    plain = load(directory, model_name="plain").predict(TEXTS[:2], max_new_tokens=N_NEW)
    tokenizer = load(directory, model_name="plain").task.model.tokenizer.backend
    words = [tokenizer.encode(prediction["predict"], add_special_tokens=False).ids for prediction in plain]
    [end] = [token for token in words[0][3:] if token not in words[1]][:1]
    (directory / "generation_config.json").write_text(json.dumps({"eos_token_id": [0, end]}))
    ended, other = load(directory, model_name="ended").predict(TEXTS[:2], max_new_tokens=N_NEW)
    assert ended["finish_reason"] == "stop"
    assert ended["n_tokens"] < N_NEW
    assert plain[0]["predict"].startswith(ended["predict"])
    assert dict(other.outputs) == dict(plain[1].outputs)


@pytest.fixture
def overflow(gpt2):
    """`overflow(value)`: the second of three rows has scores of this value from its third token on."""
    hooks = []

    def spoil(value):
        n_steps = []

        def spoiled(model, arguments, output):
            n_steps.append(len(output.logits))
            if len(n_steps) > 2:
                n_beams = len(output.logits) // 3
                output.logits[n_beams : 2 * n_beams] = value
            return output

        hooks.append(gpt2.engine.graph.model.register_forward_hook(spoiled))

    yield spoil
    for hook in hooks:
        hook.remove()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("parameters", [{}, {"do_sample": True, "seed": 1}, {"num_beams": 2}])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_row_of_no_scores_is_refused_alone(gpt2, overflow, parameters, value):
    request = Request([TEXTS[0]] * 3, parameters={"max_new_tokens": 5, **parameters})
    expected = gpt2.respond([request])[0].predictions
    overflow(value)
    first, second, third = gpt2.respond([request])[0].predictions
    assert isinstance(second, Failure)
    assert isinstance(second.error, UnservableError)
    # A beam's scores are normalized before anything sees them.
    message = "is not a number" if np.isnan(value) or "num_beams" in parameters else "is not a finite number"
    assert message in str(second.error)
    assert [dict(first.outputs), dict(third.outputs)] == [dict(expected[0].outputs), dict(expected[2].outputs)]


def test_a_row_that_has_ended_needs_no_scores(gpt2, overflow):
    request = Request(["the film", "London", "the film"], parameters={"max_new_tokens": 8, "stop": ["ures"]})
    expected = [dict(item.outputs) for item in gpt2.respond([request])[0].predictions]
    assert [item["n_tokens"] for item in expected] == [8, 1, 8]
    overflow(np.nan)
    assert [dict(item.outputs) for item in gpt2.respond([request])[0].predictions] == expected


def test_an_overflow_ends_a_stream_with_an_error(gpt2, monkeypatch):
    def no_scores(model, arguments, output):
        output.logits[:] = np.nan
        return output

    hook = gpt2.engine.graph.model.register_forward_hook(no_scores)
    try:
        with gpt2.stream(Request([TEXTS[0]])) as stream, pytest.raises(UnservableError, match="not a number"):
            list(stream)
    finally:
        hook.remove()


def test_settings_of_the_model_are_the_defaults(tmp_path, load):
    directory = build("gpt2", "generation", tmp_path / "model")
    stated = {"max_new_tokens": 4, "do_sample": True, "temperature": 0.7, "top_k": 5, "min_p": 0.1}
    (directory / "generation_config.json").write_text(json.dumps(stated))
    predictor = load(directory)
    decoding = predictor.task.decoding(predictor.config.parameters)
    assert (decoding.max_new_tokens, decoding.do_sample, decoding.temperature) == (4, True, 0.7)
    assert predictor.predict([TEXTS[0]], seed=1)[0]["n_tokens"] == 4
    greedy = predictor.predict([TEXTS[0]], do_sample=False)[0]["predict"]
    assert predictor.predict([TEXTS[0]], top_k=1)[0]["predict"] == greedy
    plain = {"max_new_tokens": 4, "do_sample": False}
    (directory / "generation_config.json").unlink()
    assert load(directory, model_name="plain").predict([TEXTS[0]], **plain)[0]["predict"] == greedy


# ---- stop strings and streams -------------------------------------------------------------------


def test_the_text_ends_before_the_first_stop_string(predictor):
    whole = predictor.predict(TEXTS, max_new_tokens=N_NEW)
    stop = whole[0]["predict"][5:8]
    stopped = predictor.predict(TEXTS, max_new_tokens=N_NEW, stop=["\x00never", stop])
    assert stopped[0]["predict"] == whole[0]["predict"].partition(stop)[0]
    assert stopped[0]["finish_reason"] == "stop"
    assert stopped[0]["n_tokens"] < N_NEW
    for text, prediction in zip(whole, stopped):
        assert prediction["predict"] == text["predict"].partition(stop)[0]
    [beam] = predictor.predict(TEXTS[:1], max_new_tokens=N_NEW, num_beams=2)
    cut = beam["predict"][3:5]
    [searched] = predictor.predict(TEXTS[:1], max_new_tokens=N_NEW, num_beams=2, stop=cut)
    assert searched["predict"] == beam["predict"].partition(cut)[0]


@pytest.mark.parametrize(
    "parameters",
    [{}, {"do_sample": True, "seed": 3}, {"return_full_text": True}, {"stop": ["s", "xf"]}],
)
def test_streamed_pieces_are_the_answer(predictor, parameters):
    for text in ["", *TEXTS]:
        expected = predictor.predict([text], max_new_tokens=N_NEW, **parameters)[0]
        stream = predictor.stream(Request([text], parameters={"max_new_tokens": N_NEW, **parameters}))
        pieces = list(stream)
        assert "".join(pieces) == expected["predict"]
        assert all(pieces)
        assert dict(stream.prediction.outputs) == dict(expected.outputs)
        assert list(stream) == []


@pytest.mark.parametrize("n_words", [2, 100])
def test_the_last_event_says_where_the_text_was_cut(predictor, n_words):
    request = Request(["the dog " * n_words], parameters={"max_new_tokens": 2})
    *_, last = serving.events(predictor.stream(request), ("n_tokens",))
    answer = predictor.respond([request])[0].predictions[0]
    cut = {"truncated": True, "input_tokens": answer.input_tokens} if answer.truncated else {}
    assert json.loads(last.partition(b": ")[2]) == {"n_tokens": 2, **cut}
    assert bool(cut) == (n_words == 100)


def test_closing_a_stream_stops_the_model(gpt2):
    request = Request([TEXTS[0]], parameters={"max_new_tokens": 100})
    steps = []
    forward = gpt2.engine.graph.model.forward
    slow = threading.Event()

    def counted(*arguments, **named):
        steps.append(1)
        slow.wait(0.01)
        return forward(*arguments, **named)

    gpt2.engine.graph.model.forward = counted
    try:
        with gpt2.stream(request) as stream:
            next(stream)
        assert list(stream) == []
        assert stream.prediction is None
        gpt2.predict([TEXTS[1]], max_new_tokens=1)
    finally:
        gpt2.engine.graph.model.forward = forward
    assert len(steps) < 60


@pytest.fixture
def steps(gpt2, monkeypatch):
    """`steps(act)`: the numbers of the model's forwards, the second of which waits for `act`."""
    model, forward = gpt2.engine.graph.model, gpt2.engine.graph.model.forward

    def count(act):
        seen = []

        def counted(*arguments, **named):
            seen.append(len(seen))
            if len(seen) == 2:
                act()
            return forward(*arguments, **named)

        monkeypatch.setattr(model, "forward", counted)
        return seen

    return count


@pytest.mark.parametrize("parameters", [{}, {"stop": ["\x00never"]}, {"num_beams": 2}])
def test_the_deadline_ends_the_generation(gpt2, steps, parameters):
    seen, deadline = steps(lambda: time.sleep(0.3)), time.monotonic() + 0.3
    wanted = {"max_new_tokens": 100, **parameters}
    [response] = gpt2.respond([Request([TEXTS[0]], parameters=wanted, deadline=deadline)])
    assert isinstance(response.predictions[0].error, DeadlineError)
    assert seen == [0, 1]


@pytest.mark.parametrize("parameters", [{}, {"num_beams": 2}])
def test_a_caller_that_goes_ends_the_generation(gpt2, steps, parameters):
    waiter = Future()
    seen = steps(waiter.cancel)
    gpt2.begin([Request([TEXTS[0]], parameters={"max_new_tokens": 100, **parameters})], waiters=[waiter])
    gpt2.predict([TEXTS[1]], max_new_tokens=1)
    assert seen == [0, 1, 2]


@pytest.mark.parametrize("parameters", [{}, {"num_beams": 2}])
def test_the_neighbours_of_a_row_that_is_given_up_have_their_texts(gpt2, steps, parameters):
    wanted = {"max_new_tokens": N_NEW, **parameters}
    expected = texts_of(gpt2.predict(TEXTS[:1], **wanted))
    seen, deadline = steps(lambda: time.sleep(0.3)), time.monotonic() + 0.3
    requests = [Request([TEXTS[0]], parameters=wanted, deadline=deadline), Request(TEXTS[:1], parameters=wanted)]
    late, response = gpt2.respond(requests)
    assert isinstance(late.predictions[0].error, DeadlineError)
    assert texts_of(response.predictions) == expected
    assert len(seen) == N_NEW


def test_a_stream_past_its_deadline_ends_with_an_error(gpt2, steps):
    seen, deadline = steps(lambda: time.sleep(0.3)), time.monotonic() + 0.3
    stream, read = gpt2.stream(Request([TEXTS[0]], parameters={"max_new_tokens": 100}), deadline), []
    with pytest.raises(DeadlineError, match="the deadline passed before the text was complete"):
        read.extend(stream)
    assert len(read) <= 1
    assert list(stream) == []
    gpt2.predict([TEXTS[1]], max_new_tokens=1)
    assert seen == [0, 1, 2]


def test_a_stream_that_waits_for_the_model_ends_at_its_deadline(gpt2, monkeypatch):
    going, generate = threading.Event(), TorchEngine.generate
    monkeypatch.setattr(TorchEngine, "generate", lambda self, *given: going.wait(30) and generate(self, *given))
    stream = gpt2.stream(Request([TEXTS[0]]), time.monotonic() + 0.05)
    with pytest.raises(DeadlineError):
        next(stream)
    going.set()


def test_a_reader_that_waits_is_woken_by_close(gpt2, monkeypatch):
    going = threading.Event()
    generate = TorchEngine.generate

    def waiting(self, *arguments):
        going.wait(30)
        return generate(self, *arguments)

    monkeypatch.setattr(TorchEngine, "generate", waiting)
    stream = gpt2.stream(Request([TEXTS[0]]))
    read = []
    reader = threading.Thread(target=lambda: read.extend(stream))
    reader.start()
    stream.close()
    reader.join(5)
    going.set()
    assert not reader.is_alive()
    assert read == []


def test_streams_run_beside_each_other_and_beside_batches(gpt2):
    expected = texts_of(gpt2.predict(TEXTS, max_new_tokens=N_NEW))
    streams = [gpt2.stream(Request([text], parameters={"max_new_tokens": N_NEW})) for text in TEXTS]
    assert texts_of(gpt2.predict(TEXTS, max_new_tokens=N_NEW)) == expected
    assert ["".join(stream) for stream in streams] == expected


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (Request(["a", "b"]), "a stream answers one instance, not 2"),
        (Request([{"txt": "a"}]), "unknown field 'txt'"),
        (Request(["a"], parameters={"num_beams": 2}), "num_beams must be 1 in a stream"),
        (Request(["a"], parameters={"max_new_tokens": 0}), "max_new_tokens=0"),
    ],
)
def test_wrong_streams_are_refused_before_they_begin(gpt2, request_, message):
    with pytest.raises(InvalidRequestError, match=message):
        gpt2.stream(request_)


def test_a_failure_while_generating_reaches_the_reader(gpt2, monkeypatch):
    def broken(self, *arguments):
        raise InvalidRequestError("broken")

    monkeypatch.setattr(TorchEngine, "generate", broken)
    stream = gpt2.stream(Request(["a"]))
    with pytest.raises(InvalidRequestError, match="broken"):
        next(stream)


def test_other_tasks_have_no_stream(zoo, load):
    with pytest.raises(UnservableError, match="only text_generation can be streamed"):
        load(zoo("bert", "embedding")).stream(Request(["a"]))


@pytest.mark.parametrize(
    ("stop", "pieces"),
    [
        ((), ["a", "", "é", "b", "", "", "", "😀", "c"]),
        (("c",), ["a", "", "é", "b", "", "", "", "😀", ""]),
        (("éb",), ["a", "", "", ""]),
        (("b\N{GRINNING FACE}d",), ["a", "", "é", "", "", "", "", "", "b😀c"]),
    ],
)
def test_pieces_are_whole_characters_and_no_part_of_a_stop_string(stop, pieces):
    text = Detokenizer(lambda tokens: bytes(tokens).decode("utf-8", "replace"), stop)
    got = []
    for token in "aéb😀c".encode():
        got.append(text.push(token))
        if text.stopped:
            break
    assert got == pieces
    assert text.finish() == ""
    assert text.stopped == (stop in {("c",), ("éb",)})


def test_an_incomplete_character_at_the_end_is_not_lost():
    text = Detokenizer(lambda tokens: bytes(tokens).decode("utf-8", "replace"))
    assert [text.push(token) for token in b"a\xf0\x9f"] == ["a", "", ""]
    assert text.finish() == "\N{REPLACEMENT CHARACTER}"


# ---- limits -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["", " ", "x" * 100_000, "a b " * 25_000, "☃☃ ☄☄"], ids=["empty", "space", "word", "long", "unknown"]
)
def test_extreme_texts_are_answered_or_refused(predictor, text):
    response = predictor.respond([Request([text, "film"], parameters={"max_new_tokens": 4})])[0]
    first, second = response.predictions
    assert second["n_tokens"] == 4 or second["finish_reason"] == "stop"
    if isinstance(first, Failure):
        assert isinstance(first.error, RequestTooLargeError)
        assert len(text) == 100_000
    else:
        assert first.truncated is (first.input_tokens > 128 - 4 * predictor.task.is_causal)


def test_a_batch_of_1000_is_answered(gpt2):
    predictions = gpt2.predict([TEXTS[i % 2] for i in range(1000)], max_new_tokens=2)
    assert texts_of(predictions[:2]) * 500 == texts_of(predictions)


def test_a_causal_model_loses_the_beginning_and_keeps_room_for_the_answer(gpt2):
    text = "one two three " * 60 + "The quick brown fox"
    tokens = gpt2.task.model.tokenizer.backend.encode(text)
    kept = text[tokens.offsets[-(128 - 20)][0] :]
    cut, short = gpt2.predict([text, kept], max_new_tokens=20)
    assert cut.truncated
    assert cut.input_tokens == len(tokens.ids)
    assert not short.truncated
    assert cut["predict"] == short["predict"]
    with pytest.raises(RequestTooLargeError, match="at most 108"):
        gpt2.predict([text], max_new_tokens=20, truncation="error")


def test_client_tokens_are_continued_like_their_text(gpt2):
    ids = np.array(gpt2.task.model.tokenizer.backend.encode(TEXTS[0]).ids)
    request = Request([Tokens({"input_ids": ids})], parameters={"max_new_tokens": N_NEW})
    [prediction] = gpt2.respond([request])[0].predictions
    assert prediction["predict"] == gpt2.predict([TEXTS[0]], max_new_tokens=N_NEW)[0]["predict"]
    long = Request([Tokens({"input_ids": np.tile(ids, 14)})], parameters={"max_new_tokens": N_NEW})
    [failure] = gpt2.respond([long])[0].predictions
    assert "together this model takes at most 128" in str(failure.error)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"max_new_tokens": 0}, "parameter max_new_tokens=0; it must be at least 1"),
        ({"max_new_tokens": 2000}, "parameter max_new_tokens=2000; max_new_tokens_limit is 1024"),
        ({"max_new_tokens": 128}, "leaves no room: the model has 128 positions"),
        ({"max_new_tokens_limit": 9999}, "parameter max_new_tokens_limit is a setting"),
        ({"temperature": 0.5}, "parameter temperature has no effect without do_sample: true"),
        ({"seed": 1}, "parameter seed has no effect without do_sample: true"),
        ({"do_sample": True, "temperature": 0}, "parameter temperature=0.0; it must be between 0.01 and 100"),
        ({"do_sample": True, "top_p": 1.5}, "parameter top_p=1.5; it must be between 0 and 1"),
        ({"do_sample": True, "top_k": -1}, "parameter top_k=-1; it must be between 0 and"),
        ({"do_sample": True, "seed": -1}, "parameter seed=-1"),
        ({"do_sample": True, "num_beams": 2}, "parameter num_beams must be 1 with do_sample: true"),
        ({"num_beams": 17}, "parameter num_beams=17; it must be between 1 and 16"),
        ({"repetition_penalty": 0}, "parameter repetition_penalty=0.0"),
        ({"stop": [""]}, "parameter stop: each string must have 1 to 200 characters"),
        ({"stop": []}, "parameter stop has 0 entries"),
        ({"stop": 3}, "parameter stop must be a list of strings, not an integer"),
        ({"truncation": "stride"}, "parameter truncation='stride' is unknown; choose from error, truncate"),
        ({"max_tokens": 3}, "unknown parameter 'max_tokens'; did you mean 'max_new_tokens'?"),
    ],
)
def test_wrong_parameters_are_named(gpt2, parameters, message):
    failure = gpt2.respond([Request(["a"], parameters=parameters)])[0].predictions[0]
    assert isinstance(failure.error, InvalidRequestError)
    assert message in str(failure.error)


def test_wrong_settings_are_refused_at_load(zoo, load):
    with pytest.raises(ConfigError, match="setting max_new_tokens=2000; max_new_tokens_limit is 1024"):
        load(zoo("gpt2", "generation"), max_new_tokens=2000)


def test_an_engine_that_cannot_generate_is_refused_at_load(zoo, load, monkeypatch):
    class Forward(Engine):
        name = "forward"

    monkeypatch.setattr("bert_handler.loading.engine_class", lambda name: Forward)
    with pytest.raises(ConfigError, match="cannot generate text; text_generation needs engine: torch"):
        load(zoo("gpt2", "generation"), engine="onnx")


ENDS = """
import sys, time
from bert_handler import Predictor, serving
from bert_handler.schema import Request
predictor = Predictor.load(sys.argv[1], device="cpu", environ={})
predictor.begin([Request([{"text": "the dog", "max_new_tokens": 1000}])])
time.sleep(0.1)
"""


def test_a_process_may_end_while_text_is_generated(zoo):
    command = [sys.executable, "-c", ENDS, zoo("t5", "generation")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (ended.returncode, ended.stdout) == (0, ""), ended.stderr
