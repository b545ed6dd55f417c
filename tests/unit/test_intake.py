"""Long texts are tokenized a few at a time, and nothing of them is kept that no answer needs."""

from __future__ import annotations

import tracemalloc

import pytest

from bert_handler import intake
from bert_handler.errors import RequestTooLargeError
from bert_handler.intake import parts
from bert_handler.schema import Failure, Request
from bert_handler.tasks.instances import Example

LONG = "the fox and the dog " * 400


@pytest.fixture(scope="module")
def predictor(zoo, load):
    return load(zoo("bert", "sequence_classification"), max_request_tokens=100)


@pytest.fixture
def calls(predictor, monkeypatch):
    """The number of instances of each tokenizer call, of which none takes more than 30 characters of several."""
    found, encode = [], predictor.task.encode
    monkeypatch.setattr(intake, "PART_CHARACTERS", 30)
    monkeypatch.setattr(predictor.task, "encode", lambda examples: found.append(len(examples)) or encode(examples))
    return found


def test_a_part_has_as_much_text_as_one_call_takes(monkeypatch):
    monkeypatch.setattr(intake, "PART_CHARACTERS", 10)
    lengths = [4, 6, 1, 30, 0, 10, 3]
    examples = [(n, Example({"query": "q" * n, "documents": []}, {})) for n in lengths]
    assert list(parts([])) == []
    assert [[n for n, _ in part] for part in parts(examples)] == [[4, 6], [1], [30], [0, 10], [3]]
    assert Example({"query": "ab", "documents": ["c", "def"]}, {}).n_characters == 6


def test_answers_are_the_same_in_parts(predictor, calls):
    texts = ["the dog", "the quick brown fox", "a fox", LONG, "the cat sat on the mat"]
    requests = [Request(texts[:2]), Request([{"text": 5}, *texts[2:]]), Request(["a dog"])]
    found = [item for response in predictor.respond(requests) for item in response.predictions]
    assert calls == [2, 1, 1, 2]
    assert isinstance(found.pop(2), Failure)
    alone = [predictor.respond([Request([text])])[0].predictions[0] for text in [*texts, "a dog"]]
    assert [item["predict"] for item in found] == [item["predict"] for item in alone]


def test_what_is_left_of_a_request_with_too_many_tokens_is_not_tokenized(predictor, calls):
    requests = [Request([{"text": 1}, *["the quick brown fox jumps"] * 40]), Request(["a dog"])]
    large, small = predictor._intake.slots(requests)
    errors = [slot.error for slot in large]
    assert len(errors) == 41
    assert "text must be a string" in str(errors[0])
    assert {type(error) for error in errors[1:]} == {RequestTooLargeError}
    assert str(errors[1]) == "the request has more tokens than max_request_tokens, which is 100"
    assert sum(calls) < 30
    assert not isinstance(small[0], Failure)


def test_nothing_is_kept_of_what_was_cut(predictor):
    limit = predictor.task.model.max_length
    ((slot,),) = predictor._intake.slots([Request([LONG])])
    (sequence,) = slot.sequences
    assert (sequence.truncated, sequence.encoding) == (True, None)
    assert sequence.n_tokens > limit
    assert {name: len(values) for name, values in sequence.full.items()} == dict.fromkeys(sequence.full, limit)
    assert sequence.inputs(0)["input_ids"].tolist() == slot.rows[0].inputs["input_ids"].tolist()


@pytest.mark.parametrize("parameters", [{"truncation": "error"}, {"truncation": "stride", "stride": 40}])
def test_nothing_is_kept_of_what_was_refused(zoo, load, parameters):
    predictor = load(zoo("bert", "sequence_classification"), max_length=8, max_queue_rows=100)
    texts = [LONG] * 50
    predictor._intake.slots([Request(texts[:1])])
    tracemalloc.start()
    slots = predictor._intake.slots([Request(texts, parameters=parameters)])[0]
    kept = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert {type(slot.error) for slot in slots} == {RequestTooLargeError}
    assert kept < 50 * 2000


def test_tokens_whose_offsets_are_kept_count_whole(zoo, load):
    tagger = load(zoo("bert", "token_classification"), max_request_tokens=10_000)
    one, many = tagger._intake.slots([Request([LONG]), Request([LONG] * 6)])
    n = one[0].n_tokens
    assert one[0].n_kept == n > len(one[0].rows[0].inputs["input_ids"])
    assert {type(slot.error) for slot in many} == {RequestTooLargeError}
