"""What the manifests of a service say, and what of it does not go together."""

from __future__ import annotations

from dataclasses import dataclass

import bert_handler
from bert_handler.errors import ConfigError
from bert_handler.packaging.names import check_choice, check_label, check_name, check_service, check_uri
from bert_handler.packaging.sizing import CPU, MEMORY, quantity

HOSTS, DEVICES = ("torchserve", "kserve"), ("cpu", "gpu")
SCALING = {"knative": ("concurrency", "rps"), "hpa": ("cpu", "memory"), "keda": ("queue",)}
"""Metrics that each autoscaler can follow, its default first."""
TARGETS = {"concurrency": 16, "rps": 50, "cpu": 70, "memory": 80, "queue": 32}
"""Default targets a replica: requests in flight, requests a second, percent, percent, waiting rows."""
MODES, LEGACY_MODES = ("Knative", "Standard"), ("Serverless", "RawDeployment")
"""KServe's deployment modes with Knative and without, and their names before KServe 0.16."""


@dataclass(frozen=True)
class Service:
    """What the manifest says.

    model: route that probes ask for readiness (TorchServe alone; the KServe host knows its own).
    cpu, memory: requests and limits alike, since a throttled model misses every deadline.
    stored_bytes: of all archives that the pod unpacks; None where it is not known.
    startup_s: until the model must be ready.  timeout_s: for one request.
    legacy_modes: for a cluster before KServe 0.16, which knows the deployment modes by other names.
    """

    name: str
    storage_uri: str
    host: str = "torchserve"
    device: str = "cpu"
    namespace: str | None = None
    model: str = "bert"
    image: str | None = None
    engine: str | None = None
    protocol: str = "v2"
    cpu: str = CPU
    memory: str = MEMORY
    gpus: int = 1
    threads: int | None = None
    stored_bytes: int | None = None
    startup_s: int = 150
    timeout_s: int = 120
    concurrency: int = 64
    autoscaling: str = "knative"
    legacy_modes: bool = False
    scale_metric: str | None = None
    scale_target: int | None = None
    min_replicas: int = 1
    max_replicas: int = 3
    prometheus_url: str = "http://prometheus.monitoring.svc:9090"
    canary_percent: int | None = None
    scrape: bool = True
    logger_url: str | None = None
    explainer: bool = False
    service_account: str | None = None

    def __post_init__(self) -> None:
        # Imports the tokenizer, which nobody needs who only reads a default.
        from bert_handler.engines import ENGINES

        check_service(self.name)
        check_uri("storage-uri", self.storage_uri)
        check_name("model", self.model)
        if self.namespace is not None:
            check_label("namespace", self.namespace)
        if self.engine is not None:
            check_choice("engine", self.engine, ENGINES)
        check_choice("host", self.host, HOSTS)
        check_choice("device", self.device, DEVICES)
        check_choice("protocol", self.protocol, ("v1", "v2", "grpc-v2"))
        check_choice("autoscaling", self.autoscaling, SCALING)
        check_choice(f"{self.autoscaling}'s scale metric", self.metric, SCALING[self.autoscaling])
        if self.autoscaling == "hpa" and self.target > 100:
            raise ConfigError(f"scale-target={self.target}: hpa's is a percentage of the request, 100 at most")
        quantity(self.cpu), quantity(self.memory)
        if self.min_replicas > self.max_replicas:
            raise ConfigError(f"min-replicas={self.min_replicas} is above max-replicas={self.max_replicas}")
        if self.min_replicas == 0 and self.autoscaling != "knative":
            # KEDA asks for what the pods themselves count: with none, nothing would raise it again.
            raise ConfigError(f"{self.autoscaling} cannot scale back from zero; use --autoscaling knative")
        if self.autoscaling == "keda":
            self._check_queue()
        if self.canary_percent is not None and self.autoscaling != "knative":
            raise ConfigError("canary traffic is split by Knative; use --autoscaling knative")
        if self.explainer and self.host != "kserve":
            raise ConfigError("the explainer runs the KServe host's image; use --host kserve")

    def _check_queue(self) -> None:
        # TorchServe's own metrics tell how long answered requests have waited, and not how many wait.
        if self.host != "kserve":
            raise ConfigError("KEDA cannot see TorchServe's queue; use --host kserve, or --autoscaling hpa or knative")
        if self.explainer:
            raise ConfigError("explanations wait in a queue that KEDA does not see; use --autoscaling hpa or knative")

    @property
    def metric(self) -> str:
        """What replicas follow."""
        return self.scale_metric or SCALING[self.autoscaling][0]

    @property
    def target(self) -> int:
        """The metric's value a replica."""
        return self.scale_target or TARGETS[self.metric]

    @property
    def deployment_mode(self) -> str:
        """What KServe makes of it: a Knative Service, or a Deployment."""
        return (LEGACY_MODES if self.legacy_modes else MODES)[self.autoscaling != "knative"]

    @property
    def runtime_image(self) -> str:
        """The image of the KServe host."""
        return self.image or f"bert-handler:{bert_handler.__version__}"
