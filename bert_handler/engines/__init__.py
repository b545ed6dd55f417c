"""The engines, by name.  A new one is a file here and a line below; each is imported when it is chosen."""

from __future__ import annotations

from importlib import import_module

from bert_handler.engines.base import Engine
from bert_handler.errors import ConfigError, MissingExtraError
from bert_handler.memory import bound_caches
from bert_handler.parameters import unknown

ENGINES = {
    "torch": "bert_handler.engines.torch_engine:TorchEngine",
    "onnx": "bert_handler.engines.onnx_engine:OnnxEngine",
    "openvino": "bert_handler.engines.openvino_engine:OpenVinoEngine",
}


def engine_class(name: str) -> type[Engine]:
    """The engine of that name; ConfigError names the nearest known one, MissingExtraError what it needs."""
    if name not in ENGINES:
        raise ConfigError(unknown(name, ENGINES, "engine"))
    bound_caches()
    module, _, attribute = ENGINES[name].partition(":")
    try:
        engine: type[Engine] = getattr(import_module(module), attribute)
    except ModuleNotFoundError as exc:
        raise MissingExtraError(exc.name or name, name) from exc
    return engine
