"""`bert-handler infer`: ask a running server, near or behind a gateway."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional

import typer

from bert_handler.commands.task_parameters import HELP, task_parameters
from bert_handler.errors import ConfigError

COOKIE_VARIABLE = "BERT_HANDLER_COOKIE"
TOKEN_VARIABLE = "BERT_HANDLER_TOKEN"  # noqa: S105  (the variable's name)


def infer(
    url: str = typer.Option(..., help="Address of the server or its gateway, http://HOST:PORT."),
    model: Optional[str] = typer.Option(None, help="Name of the model in the routes."),
    text: Optional[List[str]] = typer.Option(None, help="A text, or a JSON instance; may be repeated."),
    file: Optional[Path] = typer.Option(None, help="A V2 request as JSON, sent as it is."),
    host: Optional[str] = typer.Option(None, help="Host header, for a gateway that routes by it."),
    cookie: Optional[List[str]] = typer.Option(
        None, help=f"NAME=VALUE, for instance authservice_session=...; safer from ${COOKIE_VARIABLE}."
    ),
    grpc: bool = typer.Option(False, "--grpc", help="Speak gRPC instead of REST."),
    explain: bool = typer.Option(False, "--explain", help="Attribute the answer to its tokens."),
    list_models: bool = typer.Option(False, "--list", help="List the served models."),
    metadata: bool = typer.Option(False, "--metadata", help="Describe the model, or the server without --model."),
    ready: bool = typer.Option(False, "--ready", help="Say whether the model, or the server, is ready."),
    live: bool = typer.Option(False, "--live", help="Say whether the server answers."),
    output: Optional[List[str]] = typer.Option(None, help="An output to ask for; may be repeated."),
    parameter: Optional[List[str]] = typer.Option(None, help=HELP),
    model_version: Optional[str] = typer.Option(None, help="Version of the model; default: the server's."),
    request_id: Optional[str] = typer.Option(None, help="id of the request; the answer has it again."),
    timeout: float = typer.Option(60.0, min=0.001, help="Seconds to wait for one attempt's answer."),
    attempts: int = typer.Option(5, min=1, help="Attempts in all where the answer is 429 or 503."),
    ca_file: Optional[Path] = typer.Option(None, help="Certificates to trust beside the system's."),
) -> int:
    """Send a V2 request; the answer goes to standard output, the timing to standard error.

    A bearer token is taken from $BERT_HANDLER_TOKEN.

    Examples:
      bert-handler infer --url http://127.0.0.1:8080 --model bert --text "A triumph."

      bert-handler infer --url http://gateway:8008 --host bert.example.com --list
    """
    client = _client(grpc)(
        url,
        host=host,
        cookies=cookies(cookie or [], os.environ),
        token=os.environ.get(TOKEN_VARIABLE),
        timeout_s=timeout,
        retry=_retry(attempts),
        ca_file=ca_file,
    )
    with client:
        if live or ready:
            state = client.live() if live else client.ready(model)
            _print({"live" if live else "ready": state})
            return 0 if state else 1
        if list_models:
            _print({"models": client.models()})
        elif metadata:
            _print(client.metadata(model, model_version))
        else:
            body = _body(text, file, output, parameter, request_id)
            if not model:
                raise ConfigError("give --model; --list names those that are served")
            if grpc and file is not None:
                body = _request(file, body)
            answer = client.send(model, body, version=model_version, explain=explain)
            _print(answer.document)
            typer.echo(_timing(answer), err=True)
    return 0


def cookies(options: List[str], environ: Mapping[str, str]) -> Dict[str, str]:
    """The cookies to send, of the options and else of the environment; both take `a=b; c=d`.

    Raises ConfigError without repeating what was given: it may be a secret.
    """
    given = options or [environ.get(COOKIE_VARIABLE, "")]
    pairs = [pair.strip() for text in given for pair in text.split(";") if pair.strip()]
    found = {}
    for pair in pairs:
        name, separator, value = pair.partition("=")
        if not separator or not name or not value.isascii() or not value.isprintable():
            source = "--cookie" if options else f"${COOKIE_VARIABLE}"
            raise ConfigError(f"{source} must be NAME=VALUE, printable ASCII")
        found[name] = value
    return found


def _body(
    text: Optional[List[str]],
    file: Optional[Path],
    output: Optional[List[str]],
    parameter: Optional[List[str]],
    request_id: Optional[str],
) -> Any:
    from bert_handler.client.base import document
    from bert_handler.parameters import check_unicode

    if text and file is None:
        for name, value in (("--text", "".join(text)), ("--parameter", "".join(parameter or ()))):
            check_unicode(name, value, ConfigError)
        texts = text[0] if len(text) == 1 else text
        return document(texts, outputs=output or (), parameters=task_parameters(parameter), id=request_id)
    if text or file is None:
        raise ConfigError("give --text, or --file with a whole request; one of the two")
    if output or parameter or request_id:
        raise ConfigError("--output, --parameter and --request-id go with --text; --file is sent as it is")
    try:
        return file.read_bytes()
    except OSError as exc:
        raise ConfigError(f"{file} cannot be read: {exc.strerror}") from exc


def _request(file: Path, content: bytes) -> Any:
    """What a file says, for gRPC: its messages are made from it here, not by the server."""
    from bert_handler import jsonio

    try:
        request = jsonio.loads(content)
    except ValueError as exc:
        raise ConfigError(f"{file} is not JSON: {exc}") from exc
    if not isinstance(request, dict):
        raise ConfigError(f"{file} must be a JSON object")
    return request


def _client(grpc: bool) -> Any:
    if grpc:
        from bert_handler.client.grpc import GrpcClient

        return GrpcClient
    from bert_handler.client.rest import Client

    return Client


def _retry(attempts: int) -> Any:
    from bert_handler.client.base import Retry

    return Retry(attempts=attempts)


def _print(document: Any) -> None:
    from bert_handler import jsonio

    typer.echo(jsonio.dumps(document).decode())


def _timing(answer: Any) -> str:
    line = f"answered in {answer.elapsed_s * 1000:.0f} ms"
    upstream = answer.headers.get("x-envoy-upstream-service-time")
    if upstream:
        line += f", of which the gateway counts {upstream} ms for the service"
    if answer.attempts > 1:
        line += f", after {answer.attempts} attempts and {answer.waited_s:.1f} s of waiting"
    return line
