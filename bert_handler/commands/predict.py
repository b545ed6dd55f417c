"""`bert-handler predict`: answers without a server, on the terminal or for a whole file."""

from __future__ import annotations

import os
import secrets
import sys
from functools import partial
from pathlib import Path
from typing import Any, Callable, List, Optional

import typer

from bert_handler.commands.checks import check_output
from bert_handler.commands.task_parameters import HELP, task_parameters
from bert_handler.errors import ConfigError

RUNNERS = ("local", "ray")
CUT = "--parameter truncation=stride reads them in windows, =error refuses them"


def predict(
    target: Path = typer.Argument(..., help="Model directory or .mar."),
    text: Optional[List[str]] = typer.Option(None, help="A text, or a JSON instance; may be repeated."),
    input_file: Optional[Path] = typer.Option(None, "--input", help="A .txt, .jsonl, .csv or .parquet file."),
    output_file: Optional[Path] = typer.Option(None, "--output", help="A .jsonl, .csv or .parquet file."),
    batch_rows: int = typer.Option(1024, min=1, help="Rows that are held in memory and written together."),
    outputs: Optional[str] = typer.Option(
        None, help="Names between commas; default: of a file the model's default, of a text all."
    ),
    parameter: Optional[List[str]] = typer.Option(None, help=HELP),
    engine: Optional[str] = typer.Option(None, help="torch, onnx or openvino."),
    device: Optional[str] = typer.Option(None, help="cpu, cuda or cuda:N."),
    runner: str = typer.Option("local", help="Of a file: local, or ray for actors with a predictor each."),
    ray_address: Optional[str] = typer.Option(
        None, help="Cluster of this node (auto) or host:port; default: a Ray of this machine's cores."
    ),
    actors: Optional[int] = typer.Option(None, min=1, help="Of Ray; default: one a GPU, else one for four cores."),
) -> None:
    """Answer texts with a local model, one JSON line each, or a file of them.

    A file is read and written as a stream; after an interruption the same command goes on where it was,
    with either runner.

    Examples:
      bert-handler predict model.mar --text "A triumph." --text "A bore."

      bert-handler predict model.mar --input reviews.csv --output answers.parquet --outputs predict,score

      bert-handler predict /shared/model.mar --input reviews.csv --output answers.csv --runner ray --ray-address auto
    """
    if (input_file is None) != (output_file is None) or bool(text) == bool(input_file):
        raise ConfigError("give --text at least once, or --input FILE with --output FILE")
    if runner not in RUNNERS:
        raise ConfigError(f"--runner {runner} is unknown; choose from {', '.join(RUNNERS)}")
    if runner == "local" and (ray_address or actors):
        raise ConfigError("--ray-address and --actors go with --runner ray")
    if runner == "ray" and text:
        raise ConfigError("--runner ray scores files; give --input FILE with --output FILE, or leave --runner out")

    load: Any = {"engine": engine, "device": device, "parameters": task_parameters(parameter), "outputs": outputs}
    if input_file is not None and output_file is not None:
        from bert_handler.bulk.formats import forms_of

        forms_of(input_file, output_file)
        check_output(output_file)
        if output_file.exists() and output_file.samefile(input_file):
            raise ConfigError(f"--output {output_file} is the input; give another file")
        notes: List[str] = []
        score = (
            partial(_on_ray, address=ray_address, actors=actors, batch_rows=batch_rows, **load)
            if runner == "ray"
            else partial(_here, notes=notes, batch_rows=batch_rows, **load)
        )
        n_rows = _with_progress(partial(score, target, input_file, output_file))
        typer.echo(f"{n_rows} rows -> {output_file}")
        for note in notes:
            typer.echo(note, err=True)
        return
    from bert_handler import jsonio
    from bert_handler.predictor import Predictor
    from bert_handler.protocols.base import element

    with Predictor.load(target, **load) as predictor:
        for number, prediction in enumerate(predictor.predict([element(item) for item in text or ()]), 1):
            names = prediction.outputs if outputs is None else predictor.default_outputs
            typer.echo(jsonio.dumps({name: prediction[name] for name in names}).decode())
            if prediction.truncated:
                typer.echo(f"text {number} has {prediction.input_tokens} tokens and was cut; {CUT}", err=True)


def _here(
    target: Path,
    source: Path,
    output: Path,
    progress: Any,
    *,
    batch_rows: int,
    notes: List[str],
    **load: Any,
) -> int:
    from bert_handler.bulk.scoring import score
    from bert_handler.predictor import Predictor

    with Predictor.load(target, **load) as predictor:
        metrics = predictor.metrics
        n_cut, n_failed = metrics.truncations, sum(metrics.errors.values())
        n_rows = score(predictor, source, output, batch_rows, progress)
        n_cut, n_failed = metrics.truncations - n_cut, sum(metrics.errors.values()) - n_failed
    if n_cut:
        notes.append(f"{n_cut} rows have more tokens than the model takes and were cut; {CUT}")
    if n_failed:
        notes.append(f"{n_failed} rows have no answer; column error says why")
    return n_rows


def _on_ray(target: Path, source: Path, output: Path, progress: Any, *, address: Optional[str], **options: Any) -> int:
    if address is None and "ray" not in sys.modules:
        # Ray listens on every interface and runs what it is sent; it reads these as it is imported.
        os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32))
    from bert_handler.bulk.on_ray import score

    return score(target, source, output, address=address, progress=progress, **options)


def _with_progress(score: Callable[..., int]) -> int:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]} rows/s"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("rows", total=None, rate="-")

        def show(done: int, total: int) -> None:
            speed = progress.tasks[0].speed
            progress.update(task, completed=done, total=total, rate="-" if speed is None else f"{speed:.0f}")

        try:
            return score(progress=show)
        except KeyboardInterrupt:
            done = progress.tasks[0].completed
            progress.console.print(f"interrupted after {done:.0f} rows; the same command goes on")
            raise typer.Exit(130) from None
