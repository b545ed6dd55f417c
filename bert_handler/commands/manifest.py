"""`bert-handler manifest`: the InferenceService for a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import typer

from bert_handler.config import ENVIRONMENT_PREFIX
from bert_handler.packaging.service import Service
from bert_handler.packaging.sizing import GPU_MEMORY, MEMORY, ModelFacts, check_memory, default_memory, startup_s


def manifest(
    name: str = typer.Option(..., help="Name of the InferenceService, for instance torchserve-bert-v2."),
    storage_uri: str = typer.Option(..., help="Where the model lies, for instance pvc://task-pv-claim."),
    host: str = typer.Option(Service.host, help="torchserve (KServe's pytorch predictor) or kserve."),
    device: str = typer.Option(Service.device, help="cpu or gpu."),
    namespace: Optional[str] = typer.Option(None, help="Namespace of the manifest and of KEDA's query; default: none."),
    model: str = typer.Option(Service.model, help="Route of the model in config.properties, for the readiness probe."),
    archive: Optional[Path] = typer.Option(None, help="The .mar, to set memory and start-up budget by its size."),
    image: Optional[str] = typer.Option(
        None, help="Image of the runtime; default: the cluster's, or scripts/Dockerfile's."
    ),
    engine: Optional[str] = typer.Option(None, help="torch, onnx or openvino; default: as the archive says."),
    protocol: str = typer.Option(Service.protocol, help="v1, v2 or grpc-v2."),
    cpu: str = typer.Option(Service.cpu, help="CPU request and limit."),
    memory: Optional[str] = typer.Option(
        None, help=f"Memory request and limit; default: {MEMORY}, {GPU_MEMORY} with a GPU, or more."
    ),
    gpus: int = typer.Option(Service.gpus, min=1, help="GPUs of a replica, with --device gpu."),
    threads: Optional[int] = typer.Option(None, min=1, help="Threads of a replica; default: its whole CPUs."),
    startup: Optional[int] = typer.Option(
        None, min=1, help=f"Seconds to become ready; default: by size, else {Service.startup_s}."
    ),
    timeout: int = typer.Option(Service.timeout_s, min=1, help="Seconds for one request."),
    concurrency: int = typer.Option(Service.concurrency, min=0, help="containerConcurrency; 0 for no limit."),
    autoscaling: str = typer.Option(
        Service.autoscaling, help="knative; without Knative hpa, or keda on the KServe host."
    ),
    legacy_modes: bool = typer.Option(
        Service.legacy_modes, "--legacy-modes", help="Deployment modes by the names of clusters before KServe 0.16."
    ),
    scale_metric: Optional[str] = typer.Option(None, help="concurrency or rps; cpu or memory; queue."),
    scale_target: Optional[int] = typer.Option(
        None, min=1, help="Value of the metric a replica; a percentage with hpa."
    ),
    min_replicas: int = typer.Option(Service.min_replicas, min=0, help="Fewest replicas; 0 scales to zero (knative)."),
    max_replicas: int = typer.Option(Service.max_replicas, min=1, help="Most replicas."),
    prometheus_url: str = typer.Option(Service.prometheus_url, help="Where KEDA asks."),
    canary: Optional[int] = typer.Option(None, min=0, max=100, help="Percent of traffic for this revision."),
    scrape: bool = typer.Option(Service.scrape, help="Prometheus annotations."),
    logger_url: Optional[str] = typer.Option(None, help="Where KServe's logger sends requests and answers."),
    explainer: bool = typer.Option(
        Service.explainer, "--explainer", help="An explainer of its own for the explain route."
    ),
    service_account: Optional[str] = typer.Option(None, help="Service account, for storage credentials."),
) -> None:
    """Write the YAML to apply: requests and limits, threads, probes with a start-up budget, scaling.

    Examples:
      bert-handler manifest --name torchserve-bert-v2 --storage-uri pvc://task-pv-claim --device gpu > gpu.yaml

      bert-handler manifest --name bert --storage-uri pvc://CLAIM --host kserve --autoscaling keda
    """
    from bert_handler.packaging.manifest import render

    variables = {f"{ENVIRONMENT_PREFIX}ENGINE": engine} if engine else {}
    facts = ModelFacts.of_archive(archive, variables) if archive else None
    memory = memory or default_memory(host, device, facts.weight_bytes if facts else 0)
    service = Service(
        name,
        storage_uri,
        host=host,
        device=device,
        namespace=namespace,
        model=model,
        image=image,
        engine=engine,
        protocol=protocol,
        cpu=cpu,
        memory=memory,
        gpus=gpus,
        threads=threads,
        startup_s=startup or (startup_s(facts.stored_bytes) if facts else Service.startup_s),
        timeout_s=timeout,
        concurrency=concurrency,
        autoscaling=autoscaling,
        legacy_modes=legacy_modes,
        scale_metric=scale_metric,
        scale_target=scale_target,
        min_replicas=min_replicas,
        max_replicas=max_replicas,
        prometheus_url=prometheus_url,
        canary_percent=canary,
        scrape=scrape,
        logger_url=logger_url,
        explainer=explainer,
        service_account=service_account,
    )
    if facts:
        check_memory(host, memory, facts.weight_bytes)
    typer.echo(render(service), nl=False)
