"""`bert-handler config`: TorchServe's settings for the pod."""

from __future__ import annotations

from pathlib import Path
from typing import List, Optional, Tuple

import typer

from bert_handler.deadlines import RESPONSE_TIMEOUT_S
from bert_handler.packaging.service import Service
from bert_handler.packaging.settings import BATCH_DELAY_MS, BATCH_SIZE, TorchServeSettings


def config(
    archives: List[str] = typer.Argument(..., help="The .mar files, each as PATH or as ROUTE=PATH."),
    output: Optional[Path] = typer.Option(None, "--output", "-o", help="File to write; default: standard output."),
    cpu: str = typer.Option(Service.cpu, help="CPU limit of the pod."),
    memory: str = typer.Option(Service.memory, help="Memory limit of the pod."),
    workers: Optional[int] = typer.Option(None, min=1, help="Workers a model; default: as many as help and fit."),
    batch_size: int = typer.Option(BATCH_SIZE, min=1, help="Most requests that are handed over together."),
    max_batch_delay: int = typer.Option(BATCH_DELAY_MS, min=0, help="Milliseconds it waits for them, also when idle."),
    response_timeout: int = typer.Option(
        RESPONSE_TIMEOUT_S, min=1, help="Seconds for one batch; more than the setting request_timeout_s."
    ),
    startup_timeout: Optional[int] = typer.Option(None, min=1, help="Seconds for loading; default: by size."),
    queue_size: int = typer.Option(
        TorchServeSettings.job_queue_size, min=1, help="Requests that may wait; more are refused."
    ),
    token_auth: bool = typer.Option(False, "--token-auth", help="Turn token authorization on; else it is off."),
    model_store: str = typer.Option(TorchServeSettings.model_store, help="Where the pod sees the archives."),
) -> None:
    """Write config.properties: ports of the KServe pod, workers that fit, loading apart from answering.

    Example: bert-handler config bert=store/BERTSeqClassification.mar --memory 2Gi -o config.properties
    """
    from bert_handler.packaging.pod import pod_settings

    settings = pod_settings(
        [_routed(given) for given in archives],
        cpu,
        memory,
        workers=workers,
        startup_timeout_s=startup_timeout,
        registration={
            "batch_size": batch_size,
            "max_batch_delay_ms": max_batch_delay,
            "response_timeout_s": response_timeout,
        },
        model_store=model_store,
        token_authorization=token_auth,
        job_queue_size=queue_size,
    )
    for comment in settings.comments:
        typer.echo(comment, err=True)
    if output is None:
        typer.echo(settings.text(), nl=False)
    else:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(settings.text(), encoding="utf-8")


def _routed(given: str) -> Tuple[Optional[str], Path]:
    route, equals, path = given.partition("=")
    # A path may have `=` in it too.
    return (None, Path(given)) if not equals or Path(given).is_file() else (route, Path(path))
