"""Archives: the same bytes each time, whatever form the weights came in, and nothing half-written."""

from __future__ import annotations

import json
import shutil
import sys
import zipfile
from pathlib import Path

import pytest

from bert_handler import Predictor
from bert_handler.artifact import MANIFEST
from bert_handler.cli import main
from bert_handler.errors import ArchiveError, ConfigError
from bert_handler.packaging.mar import Built, _self_test, build
from bert_handler.unpacking import CHECKSUMS, sha256


@pytest.fixture(scope="module")
def model_dir(zoo) -> Path:
    return zoo("bert", "sequence_classification")


@pytest.fixture(scope="module")
def built(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Built:
    return build(model_dir, "tiny", "2.1", tmp_path_factory.mktemp("store"))


@pytest.mark.usefixtures("no_self_test")
def test_the_same_input_gives_the_same_bytes(built: Built, model_dir: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(model_dir, tmp_path / "elsewhere" / "model")
    (copy / "config.json").touch()
    again = build(copy, "tiny", "2.1", tmp_path / "store")
    assert again.path.read_bytes() == built.path.read_bytes()
    assert again.sha256 == built.sha256


def test_the_archive_is_self_contained(built: Built) -> None:
    with zipfile.ZipFile(built.path) as mar:
        names = set(mar.namelist())
        manifest = json.loads(mar.read(MANIFEST))
        stated = {line.split("  ")[1] for line in mar.read(CHECKSUMS).decode().splitlines()}
    assert manifest["model"] == {"modelName": "tiny", "handler": "handler.py", "modelVersion": "2.1"}
    assert {"handler.py", "bert_handler/predictor.py", "model.safetensors", "tokenizer_spec.json"} <= names
    assert stated == names - {CHECKSUMS}


@pytest.mark.usefixtures("no_self_test")
@pytest.mark.parametrize("form", ["sharded", "state dict", "state dict beside a folder", "sharded state dict"])
def test_weights_in_every_form_answer_alike(form: str, model_dir: Path, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification

    source = shutil.copytree(model_dir, tmp_path / "model")
    model = AutoModelForSequenceClassification.from_pretrained(source)
    (source / "model.safetensors").unlink()
    state = model.state_dict()
    if form == "sharded":
        model.save_pretrained(source, max_shard_size="20KB")
        assert len(list(source.glob("*.safetensors"))) > 1
    elif form.startswith("state dict"):
        torch.save(state, source / "pytorch_model.bin")
        if "folder" in form:
            (source / "2_Dense").mkdir()
            shutil.copy(model_dir / "model.safetensors", source / "2_Dense")
    else:
        names = sorted(state)
        files = {name: f"pytorch_model-0000{1 + (i % 2)}-of-00002.bin" for i, name in enumerate(names)}
        for file in set(files.values()):
            torch.save({name: state[name] for name in names if files[name] == file}, source / file)
        index = {"metadata": {"total_size": 1}, "weight_map": files}
        (source / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    built = build(source, "tiny", "1.0", tmp_path / "store")
    with zipfile.ZipFile(built.path) as mar:
        assert not [name for name in mar.namelist() if name.endswith((".bin", ".bin.index.json"))]
    texts = ["the cat sat", "a dog ran away from the house"]
    expected = Predictor.load(model_dir).predict(texts)
    for ours, theirs in zip(Predictor.load(built.path).predict(texts), expected):
        assert ours["logits"].tolist() == pytest.approx(theirs["logits"].tolist(), abs=1e-6)


def test_earlier_states_of_the_training_are_left_out(
    built: Built, model_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = shutil.copytree(model_dir, tmp_path / "model")
    for step in (500, 1000):
        shutil.copytree(model_dir, source / f"checkpoint-{step}")
    assert main(["archive", str(source), "--name", "tiny", "--version", "2.1", "--export-path", str(tmp_path)]) == 0
    assert "left out checkpoint-1000, checkpoint-500" in capsys.readouterr().err
    assert (tmp_path / "tiny.mar").read_bytes() == built.path.read_bytes()


def test_an_archive_is_not_overwritten_unasked(built: Built, model_dir: Path) -> None:
    with pytest.raises(ArchiveError, match="exists already; pass --force"):
        build(model_dir, "tiny", "2.1", built.path.parent)
    assert sha256(built.path) == built.sha256


@pytest.mark.parametrize("name", ["a b", "../a", "", "a" * 201])
def test_a_name_that_no_file_can_have_stops_the_build(model_dir: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="must be letters, digits, dots, dashes and underscores, 200 at most"):
        build(model_dir, name, "1.0", tmp_path)


@pytest.mark.parametrize("relative", [True, False])
def test_the_self_test_has_the_dependencies_of_this_process_and_the_package_of_the_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, relative: bool
) -> None:
    stage, libraries, elsewhere = (tmp_path / name for name in ("stage", "libraries", "elsewhere"))
    for directory in (stage, libraries, elsewhere):
        (directory / "bert_handler").mkdir(parents=True)
        (directory / "bert_handler" / "__init__.py").write_text("raise SystemExit('another package')\n")
    (elsewhere / "own_dependency.py").write_text("raise SystemExit('the working directory')\n")
    (libraries / "own_dependency.py").write_text("from unittest.mock import Mock\n")
    (stage / "bert_handler" / "__init__.py").write_text("from own_dependency import Mock\nPredictor = Mock()\n")
    (stage / "handler.py").touch()
    monkeypatch.chdir(elsewhere)
    monkeypatch.setenv("PYTHONPATH", "../libraries" if relative else str(libraries))
    _self_test(stage)
    (stage / "bert_handler" / "__init__.py").write_text("import missing_dependency\n")
    with pytest.raises(ArchiveError, match="self-test: ModuleNotFoundError: No module named 'missing_dependency'"):
        _self_test(stage)


def test_what_is_set_for_a_server_here_has_no_part_in_an_archive(
    built: Built, model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BERT_HANDLER_ENGINE", "onnx")
    assert build(model_dir, "tiny", "2.1", tmp_path).sha256 == built.sha256


def test_labels_that_do_not_fit_stop_the_build(model_dir: Path, tmp_path: Path) -> None:
    labels = tmp_path / "index_to_name.json"
    labels.write_text('{"0": "a", "1": "b", "2": "c", "3": "d", "4": "e", "5": "f", "6": "g"}')
    with pytest.raises(ConfigError, match="names 7 labels, but the model has"):
        build(model_dir, "tiny", "1.0", tmp_path / "store", index_to_name=labels)
    assert not (tmp_path / "store").exists()


def test_a_setting_with_a_typo_stops_the_build(model_dir: Path, tmp_path: Path) -> None:
    config = tmp_path / "setup.json"
    config.write_text('{"max_lenght": 128}')
    with pytest.raises(ConfigError, match="unknown setting 'max_lenght'; did you mean 'max_length'"):
        build(model_dir, "tiny", "1.0", tmp_path / "store", setup_config=config)


def test_a_file_that_the_handler_needs_is_not_overwritten(model_dir: Path, tmp_path: Path) -> None:
    source = shutil.copytree(model_dir, tmp_path / "model")
    (source / "handler.py").write_text("")
    with pytest.raises(ConfigError, match=r"handler\.py would overwrite"):
        build(source, "tiny", "1.0", tmp_path / "store")


@pytest.mark.usefixtures("no_self_test")
def test_what_bulk_scoring_has_not_finished_is_left_out(built: Built, model_dir: Path, tmp_path: Path) -> None:
    source = shutil.copytree(model_dir, tmp_path / "model")
    (source / "out.jsonl.parts").mkdir()
    (source / "out.jsonl.parts" / "state.json").write_text("{}")
    assert build(source, "tiny", "2.1", tmp_path / "store").sha256 == built.sha256


def test_a_directory_without_a_head_says_so(zoo, tmp_path: Path) -> None:
    source = shutil.copytree(zoo("bert", "fill_mask"), tmp_path / "model")
    config = tmp_path / "setup.json"
    config.write_text('{"mode": "sequence_classification"}')
    with pytest.raises(ArchiveError, match="is mode right for this model"):
        build(source, "tiny", "1.0", tmp_path / "store", setup_config=config)


MODULES = {
    "configuration_own.py": """
from transformers import BertConfig

class OwnConfig(BertConfig):
    model_type = "own-bert"
""",
    "modeling_own.py": """
from transformers import BertForSequenceClassification
from .configuration_own import OwnConfig
from .heads import twice

class OwnForSequenceClassification(BertForSequenceClassification):
    config_class = OwnConfig

    def forward(self, input_ids=None, attention_mask=None, token_type_ids=None):
        output = super().forward(input_ids, attention_mask, token_type_ids)
        output.logits = twice(output.logits)
        return output
""",
    "heads.py": "from .factors import TWO\n\n\ndef twice(x):\n    return TWO * x\n",
    "factors.py": "TWO = 2\n",
    "train.py": "raise SystemExit\n",
}


@pytest.fixture
def own_model(model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model that brings its own code, whose logits are twice the other's."""
    from transformers import dynamic_module_utils

    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr("sys.path", [*sys.path])
    monkeypatch.setenv("BERT_HANDLER_TRUST_REMOTE_CODE", "1")
    source = shutil.copytree(model_dir, tmp_path / "model")
    for name, text in MODULES.items():
        (source / name).write_text(text)
    config = json.loads((source / "config.json").read_text())
    config.update(
        model_type="own-bert",
        architectures=["OwnForSequenceClassification"],
        auto_map={
            "AutoConfig": "configuration_own.OwnConfig",
            "AutoModelForSequenceClassification": "modeling_own.OwnForSequenceClassification",
        },
    )
    (source / "config.json").write_text(json.dumps(config))
    (source / "setup_config.json").write_text('{"trust_remote_code": true}')
    return source


def test_code_that_the_model_brings_is_archived(own_model: Path, model_dir: Path, tmp_path: Path) -> None:
    archive = ["archive", str(own_model), "--name", "own", "--export-path", str(tmp_path)]
    assert main([*archive, "--trust-remote-code"]) == 0
    with zipfile.ZipFile(tmp_path / "own.mar") as mar:
        code = {name for name in mar.namelist() if name.endswith(".py") and "/" not in name}
    assert code == {"handler.py", *MODULES} - {"train.py"}
    theirs = Predictor.load(model_dir).predict(["the cat sat"])[0]["logits"]
    ours = Predictor.load(tmp_path / "own.mar").predict(["the cat sat"])[0]["logits"]
    assert ours.tolist() == pytest.approx((2 * theirs).tolist(), abs=1e-5)


def test_code_is_not_run_without_consent(own_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["archive", str(own_model), "--name", "own", "--export-path", str(tmp_path)]) == 1
    consent = "consent with --trust-remote-code of archive and serve, or BERT_HANDLER_TRUST_REMOTE_CODE=1 elsewhere"
    assert consent in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "modules").exists()


@pytest.mark.parametrize(
    ("auto_map", "message"),
    [
        ({"AutoTokenizer": [None, "missing.Own"]}, r"'missing\.Own', whose modules cannot be copied: .*missing\.py"),
        ({"AutoTokenizer": [None, f"{Path(__file__).with_suffix('')}.Own"]}, "whose modules cannot be copied"),
        ({"AutoTokenizer": [None, "a/b--own.Own"]}, "of another repository"),
        (["own.Own"], r"tokenizer_config\.json has no auto_map that can be read"),
    ],
)
def test_code_that_is_missing_stops_the_build(own_model: Path, tmp_path: Path, auto_map: object, message: str) -> None:
    config = json.loads((own_model / "tokenizer_config.json").read_text())
    config["auto_map"] = auto_map
    (own_model / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match=message):
        build(own_model, "own", "1.0", tmp_path)
