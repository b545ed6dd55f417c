"""The settings of one model: setup_config.json, then model-config.yaml, then the environment."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bert_handler import jsonio
from bert_handler.errors import ConfigError, MissingExtraError
from bert_handler.parameters import Parameter, unknown

logger = logging.getLogger(__name__)

SETUP_CONFIG = "setup_config.json"
MODEL_CONFIG = "model-config.yaml"
ENVIRONMENT_PREFIX = "BERT_HANDLER_"
QUANTIZATIONS = ("none", "int8")
TRUST_REMOTE_CODE = "BERT_HANDLER_TRUST_REMOTE_CODE"
"""The server's consent, which `serve --trust-remote-code` gives; it turns nothing on that a model does not ask for."""
NOT_SETTINGS = frozenset({"BERT_HANDLER_COOKIE", "BERT_HANDLER_TOKEN", "BERT_HANDLER_TOKENS", TRUST_REMOTE_CODE})
"""Consent, and secrets of `infer` and `serve`, which may be set where a model is loaded."""
SERVICE_LINK = re.compile(
    r"BERT_HANDLER_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_[A-Z]+_(PROTO|PORT|ADDR))=.*"
    r"|BERT_HANDLER_(\w+_)?PORT(_\d+_[A-Z]+)?=[a-z]+://.*"
)
"""NAME=VALUE that the kubelet injects for Services of the namespace, named bert-handler or bert-handler-*."""

SETTINGS: tuple[Parameter, ...] = (
    Parameter("mode", str, None, "the task; default: from the model's architecture"),
    Parameter("model_name", str, None, "name of a model directory that is served without a manifest"),
    Parameter("num_labels", int, None, "checked against the model; 0 as not given", minimum=0),
    Parameter("do_lower_case", bool, None, "lower-case the text; default: as the tokenizer was saved"),
    Parameter("max_length", int, None, "most tokens of one sequence; default: the model's own limit", minimum=3),
    Parameter("captum_explanation", bool, True, "answer explanation requests"),
    Parameter("outputs", list, None, "outputs that are sent when a request names none", minimum=1),
    Parameter(
        "engine",
        str,
        None,
        "torch, onnx or openvino, or auto for archive to choose; default: what the archive carries, else torch",
    ),
    Parameter(
        "dtype",
        str,
        "float32",
        "of the weights; bfloat16 is the choice on a GPU since Ampere, where float32 runs without TF32",
        choices=("float32", "bfloat16", "float16"),
    ),
    Parameter("compile", bool, False, "compile the torch engine's graph: slower to load, fewer kernels a forward"),
    Parameter(
        "quantization",
        str,
        "none",
        "of the weights; int8 asks onnx and openvino for the graph that was checked when it was archived; torch "
        "quantizes as it loads (dynamic, on the CPU only), compares no answers, and is explained by word ablation",
        choices=QUANTIZATIONS,
    ),
    Parameter("device", str, None, "cpu, cuda or cuda:N; default: cuda where there is one"),
    Parameter("max_batch_tokens", int, None, "padded tokens of one forward; default: by device", minimum=1),
    Parameter("max_batch_rows", int, 256, "sequences of one forward", minimum=1),
    Parameter("max_queue_rows", int, 8192, "sequences that may wait; more are refused with 429", minimum=1),
    Parameter("max_instances", int, 4096, "instances of one request; more are refused with 413", minimum=1),
    Parameter("max_explanations", int, 64, "explanations that may wait; more are refused with 429", minimum=1),
    Parameter("max_input_tokens", int, 65536, "tokens of one instance; more are refused with 413", minimum=1),
    Parameter("max_input_chars", int, 1_000_000, "characters of one text; more are refused with 413", minimum=1),
    Parameter("max_request_tokens", int, 2**21, "tokens of one request; more are refused with 413", minimum=1),
    Parameter(
        "request_timeout_s",
        float,
        120.0,
        "answers that take longer are 504; a request may ask for less",
        minimum=0.001,
        maximum=86400,
    ),
    Parameter("threads", int, None, "cores to use; default: from the CPU quota", minimum=1),
    Parameter("warmup", bool, True, "run the task's sample before the model counts as ready"),
    Parameter("trust_remote_code", bool, False, "run code that the model brings; the server must consent too"),
)

OBSOLETE = {
    "save_mode": "weights are read from safetensors or a state dict",
    "embedding_name": "explanations find the embeddings through get_input_embeddings()",
    "BetterTransformer": "scaled dot product attention is always used",
    "FasterTransformer": "use engine: onnx or openvino",
    "model_parallel": "the model runs on one device; scale with replicas",
}


@dataclass(frozen=True)
class HandlerConfig:
    """The settings of one model, checked.  `parameters` are the defaults of its requests' parameters."""

    mode: str
    model_name: str | None
    num_labels: int | None
    do_lower_case: bool | None
    max_length: int | None
    captum_explanation: bool
    outputs: Sequence[str] | None
    engine: str | None
    dtype: str
    compile: bool
    quantization: str
    device: str | None
    max_batch_tokens: int | None
    max_batch_rows: int
    max_queue_rows: int
    max_instances: int
    max_explanations: int
    max_input_tokens: int
    max_input_chars: int
    max_request_tokens: int
    request_timeout_s: float
    threads: int | None
    warmup: bool
    trust_remote_code: bool
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, settings: Mapping[str, Any], parameters: Sequence[Parameter] = ()) -> HandlerConfig:
        """Check `settings` against the known keys and the task's request parameters.

        Raises ConfigError on an unknown key (naming the nearest known one) and on a wrong value.
        """
        known = {parameter.name: parameter for parameter in (*SETTINGS, *parameters)}
        _warn_obsolete(settings)
        values = {}
        for key, value in settings.items():
            if key in OBSOLETE:
                continue
            if key not in known:
                raise ConfigError(unknown(key, [*known, *OBSOLETE], "setting"))
            try:
                values[key] = known[key].parse(value, text=True)
            except ValueError as exc:
                raise ConfigError(f"setting {exc}") from exc
        own = {setting.name: values.get(setting.name, setting.default) for setting in SETTINGS}
        defaults = {parameter.name: values.get(parameter.name, parameter.default) for parameter in parameters}
        return cls(**own, parameters=defaults)


def read_settings(directory: Path, model_yaml: Mapping[str, Any] | None, environ: Mapping[str, str]) -> dict[str, Any]:
    """Merge a model's settings, later sources over earlier ones.

    model_yaml: the parsed model-config.yaml where the host has read it already (TorchServe does).
    Raises ConfigError when a file is not what it should be.
    """
    settings = jsonio.read_file(directory / SETUP_CONFIG, dict, "a JSON object of settings")
    if model_yaml is None:
        model_yaml = _read_model_config(directory / MODEL_CONFIG)
    handler = model_yaml.get("handler") or {}
    if not isinstance(handler, Mapping):
        raise ConfigError(f"{MODEL_CONFIG}: handler must be a mapping of settings")
    settings.update(handler)
    for name, value in environ.items():
        if name.startswith(ENVIRONMENT_PREFIX) and name not in NOT_SETTINGS and not _is_service_link(name, value):
            settings[name[len(ENVIRONMENT_PREFIX) :].lower()] = value
    return settings


def _is_service_link(name: str, value: str) -> bool:
    # The name alone would hide BERT_HANDLER_PORT=8080, which somebody has set in vain.
    return SERVICE_LINK.fullmatch(f"{name}={value}") is not None


def _read_model_config(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        return {}
    try:
        import yaml
    except ImportError as exc:
        raise MissingExtraError("PyYAML", "torchserve") from exc
    try:
        content = yaml.safe_load(path.read_bytes().decode("utf-8")) or {}
    except (yaml.YAMLError, ValueError, RecursionError) as exc:
        raise ConfigError(f"{path.name} is not YAML: {exc}") from exc
    if not isinstance(content, Mapping):
        raise ConfigError(f"{path.name} must be a mapping")
    return content


def _warn_obsolete(settings: Mapping[str, Any]) -> None:
    present = [f"{key} ({why})" for key, why in OBSOLETE.items() if key in settings]
    if present:
        logger.warning("settings without effect, accepted for compatibility: %s", "; ".join(present))
