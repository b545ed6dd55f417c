"""TorchServe's config.properties, from the pod's defaults to one local server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bert_handler import jsonio
from bert_handler.addresses import authority
from bert_handler.deadlines import RESPONSE_TIMEOUT_S
from bert_handler.errors import ConfigError
from bert_handler.packaging.properties import decode_properties, properties_text, read_properties
from bert_handler.server import DEFAULT_BODY_BYTES

CONFIG = "config.properties"
POD_CONFIG, STORE = f"config/{CONFIG}", "model-store"
"""On the volume of a pod: its settings, and the folder of its archives."""
MODELS = "/mnt/models"
"""Where a pod sees its volume."""
BATCH_SIZE = 32
"""A worker answers one batch after the other: with 8, its cores wait a fifth of the time for the next one."""
BATCH_DELAY_MS = 3
"""With none, TorchServe hands over one request at a time."""


@dataclass(frozen=True)
class RegisteredModel:
    """One entry of `model_snapshot`.

    max_batch_delay_ms: TorchServe waits this long for a batch to fill, also when it is idle.
    response_timeout_s: of one batch, after which TorchServe ends the worker: more than the setting
        request_timeout_s, at which the handler answers itself.
    startup_timeout_s: for loading alone; without it loading shares response_timeout_s.
    threads: of each worker, where they are planned; the pod's environment gives them, not the entry.
    """

    archive: str
    version: str = "1.0"
    workers: int = 1
    batch_size: int = BATCH_SIZE
    max_batch_delay_ms: int = BATCH_DELAY_MS
    response_timeout_s: int = RESPONSE_TIMEOUT_S
    startup_timeout_s: int = 600
    threads: int | None = None

    def snapshot(self) -> Mapping[str, object]:
        """The entry as TorchServe reads it."""
        return {
            "defaultVersion": True,
            "marName": self.archive,
            "minWorkers": self.workers,
            "maxWorkers": self.workers,
            "batchSize": self.batch_size,
            "maxBatchDelay": self.max_batch_delay_ms,
            "responseTimeout": self.response_timeout_s,
            "startupTimeout": self.startup_timeout_s,
        }


@dataclass(frozen=True)
class TorchServeSettings:
    """What config.properties says.  The defaults are the pod's of the KServe runtime.

    extra: further properties.  comments: lines at the top that say why.
    """

    models: Mapping[str, RegisteredModel]
    model_store: str = f"{MODELS}/{STORE}"
    host: str = "0.0.0.0"  # noqa: S104  (inside the pod; local servers pass 127.0.0.1)
    inference_port: int = 8085
    metrics_port: int = 8082
    grpc_inference_port: int = 7070
    grpc_management_port: int = 7071
    token_authorization: bool = False
    job_queue_size: int = 1000
    max_request_bytes: int = DEFAULT_BODY_BYTES
    netty_threads: int = 1
    extra: Mapping[str, str] = field(default_factory=dict)
    comments: Sequence[str] = ()

    def text(self) -> str:
        """The content of config.properties."""
        models = {name: {model.version: model.snapshot()} for name, model in self.models.items()}
        snapshot = {"name": "startup.cfg", "modelCount": len(models), "models": models}
        address = f"http://{authority(self.host, self.inference_port)}"
        lines = {
            "inference_address": address,
            "management_address": address,
            "metrics_address": f"http://{authority(self.host, self.metrics_port)}",
            "grpc_inference_address": self.host,
            "grpc_management_address": self.host,
            "grpc_inference_port": self.grpc_inference_port,
            "grpc_management_port": self.grpc_management_port,
            "enable_metrics_api": "true",
            "metrics_format": "prometheus",
            "metrics_mode": "prometheus",
            "model_metrics_auto_detect": "true",
            "number_of_netty_threads": self.netty_threads,
            "netty_client_threads": self.netty_threads,
            "job_queue_size": self.job_queue_size,
            "max_request_size": self.max_request_bytes,
            "max_response_size": self.max_request_bytes,
            "enable_envvars_config": "true",
            "install_py_dep_per_model": "false",
            "disable_token_authorization": "false" if self.token_authorization else "true",
            "model_store": self.model_store,
            **self.extra,
            "model_snapshot": jsonio.dumps(snapshot).decode(),
        }
        notes = "".join(f"# {comment}\n" for comment in self.comments)
        return notes + properties_text(lines)


@dataclass(frozen=True)
class WrittenSettings:
    """A config.properties written before, with some of its properties changed for this machine."""

    properties: Mapping[str, str]

    @classmethod
    def read(cls, path: Path, host: str, ports: Mapping[str, int], model_store: Path) -> WrittenSettings:
        """Read a pod's settings and move them to local addresses.

        ports: by `inference`, `metrics`, `grpc_inference` and `grpc_management`.
        """
        address = f"http://{authority(host, ports['inference'])}"
        return cls(
            {
                **read_properties(path),
                "inference_address": address,
                "management_address": address,
                "metrics_address": f"http://{authority(host, ports['metrics'])}",
                "grpc_inference_address": host,
                "grpc_management_address": host,
                "grpc_inference_port": str(ports["grpc_inference"]),
                "grpc_management_port": str(ports["grpc_management"]),
                "model_store": str(model_store),
            }
        )

    @property
    def model_store(self) -> str:
        """Where the archives lie."""
        return self.properties["model_store"]

    @property
    def token_authorization(self) -> bool:
        """Whether callers need a key; TorchServe's own default is yes."""
        return self.properties.get("disable_token_authorization") != "true"

    def text(self) -> str:
        """The content of config.properties."""
        return properties_text(self.properties)


def stated_models(properties: Mapping[str, str]) -> Mapping[str, Mapping[str, Mapping[str, Any]]]:
    """What is stated of each model, by its name in the routes and its version: in the snapshot, else in `models`.

    Raises ConfigError where no model is named so, or one of them otherwise.
    """
    key = "models" if "models" in properties and "model_snapshot" not in properties else "model_snapshot"
    problem = ConfigError(f'{key} does not name models as TorchServe does (models={{"name": {{"version": {{...}}}}}})')
    try:
        stated = jsonio.loads(properties[key])
        models = stated["models"] if key == "model_snapshot" else stated
        found = {
            route: {version: dict(entry) for version, entry in own.items()} for route, own in models.items() if own
        }
    except (KeyError, ValueError, TypeError, AttributeError) as exc:
        raise problem from exc
    if not found:
        raise problem
    return found


def stated_workers(content: bytes) -> int | None:
    """Worker processes that a config.properties starts for all its models; None where it does not say how many."""
    try:
        models = stated_models(decode_properties(content))
        return sum(int(entry["minWorkers"]) for versions in models.values() for entry in versions.values()) or None
    except (ConfigError, KeyError, ValueError, TypeError, OverflowError):
        return None


def stated_routes(content: bytes) -> list[str]:
    """Routes of the models that a config.properties registers; none where it does not say which."""
    try:
        return list(stated_models(decode_properties(content)))
    except ConfigError:
        return []
