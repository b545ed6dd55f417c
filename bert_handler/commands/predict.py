"""`bert-handler predict`: answers on the terminal, without a server."""

from __future__ import annotations

from pathlib import Path
from typing import List, Optional

import typer

from bert_handler.errors import ConfigError


def predict(
    target: Path = typer.Argument(..., help="Model directory or .mar."),
    text: Optional[List[str]] = typer.Option(None, help="A text, or a JSON instance; may be repeated."),
    engine: Optional[str] = typer.Option(None, help="torch, onnx or openvino."),
    device: Optional[str] = typer.Option(None, help="cpu, cuda or cuda:N."),
) -> None:
    """Answer texts with a local model, one JSON line each.

    Example: bert-handler predict model.mar --text "A triumph." --text "A bore."
    """
    if not text:
        raise ConfigError("give --text at least once")
    from bert_handler import jsonio
    from bert_handler.predictor import Predictor
    from bert_handler.protocols.base import element

    predictor = Predictor.load(target, engine=engine, device=device)
    for prediction in predictor.predict([element(item) for item in text]):
        typer.echo(jsonio.dumps(dict(prediction.outputs)).decode())
