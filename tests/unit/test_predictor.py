"""The predictor as Python calls it."""

from __future__ import annotations

import re
import shutil

import pytest

from bert_handler import Predictor
from bert_handler.errors import ConfigError, InvalidRequestError
from bert_handler.packaging.staging import stage_model


@pytest.mark.parametrize("method", ["predict", "explain"])
@pytest.mark.parametrize(
    ("instances", "kind"), [("good film", "a string"), ({"text": "good film"}, "an object"), (b"good", "bytes")]
)
def test_one_instance_outside_of_a_list_is_refused(zoo, load, method, instances, kind):
    predictor = load(zoo("bert", "sequence_classification"))
    with pytest.raises(InvalidRequestError) as caught:
        getattr(predictor, method)(instances)
    assert (
        str(caught.value) == f"instances must be a list of texts or objects, not {kind}; put a single one into a list"
    )


def test_instances_may_come_one_by_one(zoo, load):
    predictor = load(zoo("bert", "sequence_classification"))
    assert len(predictor.predict(text for text in ("a fox", "a dog"))) == 2


@pytest.mark.parametrize("content", ["{", "[]"])
@pytest.mark.parametrize(
    ("architecture", "head", "name"),
    [
        ("bert", "sequence_classification", "config.json"),
        ("bert", "sequence_classification", "setup_config.json"),
        ("bert", "sequence_classification", "index_to_name.json"),
        ("gpt2", "causal", "generation_config.json"),
        ("bert", "embedding", "config_sentence_transformers.json"),
    ],
)
def test_a_damaged_file_of_the_model_is_named(architecture, head, name, content, zoo, tmp_path):
    model = shutil.copytree(zoo(architecture, head), tmp_path / "model")
    (model / name).write_text(content)
    with pytest.raises(ConfigError, match=re.escape(name)):
        Predictor.load(model, model_yaml={"handler": {"device": "cpu"}}, environ={})


def test_a_damaged_tokenizer_is_named(zoo, tmp_path):
    stage = tmp_path / "stage"
    stage.mkdir()
    stage_model(zoo("bert", "sequence_classification"), stage, None, None)
    (stage / "tokenizer.json").write_text("{")
    with pytest.raises(ConfigError, match=r"tokenizer\.json cannot be read"):
        Predictor.load(stage, model_yaml={"handler": {"device": "cpu"}}, environ={})
