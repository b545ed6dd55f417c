"""`bert-handler size`: replicas for a load, from measured figures."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import typer


def size(
    rps: float = typer.Option(..., min=0.001, help="Requests a second in all."),
    p95: str = typer.Option("100ms", help="Latency that 95 of 100 requests must keep."),
    tokens: float = typer.Option(40, min=1, help="Mean tokens of a request."),
    cost: float = typer.Option(1.0, min=0.01, help="Of a forward, against the demo's model; BERT-base: 6."),
    figures: Optional[Path] = typer.Option(None, help="Own figures; scripts/cpu_timeout figures writes them."),
) -> None:
    """Say how many replicas keep the latency, and the options of `manifest` for them.

    Example: bert-handler size --rps 500 --p95 100ms --tokens 40
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from bert_handler.packaging.capacity import milliseconds, plan_capacity, read_figures

    known = read_figures(figures)
    plan = plan_capacity(known, rps, milliseconds(p95), tokens, cost)
    measured = f"{known.get('engine', 'unnamed')} engine, {known.get('model', 'unnamed model')}"
    load = f"{rps:g} requests/s of {tokens:g} tokens, p95 within {p95}"
    title = f"{load}\nmeasured: {measured}, texts of {known['tokens']:g} tokens"
    table = Table("what", "value", title=escape(title))
    table.add_row("replicas", f"{plan.replicas} of {known['cores']} core(s): {plan.cores} cores")
    table.add_row("planned for each", f"{plan.requests_per_s:.1f} requests/s, three quarters of what was measured")
    table.add_row("p95 at that load", f"{plan.p95_ms:.0f} ms")
    Console(emoji=False).print(table)
    typer.echo(
        f"bert-handler manifest --host kserve --cpu {known['cores']} --max-replicas {plan.replicas} "
        f"--scale-metric concurrency --scale-target {plan.concurrency} ..."
    )
