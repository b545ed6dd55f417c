"""Labels of texts and pairs, compared with transformers' own pipeline on every architecture."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import transformers

from bert_handler import Predictor
from bert_handler.errors import ConfigError, InvalidRequestError, RequestTooLargeError
from bert_handler.schema import Request, Tokens
from tests.zoo import CORPUS, ENCODERS

HEAD = "sequence_classification"
TEXTS = (*CORPUS[:3], "東京 😀", "Zürich\r\nParis", "q", "", " ")
PAIRS = (("The film was good.", "It was bad."), ("a", "b"), ("", "Berlin"), ("Paris", ""), ("", ""))


@pytest.fixture(scope="module")
def reference(zoo):
    made = {}

    def get(directory):
        if directory not in made:
            made[directory] = transformers.pipeline("text-classification", model=str(directory), device="cpu")
        return made[directory]

    return get


@pytest.fixture
def predictor(zoo, load) -> Predictor:
    return load(zoo("bert", HEAD, num_labels=4))


def by_label(answers: list[dict]) -> list[float]:
    return [answer["score"] for answer in sorted(answers, key=lambda answer: answer["label"])]


@pytest.mark.parametrize("architecture", ENCODERS)
def test_equals_the_pipeline_alone_and_in_a_mixed_batch(architecture, zoo, load, reference):
    directory = zoo(architecture, HEAD, num_labels=4)
    predictor = load(directory)
    for text, found in zip(TEXTS, predictor.predict(TEXTS)):
        expected = reference(directory)(text, top_k=None)
        np.testing.assert_allclose(found["probabilities"], by_label(expected), atol=1e-4)
        assert found["predict"] == expected[0]["label"]
        assert found["score"] == pytest.approx(expected[0]["score"], abs=1e-4)
        np.testing.assert_allclose(predictor.predict([text])[0]["logits"], found["logits"], atol=1e-4)


@pytest.mark.parametrize("architecture", ENCODERS)
def test_pairs_equal_the_model_with_segment_ids(architecture, zoo, load):
    """Compared with the model itself: transformers 5 gives ALBERT's pairs without the segment ids it knows."""
    directory = zoo(architecture, HEAD, num_labels=4)
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(directory).eval()
    has_segments = (getattr(model.config, "type_vocab_size", 0) or 0) > 1
    predictor = load(directory)
    assert ("token_type_ids" in predictor.task.model.tokenizer.spec.input_names) >= has_segments
    found = predictor.predict([{"text": text, "text_pair": pair} for text, pair in PAIRS])
    for (text, pair), prediction in zip(PAIRS, found):
        inputs = tokenizer(text, pair, return_tensors="pt", return_token_type_ids=has_segments)
        if has_segments and pair:
            assert inputs["token_type_ids"].max() == 1
        with torch.no_grad():
            expected = model(**inputs).logits[0].numpy()
        np.testing.assert_allclose(prediction["logits"], expected, atol=1e-4)


@pytest.mark.parametrize("architecture", ["bert", "roberta", "deberta-v2"])
def test_pairs_equal_the_pipeline(architecture, zoo, load, reference):
    directory = zoo(architecture, HEAD, num_labels=4)
    for text, pair in PAIRS[:2]:
        instance = {"text": text, "text_pair": pair}
        expected = reference(directory)([instance], top_k=None)[0]
        np.testing.assert_allclose(
            load(directory).predict([instance])[0]["probabilities"], by_label(expected), atol=1e-4
        )


@pytest.mark.parametrize("function", ["softmax", "sigmoid", "none"])
@pytest.mark.parametrize(
    "settings",
    [
        {"num_labels": 4},
        {"num_labels": 4, "problem_type": "multi_label_classification"},
        {"num_labels": 1},
        {"num_labels": 1, "problem_type": "regression"},
        {"num_labels": 3, "problem_type": "regression"},
    ],
    ids=["single", "multi", "one-label", "regression", "three-values"],
)
def test_problem_types_and_functions_equal_the_pipeline(settings, function, zoo, load, reference):
    directory = zoo("bert", HEAD, **settings)
    predictor = load(directory)
    for text in TEXTS[:3]:
        default = by_label(reference(directory)(text, top_k=None))
        asked = by_label(reference(directory)(text, top_k=None, function_to_apply=function))
        name = "predict" if settings.get("problem_type") == "regression" else "probabilities"
        np.testing.assert_allclose(np.ravel(predictor.predict([text])[0][name]), default, atol=1e-4)
        found = predictor.predict([text], function_to_apply=function)[0]
        np.testing.assert_allclose(np.ravel(found[name]), asked, atol=1e-4)


def test_a_regression_answers_with_the_number(zoo, load):
    predictor = load(zoo("bert", HEAD, num_labels=1, problem_type="regression"))
    found = predictor.predict([CORPUS[0]])[0]
    assert found["predict"].shape == ()
    assert found["predict"] == found["score"] == found["logits"][0]
    assert predictor.outputs["predict"].datatype == "FP32"


@pytest.mark.parametrize("chosen", [{"top_k": 1}, {"threshold": 0.5}])
def test_a_regression_has_no_labels_to_choose_from(zoo, load, chosen):
    model = zoo("bert", HEAD, num_labels=1, problem_type="regression")
    (name,) = chosen
    with pytest.raises(InvalidRequestError, match=f"parameter {name} has no effect: this model answers with numbers"):
        load(model).predict([CORPUS[0]], **chosen)
    with pytest.raises(ConfigError, match=f"setting {name} has no effect"):
        load(model, **chosen)


@pytest.mark.parametrize("top_k", [1, 2, 4, 9])
def test_top_k_labels_are_the_pipelines(top_k, predictor, zoo, reference):
    expected = reference(zoo("bert", HEAD, num_labels=4))(CORPUS[0], top_k=top_k)
    found = predictor.predict([CORPUS[0]], top_k=top_k)[0]
    assert found["predict"] == tuple(item["label"] for item in expected)
    np.testing.assert_allclose(found["score"], [item["score"] for item in expected], atol=1e-4)


def test_threshold_answers_with_every_label_that_passes(zoo, load):
    predictor = load(zoo("bert", HEAD, num_labels=4, problem_type="multi_label_classification"))
    for found in predictor.predict(TEXTS, threshold=0.5):
        scores = found["probabilities"]
        expected = [f"LABEL_{i}" for i in np.argsort(-scores) if scores[i] >= 0.5]
        assert found["predict"] == expected
        np.testing.assert_array_equal(found["score"], np.sort(scores[scores >= 0.5])[::-1])
    assert predictor.predict(TEXTS[:1], threshold=1.0)[0]["predict"] == []
    assert len(predictor.predict(TEXTS[:1], threshold=0, top_k=3)[0]["predict"]) == 3


def test_requests_in_one_batch_have_their_own_parameters(predictor):
    text = CORPUS[0]
    requests = [Request([text]), Request([text], parameters={"top_k": 2}), Request([{"text": text, "top_k": 3}])]
    found = [response.predictions[0]["predict"] for response in predictor.respond(requests)]
    assert isinstance(found[0], str)
    assert [len(labels) for labels in found[1:]] == [2, 3]


@pytest.mark.parametrize("architecture", ENCODERS)
def test_truncates_as_the_pipeline(architecture, zoo, load, reference):
    directory = zoo(architecture, HEAD, num_labels=4)
    text = " ".join(CORPUS[:8])
    found = load(directory).predict([text])[0]
    assert found.truncated
    expected = reference(directory)(text, top_k=None, truncation=True)
    np.testing.assert_allclose(found["probabilities"], by_label(expected), atol=1e-4)


def test_windows_are_averaged(predictor):
    text = " ".join(CORPUS[:8])
    found = predictor.predict([text], truncation="stride", stride=16)[0]
    assert not found.truncated
    ids = predictor.task.model.tokenizer.backend.encode(text).ids
    windows = [
        np.array([ids[0], *ids[start : min(start + 46, len(ids) - 1)], ids[-1]])
        for start in range(1, len(ids) - 17, 30)
    ]
    logits = [item["logits"] for item in predictor.predict([Tokens({"input_ids": window}) for window in windows])]
    np.testing.assert_allclose(found["logits"], np.mean(logits, axis=0), atol=1e-4)


def test_a_hundred_thousand_characters(predictor):
    text = ("Berlin " * 15_000)[:100_000]
    assert predictor.predict([text])[0].truncated
    assert predictor.predict([text], truncation="stride", stride=0)[0]["predict"].startswith("LABEL")
    with pytest.raises(RequestTooLargeError, match="truncation"):
        predictor.predict([text], truncation="error")


@pytest.mark.parametrize("head", ["sequence_classification", "token_classification", "question_answering"])
def test_a_batch_is_padded_at_the_right_whatever_the_tokenizer_says(head, zoo, load, tmp_path):
    """At the left, the positions of all but the longest text would move."""
    directory = zoo("bert", head)
    for file in directory.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({**settings, "padding_side": "left"}))
    predictor = load(tmp_path)
    assert predictor.task.model.tokenizer.spec.padding_side == "left"
    instances = [{"question": "q", "context": text} for text in CORPUS] if head[0] == "q" else CORPUS
    for mine, expected in zip(predictor.predict(instances), load(directory).predict(instances)):
        assert mine["predict"] == expected["predict"]


def test_unknown_tokens_are_classified(predictor):
    assert predictor.predict(["ǂǂ ǁ"])[0].input_tokens == 4


@pytest.mark.parametrize("instance", ["", {"text": "", "text_pair": ""}], ids=str)
def test_a_text_without_a_token_is_refused_alone(instance, zoo, load):
    # A tokenizer of a decoder adds no special tokens.
    predictor = load(zoo("gpt2", "sequence_classification", pad_token_id=0))
    [response] = predictor.respond([Request(["the film", instance])])
    good, empty = response.predictions
    assert good["predict"] in ("LABEL_0", "LABEL_1")
    assert (empty.error.status, str(empty.error)) == (400, "text is empty: this model makes no token of it")


def test_a_batch_of_a_thousand(predictor):
    texts = [CORPUS[i % len(CORPUS)][: i % 50] for i in range(1000)]
    found = predictor.predict(texts)
    for i in (0, 49, 333, 999):
        np.testing.assert_allclose(found[i]["logits"], predictor.predict([texts[i]])[0]["logits"], atol=1e-4)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"top_k": 0}, "top_k=0; it must be at least 1"),
        ({"top_k": "two"}, "top_k must be an integer"),
        ({"threshold": 2}, "threshold"),
        ({"function_to_apply": "tanh"}, "function_to_apply"),
        ({"topk": 1}, "did you mean 'top_k'"),
        ({"truncation": "cut"}, "error, truncate, stride"),
    ],
)
def test_wrong_parameters_are_named(predictor, parameters, message):
    with pytest.raises(InvalidRequestError, match=message):
        predictor.predict(["a"], **parameters)
