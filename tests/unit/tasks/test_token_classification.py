"""Entities, compared with transformers' own pipeline on every architecture and strategy."""

from __future__ import annotations

import json

import numpy as np
import pytest
import transformers

from bert_handler import Predictor
from bert_handler.errors import InvalidRequestError, RequestTooLargeError, UnservableError
from bert_handler.schema import Tokens
from bert_handler.tasks.token_classification import STRATEGIES
from tests.zoo import CORPUS, ENCODERS, LABELS

TEXTS = (
    "Angela Merkel met Barack Obama in Berlin on Monday.",
    "Don't worry: e-mail  U.S.A. costs $3.14!",
    "Zürich\r\nParis\tLondon",
    " leading and trailing ",
    "東京は日本の首都です。",
    "q",
)


@pytest.fixture(scope="module")
def reference(zoo):
    made = {}

    def get(architecture):
        if architecture not in made:
            directory = str(zoo(architecture, "token_classification"))
            made[architecture] = transformers.pipeline("token-classification", model=directory, device="cpu")
        return made[architecture]

    return get


@pytest.fixture
def predictor(zoo, load) -> Predictor:
    return load(zoo("bert", "token_classification"))


def assert_same(found: list[dict], expected: list[dict], *, words: bool = True) -> None:
    kind = "entity_group" if expected and "entity_group" in expected[0] else "entity"
    keys = [kind, "start", "end", *(["index"] if kind == "entity" else []), *(["word"] if words else [])]
    assert [[item[key] for key in keys] for item in found] == [[item[key] for key in keys] for item in expected]
    for mine, theirs in zip(found, expected):
        assert mine["score"] == pytest.approx(float(theirs["score"]), abs=1e-4)


@pytest.mark.filterwarnings("ignore:Tokenizer does not support real words")
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("architecture", ENCODERS)
def test_equals_the_pipeline_alone_and_in_a_mixed_batch(architecture, strategy, zoo, load, reference):
    predictor = load(zoo(architecture, "token_classification"))
    batch = predictor.predict(TEXTS, aggregation_strategy=strategy, ignore_labels=[])
    # The pipeline decodes each word, then the words again, which loses Unigram's spaces between them
    # and the characters that several byte-level words share.  Here a group is decoded once.
    words = strategy in {"none", "simple"} or architecture in {"bert", "distilbert", "electra", "mpnet"}
    for text, found in zip(TEXTS, batch):
        expected = reference(architecture)(text, aggregation_strategy=strategy, ignore_labels=[])
        assert_same(found["predict"], expected, words=words)
        alone = predictor.predict([text], aggregation_strategy=strategy, ignore_labels=[])[0]
        assert_same(alone["predict"], found["predict"])


@pytest.mark.filterwarnings("ignore:Tokenizer does not support real words")
@pytest.mark.parametrize("strategy", ["first", "average", "max"])
@pytest.mark.parametrize("architecture", ["roberta", "xlm-roberta", "albert", "deberta-v2", "modernbert"])
def test_words_are_those_of_the_pipeline_but_for_spaces(architecture, strategy, zoo, load, reference):
    text = "Angela Merkel met Barack Obama in Berlin on Monday."
    found = load(zoo(architecture, "token_classification")).predict(
        [text], aggregation_strategy=strategy, ignore_labels=[]
    )[0]["predict"]
    expected = reference(architecture)(text, aggregation_strategy=strategy, ignore_labels=[])
    assert [item["word"].replace(" ", "") for item in found] == [item["word"].replace(" ", "") for item in expected]


@pytest.mark.parametrize("architecture", ["bert", "roberta", "xlm-roberta"])
def test_ignores_o_unless_told_otherwise(architecture, zoo, load, reference):
    predictor = load(zoo(architecture, "token_classification"))
    for text in CORPUS[:6]:
        found = predictor.predict([text])[0]["predict"]
        assert_same(found, reference(architecture)(text, aggregation_strategy="simple"))
        assert {item["entity_group"] for item in found} <= {"PER", "LOC", "ORG"}
        expected = reference(architecture)(text, aggregation_strategy="simple", ignore_labels=["O", "PER"])
        assert_same(predictor.predict([text], ignore_labels=["O", "PER"])[0]["predict"], expected)


@pytest.mark.parametrize("strategy", ["none", "simple", "first"])
@pytest.mark.parametrize("ignored", [["B-LOC"], ["LOC"], ["O", "B-PER", "ORG"]])
def test_ignores_by_the_name_that_the_pipeline_ignores_by(strategy, ignored, zoo, load, reference):
    predictor, parameters = load(zoo("bert", "token_classification")), {"aggregation_strategy": strategy}
    for text in CORPUS[:3]:
        expected = reference("bert")(text, ignore_labels=ignored, **parameters)
        assert_same(predictor.predict([text], ignore_labels=ignored, **parameters)[0]["predict"], expected)


@pytest.mark.parametrize("architecture", ENCODERS)
def test_truncates_as_the_pipeline(architecture, zoo, load, reference):
    text = " ".join(CORPUS[:8])
    found = load(zoo(architecture, "token_classification")).predict([text], aggregation_strategy="none")[0]
    assert found.truncated
    assert found.input_tokens > 48
    assert_same(found["predict"], reference(architecture)(text, aggregation_strategy="none"))


@pytest.mark.parametrize("architecture", ["bert", "roberta", "deberta-v2"])
def test_windows_decide_each_token_once_with_most_context(architecture, zoo, load):
    """The pipeline joins entities of windows instead and keeps the longer one: no token has one label."""
    predictor = load(zoo(architecture, "token_classification"))
    text = " ".join(CORPUS[:8])
    found = predictor.predict([text], truncation="stride", stride=16, aggregation_strategy="none", ignore_labels=[])[0]
    assert not found.truncated
    tokens = found["predict"]
    assert [token["index"] for token in tokens] == list(range(1, found.input_tokens - 1))
    # Room for 46 tokens, 16 shared: windows start 30 tokens apart and meet in the middle of what they share.
    model = transformers.AutoModelForTokenClassification.from_pretrained(zoo(architecture, "token_classification"))
    ids = predictor.task.model.tokenizer.backend.encode(text).ids
    windows = [ids[:47] + ids[-1:], ids[:1] + ids[31:77] + ids[-1:]]
    import torch

    first, second = (
        model(torch.tensor([window])).logits[0].softmax(-1).max(-1).values.detach().numpy() for window in windows
    )
    expected = np.concatenate([first[1:39], second[9:39]])
    scores = [token["score"] for token in tokens[: len(expected)]]
    np.testing.assert_allclose(scores, expected, atol=1e-4)


def test_accents_do_not_glue_words_together(predictor):
    """The pipeline compares lengths and takes a word with a combining accent for a part of the one before."""
    text = "the cafe\u0301 in Paris"
    found = predictor.predict([text], aggregation_strategy="first", ignore_labels=[])[0]["predict"]
    starts = {item["start"] for item in found}
    assert starts <= {0, 4, 10, 13}


@pytest.mark.parametrize(
    "text",
    [
        "Angela Merkel 😀 in Zu\u0308rich",
        "東京 Tokyo",
        "القاهرة هي Cairo",
        "ירושלים",
        "Paris\r\nLondon\r\n",
        "👩‍🔬 in the lab",
    ],
)
@pytest.mark.parametrize("architecture", ENCODERS)
def test_offsets_point_into_the_text_as_sent(architecture, text, zoo, load):
    predictor = load(zoo(architecture, "token_classification"))
    found = predictor.predict([text], aggregation_strategy="none", ignore_labels=[])[0]["predict"]
    starts, ends = [token["start"] for token in found], [token["end"] for token in found]
    assert starts == sorted(starts)
    assert ends == sorted(ends)
    assert starts[0] >= 0
    assert ends[-1] <= len(text)
    covered = {place for token in found for place in range(token["start"], token["end"])}
    assert {place for place, character in enumerate(text) if character.isalnum()} <= covered


@pytest.mark.parametrize("names", [dict(enumerate(LABELS)), {"label_list": "[" + ", ".join(LABELS) + "]"}])
def test_both_forms_of_index_to_name_are_read(names, zoo, tmp_path):
    for file in zoo("bert", "token_classification", id2label=dict(enumerate("abcdef"))).iterdir():
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / "index_to_name.json").write_text(json.dumps(names))
    predictor = Predictor.load(tmp_path, model_yaml={"handler": {"threads": 1}}, environ={})
    found = predictor.predict([TEXTS[0]], ignore_labels=[], aggregation_strategy="none")[0]["predict"]
    predictor.close()
    assert {item["entity"] for item in found} <= set(LABELS)


@pytest.mark.parametrize("text", ["", " "])
def test_an_empty_text_has_no_entities(text, zoo, load):
    for architecture in ENCODERS:
        predictor = load(zoo(architecture, "token_classification"))
        found = predictor.predict([text])[0]["predict"]
        assert all(item["end"] <= len(text) for item in found)


def test_unknown_tokens_show_the_text(predictor):
    found = predictor.predict(["ǂǂ ǁ"], aggregation_strategy="none", ignore_labels=[])[0]["predict"]
    assert [(item["word"], item["start"], item["end"]) for item in found] == [("ǂǂ", 0, 2), ("ǁ", 3, 4)]


def test_a_hundred_thousand_characters(predictor):
    text = (CORPUS[1] + " ") * (100_000 // len(CORPUS[1]))
    assert predictor.predict([text])[0].truncated
    with pytest.raises(RequestTooLargeError, match="truncation"):
        predictor.predict([text], truncation="error")
    found = predictor.predict([text[:30_000]], truncation="stride", stride=8)[0]
    assert found["predict"][-1]["end"] > 29_000
    with pytest.raises(RequestTooLargeError, match="windows"):
        predictor.predict([text], truncation="stride", stride=20)


def test_a_batch_of_a_thousand(predictor):
    texts = [CORPUS[i % len(CORPUS)][: i % 50] for i in range(1000)]
    found = predictor.predict(texts, aggregation_strategy="none")
    assert len(found) == 1000
    for i in (0, 49, 333, 999):
        assert_same(found[i]["predict"], predictor.predict([texts[i]], aggregation_strategy="none")[0]["predict"])


def test_token_ids_are_refused(predictor):
    ids = Tokens({"input_ids": np.array([2, 5, 3])})
    with pytest.raises(UnservableError, match="needs text"):
        predictor.predict([ids])


def test_an_unknown_strategy_is_refused(predictor):
    with pytest.raises(InvalidRequestError, match="aggregation_strategy"):
        predictor.predict(["a"], aggregation_strategy="best")


def test_labels_of_one_name_are_explained_by_their_index(zoo, load):
    names = {"0": "O", "1": "X", "2": "X"}
    predictor = load(zoo("bert", "token_classification", id2label=names, label2id={"O": 0, "X": 2}), ignore_labels=[])
    encoded = predictor.task.encode([predictor.task.parse("the cat", predictor.config.parameters)], offsets=True)[0]
    length = len(encoded.rows[0].inputs["input_ids"])
    rows = [{"logits": np.tile(np.array([0, 1, 2], np.float32), (length, 1))}]
    target = predictor.task.decision(encoded, rows, ()).targets[0]
    weights = target.parts[""][0].weights
    assert target.name == "X"
    assert weights[:, 2].sum() == pytest.approx(1)
    assert not weights[:, :2].any()
