"""What the pods of both hosts have in common: metadata, replicas, resources, variables, probes.

Knative scales on concurrency or requests, a plain Deployment on CPU or memory (HPA) or on the rows that wait
in the KServe host's scheduler (KEDA).  Start-up has a budget of its own everywhere: probes that give up while
a model loads are the commonest way for a pod to restart for ever.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bert_handler.packaging.service import Service
from bert_handler.packaging.sizing import quantity
from bert_handler.server import HTTP_PORT

PROBE_PERIOD_S = 5


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
    if service.autoscaling == "knative":
        # Knative gives a revision ten minutes by default, and gives up silently after them.
        found["annotations"] = {"serving.knative.dev/progress-deadline": f"{max(600, 2 * service.startup_s)}s"}
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


def _queue_metric(service: Service) -> dict[str, Any]:
    labels = f'pod=~"{service.name}-predictor-.*"'
    if service.namespace:
        # Prometheus may see services of that name in other namespaces, too.
        labels = f'namespace="{service.namespace}",{labels}'
    query = f"sum(bert_handler_queue_rows{{{labels}}})"
    source = {"backend": "prometheus", "serverAddress": service.prometheus_url, "query": query}
    # KServe refuses an external metric without `value`; KEDA, to which it is the threshold, divides by the replicas.
    target = {"type": "Value", "value": str(service.target)}
    return {"type": "External", "external": {"metric": source, "target": target}}


def _get(path: str) -> dict[str, Any]:
    return {"httpGet": {"path": path, "port": HTTP_PORT}}
