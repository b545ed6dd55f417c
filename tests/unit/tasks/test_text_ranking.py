"""Rankings equal sentence-transformers' CrossEncoder on every architecture, alone and in a batch."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from bert_handler import jsonio
from bert_handler.errors import ConfigError, InvalidRequestError, RequestTooLargeError
from bert_handler.protocols.v2 import V2
from bert_handler.schema import Failure, Request
from tests.zoo import ENCODERS, build

QUERY = "What is the capital of France?"
DOCUMENTS = [
    "Paris is the capital of France; London is the capital of the United Kingdom.",
    "She sells sea shells on the sea shore.",
    "",
    " ",
    "東京は日本の首都です。 😀",
    "Angela Merkel met Barack Obama in Berlin on Monday. " * 8,
]


@pytest.fixture(scope="module")
def directory(zoo):
    return zoo("bert", "sequence_classification", num_labels=1)


@pytest.fixture(scope="module")
def predictor(directory, load):
    return load(directory, mode="text_ranking")


def cross_encoder(directory, **options):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    made = sentence_transformers.CrossEncoder(str(directory), device="cpu", **options)
    if made.config.model_type == "albert":
        # transformers 5 leaves ALBERT's segments out: the cross-encoder would read a pair as one text.
        made.tokenizer.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    return made


def instance(query=QUERY, documents=DOCUMENTS, **parameters):
    return {"query": query, "documents": list(documents), **parameters}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("architecture", ENCODERS)
def test_answers_equal_the_cross_encoder(architecture, zoo, load):
    directory = zoo(architecture, "sequence_classification", num_labels=1)
    predictor, reference = load(directory, mode="text_ranking"), cross_encoder(directory)
    pairs = [(QUERY, document) for document in DOCUMENTS]
    expected = reference.predict(pairs, batch_size=1, show_progress_bar=False)
    [prediction] = predictor.predict([instance()])
    np.testing.assert_allclose(prediction["scores"], expected, atol=1e-4)
    ranked = reference.rank(QUERY, DOCUMENTS, batch_size=1, show_progress_bar=False)
    # "" and " " are the same tokens: which of the two comes first says nothing.
    order = [item["corpus_id"] for item in ranked if item["corpus_id"] != 3]
    assert [index for index in prediction["predict"] if index != 3] == order
    assert prediction.truncated
    for document, score in zip(DOCUMENTS, prediction["scores"]):
        [alone] = predictor.predict([instance(documents=[document])])
        np.testing.assert_allclose(alone["scores"], [score], atol=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_function_to_apply_is_the_requests_then_the_models(directory, predictor, tmp_path, load):
    import torch

    pairs = [(QUERY, document) for document in DOCUMENTS]
    logits = cross_encoder(directory, activation_fn=torch.nn.Identity()).predict(pairs, batch_size=1)
    bare, squashed, default = predictor.predict(
        [instance(function_to_apply=name) for name in ("none", "sigmoid", "default")]
    )
    np.testing.assert_allclose(bare["scores"], logits, atol=1e-4)
    np.testing.assert_allclose(squashed["scores"], 1 / (1 + np.exp(-logits)), atol=1e-4)
    np.testing.assert_allclose(default["scores"], squashed["scores"], atol=1e-6)

    cross_encoder(directory, activation_fn=torch.nn.Identity()).save_pretrained(str(tmp_path))
    own = load(tmp_path, mode="text_ranking").predict([instance()])[0]["scores"]
    np.testing.assert_allclose(own, logits, atol=1e-4)
    expected = cross_encoder(tmp_path).predict(pairs, batch_size=1)
    np.testing.assert_allclose(own, expected, atol=1e-4)


@pytest.mark.parametrize(
    ("stated", "function"),
    [
        ({}, "sigmoid"),
        ({"sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"}}, "none"),
        ({"sbert_ce_default_activation_function": "torch.nn.modules.activation.Sigmoid"}, "sigmoid"),
    ],
)
def test_activation_of_older_models_is_read_from_config_json(stated, function):
    from bert_handler.tasks.text_ranking import stated_function

    assert stated_function(stated, None) == function


def test_an_unknown_activation_needs_a_setting(tmp_path, load):
    tanh = build(
        "bert",
        "sequence_classification",
        tmp_path / "model",
        num_labels=1,
        sbert_ce_default_activation_function="torch.nn.modules.activation.Tanh",
    )
    with pytest.raises(ConfigError, match="set function_to_apply"):
        load(tanh, mode="text_ranking")
    assert load(tanh, mode="text_ranking", function_to_apply="none").task.function == "none"


def test_top_k_shortens_the_order_and_not_the_scores(predictor):
    full, short = predictor.predict([instance(), instance(top_k=2)])
    assert short["predict"] == full["predict"][:2]
    assert len(short["scores"]) == len(DOCUMENTS)


def test_rankings_are_json_documents_in_v2(predictor):
    request = Request([instance(), instance(documents=["a", "b"])], outputs=("predict", "scores"))
    body = V2().encode(predictor.respond([request])[0], predictor.identity, predictor.outputs).body
    order, scores = jsonio.loads(body)["outputs"]
    assert [sorted(jsonio.loads(text)) for text in order["data"]] == [[0, 1, 2, 3, 4, 5], [0, 1]]
    assert [len(jsonio.loads(text)) for text in scores["data"]] == [6, 2]


def test_columns_of_a_v2_request(predictor):
    body = jsonio.dumps(
        {
            "inputs": [
                {"name": "query", "shape": [1], "datatype": "BYTES", "data": [QUERY]},
                {"name": "documents", "shape": [1], "datatype": "BYTES", "data": [json.dumps(DOCUMENTS)]},
            ],
            "outputs": [{"name": "scores"}],
        }
    )
    response = predictor.respond([V2().decode(body, {})])[0]
    [scores] = jsonio.loads(V2().encode(response, predictor.identity, predictor.outputs).body)["outputs"]
    assert (scores["datatype"], scores["shape"]) == ("FP32", [1, 6])
    np.testing.assert_allclose(scores["data"], predictor.predict([instance()])[0]["scores"], atol=1e-5)


def test_stride_takes_a_documents_best_window(directory, predictor):
    import torch
    from transformers import AutoModelForSequenceClassification

    tokenizer = predictor.task.model.tokenizer.backend
    text = DOCUMENTS[0] * 4
    [strided] = predictor.predict(
        [instance(documents=[text, "film"], truncation="stride", stride=4, function_to_apply="none")]
    )
    assert not strided.truncated
    query = [2, *tokenizer.encode(QUERY, add_special_tokens=False).ids, 3]
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    room = 48 - 1 - len(query)
    model = AutoModelForSequenceClassification.from_pretrained(str(directory)).eval()
    logits = []
    with torch.no_grad():
        for window in [ids[i : i + room] for i in range(0, len(ids) - 4, room - 4)]:
            types = torch.tensor([[0] * len(query) + [1] * (len(window) + 1)])
            logits.append(model(torch.tensor([[*query, *window, 3]]), token_type_ids=types).logits.item())
    assert len(logits) > 2
    assert strided["scores"][0] == pytest.approx(max(logits), abs=1e-4)
    [short] = predictor.predict([instance(documents=["film"], function_to_apply="none")])
    assert strided["scores"][1] == pytest.approx(short["scores"][0], abs=1e-5)


@pytest.mark.parametrize("text", ["", " ", "x" * 100_000, "a b " * 25_000, "☃☃ ☄☄"])
def test_extreme_texts_are_answered(predictor, text):
    first, second = predictor.predict([instance(query=text[:20], documents=[text, "film"]), instance()])
    assert np.isfinite(first["scores"]).all()
    assert sorted(first["predict"]) == [0, 1]
    assert len(second["scores"]) == 6


def test_a_batch_of_1000_is_answered(predictor):
    predictions = predictor.predict([instance(documents=[f"film {i % 3}"]) for i in range(1000)])
    assert [prediction["predict"] for prediction in predictions] == [[0]] * 1000
    assert predictions[999]["scores"][0] == pytest.approx(predictions[0]["scores"][0], abs=1e-5)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("film", "documents is missing; send"),
        ({"query": "film"}, "documents is missing; send"),
        ({"query": "film", "documents": []}, "documents has 0 entries; it must be 1 to 1024"),
        ({"query": "film", "documents": ["x"] * 1025}, "documents has 1025 entries"),
        ({"query": "film", "documents": "x"}, "documents must be a list of strings, not a string"),
        ({"query": "film", "documents": ["x", 3]}, "documents[1] must be a string, not an integer"),
        ({"query": 3, "documents": ["x"]}, "query must be a string, not an integer"),
        ({"query": "film", "documents": ["x"], "top_k": 0}, "parameter top_k=0; it must be at least 1"),
        (
            {"query": "film", "documents": ["x"], "function_to_apply": "softmax"},
            "parameter function_to_apply='softmax' is unknown; choose from default, sigmoid, none",
        ),
    ],
)
def test_wrong_requests_are_named(predictor, document, message):
    failure = predictor.respond([Request([document])])[0].predictions[0]
    assert isinstance(failure, Failure)
    assert isinstance(failure.error, InvalidRequestError)
    assert message in str(failure.error)


def test_truncation_error_is_413(predictor):
    with pytest.raises(RequestTooLargeError, match="takes at most 48"):
        predictor.predict([instance(truncation="error")])


def test_what_no_limit_would_take_is_refused_unread(directory, load, monkeypatch):
    predictor = load(directory, mode="text_ranking", max_request_tokens=1000)
    monkeypatch.setattr(predictor.task, "texts", None)
    message = "the request has 100 sequences with 9100 characters together; max_request_tokens is 1000, of at most 8"
    too_large = instance(query="a " * 45, documents=["b"] * 100)
    with pytest.raises(RequestTooLargeError, match=message):
        predictor.predict([too_large])
    with pytest.raises(RequestTooLargeError, match=message):
        predictor.explain([too_large])
    halves = [instance(query="a " * 45, documents=["b"] * 50)] * 2
    wrong = {"query": "a"}
    refused = predictor.respond([Request([*halves, wrong])])[0].predictions
    assert [type(item.error) for item in refused] == [RequestTooLargeError, RequestTooLargeError, InvalidRequestError]
    # Each has special tokens, if nothing else.
    with pytest.raises(RequestTooLargeError, match="the request has 334 sequences with 0 characters"):
        predictor.predict([instance(query="", documents=[""] * 334)])


def test_its_size_is_that_of_its_texts(predictor):
    example = predictor.task.parse(instance(), predictor.config.parameters)
    texts = predictor.task.texts(example)
    assert predictor.task.size(example) == (len(texts), sum(len(query) + len(document) for query, document in texts))


def test_a_model_with_several_outputs_is_refused_at_load(zoo, load):
    with pytest.raises(ConfigError, match=re.escape("a model with one output; this one has 2")):
        load(zoo("bert", "sequence_classification"), mode="text_ranking")
