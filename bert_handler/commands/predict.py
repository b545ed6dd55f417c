"""`bert-handler predict`: answers without a server, on the terminal or for a whole file."""

from __future__ import annotations

from pathlib import Path
from typing import List, Optional

import typer

from bert_handler.errors import ConfigError


def predict(
    target: Path = typer.Argument(..., help="Model directory or .mar."),
    text: Optional[List[str]] = typer.Option(None, help="A text, or a JSON instance; may be repeated."),
    input_file: Optional[Path] = typer.Option(None, "--input", help="A .txt, .jsonl, .csv or .parquet file."),
    output_file: Optional[Path] = typer.Option(None, "--output", help="A .jsonl, .csv or .parquet file."),
    batch_rows: int = typer.Option(1024, min=1, help="Rows that are held in memory and written together."),
    engine: Optional[str] = typer.Option(None, help="torch, onnx or openvino."),
    device: Optional[str] = typer.Option(None, help="cpu, cuda or cuda:N."),
) -> None:
    """Answer texts with a local model, one JSON line each, or a file of them.

    A file is read and written as a stream; after an interruption the same command goes on where it was.

    Examples:
      bert-handler predict model.mar --text "A triumph." --text "A bore."

      bert-handler predict model.mar --input reviews.csv --output answers.parquet
    """
    if (input_file is None) != (output_file is None) or bool(text) == bool(input_file):
        raise ConfigError("give --text at least once, or --input FILE with --output FILE")
    from bert_handler import jsonio
    from bert_handler.predictor import Predictor
    from bert_handler.protocols.base import element

    predictor = Predictor.load(target, engine=engine, device=device)
    if input_file is not None and output_file is not None:
        typer.echo(f"{_score(predictor, input_file, output_file, batch_rows)} rows -> {output_file}")
    for prediction in predictor.predict([element(item) for item in text]) if text else ():
        typer.echo(jsonio.dumps(dict(prediction.outputs)).decode())
    predictor.close()


def _score(predictor, source: Path, target: Path, batch_rows: int) -> int:  # type: ignore[no-untyped-def]  # noqa: ANN001
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from bert_handler.bulk import score

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]} rows/s"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("rows", total=None, rate="-")

        def show(done: int, total: int) -> None:
            speed = progress.tasks[0].speed
            progress.update(task, completed=done, total=total, rate="-" if speed is None else f"{speed:.0f}")

        return score(predictor, source, target, batch_rows, show)
