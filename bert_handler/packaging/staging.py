"""What of a model directory goes into the archive, with the tokenizer converted and the weights as safetensors."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from bert_handler import jsonio
from bert_handler.artifact import PARTS, Artifact
from bert_handler.config import MODEL_CONFIG, SETUP_CONFIG, read_settings
from bert_handler.errors import ConfigError, require_file
from bert_handler.exported import ENGINE_FILE
from bert_handler.labels import INDEX_TO_NAME
from bert_handler.loading import load_task
from bert_handler.packaging.remote_code import asks_for_code, copy_modules
from bert_handler.tasks.base import Task
from bert_handler.tokenization import TOKENIZER, TOKENIZER_SPEC

MODEL_SUFFIXES = {".json", ".txt", ".model", ".safetensors", ".yaml", ".jinja"}
LEFT_OUT = {"README.md", "training_args.bin", "trainer_state.json", "optimizer.pt", "scheduler.pt"}
RESERVED = {"handler.py", "bert_handler", "MAR-INF", ENGINE_FILE}


def stage_model(model_dir: Path, stage: Path, setup_config: Path | None, index_to_name: Path | None) -> list[str]:
    """Copy what serving needs, with the tokenizer converted and the weights as safetensors.

    Returns the folders of a training run's earlier states, which are left out.
    """
    if not model_dir.is_dir():
        raise ConfigError(f"{model_dir} is not a directory; give one that save_pretrained() has written")
    if not (model_dir / "config.json").is_file():
        raise ConfigError(f"{model_dir}/config.json is missing; save the model with save_pretrained()")
    checkpoints = sorted(path.name for path in model_dir.glob("checkpoint-*") if path.is_dir())
    _copy_model_files(model_dir, stage, checkpoints)
    for source, file_name in ((setup_config, SETUP_CONFIG), (index_to_name, INDEX_TO_NAME)):
        if source is not None:
            require_file(source)
            shutil.copyfile(source, stage / file_name)
    artifact = Artifact.of_directory(stage)
    settings = read_settings(stage, None, {})
    if asks_for_code(settings):
        copy_modules(model_dir, stage)
    task = load_task(artifact, settings)
    _write_tokenizer(stage, task)
    # Those of a folder are a module's of its own.
    if not any(stage.glob("*.safetensors")):
        _convert_weights(model_dir, stage, task)
    return checkpoints


def drop_auto_engine(stage: Path) -> None:
    """Take `engine: auto` out of the staged settings: an archive runs on what it carries.

    Raises ConfigError where model-config.yaml says it, which is not written anew.
    """
    path = stage / SETUP_CONFIG
    settings = jsonio.read_file(path, dict)
    if settings.get("engine") == "auto":
        del settings["engine"]
        path.write_bytes(jsonio.dumps(settings) + b"\n")
    if read_settings(stage, None, {}).get("engine") == "auto":
        raise ConfigError(f"{MODEL_CONFIG} says engine: auto; say it in {SETUP_CONFIG}, or as --engine auto")


def _copy_model_files(model_dir: Path, stage: Path, left_out: Sequence[str]) -> None:
    for path in sorted(model_dir.rglob("*")):
        relative = path.relative_to(model_dir)
        if relative.parts[0] in left_out:
            continue
        if relative.parts[0] in RESERVED:
            raise ConfigError(f"{relative} would overwrite a file of the handler; remove it from the model directory")
        hidden = any(part.startswith(".") or part.endswith(PARTS) for part in relative.parts)
        if hidden or not path.is_file() or path.suffix not in MODEL_SUFFIXES or path.name in LEFT_OUT:
            continue
        (stage / relative).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, stage / relative)


def _write_tokenizer(stage: Path, task: Task) -> None:
    tokenizer = task.model.tokenizer
    tokenizer.backend.save(str(stage / TOKENIZER), pretty=False)
    (stage / TOKENIZER_SPEC).write_bytes(tokenizer.spec.to_json())


def _convert_weights(model_dir: Path, stage: Path, task: Task) -> None:
    # load_model reads state dicts, sharded or not, where pickled code never runs.
    from bert_handler.engines.torch_loading import load_model

    model = load_model(Artifact.of_directory(model_dir), task, task.model.config)
    model.save_pretrained(str(stage), safe_serialization=True)
    for index in stage.glob("*.bin.index.json"):
        index.unlink()
