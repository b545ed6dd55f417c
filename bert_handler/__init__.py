"""Serve Hugging Face transformer models on TorchServe and on KServe with one predictor.

Nothing heavy is imported here: torch, transformers and the servers load with the first model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bert_handler.handler import TransformerHandler
    from bert_handler.predictor import Predictor
    from bert_handler.schema import Failure, Prediction

__version__ = "0.1.0"
__all__ = ["Failure", "Prediction", "Predictor", "TransformerHandler", "__version__"]

_HOMES = {
    "Failure": "bert_handler.schema",
    "Prediction": "bert_handler.schema",
    "Predictor": "bert_handler.predictor",
    "TransformerHandler": "bert_handler.handler",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
