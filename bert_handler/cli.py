"""The command line: `bert-handler`."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Optional

import typer
from rich.console import Console
from rich.markup import escape

import bert_handler
from bert_handler.commands.archive import archive
from bert_handler.commands.config import config
from bert_handler.commands.demo_model import demo_model
from bert_handler.commands.deploy import deploy, undeploy
from bert_handler.commands.doctor import doctor
from bert_handler.commands.explain import explain
from bert_handler.commands.infer import infer
from bert_handler.commands.keygen import keygen
from bert_handler.commands.manifest import manifest
from bert_handler.commands.predict import predict
from bert_handler.commands.serve import serve
from bert_handler.commands.size import size
from bert_handler.commands.torchserve import torchserve
from bert_handler.errors import BertHandlerError

COMMANDS = (
    archive,
    serve,
    torchserve,
    predict,
    explain,
    infer,
    config,
    manifest,
    deploy,
    undeploy,
    size,
    demo_model,
    doctor,
    keygen,
)

UsageError: Any = typer.BadParameter.__base__
"""Of click, or of the copy of it that newer typer carries."""

app = typer.Typer(
    name="bert-handler",
    help="Serve BERT-family models on TorchServe and KServe: archive, serve, predict.",
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
for command in COMMANDS:
    app.command(command.__name__.replace("_", "-"))(command)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"bert-handler {bert_handler.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(False, "--version", help="Print the version.", callback=_version, is_eager=True),
) -> None:
    pass


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run one command; 0 when it succeeded, 1 when it said why not, 2 when it was called wrong."""
    try:
        with _ending_on_sigterm():
            result = app(list(sys.argv[1:] if argv is None else argv), standalone_mode=False)
    except UsageError as exc:
        exc.show()
        return 2
    except (typer.Abort, KeyboardInterrupt):
        return 130
    except (BertHandlerError, OSError, UnicodeError) as exc:
        console = Console(stderr=True, highlight=False, emoji=False)
        console.print(f"[red]error:[/red] {escape(_reason(exc))}", soft_wrap=True)
        return 1
    return result if isinstance(result, int) else 0


@contextmanager
def _ending_on_sigterm() -> Iterator[None]:
    """Let SIGTERM end the command as an exit does, until a server has its own way.

    By default it ends the process at once, and what it has unpacked stays; as a container's first process, it
    would not even be ended.  A second one is the default's.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: Any) -> None:
        signal.signal(number, signal.SIG_DFL)
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def _reason(exc: Exception) -> str:
    """What went wrong; an error of the system without its number."""
    if isinstance(exc, OSError) and exc.strerror:
        return f"{exc.filename}: {exc.strerror}" if exc.filename else exc.strerror
    return str(exc) or type(exc).__name__
