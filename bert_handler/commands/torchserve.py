"""`bert-handler torchserve`: a model on a real TorchServe, in the foreground."""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Optional, Tuple

import typer

from bert_handler.commands.checks import MAX_PORT, check_ports, refuse_given
from bert_handler.config import read_settings
from bert_handler.deadlines import RESPONSE_TIMEOUT_S
from bert_handler.errors import ArchiveError
from bert_handler.packaging.settings import (
    BATCH_DELAY_MS,
    BATCH_SIZE,
    POD_CONFIG,
    STORE,
    RegisteredModel,
    TorchServeSettings,
    WrittenSettings,
)

if TYPE_CHECKING:
    from bert_handler.schema import Identity


def torchserve(
    target: Path = typer.Argument(..., help="Model directory, .mar, or a pod's tree with config/ and model-store/."),
    name: Optional[str] = typer.Option(None, help="Name in the routes; default: the model's own."),
    host: str = typer.Option("127.0.0.1", help="Address to listen on."),
    inference_port: int = typer.Option(
        TorchServeSettings.inference_port, min=1, max=MAX_PORT, help="Port of inference and management."
    ),
    metrics_port: int = typer.Option(TorchServeSettings.metrics_port, min=1, max=MAX_PORT, help="Port of the metrics."),
    grpc_inference_port: int = typer.Option(
        TorchServeSettings.grpc_inference_port, min=1, max=MAX_PORT, help="gRPC port of inference."
    ),
    grpc_management_port: int = typer.Option(
        TorchServeSettings.grpc_management_port, min=1, max=MAX_PORT, help="gRPC port of management."
    ),
    batch_size: Optional[int] = typer.Option(
        None, min=1, help=f"Most requests that are handed over together; default: {BATCH_SIZE}."
    ),
    max_batch_delay: Optional[int] = typer.Option(
        None, min=0, help=f"Milliseconds it waits for them, also when idle; default: {BATCH_DELAY_MS}."
    ),
    response_timeout: Optional[int] = typer.Option(
        None,
        min=1,
        help=f"Seconds for a batch, above the setting request_timeout_s; default: {RESPONSE_TIMEOUT_S}.",
    ),
    workers: Optional[int] = typer.Option(None, min=1, help="Worker processes with a model each; default: 1."),
    token_auth: bool = typer.Option(False, "--token-auth", help="Turn token authorization on."),
    work_dir: Optional[Path] = typer.Option(None, help="Takes settings, logs and keys; default: a temporary one."),
) -> int:
    """Write config.properties and run TorchServe until Ctrl-C.

    A pod's tree, as deploy makes it, runs with its own config.properties; only addresses and ports are set anew.

    Example: bert-handler torchserve store/BERTSeqClassification.mar --name bert --inference-port 8085
    """
    from bert_handler.packaging.torchserve import run

    ports: Dict[str, Any] = {
        "inference": inference_port,
        "metrics": metrics_port,
        "grpc_inference": grpc_inference_port,
        "grpc_management": grpc_management_port,
    }
    check_ports(host, {f"--{port.replace('_', '-')}-port": number for port, number in ports.items()})
    with tempfile.TemporaryDirectory(prefix="bert_handler_torchserve_") as scratch:
        directory = (work_dir or Path(scratch)).resolve()
        directory.mkdir(parents=True, exist_ok=True)
        pod_config = target / POD_CONFIG
        if pod_config.is_file():
            options = {
                "--name": name,
                "--workers": workers,
                "--batch-size": batch_size,
                "--max-batch-delay": max_batch_delay,
                "--response-timeout": response_timeout,
                "--token-auth": token_auth,
            }
            refuse_given(options, f"{pod_config} settles it for this pod; leave it out, or change it there")
            store = (target / STORE).resolve()
            return run(WrittenSettings.read(pod_config, host, ports, store), directory)
        archive, identity = _archive(target, directory)
        given = {"workers": workers, "batch_size": batch_size, "max_batch_delay_ms": max_batch_delay}
        given["response_timeout_s"] = response_timeout
        own = {field: value for field, value in given.items() if value is not None}
        model = RegisteredModel(archive.name, identity.version, **own)
        settings = TorchServeSettings(
            {name or identity.name: model},
            model_store=str(archive.parent),
            host=host,
            token_authorization=token_auth,
            **{f"{port}_port": number for port, number in ports.items()},
        )
        return run(settings, directory)


def _archive(target: Path, directory: Path) -> Tuple[Path, Identity]:
    """The archive itself, or one that is made of a model directory, and the name that its answers have."""
    from bert_handler.artifact import MANIFEST, Artifact, own_identity, route_of

    if target.is_file():
        identity = Artifact.open(target).identity
        if identity is None:
            raise ArchiveError(f"{target.name} has no {MANIFEST}, which TorchServe needs; build it with archive")
        return target.resolve(), identity
    from bert_handler.packaging.mar import build

    stated = own_identity(target, read_settings(target, None, os.environ).get("model_name"))
    identity = replace(stated, name=route_of(stated.name))
    return build(target, identity.name, identity.version, directory / STORE, force=True).path, identity
