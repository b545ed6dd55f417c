"""InferenceService manifests: KServe's TorchServe predictor, or the KServe host with its runtime.

Knative scales on concurrency or requests, RawDeployment on CPU or memory (HPA) or on the rows that
wait in the KServe host's scheduler (KEDA).  Start-up has a budget of its own everywhere: probes that give up while
a model loads are the commonest way for a pod to restart for ever.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import bert_handler
from bert_handler.engines import ENGINES
from bert_handler.errors import ConfigError
from bert_handler.packaging.names import check_choice, check_label, check_name, check_service, check_uri
from bert_handler.packaging.objects import render_objects
from bert_handler.packaging.sizing import quantity

HTTP_PORT = 8080
GRPC_PORT = 8081
USER = 1000
PROBE_PERIOD_S = 5

HOSTS, DEVICES = ("torchserve", "kserve"), ("cpu", "gpu")
SCALING = {"knative": ("concurrency", "rps"), "hpa": ("cpu", "memory"), "keda": ("queue",)}
"""Metrics that each autoscaler can follow, its default first."""
TARGETS = {"concurrency": 16, "rps": 50, "cpu": 70, "memory": 80, "queue": 32}
"""Default targets a replica: requests in flight, requests a second, percent, percent, waiting rows."""


@dataclass(frozen=True)
class Service:
    """What the manifest says.

    model: route that probes ask for readiness (TorchServe alone; the KServe host knows its own).
    cpu, memory: requests and limits alike, since a throttled model misses every deadline.
    startup_s: until the model must be ready.  timeout_s: for one request.
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
    cpu: str = "1"
    memory: str = "2Gi"
    gpus: int = 1
    threads: int | None = None
    startup_s: int = 150
    timeout_s: int = 120
    concurrency: int = 64
    autoscaling: str = "knative"
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
    def runtime_image(self) -> str:
        """The image of the KServe host."""
        return self.image or f"bert-handler:{bert_handler.__version__}"


def documents(service: Service) -> list[dict[str, Any]]:
    """The objects to apply, in their order."""
    if service.host == "torchserve":
        return [inference_service(service)]
    from bert_handler.packaging.runtime import serving_runtime

    return [serving_runtime(service), inference_service(service)]


def render(service: Service) -> str:
    """The manifest as YAML."""
    return render_objects(documents(service))


def inference_service(service: Service) -> dict[str, Any]:
    """The InferenceService: predictor, and explainer where one is asked for."""
    spec = {"predictor": {**scaling(service), **_predictor(service)}}
    if service.explainer:
        from bert_handler.packaging.runtime import explainer

        spec["explainer"] = explainer(service)
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": metadata(service, service.name, _annotations(service)),
        "spec": spec,
    }


def metadata(service: Service, name: str, annotations: Mapping[str, str]) -> dict[str, Any]:
    """Name, namespace where one is given, a label to find everything by, annotations."""
    found: dict[str, Any] = {"name": name}
    if service.namespace:
        found["namespace"] = service.namespace
    found["labels"] = {"app.kubernetes.io/managed-by": "bert-handler"}
    if annotations:
        found["annotations"] = dict(annotations)
    return found


def scaling(service: Service) -> dict[str, Any]:
    """Replicas and what they follow, the request's timeout, where payloads are logged, and whose account."""
    found: dict[str, Any] = {"minReplicas": service.min_replicas, "maxReplicas": service.max_replicas}
    if service.autoscaling == "keda":
        found["autoScaling"] = {"metrics": [_queue_metric(service)]}
    else:
        found.update(scaleMetric=service.metric, scaleTarget=service.target)
    found.update(timeout=service.timeout_s, containerConcurrency=service.concurrency)
    if service.canary_percent is not None:
        found["canaryTrafficPercent"] = service.canary_percent
    if service.logger_url:
        found["logger"] = {"mode": "all", "url": service.logger_url}
    annotations = {}
    if service.autoscaling == "knative":
        # Knative gives a revision ten minutes by default, and gives up silently after them.
        annotations["serving.knative.dev/progress-deadline"] = f"{max(600, 2 * service.startup_s)}s"
    if annotations:
        found["annotations"] = annotations
    # A Service named bert-handler would put its address among the settings.
    found["enableServiceLinks"] = False
    if service.service_account:
        found["serviceAccountName"] = service.service_account
    return found


def resources(service: Service) -> dict[str, Any]:
    """Requests and limits alike, and the GPUs."""
    amounts = {"cpu": service.cpu, "memory": service.memory}
    if service.device == "gpu":
        amounts["nvidia.com/gpu"] = str(service.gpus)
    return {"requests": dict(amounts), "limits": amounts}


def environment(service: Service, **more: str) -> list[dict[str, str]]:
    """Variables of the container: threads for its quota, no model hub."""
    threads = service.threads or max(1, int(quantity(service.cpu)))
    values = {
        # Libraries that count the host's cores instead of the quota are held to it.
        "OMP_NUM_THREADS": str(threads),
        "BERT_HANDLER_THREADS": str(threads),
        "HF_HUB_OFFLINE": "1",
        **({"BERT_HANDLER_ENGINE": service.engine} if service.engine else {}),
        **more,
    }
    return [{"name": name, "value": value} for name, value in values.items()]


def probes(service: Service, ready: str, live: str) -> dict[str, Any]:
    """Readiness and liveness with a start-up budget.

    Knative drops startup probes, so there liveness waits for the budget instead.
    """
    periods = -(-service.startup_s // PROBE_PERIOD_S)
    readiness = {**_get(ready), "periodSeconds": PROBE_PERIOD_S, "timeoutSeconds": 5, "failureThreshold": 3}
    liveness = {**_get(live), "periodSeconds": 10, "timeoutSeconds": 10, "failureThreshold": 6}
    if service.autoscaling == "knative":
        readiness["failureThreshold"] = periods
        return {"readinessProbe": readiness, "livenessProbe": {**liveness, "initialDelaySeconds": service.startup_s}}
    startup = {**_get(ready), "periodSeconds": PROBE_PERIOD_S, "timeoutSeconds": 5, "failureThreshold": periods}
    return {"startupProbe": startup, "readinessProbe": readiness, "livenessProbe": liveness}


def _predictor(service: Service) -> dict[str, Any]:
    if service.host == "kserve":
        from bert_handler.packaging.runtime import MODEL_FORMAT, runtime_name

        model = {
            "modelFormat": {"name": MODEL_FORMAT},
            "runtime": runtime_name(service),
            "protocolVersion": service.protocol,
            "storageUri": service.storage_uri,
            "resources": resources(service),
        }
        return {"model": model}
    container = {
        "protocolVersion": service.protocol,
        "storageUri": service.storage_uri,
        **({"image": service.image} if service.image else {}),
        # Bodies reach the handler as bytes: one JSON parser, not two.
        "env": environment(service, TS_DECODE_INPUT_REQUEST="false"),
        "resources": resources(service),
        **probes(service, f"/v1/models/{service.model}", "/"),
    }
    return {"pytorch": container}


def _annotations(service: Service) -> dict[str, str]:
    found = {}
    if service.autoscaling != "knative":
        found["serving.kserve.io/deploymentMode"] = "RawDeployment"
        found["serving.kserve.io/autoscalerClass"] = service.autoscaling
    if service.scrape:
        found["serving.kserve.io/enable-prometheus-scraping"] = "true"
    return found


def _queue_metric(service: Service) -> dict[str, Any]:
    query = f'sum(bert_handler_queue_rows{{pod=~"{service.name}-predictor-.*"}})'
    source = {"backend": "prometheus", "serverAddress": service.prometheus_url, "query": query}
    target = {"type": "AverageValue", "averageValue": str(service.target)}
    return {"type": "External", "external": {"metric": source, "target": target}}


def _get(path: str) -> dict[str, Any]:
    return {"httpGet": {"path": path, "port": HTTP_PORT}}
