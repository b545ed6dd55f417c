"""One poisonous instance among 64 changes nothing for the other 63.

What is refused before the forward never enters a batch, so the others are computed as if it were not
there: bit for bit. A row that turns to NaN inside of a batch leaves its neighbours' bits alone. Only where
a whole forward fails are its halves computed again, in smaller batches: equal to the last few bits.
"""

from __future__ import annotations

import json
import logging

import numpy as np
import pytest

from bert_handler import serving
from bert_handler.engines.base import Engine
from bert_handler.predictor import Predictor
from bert_handler.protocols import V2_REST
from bert_handler.protocols.tensors import to_bytes
from bert_handler.schema import Failure, Prediction, Request

WORDS = [
    "the",
    "film",
    "was",
    "good",
    "and",
    "the",
    "acting",
    "was",
    "better",
    "but",
    "half",
    "of",
    "the",
    "audience",
    "left",
    "early",
]
TEXTS = [" ".join(WORDS[i % 7 : i % 7 + 1 + i % 9]) for i in range(63)]
PLACES = (0, 31, 63)
SECRET = "poison-4711"

POISONS = {
    "not UTF-8": (b"\xff\xfe", 400),
    "cut inside a character": ("é".encode()[:1], 400),
    "broken JSON": (b'{"text": ', 400),
    "an empty object": (b"{}", 400),
    "a number for a text": (b'{"text": 5}', 400),
    "an unknown field": (b'{"text": "a", "nope": 1}', 400),
    "a wrong parameter": (b'{"text": "a", "top_k": 0}', 400),
    "nested without end": (b'{"text": ' + b"[" * 5000, 400),
    "huge": (b"a" * 1_000_001, 413),
    "too many tokens": (b"a " * 70_000, 413),
}


@pytest.fixture(scope="module")
def predictor(zoo, load):
    return load(zoo("bert", "sequence_classification"))


def ask(predictor, elements):
    raw = to_bytes("BYTES", elements)
    tensor = {"name": "t", "shape": [len(elements)], "datatype": "BYTES", "parameters": {"binary_data_size": len(raw)}}
    header = json.dumps({"inputs": [tensor], "outputs": [{"name": "logits"}, {"name": "score"}]}).encode()
    call = serving.decode(header + raw, {"inference-header-content-length": str(len(header))}, V2_REST)
    answer = serving.answers([call], serving.begin(predictor, [call]))[0]
    assert serving.encode(predictor, answer).status == 200
    return answer.response.predictions


def bits(predictions):
    assert all(isinstance(item, Prediction) for item in predictions)
    return b"".join(item["logits"].tobytes() + item["score"].tobytes() for item in predictions)


@pytest.fixture(scope="module")
def expected(predictor):
    return bits(ask(predictor, TEXTS))


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(("poison", "status"), POISONS.values(), ids=POISONS)
def test_the_others_are_answered_bit_for_bit(predictor, expected, poison, status, place):
    predictions = ask(predictor, [*TEXTS[:place], poison, *TEXTS[place:]])
    failed = predictions.pop(place)
    assert isinstance(failed, Failure)
    assert failed.error.status == status
    assert bits(predictions) == expected


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("poison", [5, None, ["a", "b"], {"text": ["a"]}, True, 1.5, {}], ids=repr)
def test_wrong_types_fail_alone_in_v1(predictor, place, poison):
    instances = [*TEXTS[:place], poison, *TEXTS[place:]]
    call = serving.decode(json.dumps({"instances": instances}).encode(), {})
    reply = serving.encode(predictor, serving.answers([call], serving.begin(predictor, [call]))[0])
    answers = json.loads(reply.body)["predictions"]
    assert set(answers.pop(place)) == {"error", "status"}
    plain = serving.decode(json.dumps({"instances": TEXTS}).encode(), {})
    alone = serving.encode(predictor, serving.answers([plain], serving.begin(predictor, [plain]))[0])
    assert answers == json.loads(alone.body)["predictions"]


class Faulty(Engine):
    """The real engine behind a fault: what `fault(rows)` raises, or a value in the row that holds a token."""

    name = "faulty"

    def __init__(self, inner, max_rows=None, guilty=None, marked=None, value=np.nan):
        self.inner, self.max_rows, self.guilty = inner, max_rows, guilty
        self.marked, self.value = marked, value
        self.batches = []

    @classmethod
    def load(cls, artifact, task, config, device):
        raise NotImplementedError

    def forward(self, batch, threads):
        ids = batch.arrays()["input_ids"]
        self.batches.append(len(ids))
        if self.max_rows is not None and len(ids) > self.max_rows:
            raise MemoryError(f"no memory for {len(ids)} rows")
        if self.guilty is not None and (ids == self.guilty).any():
            raise RuntimeError("an illegal instruction was met")
        outputs = {name: value.copy() for name, value in self.inner.forward(batch, threads).items()}
        if self.marked is not None:
            outputs["logits"][(ids == self.marked).any(axis=1), 0] = self.value
        return outputs


@pytest.fixture
def faulty(predictor):
    made = []

    def make(**fault):
        engine = Faulty(predictor.engine, **fault)
        made.append(Predictor(predictor.task, engine, predictor.identity))
        return made[-1], engine

    yield make
    for item in made:
        item.close()


def marked(predictor, word):
    """The one token of a word that no other text has."""
    token = predictor.task.model.tokenizer.backend.token_to_id(word)
    assert token is not None
    return token


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.nan, "the model's output for this instance is not a number (NaN)"),
        (np.inf, "the model's output for this instance is not a finite number (infinity)"),
        (-np.inf, "the model's output for this instance is not a finite number (infinity)"),
    ],
    ids=str,
)
def test_a_row_of_no_finite_number_is_refused_and_leaves_its_neighbours_bits(predictor, faulty, place, value, message):
    texts = [*TEXTS[:place], "paris paris", *TEXTS[place:]]
    healthy = ask(predictor, texts)
    model, _ = faulty(marked=marked(predictor, "paris"), value=value)
    predictions = ask(model, texts)
    failed = predictions.pop(place)
    healthy.pop(place)
    assert (failed.error.status, str(failed.error)) == (422, message)
    assert bits(predictions) == bits(healthy)


def test_a_batch_that_needs_too_much_memory_is_split(predictor, faulty, expected, caplog):
    model, engine = faulty(max_rows=3)
    predictions = ask(model, TEXTS)
    np.testing.assert_allclose(
        [item["logits"] for item in predictions], np.frombuffer(expected, np.float32).reshape(63, -1)[:, :-1], atol=1e-5
    )
    assert max(engine.batches) > 3
    assert "trying halves" in caplog.text


@pytest.mark.parametrize("place", PLACES)
def test_a_row_that_fails_its_forward_is_refused_alone(predictor, faulty, expected, place, caplog):
    model, _ = faulty(guilty=marked(predictor, "paris"))
    texts = [*TEXTS[:place], f"paris {SECRET}", *TEXTS[place:]]
    predictions = ask(model, texts)
    failed = predictions.pop(place)
    assert (failed.error.status, str(failed.error)) == (500, "internal error; the server's log has the details")
    np.testing.assert_allclose(
        [item["logits"] for item in predictions], np.frombuffer(expected, np.float32).reshape(63, -1)[:, :-1], atol=1e-5
    )
    assert SECRET not in caplog.text
    assert [record for record in caplog.records if record.levelno == logging.ERROR]
    assert bits(ask(model, TEXTS)) == expected, "the server lives"


def test_a_model_that_always_fails_refuses_every_instance(faulty):
    model, engine = faulty(max_rows=0)
    response = model.respond([Request(TEXTS[:8])])[0]
    assert [item.error.status for item in response.predictions] == [500] * 8
    assert sum(engine.batches) < 8 * 8
