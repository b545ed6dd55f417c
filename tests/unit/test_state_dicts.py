"""Weights that an old torch may not read."""

from __future__ import annotations

import json
import shutil
from unittest.mock import patch

import pytest
import torch
import transformers
from safetensors.torch import load_file

from bert_handler import Predictor
from bert_handler.engines import torch_loading
from bert_handler.errors import ConfigError
from bert_handler.state_dicts import must_be_safetensors

OLD, NEW = (2, 5), (2, 6)
INDEX = "model.safetensors.index.json"


def directory_of(path, names, shards=None):
    for name in names:
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).touch()
    if shards is not None:
        (path / INDEX).write_text(json.dumps({"weight_map": dict(enumerate(shards))}))
    return path


@pytest.mark.parametrize(
    ("names", "shards", "refused"),
    [
        (["pytorch_model.bin"], None, "pytorch_model.bin"),
        (["pytorch_model-00001-of-00002.bin", "pytorch_model.bin.index.json"], None, "pytorch_model-00001-of-00002"),
        (["weights.pt"], None, "weights.pt"),
        (["pytorch_model.bin", "2_Dense/model.safetensors"], None, "pytorch_model.bin"),
        (["pytorch_model.bin", "other.safetensors"], None, "pytorch_model.bin"),
        (["a.safetensors", "b.bin"], ["a.safetensors", "b.bin"], "b.bin"),
        (["a.safetensors"], ["a.safetensors", "weights"], "weights"),
        (["model.safetensors", "adapter_model.bin"], None, "adapter_model.bin"),
    ],
)
def test_an_old_torch_reads_no_state_dict(tmp_path, names, shards, refused):
    directory = directory_of(tmp_path, names, shards)
    with pytest.raises(ConfigError, match=f"^{refused}.* save them as safetensors, or install torch>=2.6$"):
        must_be_safetensors(directory, OLD)
    assert not must_be_safetensors(directory, NEW)


@pytest.mark.parametrize(
    ("names", "shards"),
    [
        (["model.safetensors"], None),
        (["model.safetensors", "pytorch_model.bin", "training_args.bin"], None),
        (["a.safetensors", "b.safetensors"], ["a.safetensors", "b.safetensors"]),
        ([], None),
    ],
)
def test_an_old_torch_reads_safetensors(tmp_path, names, shards):
    assert must_be_safetensors(directory_of(tmp_path, names, shards), OLD)


@pytest.mark.parametrize("content", ["[]", "{}", '{"weight_map": ["b.bin"]}', "b.bin"])
def test_an_index_that_names_no_files_is_refused(tmp_path, content):
    (tmp_path / INDEX).write_text(content)
    with pytest.raises(ConfigError, match="does not say which files have the weights"):
        must_be_safetensors(tmp_path, OLD)


def test_a_model_is_loaded_by_these_rules(tmp_path, zoo, monkeypatch):
    monkeypatch.setattr(torch_loading, "TORCH", OLD)
    source = shutil.copytree(zoo("bert", "sequence_classification"), tmp_path / "model")
    (source / "pytorch_model.bin").write_bytes(b"never read")
    loader = transformers.AutoModelForSequenceClassification
    with patch.object(loader, "from_pretrained", wraps=loader.from_pretrained) as loaded:
        Predictor.load(source, environ={}).close()
    assert loaded.call_args.kwargs["use_safetensors"] is True
    torch.save(load_file(source / "model.safetensors"), source / "pytorch_model.bin")
    (source / "model.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"pytorch_model\.bin is not safetensors"):
        Predictor.load(source, environ={})
    monkeypatch.setattr(torch_loading, "TORCH", NEW)
    Predictor.load(source, environ={}).close()
