"""From a target and its settings to the task, engine and device that serve it; no weights are loaded here."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bert_handler.artifact import Artifact
from bert_handler.config import TRUST_REMOTE_CODE, HandlerConfig, read_settings
from bert_handler.engines import engine_class
from bert_handler.engines.base import Engine
from bert_handler.errors import ConfigError
from bert_handler.exported import Exported
from bert_handler.labels import Labels
from bert_handler.parameters import unknown
from bert_handler.tasks import task_class
from bert_handler.tasks.base import Task
from bert_handler.tasks.instances import Model
from bert_handler.tokenization import TextTokenizer


def open_model(
    target: str | Path | Artifact,
    *,
    engine: str | None = None,
    device: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    outputs: str | Sequence[str] | None = None,
    model_yaml: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
) -> tuple[Artifact, Task, type[Engine]]:
    """Check a model and its settings and choose its engine; no weights are loaded.

    engine, device, parameters, outputs: override the settings.
    """
    artifact = target if isinstance(target, Artifact) else Artifact.open(target)
    settings = read_settings(artifact.directory, model_yaml, os.environ if environ is None else environ)
    settings.update({key: value for key, value in (("engine", engine), ("device", device)) if value})
    if outputs is not None:
        settings["outputs"] = outputs if isinstance(outputs, str) else list(outputs)
    if parameters:
        settings.update(_checked(parameters, task_class(settings.get("mode"), artifact.model_config)))
    task = load_task(artifact, settings, environ)
    exported = Exported.read(artifact.directory)
    name = task.model.config.engine or (exported.engine if exported else "torch")
    return artifact, task, _engine_for(task, name)


def _checked(parameters: Mapping[str, Any], task: type[Task]) -> dict[str, Any]:
    """The values of a task's request parameters; ConfigError on what is none, a setting of the model among them."""
    known = {parameter.name: parameter for parameter in task.parameters if parameter.request}
    for name in parameters:
        if name not in known:
            raise ConfigError(unknown(name, known, "parameter"))
    try:
        return {name: known[name].parse(value) for name, value in parameters.items()}
    except ValueError as exc:
        raise ConfigError(f"parameter {exc}") from exc


def load_task(artifact: Artifact, settings: Mapping[str, Any], environ: Mapping[str, str] | None = None) -> Task:
    """Check the settings, the labels and the tokenizer of an artifact; no weights are loaded."""
    chosen = task_class(settings.get("mode"), artifact.model_config)
    config = HandlerConfig.parse({**settings, "mode": chosen.name}, chosen.parameters)
    if config.trust_remote_code and (os.environ if environ is None else environ).get(TRUST_REMOTE_CODE) != "1":
        raise ConfigError(
            "setting trust_remote_code runs code that the model brings; consent with --trust-remote-code of archive "
            f"and serve, or {TRUST_REMOTE_CODE}=1 elsewhere"
        )
    stated = config.num_labels if chosen.has_labels else None
    if stated and stated != artifact.num_labels:
        raise ConfigError(f"setting num_labels={stated}, but the model has {artifact.num_labels} labels")
    n_labels = artifact.num_labels if chosen.has_labels else 0
    labels = Labels.load(artifact.directory, artifact.model_config.get("id2label"), n_labels)
    tokenizer = TextTokenizer.load(
        artifact.directory,
        artifact.model_config,
        config.do_lower_case,
        trust_remote_code=config.trust_remote_code,
    )
    fingerprint = artifact.unowned().fingerprint
    task = chosen(Model(tokenizer, labels, artifact.model_config, config, artifact.directory, fingerprint))
    task.check_settings()
    return task


def _engine_for(task: Task, name: str) -> type[Engine]:
    if name == "auto":
        raise ConfigError("engine='auto' is settled when a model is archived: bert-handler archive MODEL_DIR ...")
    engine = engine_class(name)
    if task.needs_generation and not engine.supports_generation:
        raise ConfigError(f"engine={name!r} cannot generate text; {task.name} needs engine: torch")
    if task.model.config.compile and not engine.supports_compilation:
        raise ConfigError(f"compile: engine={name!r} compiles nothing; use engine: torch, or leave it out")
    if task.model.config.compile and task.needs_generation:
        raise ConfigError(f"compile: {task.name} runs a forward a token, of ever new shapes; leave it out")
    return engine


def choose_device(configured: str | None, offered: str | None, engine: type[Engine]) -> str:
    """The configured device, else the one that the host offers, else a GPU where there is one.

    An engine that runs on the CPU only takes no offer of a GPU; that it cannot use a configured one, it
    says itself.  `cuda` means whichever GPU is offered.
    """
    if configured == "cuda" and offered is not None:
        return offered
    if configured is not None:
        return configured
    if not engine.supports_cuda:
        return "cpu"
    if offered is not None:
        return offered
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
