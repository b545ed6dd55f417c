"""`bert-handler config`: TorchServe's settings for the pod."""

from __future__ import annotations

from pathlib import Path
from typing import List, Optional

import typer

from bert_handler.errors import ConfigError


def config(
    archives: List[str] = typer.Argument(..., help="The .mar files, each as PATH or as ROUTE=PATH."),
    output: Optional[Path] = typer.Option(None, "--output", "-o", help="File to write; default: standard output."),
    cpu: str = typer.Option("1", help="CPU limit of the pod."),
    memory: str = typer.Option("2Gi", help="Memory limit of the pod."),
    workers: Optional[int] = typer.Option(None, min=1, help="Workers a model; default: as many as help and fit."),
    batch_size: int = typer.Option(8, min=1, help="Most requests that the frontend hands over together."),
    max_batch_delay: int = typer.Option(3, min=0, help="Milliseconds that it waits for them, also when idle."),
    response_timeout: int = typer.Option(120, min=1, help="Seconds for one batch."),
    startup_timeout: Optional[int] = typer.Option(None, min=1, help="Seconds for loading; default: by size."),
    queue_size: int = typer.Option(1000, min=1, help="Requests that may wait; more are refused."),
    token_auth: bool = typer.Option(False, "--token-auth", help="Turn token authorization on; else it is off."),
    model_store: str = typer.Option("/mnt/models/model-store", help="Where the pod sees the archives."),
) -> None:
    """Write config.properties: ports of the KServe pod, workers that fit, loading apart from answering.

    Example: bert-handler config bert=store/BERTSeqClassification.mar --memory 2Gi -o config.properties
    """
    from bert_handler.packaging import sizing
    from bert_handler.packaging.settings import RegisteredModel, TorchServeSettings

    models, comments = {}, []
    cpus, memory_bytes = sizing.quantity(cpu), int(sizing.quantity(memory))
    for given in archives:
        route, _, path = given.rpartition("=")
        facts = sizing.ModelFacts.of_archive(Path(path))
        route = route or facts.name
        if route in models:
            raise ConfigError(f"two archives for the route {route!r}; give them names: ROUTE=PATH")
        # Several models share the pod evenly.
        share = len(archives)
        room = sizing.FRONTEND_BYTES + sizing.WRAPPER_BYTES
        plan = sizing.plan_workers(facts.weight_bytes, cpus / share, (memory_bytes - room) // share + room, workers)
        comments.append(f"{route}: {plan.reason}")
        if plan.workers > 1:
            comments.append(
                f"{route}: set BERT_HANDLER_THREADS={plan.threads} in the pod, so that they share its cores"
            )
        models[route] = RegisteredModel(
            facts.archive,
            facts.version,
            plan.workers,
            batch_size,
            max_batch_delay,
            response_timeout,
            startup_timeout or sizing.startup_s(facts.weight_bytes),
        )
    settings = TorchServeSettings(
        models,
        model_store,
        token_authorization=token_auth,
        job_queue_size=queue_size,
        comments=tuple(comments),
    )
    for comment in comments:
        typer.echo(comment, err=True)
    if output is None:
        typer.echo(settings.text(), nl=False)
    else:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(settings.text(), encoding="utf-8")
