"""InferenceService manifests: KServe's TorchServe predictor, or the KServe host with its runtime."""

from __future__ import annotations

from typing import Any

from bert_handler.packaging.containers import environment, metadata, probes, resources, scaling
from bert_handler.packaging.objects import render_objects
from bert_handler.packaging.runtime import MODEL_FORMAT, explainer, runtime_name, serving_runtime
from bert_handler.packaging.service import Service


def documents(service: Service) -> list[dict[str, Any]]:
    """The objects to apply, in their order."""
    if service.host == "torchserve":
        return [inference_service(service)]
    return [serving_runtime(service), inference_service(service)]


def render(service: Service) -> str:
    """The manifest as YAML."""
    return render_objects(documents(service))


def inference_service(service: Service) -> dict[str, Any]:
    """The InferenceService: predictor, and explainer where one is asked for."""
    spec = {"predictor": {**scaling(service), **_predictor(service)}}
    if service.explainer:
        spec["explainer"] = explainer(service)
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": metadata(service, service.name, _annotations(service)),
        "spec": spec,
    }


def _predictor(service: Service) -> dict[str, Any]:
    if service.host == "kserve":
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
    # Without one, the cluster's default decides; and KServe refuses another name than it has in its status.
    found = {"serving.kserve.io/deploymentMode": service.deployment_mode}
    if service.autoscaling != "knative":
        found["serving.kserve.io/autoscalerClass"] = service.autoscaling
    if service.scrape:
        found["serving.kserve.io/enable-prometheus-scraping"] = "true"
    return found
