"""`bert-handler explain`: which words decided, in colours on the terminal or as a page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, List, Mapping, Optional

import typer

from bert_handler.commands.checks import check_output
from bert_handler.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console

BLUE, ORANGE = (47, 127, 209), (232, 134, 46)


def explain(
    target: Path = typer.Argument(..., help="Model directory or .mar."),
    text: Optional[List[str]] = typer.Option(None, help="A text, or a JSON instance; may be repeated."),
    label: Optional[List[str]] = typer.Option(
        None, "--target", help="Label (or its index) to explain; default: the predicted one. May be repeated."
    ),
    method: Optional[str] = typer.Option(
        None, help="integrated_gradients, input_x_gradient, layer_gradient_x_activation or feature_ablation."
    ),
    n_steps: str = typer.Option("50", help="Steps of integrated gradients, or auto."),
    baseline: Optional[str] = typer.Option(
        None,
        help="What stands for an absent word: pad, mask or zero; default: pad, or mask for ablation if there is one.",
    ),
    baseline_text: Optional[str] = typer.Option(None, help="A text whose words do, instead."),
    html: Optional[Path] = typer.Option(None, help="Write a self-contained page here."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON line a text instead of colours."),
    engine: Optional[str] = typer.Option(None, help="torch, onnx or openvino."),
    device: Optional[str] = typer.Option(None, help="cpu, cuda or cuda:N."),
) -> None:
    """Show which words speak for a target, and which against it.

    Example: bert-handler explain model.mar --text "A triumph." --html why.html
    """
    if not text:
        raise ConfigError("give --text at least once")
    if html is not None:
        check_output(html)
    from bert_handler import jsonio
    from bert_handler.parameters import whole_number
    from bert_handler.predictor import Predictor
    from bert_handler.protocols.base import element

    given = {"method": method, "n_steps": n_steps, "baseline": baseline, "baseline_text": baseline_text}
    options: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if label:
        numbers = map(whole_number, label)
        options["target"] = [item if number is None else number for item, number in zip(label, numbers)]
    with Predictor.load(target, engine=engine, device=device) as predictor:
        documents = [found.content for found in predictor.explain([element(item) for item in text], **options)]
    if html is not None:
        from bert_handler.explanations.page import page

        html.write_text(page(documents), encoding="utf-8")
    if as_json:
        for document in documents:
            typer.echo(jsonio.dumps(document).decode())
        return
    from rich.console import Console

    console = Console(highlight=False, emoji=False)
    for document in documents:
        show(document, console)
    if html is not None:
        console.print(f"page: {html}", style="dim", markup=False, soft_wrap=True)


def show(document: Mapping[str, Any], console: Console) -> None:
    """Print one explanation: its facts, the text as a heat map, and the strongest words as bars."""
    from rich.table import Table
    from rich.text import Text

    from bert_handler.explanations.heat import views

    for view in views(document):
        facts = "   ".join(f"{name} {value}" for name, value in view.facts.items())
        console.print(Text.assemble((view.title, "bold"), "   ", (facts, "dim")))
        line = Text()
        for cell in view.cells:
            line.append(" " if cell.spaced else "")
            line.append(cell.text, _style(cell.weight))
        console.print(line)
        table = Table(box=None, show_header=False, padding=(0, 1))
        for cell in view.top:
            bar = Text("█" * max(1, round(24 * abs(cell.weight))), _colour(cell.weight))
            table.add_row(Text(cell.text), f"{cell.importance:+.3f}", bar)
        console.print(table)


def _style(weight: float) -> str:
    share = abs(weight)
    shade = [round(255 + (value - 255) * share) for value in (BLUE if weight >= 0 else ORANGE)]
    return f"black on rgb({shade[0]},{shade[1]},{shade[2]})"


def _colour(weight: float) -> str:
    return "rgb({},{},{})".format(*(BLUE if weight >= 0 else ORANGE))
