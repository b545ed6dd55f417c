"""`bert-handler archive`: a model directory becomes a self-contained .mar."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import typer


def archive(
    model_dir: Path = typer.Argument(..., help="Directory that save_pretrained() has written."),
    name: str = typer.Option(..., help="Name in the manifest; answers carry it as model_name."),
    version: str = typer.Option("1.0", help="Version in the manifest."),
    export_path: Path = typer.Option(Path(), help="Directory that takes NAME.mar."),
    setup_config: Optional[Path] = typer.Option(None, help="setup_config.json; default: the model directory's."),
    index_to_name: Optional[Path] = typer.Option(None, help="index_to_name.json; default: the model directory's."),
    force: bool = typer.Option(False, "--force", "-f", help="Replace an existing archive."),
) -> None:
    """Build a .mar that runs on TorchServe and on KServe; the same input gives the same bytes.

    Example: bert-handler archive model/ --name BERTSeqClassification --version 1.0 --export-path store/
    """
    from bert_handler.packaging.mar import build

    built = build(
        model_dir,
        name,
        version,
        export_path,
        setup_config=setup_config,
        index_to_name=index_to_name,
        force=force,
    )
    typer.echo(f"path    {built.path}\nsize    {built.size}\nsha256  {built.sha256}")
