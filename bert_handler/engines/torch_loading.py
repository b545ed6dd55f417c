"""What the torch engine loads: transformers' model of a task, and the device that it is put on."""

from __future__ import annotations

import pickle
from contextlib import suppress
from typing import Any

import torch
import transformers

from bert_handler.artifact import Artifact
from bert_handler.config import HandlerConfig
from bert_handler.deferred import deferred
from bert_handler.errors import ConfigError
from bert_handler.state_dicts import must_be_safetensors
from bert_handler.tasks.base import Task

# transformers before 4.46 has no such module, and imports scipy nowhere on the way of these models.
with suppress(ImportError), deferred("scipy.optimize"):
    import transformers.loss.loss_utils

TORCH = tuple(map(int, torch.__version__.split(".")[:2]))
TRANSFORMERS = tuple(map(int, transformers.__version__.split(".")[:2]))
DTYPE = "dtype" if TRANSFORMERS >= (4, 56) else "torch_dtype"
"""What `from_pretrained` calls the weights' type."""


def find_device(device: str) -> torch.device:
    """The device of that name; ConfigError where there is none."""
    unknown = ConfigError(f"device={device!r} is unknown; choose cpu, cuda or cuda:N")
    try:
        target = torch.device(device)
    except RuntimeError as exc:
        raise unknown from exc
    if target.type not in ("cpu", "cuda"):
        raise unknown
    if target.type == "cpu":
        return target
    n_gpus, index = torch.cuda.device_count(), target.index or 0
    if index >= n_gpus:
        raise ConfigError(f"device={device!r}, but torch sees {n_gpus} GPU(s) here; choose cpu, or check the driver")
    return torch.device("cuda", index)


def load_model(artifact: Artifact, task: Task, config: HandlerConfig, dtype: torch.dtype | None = None) -> Any:
    """Load the transformers model with the task's head, from local safetensors or a state dict.

    dtype: of the weights; by default transformers' own choice.  Not left to `Module.to`, which would also take
    what a model keeps in float32: the frequencies of rotary positions, a layer of T5's.
    Raises ConfigError when files are missing, or weights of the head are: they would be random; and where an old
    torch would have to read a state dict.
    """
    only_safetensors = must_be_safetensors(artifact.directory, TORCH)
    loader = getattr(transformers, task.model_class)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        model, info = loader.from_pretrained(
            str(artifact.directory),
            local_files_only=True,
            trust_remote_code=config.trust_remote_code,
            output_loading_info=True,
            **({} if dtype is None else {DTYPE: dtype}),
            **({"use_safetensors": True} if only_safetensors else {}),
        )
    except pickle.UnpicklingError as exc:
        raise ConfigError("the model's weights are pickled code, which is never run; save them as safetensors") from exc
    except (OSError, ValueError, RuntimeError) as exc:
        raise ConfigError(f"the model cannot be loaded for {task.name}: {exc}") from exc
    missing = sorted(key for key in info["missing_keys"] if not key.startswith(task.optional_weights))
    if missing:
        raise ConfigError(
            f"the weights lack {len(missing)} tensors that {task.name} needs, {missing[0]} among them; "
            "is mode right for this model?"
        )
    return model
