"""Filled masks, compared with transformers' own pipeline on every architecture."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import tokenizers
import torch
import transformers
from tokenizers import models, pre_tokenizers, processors

from bert_handler import Predictor
from bert_handler.errors import ConfigError, InvalidRequestError, RequestTooLargeError
from bert_handler.schema import Request, Tokens
from bert_handler.tasks.fill_mask import MAX_TOP_K
from tests.zoo import CORPUS, ENCODERS

TEXTS = (
    "My {mask} is Wolfgang and I live in Berlin.",
    "{mask}",
    "東京は{mask}の首都です。",
    "Angela Merkel met {mask} Obama in {mask} on Monday, and they talked.",
)


@pytest.fixture(scope="module")
def reference(zoo):
    made = {}

    def get(architecture):
        if architecture not in made:
            directory = str(zoo(architecture, "fill_mask"))
            made[architecture] = transformers.pipeline("fill-mask", model=directory, device="cpu")
        return made[architecture]

    return get


@pytest.fixture
def predictor(zoo, load) -> Predictor:
    return load(zoo("bert", "fill_mask"))


def masked(predictor: Predictor, text: str) -> str:
    return text.format(mask=predictor.task.model.tokenizer.spec.mask_token)


def assert_same(found: list, expected: list) -> None:
    assert len(found) == len(expected)
    for mine, theirs in zip(found, expected):
        if isinstance(theirs, list):
            assert_same(mine, theirs)
            continue
        assert set(mine) == set(theirs) == {"token", "token_str", "score", "sequence"}
        assert mine["score"] == pytest.approx(theirs["score"], abs=1e-4)
        for key in ("token", "token_str", "sequence"):
            assert mine[key] == theirs[key]


@pytest.mark.parametrize("architecture", ENCODERS)
def test_equals_the_pipeline_alone_and_in_a_mixed_batch(architecture, zoo, load, reference):
    predictor = load(zoo(architecture, "fill_mask"))
    texts = [masked(predictor, text) for text in TEXTS]
    for text, found in zip(texts, predictor.predict(texts)):
        assert_same(found["predict"], reference(architecture)(text))
        assert_same(predictor.predict([text])[0]["predict"], found["predict"])


@pytest.mark.parametrize("architecture", ["bert", "roberta", "xlm-roberta"])
def test_requests_choose_how_many_and_which_tokens(architecture, zoo, load, reference):
    predictor, pipeline = load(zoo(architecture, "fill_mask")), reference(architecture)
    vocabulary = predictor.task.model.tokenizer.backend
    targets = [vocabulary.id_to_token(i) for i in (50, 200, 120, 200)]
    text = masked(predictor, TEXTS[0])
    asked = [{"text": text}, {"text": text, "top_k": 1}, {"text": text, "targets": targets}]
    found = [prediction["predict"] for prediction in predictor.predict([*asked, {"text": text, "top_k": MAX_TOP_K}])]
    assert [len(item) for item in found] == [5, 1, 3, MAX_TOP_K]
    assert_same(found[1], pipeline(text, top_k=1))
    assert_same(found[2], pipeline(text, targets=targets))
    assert_same(found[3], pipeline(text, top_k=MAX_TOP_K))
    assert_same(predictor.predict([text], targets=targets, top_k=2)[0]["predict"], pipeline(text, targets=targets)[:2])


def test_targets_are_looked_up_once_for_all_instances(predictor, monkeypatch):
    looked, find = [], predictor.task._find_targets
    monkeypatch.setattr(predictor.task, "_find_targets", lambda targets: looked.append(targets) or find(targets))
    texts = [masked(predictor, text) for text in TEXTS[:2]]
    first = predictor.predict(texts, targets=["The", "and"])
    assert looked == [("The", "and")]
    assert predictor.predict([{"text": texts[1], "targets": ["and", "The"]}])[0]["predict"] == first[1]["predict"]
    refused = predictor.respond([Request([*texts, texts[0]], parameters={"targets": ["the", "a" * 50]})])[0]
    assert [str(item.error) for item in refused.predictions] == [
        "parameter targets: (50 characters) is not one token of this model's vocabulary"
    ] * 3
    assert len(looked) == 3
    targets = ["the"]
    for targets[0] in ("the", "and"):
        found = predictor.predict([texts[0]], targets=targets)[0]["predict"]
        assert [item["token_str"] for item in found] == targets


def test_targets_are_tokenized_as_the_text_is(predictor):
    found = predictor.predict([masked(predictor, TEXTS[0])], targets=["The", "THE", "and"])[0]["predict"]
    assert {item["token_str"] for item in found} == {"the", "and"}


@pytest.mark.parametrize("target", ["Wolfgangs", "ǂ", ""])
def test_a_target_of_no_or_several_tokens_is_refused(predictor, target):
    """The pipeline takes the first piece instead, with a warning in the server's log that no client sees."""
    with pytest.raises(InvalidRequestError, match=r"targets: .* is not one token"):
        predictor.predict([masked(predictor, TEXTS[0])], targets=["the", target])


@pytest.mark.parametrize("architecture", ENCODERS)
def test_a_text_without_mask_is_told_the_mask(architecture, zoo, load):
    predictor = load(zoo(architecture, "fill_mask"))
    mask = predictor.task.model.tokenizer.spec.mask_token
    assert mask in {"[MASK]", "<mask>"}
    other = {"[MASK]": "<mask>", "<mask>": "[MASK]"}[mask]
    for text in ("", " ", "a text", f"My {other} is", "ǂǂ"):
        with pytest.raises(InvalidRequestError) as refused:
            predictor.predict([text])
        assert f"write {mask} where" in str(refused.value)


@pytest.mark.parametrize("architecture", ["bert", "roberta", "deberta-v2"])
def test_truncates_as_the_pipeline_but_never_a_mask(architecture, zoo, load, reference):
    predictor = load(zoo(architecture, "fill_mask"))
    text = masked(predictor, TEXTS[0]) + " " + " ".join(CORPUS[:6])
    found = predictor.predict([text])[0]
    assert found.truncated
    assert_same(found["predict"], reference(architecture)(text, tokenizer_kwargs={"truncation": True}))
    with pytest.raises(InvalidRequestError, match="a mask is cut off"):
        predictor.predict([" ".join([*CORPUS[:6], masked(predictor, TEXTS[0])])])
    with pytest.raises(RequestTooLargeError, match="truncation"):
        predictor.predict([text], truncation="error")


@pytest.mark.parametrize("architecture", ["bert", "roberta", "deberta-v2"])
def test_windows_fill_each_mask_where_it_has_most_context(architecture, zoo, load):
    predictor = load(zoo(architecture, "fill_mask"))
    text = masked(predictor, " ".join([*CORPUS[:3], TEXTS[0], *CORPUS[3:6], TEXTS[3]]))
    found = predictor.predict([text], truncation="stride", stride=16)[0]
    assert not found.truncated
    assert len(found["predict"]) == 3
    backend, mask_id = predictor.task.model.tokenizer.backend, predictor.task.model.tokenizer.spec.mask_id
    ids = backend.encode(text).ids
    model = transformers.AutoModelForMaskedLM.from_pretrained(zoo(architecture, "fill_mask")).eval()
    for place, ranking in zip(np.flatnonzero(np.array(ids) == mask_id), found["predict"]):
        scores = []
        # Room for 46 tokens, 16 of them shared.
        for start in range(1, len(ids) - 17, 30):
            window = [*range(1, len(ids) - 1)][start - 1 : start + 45]
            if place in window:
                tokens = torch.tensor([[ids[0], *(ids[i] for i in window), ids[-1]]])
                at = window.index(place) + 1
                with torch.no_grad():
                    best = model(input_ids=tokens).logits[0, at].softmax(-1).max().item()
                scores.append((min(at, len(window) + 1 - at), best))
        assert ranking[0]["score"] == pytest.approx(max(scores)[1], abs=1e-4)
        assert len(ranking[0]["sequence"]) > len(text) * 0.8


def test_a_hundred_thousand_characters(predictor):
    text = masked(predictor, "My {mask} is ") + "Berlin " * 14_000
    assert predictor.predict([text])[0].truncated
    found = predictor.predict([text], truncation="stride", stride=0)[0]
    assert len(found["predict"]) == 5
    assert len(found["predict"][0]["sequence"]) > 90_000


def test_a_batch_of_a_thousand(predictor):
    texts = [masked(predictor, "{mask} ") + CORPUS[i % len(CORPUS)][: i % 40] for i in range(1000)]
    texts[500] = "no mask"
    response = predictor.respond([_request(texts)])[0]
    assert [type(item).__name__ for item in response.predictions].count("Failure") == 1
    for i in (0, 39, 999):
        assert_same(response.predictions[i]["predict"], predictor.predict([texts[i]])[0]["predict"])


def test_token_ids_are_filled_too(predictor):
    text = masked(predictor, TEXTS[0])
    ids = np.array(predictor.task.model.tokenizer.backend.encode(text).ids)
    assert_same(predictor.predict([Tokens({"input_ids": ids})])[0]["predict"], predictor.predict([text])[0]["predict"])


def test_an_answer_that_no_limit_would_take_is_refused_unread(zoo, load, monkeypatch):
    predictor = load(zoo("bert", "fill_mask"), max_request_tokens=4000)
    monkeypatch.setattr(predictor.task, "texts", None)
    with pytest.raises(RequestTooLargeError) as caught:
        predictor.predict(["[MASK] a " * 30])
    assert str(caught.value) == (
        "instance 0: the request has 150 sequences with 40500 characters together; "
        "max_request_tokens is 4000, of at most 8 characters each"
    )
    with pytest.raises(RequestTooLargeError, match="the request has 1000 sequences with 88000 characters"):
        predictor.predict([Tokens({"input_ids": np.array([2] + [4] * 10)})], top_k=100)


def test_a_model_without_mask_token_is_refused_at_load(zoo, tmp_path):
    for file in zoo("bert", "fill_mask").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    settings["mask_token"] = None
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(ConfigError, match="mask token"):
        Predictor.load(tmp_path, environ={})


def _request(texts):
    from bert_handler.schema import Request

    return Request(texts)


# The tokens of a reaction SMILES: atoms in brackets, two-letter elements, ring numbers, bonds, single letters.
SMILES = r"\[[^\]]+\]|Br|Cl|%\d\d|>>|[A-Za-z]|\d|[^\sA-Za-z\d]"


@pytest.fixture(scope="module")
def reactions(tmp_path_factory) -> Path:
    """rxnmapper's masked language model of chemical reactions, with its word-level tokenizer."""
    found = importlib.util.find_spec("rxnmapper")
    if found is None or found.origin is None:
        pytest.skip("real weights: pip install --no-deps rxnmapper==0.4.3")
    source = Path(found.origin).parent / "models" / "transformers" / "albert_heads_8_uspto_all_1310k"
    directory = tmp_path_factory.mktemp("rxnmapper")
    settings = json.loads((source / "config.json").read_text())
    model = transformers.AlbertForMaskedLM(transformers.AlbertConfig(**settings))
    weights = torch.load(source / "pytorch_model.bin", map_location="cpu", weights_only=True)
    missing = model.load_state_dict(weights, strict=False).missing_keys
    assert set(missing) <= {"albert.embeddings.position_ids", "predictions.decoder.bias"}
    model.save_pretrained(directory)
    vocabulary = (source / "vocab.txt").read_text().split("\n")
    tokenizer = tokenizers.Tokenizer(
        models.WordLevel({token: i for i, token in enumerate(vocabulary) if token}, "[UNK]")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Split(tokenizers.Regex(SMILES), "isolated")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")],
    )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=512,
    ).save_pretrained(directory)
    return directory


def test_real_weights_know_chemistry(reactions, load):
    """What an ester and an amide are made from and made of, and what closes an aromatic ring."""
    predictor = load(reactions)
    table = {
        "CC(=O)[MASK].CCO>>CC(=O)OCC": "Cl",
        "CC(=O)O.CCO>>CC(=O)OC[MASK]": "C",
        "c1ccc[MASK]c1Br.OB(O)c1ccccc1>>c1ccc(-c2ccccc2)cc1": "c",
        "CC(=O)Cl.NCc1ccccc1>>CC(=O)[MASK]Cc1ccccc1": "N",
    }
    found = predictor.predict(list(table))
    assert [item["predict"][0]["token_str"] for item in found] == list(table.values())
    assert all(item["predict"][0]["score"] > 0.5 for item in found)
    pipeline = transformers.pipeline("fill-mask", model=str(reactions), device="cpu")
    for text, item in zip(table, found):
        assert_same(item["predict"], pipeline(text))
