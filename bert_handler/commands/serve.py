"""`bert-handler serve`: the KServe host, on models of its own or in front of a TorchServe."""

from __future__ import annotations

import os
import ssl
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Callable, List, Optional, Tuple
from urllib.parse import urlsplit

import typer

from bert_handler.commands.checks import MAX_PORT, check_ports, refuse_given
from bert_handler.deadlines import RESPONSE_TIMEOUT_S
from bert_handler.errors import ConfigError, MissingExtraError
from bert_handler.packaging.names import check_name
from bert_handler.server import DEFAULT_BODY_BYTES, GRPC_PORT, HTTP_PORT


def serve(
    target: Optional[Path] = typer.Argument(
        None, help="Model directory, .mar, or a folder with one or with config.properties."
    ),
    name: Optional[str] = typer.Option(None, help="Name in the routes; default: the model's own."),
    torchserve: Optional[str] = typer.Option(None, help="URL of a TorchServe to stand in front of."),
    torchserve_key_file: Optional[Path] = typer.Option(None, help="Its key_file.json, where authorization is on."),
    torchserve_timeout_s: Optional[float] = typer.Option(
        None,
        min=0.001,
        help=f"Seconds for its answer; default: {RESPONSE_TIMEOUT_S}, or what the request's header says.",
    ),
    host: str = typer.Option("127.0.0.1", help="Address to listen on; 0.0.0.0 in a container."),
    http_port: int = typer.Option(HTTP_PORT, min=1, max=MAX_PORT, help="REST port."),
    grpc_port: int = typer.Option(GRPC_PORT, min=0, max=MAX_PORT, help="gRPC port; 0 for none."),
    engine: Optional[str] = typer.Option(None, help="torch, onnx or openvino; default: as the archive says."),
    device: Optional[str] = typer.Option(None, help="cpu, cuda or cuda:N; default: cuda where there is one."),
    max_body_bytes: int = typer.Option(DEFAULT_BODY_BYTES, min=1, help="Larger bodies are refused with 413."),
    access_log: bool = typer.Option(False, "--access-log", help="Log a line a request."),
    ui: bool = typer.Option(True, "--ui/--no-ui", help="Serve the playground at /ui."),
    token_file: Optional[Path] = typer.Option(None, help="Bearer tokens, one a line; also BERT_HANDLER_TOKENS=a,b."),
    tls_cert: Optional[Path] = typer.Option(None, help="Certificate chain in PEM, for REST and gRPC."),
    tls_key: Optional[Path] = typer.Option(None, help="Its private key in PEM."),
    require_signature: Optional[Path] = typer.Option(None, help="Public key; archives signed by no other are refused."),
    trust_remote_code: bool = typer.Option(False, "--trust-remote-code", help="Run code of models whose settings ask."),
    enable_repository: Optional[Path] = typer.Option(None, help="Folder whose models clients may load and unload."),
    grace_period_s: int = typer.Option(
        25, min=0, help="Seconds to answer what was accepted after SIGTERM; Kubernetes kills after 30 unless told."
    ),
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
    if name is not None:
        check_name("--name", name)
    if torchserve is not None:
        _check_address(torchserve)
        options = {
            "--engine": engine,
            "--device": device,
            "--require-signature": require_signature,
            "--trust-remote-code": trust_remote_code,
            "--enable-repository": enable_repository,
        }
        refuse_given(options, "the models are TorchServe's, and so are their settings")
    else:
        fronts = {"--torchserve-key-file": torchserve_key_file, "--torchserve-timeout-s": torchserve_timeout_s}
        refuse_given(fronts, "goes with --torchserve")
    if enable_repository is not None and not enable_repository.is_dir():
        raise ConfigError(f"--enable-repository {enable_repository} is no directory")
    tls = _tls(tls_cert, tls_key)
    if find_spec("kserve") is None:
        raise MissingExtraError("kserve", "kserve")
    from bert_handler.commands.logging_options import configure_logging

    configure_logging(log_level)
    check_ports(host, {"--http-port": http_port, "--grpc-port": grpc_port})
    from bert_handler.config import TRUST_REMOTE_CODE
    from bert_handler.server import model_server
    from bert_handler.server.guard import Guard, Tokens

    # Consent is the command line's alone: what the environment inherits does not count here.
    os.environ[TRUST_REMOTE_CODE] = "1" if trust_remote_code else "0"
    server = model_server.Server(
        host,
        http_port,
        grpc_port or None,
        max_body_bytes,
        access_log,
        grace_period_s=grace_period_s,
        ui=ui,
        guard=Guard(Tokens.read(token_file, os.environ), management=enable_repository is not None),
        tls=tls,
    )
    if torchserve is not None:
        from bert_handler.torchserve_proxy import TorchServe, front_models

        behind = TorchServe(torchserve, torchserve_key_file, torchserve_timeout_s or RESPONSE_TIMEOUT_S)
        models = front_models(behind, name)
    else:
        load = _loader(engine, device, require_signature)
        models = _load(target, name, load)
        if enable_repository is not None:
            server.enable_repository(enable_repository, load)
    model_server.serve(models, server)


def _check_address(url: str) -> None:
    try:
        parts = urlsplit(url)
        valid = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid:
        raise ConfigError(f"--torchserve {url!r} is no address; give one like http://127.0.0.1:8085")


def _tls(certificate: Optional[Path], key: Optional[Path]) -> Optional[Tuple[Path, Path]]:
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise ConfigError("--tls-cert and --tls-key go together")
    for path in (certificate, key):
        # OpenSSL does not say which of the two is missing.
        path.open("rb").close()
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password="")
    except ssl.SSLError as exc:
        raise ConfigError(f"{certificate} and {key} are no certificate chain and its key in PEM: {exc}") from exc
    return certificate, key


def _loader(engine: Optional[str], device: Optional[str], public_key: Optional[Path]) -> Callable[..., Any]:
    from bert_handler.artifact import Artifact, route_of
    from bert_handler.kserve_model import LocalModel
    from bert_handler.predictor import Predictor

    check = None
    if public_key is not None:
        from bert_handler.signing import check_signature, read_public_key

        key = read_public_key(public_key)

        def check(directory: Path) -> None:
            check_signature(directory, key)

    def load(route: Optional[str], path: Path) -> LocalModel:
        predictor = Predictor.load(Artifact.open(path, check), engine=engine, device=device)
        return LocalModel(route or route_of(predictor.identity.name), predictor)

    return load


def _load(target: Optional[Path], name: Optional[str], load: Callable[..., Any]) -> List[Any]:
    from bert_handler.packaging.model_store import models_of

    if target is None:
        return []
    return [load(route, path) for route, path in models_of(target, name).items()]
