"""Zero-shot labels equal transformers' pipeline on every architecture, alone and in a mixed batch."""

from __future__ import annotations

import re

import numpy as np
import pytest
import transformers

from bert_handler import Predictor, jsonio
from bert_handler.errors import ConfigError, InvalidRequestError, RequestTooLargeError, UnservableError
from bert_handler.protocols.v2 import V2
from bert_handler.schema import Failure, Request, Tokens
from tests.zoo import ENCODERS

NLI = {
    "id2label": {0: "contradiction", 1: "neutral", 2: "entailment"},
    "label2id": {"contradiction": 0, "neutral": 1, "entailment": 2},
}
TEXTS = [
    "The film was good, the acting was better, and the music was the best of the year.",
    "Paris",
    "",
    " ",
    "東京は日本の首都です。 😀",
    "Angela Merkel met Barack Obama in Berlin on Monday. " * 8,
]
LABELS = ["film", "politics", "sport and games"]


@pytest.fixture(scope="module")
def directory(zoo):
    return zoo("bert", "sequence_classification", **NLI)


@pytest.fixture(scope="module")
def predictor(directory, load):
    return load(directory, mode="zero_shot_classification")


def pipeline(directory):
    transformers.utils.logging.disable_progress_bar()
    made = transformers.pipeline("zero-shot-classification", model=str(directory), device="cpu")
    if made.model.config.model_type == "albert":
        # transformers 5 leaves ALBERT's segments out: its pipeline reads a pair as one text.
        made.tokenizer.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    return made


def assert_equal(prediction, expected):
    assert prediction["labels"] == tuple(expected["labels"])
    assert prediction["predict"] == expected["labels"][0]
    np.testing.assert_allclose(prediction["scores"], expected["scores"], atol=1e-4)
    assert prediction["score"] == prediction["scores"][0]


@pytest.mark.parametrize("architecture", ENCODERS)
def test_answers_equal_the_pipeline(architecture, zoo, load):
    directory = zoo(architecture, "sequence_classification", **NLI)
    predictor, reference = load(directory, mode="zero_shot_classification"), pipeline(directory)
    # The pipeline refuses an empty text: that one is only compared alone and in the batch.
    for parameters in ({}, {"multi_label": True}, {"hypothesis_template": "It is about {}."}):
        batch = predictor.predict(TEXTS, candidate_labels=LABELS, **parameters)
        for text, prediction in zip(TEXTS, batch):
            if text:
                assert_equal(prediction, reference(text, LABELS, **parameters))
    for text, prediction in zip(TEXTS, batch):
        alone = predictor.predict([text], candidate_labels=LABELS, **parameters)[0]
        assert alone["labels"] == prediction["labels"]
        np.testing.assert_allclose(alone["scores"], prediction["scores"], atol=1e-5)
    assert batch[5].truncated
    assert not batch[1].truncated


def test_entailment_may_be_the_first_label(zoo, load):
    first = {
        "id2label": {0: "ENTAILMENT", 1: "neutral", 2: "contradiction"},
        "label2id": {"ENTAILMENT": 0, "neutral": 1, "contradiction": 2},
    }
    directory = zoo("bert", "sequence_classification", **first)
    predictor, reference = load(directory, mode="zero_shot_classification"), pipeline(directory)
    for multi_label in (False, True):
        prediction = predictor.predict([TEXTS[0]], candidate_labels=LABELS, multi_label=multi_label)[0]
        assert_equal(prediction, reference(TEXTS[0], LABELS, multi_label=multi_label))


@pytest.mark.parametrize("labels", ["film, politics ,sport", ["film", "politics", "sport"]])
def test_labels_come_as_a_list_or_between_commas(predictor, labels):
    prediction = predictor.predict([{"text": TEXTS[0], "candidate_labels": labels}])[0]
    assert sorted(prediction["labels"]) == ["film", "politics", "sport"]


def test_labels_between_commas_may_be_given_at_load(directory):
    parameters, mode = {"candidate_labels": "film, sport"}, {"handler": {"mode": "zero_shot_classification"}}
    with Predictor.load(directory, parameters=parameters, model_yaml=mode, environ={}) as predictor:
        assert sorted(predictor.predict(["Paris"])[0]["labels"]) == ["film", "sport"]


def test_labels_may_be_configured(directory, load):
    predictor = load(directory, mode="zero_shot_classification", candidate_labels="film,politics")
    assert sorted(predictor.predict(["Paris"])[0]["labels"]) == ["film", "politics"]
    assert predictor.predict([{"text": "Paris", "candidate_labels": ["x"]}])[0]["labels"] == ("x",)
    assert predictor.metadata()["outputs"][3] == {"name": "scores", "datatype": "FP32", "shape": [-1, 2]}


def test_every_instance_has_labels_of_its_own(predictor):
    request = Request(
        [
            {"text": "Paris", "candidate_labels": ["a", "b"]},
            {"text": "Paris", "candidate_labels": "film,politics,sport", "multi_label": True},
        ],
        outputs=("predict", "labels", "scores"),
    )
    response = predictor.respond([request])[0]
    for item, text_labels in zip(response.predictions, (["a", "b"], ["film", "politics", "sport"])):
        assert sorted(item["labels"]) == text_labels
    answer = jsonio.loads(V2().encode(response, predictor.identity, predictor.outputs).body)
    by_name = {output["name"]: output for output in answer["outputs"]}
    assert by_name["scores"]["datatype"] == by_name["labels"]["datatype"] == "BYTES"
    assert [len(jsonio.loads(text)) for text in by_name["labels"]["data"]] == [2, 3]


def test_columns_of_a_v2_request(predictor):
    body = jsonio.dumps(
        {
            "inputs": [
                {"name": "text", "shape": [2], "datatype": "BYTES", "data": ["Paris", "film"]},
                {
                    "name": "candidate_labels",
                    "shape": [2],
                    "datatype": "BYTES",
                    "data": ["a,b", '["a, b", "c"]'],
                },
            ],
            "outputs": [{"name": "labels"}],
        }
    )
    response = predictor.respond([V2().decode(body, {})])[0]
    answer = jsonio.loads(V2().encode(response, predictor.identity, predictor.outputs).body)
    [labels] = answer["outputs"]
    assert labels["shape"] == [2, 2]
    assert sorted(labels["data"][:2]) == ["a", "b"]
    assert sorted(labels["data"][2:]) == ["a, b", "c"]


def test_only_the_text_is_cut(directory, predictor):
    label = "the capital of the United Kingdom and the capital of France and of Japan"
    prediction = predictor.predict([TEXTS[0] * 3], candidate_labels=[label, "film"])[0]
    assert_equal(prediction, pipeline(directory)(TEXTS[0] * 3, [label, "film"]))
    assert prediction.truncated


def test_stride_averages_the_windows_of_the_text(predictor):
    text = TEXTS[0] * 3
    strided = predictor.predict([text], candidate_labels=LABELS, truncation="stride", stride=4)[0]
    assert not strided.truncated
    assert sorted(strided["labels"]) == sorted(LABELS)
    cut = predictor.predict([text], candidate_labels=LABELS)[0]
    assert not np.allclose(sorted(strided["scores"]), sorted(cut["scores"]), atol=1e-6)


@pytest.mark.parametrize("text", ["", " ", "x" * 100_000, "a b " * 25_000, "☃☃ ☄☄"])
def test_extreme_texts_are_answered(predictor, text):
    prediction = predictor.predict([text], candidate_labels=LABELS)[0]
    assert float(prediction["scores"].sum()) == pytest.approx(1, abs=1e-5)


def test_a_batch_of_1000_is_answered(predictor):
    predictions = predictor.predict([f"film {i % 3}" for i in range(1000)], candidate_labels=["a", "b"])
    assert len(predictions) == 1000
    np.testing.assert_allclose(predictions[999]["scores"], predictions[0]["scores"], atol=1e-5)


@pytest.mark.parametrize(
    ("instance", "message"),
    [
        ("Paris", "candidate_labels is missing; send"),
        ({"text": "Paris"}, "candidate_labels is missing; send"),
        ({"text": "Paris", "candidate_labels": []}, "parameter candidate_labels has 0 entries"),
        ({"text": "Paris", "candidate_labels": " , "}, "parameter candidate_labels has 0 entries"),
        ({"text": "Paris", "candidate_labels": ["x"] * 257}, "it must be between 1 and 256"),
        ({"text": "Paris", "candidate_labels": 3}, "candidate_labels must be a list of strings"),
        ({"text": "Paris", "candidate_labels": ["\ud800"]}, "candidate_labels is not valid Unicode"),
        (
            {"text": "Paris", "candidate_labels": ["x"], "hypothesis_template": "no place"},
            "parameter hypothesis_template must have {}",
        ),
        ({"text": "Paris", "candidate_labels": ["x"], "multi_label": 1}, "multi_label must be true or false"),
        ({"text": "Paris", "candidate_label": ["x"]}, "unknown field 'candidate_label'"),
    ],
)
def test_wrong_requests_are_named(predictor, instance, message):
    failure = predictor.respond([Request([instance])])[0].predictions[0]
    assert isinstance(failure, Failure)
    assert isinstance(failure.error, InvalidRequestError)
    assert message in str(failure.error)


def test_truncation_error_and_tokens_are_refused(predictor):
    with pytest.raises(RequestTooLargeError, match="takes at most 48"):
        predictor.predict([TEXTS[5]], candidate_labels=LABELS, truncation="error")
    tokens = Request([Tokens({"input_ids": np.array([2, 5, 3])})], parameters={"candidate_labels": ["x"]})
    failure = predictor.respond([tokens])[0].predictions[0]
    assert isinstance(failure.error, UnservableError)


def test_more_sequences_than_the_queue_holds_are_413(directory, load, monkeypatch):
    predictor = load(directory, mode="zero_shot_classification", max_queue_rows=8)
    assert predictor.predict(["Paris"], candidate_labels=[str(i) for i in range(8)])
    monkeypatch.setattr(predictor.task, "rows", None)
    with pytest.raises(RequestTooLargeError, match="the instance needs 9 sequences; max_queue_rows is 8"):
        predictor.predict(["Paris"], candidate_labels=[str(i) for i in range(9)])


def test_a_model_without_entailment_is_refused_at_load(zoo, load):
    with pytest.raises(ConfigError, match=re.escape("(LABEL_0, LABEL_1) begins with 'entail'")):
        load(zoo("bert", "sequence_classification"), mode="zero_shot_classification")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hypothesis_template": "no place"}, "setting hypothesis_template must have {} where the label goes"),
        ({"hypothesis_template": "{} " * 20}, "setting hypothesis_template has 60 characters; max_input_chars is 50"),
        ({"candidate_labels": ["x", " "]}, "setting candidate_labels has an empty label"),
    ],
)
def test_wrong_settings_are_refused_at_load(directory, load, settings, message):
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        load(directory, mode="zero_shot_classification", max_input_chars=50, **settings)


def test_a_template_that_is_too_long_is_413(directory, load):
    predictor = load(directory, mode="zero_shot_classification", max_input_chars=50)
    message = "parameter hypothesis_template has 60 characters; max_input_chars is 50"
    with pytest.raises(RequestTooLargeError, match=message):
        predictor.predict(["Paris"], candidate_labels=["x"], hypothesis_template="{} " * 20)


def test_what_no_limit_would_take_is_refused_unread(directory, load, monkeypatch):
    predictor = load(directory, mode="zero_shot_classification", max_request_tokens=1000)
    monkeypatch.setattr(predictor.task, "texts", None)
    labels = ["politics", "sport"] * 10
    with pytest.raises(RequestTooLargeError, match="the request has 40 sequences with 8540 characters together"):
        predictor.predict(["a " * 100] * 2, candidate_labels=labels, hypothesis_template="It is {}.")
    with pytest.raises(RequestTooLargeError, match="the request has 20 sequences with 13020 characters together"):
        predictor.predict(["a"], candidate_labels=labels, hypothesis_template="{}" * 100)


@pytest.mark.parametrize("template", ["It is {}.", "{}", "{} or {}, {"])
def test_its_size_is_that_of_its_texts(predictor, template):
    base = {**predictor.config.parameters, "candidate_labels": LABELS, "hypothesis_template": template}
    example = predictor.task.parse(TEXTS[0], base)
    texts = predictor.task.texts(example)
    assert predictor.task.size(example) == (len(texts), sum(len(text) + len(hypothesis) for text, hypothesis in texts))
