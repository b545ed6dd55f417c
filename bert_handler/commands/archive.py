"""`bert-handler archive`: a model directory becomes a self-contained .mar."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, List, Optional

import typer


def archive(
    model_dir: Path = typer.Argument(..., help="Directory that save_pretrained() has written."),
    name: str = typer.Option(..., help="Name in the manifest; answers carry it as model_name."),
    version: str = typer.Option("1.0", help="Version in the manifest."),
    export_path: Path = typer.Option(Path(), help="Directory that takes NAME.mar."),
    setup_config: Optional[Path] = typer.Option(None, help="setup_config.json; default: the model directory's."),
    index_to_name: Optional[Path] = typer.Option(None, help="index_to_name.json; default: the model directory's."),
    engine: Optional[str] = typer.Option(None, help="torch, onnx, openvino, or auto: the fastest that is right."),
    quantization: str = typer.Option("none", help="none, or int8 (onnx and openvino; needs --calibration)."),
    calibration: Optional[Path] = typer.Option(
        None, help="Texts or JSON instances, one a line, to check and measure on."
    ),
    engine_only: bool = typer.Option(False, "--engine-only", help="Leave out the weights that only torch reads."),
    sign: Optional[Path] = typer.Option(None, help="Private key of `keygen` to sign the archive with."),
    trust_remote_code: bool = typer.Option(False, "--trust-remote-code", help="Run the model's code where it asks."),
    force: bool = typer.Option(False, "--force", "-f", help="Replace an existing archive."),
) -> None:
    """Build a .mar that runs on TorchServe and on KServe; the same input gives the same bytes.

    Example: bert-handler archive model/ --name BERTSeqClassification --version 1.0 --export-path store/
    """
    from bert_handler.config import TRUST_REMOTE_CODE
    from bert_handler.packaging.mar import build

    # Consent is the command line's alone, as of serve; the self-test inherits it.
    os.environ[TRUST_REMOTE_CODE] = "1" if trust_remote_code else "0"
    built = build(
        model_dir,
        name,
        version,
        export_path,
        setup_config=setup_config,
        index_to_name=index_to_name,
        signing_key=sign,
        force=force,
        engine=engine,
        quantization=quantization,
        calibration=None if calibration is None else _instances(calibration),
        engine_only=engine_only,
    )
    if built.left_out:
        typer.echo(f"left out {', '.join(built.left_out)}: earlier states of the training", err=True)
    if built.measured:
        _show(built.measured)
    typer.echo(f"path    {built.path}\nsize    {built.size}\nsha256  {built.sha256}")


def _instances(path: Path) -> List[Any]:
    from bert_handler.errors import ConfigError, RequestError, require_file
    from bert_handler.protocols.base import element

    require_file(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except ValueError as exc:
        raise ConfigError(f"{path} is not UTF-8 text") from exc
    instances = []
    for number, line in enumerate(text.split("\n"), 1):
        try:
            instances += [element(line.rstrip("\r"))] if line.strip() else []
        except RequestError as exc:
            raise ConfigError(f"{path}, line {number}: {exc}") from exc
    return instances


def _show(measured: Sequence[Any]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table("engine", "weights", "difference", "same answers", "seq/s", "lone ms", "result")
    for row in measured:
        numbers = (f"{row.difference:.1e}", f"{row.agreement:.1%}", f"{row.rate:.0f}", f"{row.latency_ms:.1f}")
        result = "chosen" if row.chosen else escape(row.problem)
        table.add_row(row.engine, row.quantization, *(numbers if row.rate else ("",) * 4), result)
    Console(emoji=False).print(table)
