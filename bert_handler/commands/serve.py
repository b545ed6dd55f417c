"""`bert-handler serve`: the KServe host, on models of its own or in front of a TorchServe."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import typer

from bert_handler.errors import ConfigError


def serve(
    target: Optional[Path] = typer.Argument(None, help="Model directory, .mar, or a store with config.properties."),
    name: Optional[str] = typer.Option(None, help="Name in the routes; default: the model's own."),
    torchserve: Optional[str] = typer.Option(None, help="URL of a TorchServe to stand in front of."),
    torchserve_key_file: Optional[Path] = typer.Option(None, help="Its key_file.json, where authorization is on."),
    host: str = typer.Option("127.0.0.1", help="Address to listen on; 0.0.0.0 in a container."),
    http_port: int = typer.Option(8080, help="REST port."),
    grpc_port: int = typer.Option(8081, help="gRPC port; 0 for none."),
    engine: Optional[str] = typer.Option(None, help="torch, onnx or openvino; default: as the archive says."),
    device: Optional[str] = typer.Option(None, help="cpu, cuda or cuda:N; default: cuda where there is one."),
    max_body_bytes: int = typer.Option(32 * 2**20, help="Larger bodies are refused with 413."),
    access_log: bool = typer.Option(False, "--access-log", help="Log a line a request."),
    ui: bool = typer.Option(True, "--ui/--no-ui", help="Serve the playground at /ui."),
    log_level: str = typer.Option("INFO", help="Of the log on standard error."),
) -> None:
    """Serve V1, V2 and gRPC, with the predictor in this process.

    Examples:
      bert-handler serve store/BERTSeqClassification.mar --name bert

      bert-handler serve /mnt/models

      bert-handler serve --torchserve http://127.0.0.1:8085
    """
    if (target is None) == (torchserve is None):
        raise ConfigError("give a TARGET to serve, or --torchserve URL to stand in front of; one of the two")
    from bert_handler.commands.logging_options import configure_logging

    configure_logging(log_level)
    from bert_handler import kserve_model

    server = kserve_model.Server(host, http_port, grpc_port or None, max_body_bytes, access_log, ui=ui)
    if torchserve is not None:
        from bert_handler.torchserve_proxy import TorchServe, front_models

        models = front_models(TorchServe(torchserve, torchserve_key_file), name)
    else:
        models = _load(target, name, engine, device)
    kserve_model.serve(models, server)


def _load(target: Optional[Path], name: Optional[str], engine: Optional[str], device: Optional[str]) -> list:  # type: ignore[type-arg]
    from bert_handler.kserve_model import LocalModel
    from bert_handler.packaging.model_store import models_of
    from bert_handler.predictor import Predictor

    assert target is not None
    models = []
    for route, path in models_of(target, name).items():
        predictor = Predictor.load(path, engine=engine, device=device)
        models.append(LocalModel(route or predictor.identity.name, predictor))
    return models
