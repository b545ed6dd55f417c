"""The KServe host as a ServingRuntime, and as an explainer: the image of scripts/Dockerfile."""

from __future__ import annotations

import shlex
from typing import Any

from bert_handler.packaging.containers import environment, metadata, probes, resources, scaling
from bert_handler.packaging.service import Service
from bert_handler.packaging.settings import MODELS
from bert_handler.packaging.sizing import mib, scratch_bytes
from bert_handler.server import GRPC_PORT, HTTP_PORT

MODEL_FORMAT = "bert-handler"
SERVE = ("serve", MODELS, "--host", "0.0.0.0", "--http-port", str(HTTP_PORT), "--grpc-port", str(GRPC_PORT))  # noqa: S104
SECURITY = {
    "runAsNonRoot": True,
    "readOnlyRootFilesystem": True,
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}
"""The image says which user: OpenShift gives each namespace user ids of its own, and refuses pods that name another."""


def runtime_name(service: Service) -> str:
    """The runtime of a service is its own: threads and budgets follow its model and limits."""
    return f"{service.name}-runtime"


def serving_runtime(service: Service) -> dict[str, Any]:
    """The ServingRuntime that the service's model names."""
    scraped = {"prometheus.kserve.io/port": str(HTTP_PORT), "prometheus.kserve.io/path": "/metrics"}
    spec = {
        **({"annotations": scraped} if service.scrape else {}),
        "supportedModelFormats": [{"name": MODEL_FORMAT, "version": "1", "autoSelect": False}],
        "protocolVersions": ["v1", "v2", "grpc-v2"],
        "containers": [_container(service, {"args": list(SERVE)})],
        "volumes": [_scratch(service)],
    }
    return {
        "apiVersion": "serving.kserve.io/v1alpha1",
        "kind": "ServingRuntime",
        "metadata": metadata(service, runtime_name(service), {}),
        "spec": spec,
    }


def explainer(service: Service) -> dict[str, Any]:
    """The same image for the explain route, scaled by itself: an explanation costs dozens of forwards."""
    # KServe appends --model_name, --predictor_host and more to an explainer's arguments; a shell leaves them alone.
    start = {"command": ["sh", "-c", f"exec bert-handler {shlex.join(SERVE)}"]}
    container = _container(service, start, STORAGE_URI=service.storage_uri)
    found = {**scaling(service), "containers": [container], "volumes": [_scratch(service)]}
    return {name: value for name, value in found.items() if name != "canaryTrafficPercent"}


def _container(service: Service, start: dict[str, list[str]], **variables: str) -> dict[str, Any]:
    port = (GRPC_PORT, "h2c") if service.protocol == "grpc-v2" else (HTTP_PORT, "http1")
    return {
        "name": "kserve-container",
        "image": service.runtime_image,
        **start,
        "env": environment(service, HOME="/tmp", TMPDIR="/tmp", **variables),  # noqa: S108
        "ports": [{"containerPort": port[0], "name": port[1], "protocol": "TCP"}],
        "resources": resources(service),
        "securityContext": {**SECURITY},
        "volumeMounts": [{"name": "scratch", "mountPath": "/tmp"}],  # noqa: S108
        **probes(service, "/v2/health/ready", "/v2/health/live"),
    }


def _scratch(service: Service) -> dict[str, Any]:
    # Archives are unpacked here; the root file system is read-only.
    known = service.stored_bytes
    return {"name": "scratch", "emptyDir": {} if known is None else {"sizeLimit": mib(scratch_bytes(known))}}
