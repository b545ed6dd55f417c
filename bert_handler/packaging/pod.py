"""The settings of a pod that serves some archives, on TorchServe within its limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bert_handler.errors import ConfigError
from bert_handler.packaging import sizing
from bert_handler.packaging.names import check_name
from bert_handler.packaging.settings import RegisteredModel, TorchServeSettings
from bert_handler.unpacking import sha256


def pod_settings(
    archives: Sequence[tuple[str | None, Path]],
    cpu: str,
    memory: str,
    *,
    environ: Mapping[str, str] | None = None,
    workers: int | None = None,
    startup_timeout_s: int | None = None,
    registration: dict[str, Any] | None = None,
    **settings: Any,
) -> TorchServeSettings:
    """Register archives by their routes, with the workers that fit; comments say why.

    archives: a route, or None for the archive's own name, and the file.  cpu, memory: limits of the
    pod, shared evenly by the models.  environ: its variables.  registration: fields of every RegisteredModel.
    settings: of TorchServeSettings.  Raises ConfigError where a model does not fit, or two have the same name.
    """
    facts_by_route = _facts_by_route(archives, environ)
    models: dict[str, RegisteredModel] = {}
    comments = []
    n_models, overhead = len(archives), sizing.FRONTEND_BYTES + sizing.WRAPPER_BYTES
    cpus = sizing.quantity(cpu) / n_models
    memory_bytes = (int(sizing.quantity(memory)) - overhead) // n_models + overhead
    for route, facts in facts_by_route.items():
        plan = sizing.plan_workers(facts.weight_bytes, cpus, memory_bytes, workers)
        comments.append(f"{route}: {plan.reason}")
        timeout_s = startup_timeout_s or sizing.startup_s(facts.stored_bytes)
        planned = {"startup_timeout_s": timeout_s, "threads": plan.threads, **(registration or {})}
        models[route] = RegisteredModel(facts.archive, facts.version, plan.workers, **planned)
    n_workers = sum(model.workers for model in models.values())
    if n_workers > 1 and round(sizing.quantity(cpu)) > 1:
        # Each of them would take all cores for its own, and rounds a quota to whole ones.
        threads = sizing.threads_each(sizing.quantity(cpu), n_workers)
        comments.append(f"set BERT_HANDLER_THREADS={threads} in the pod, so that {n_workers} workers share its cores")
    return TorchServeSettings(models, comments=tuple(comments), **settings)


def store_settings(archives: Sequence[tuple[str | None, Path]]) -> TorchServeSettings:
    """Name archives by their routes; the KServe host reads nothing else.  Raises as `pod_settings`."""
    facts_by_route = _facts_by_route(archives)
    return TorchServeSettings(
        {route: RegisteredModel(facts.archive, facts.version) for route, facts in facts_by_route.items()}
    )


def _facts_by_route(
    archives: Sequence[tuple[str | None, Path]], environ: Mapping[str, str] | None = None
) -> dict[str, sizing.ModelFacts]:
    found: dict[str, sizing.ModelFacts] = {}
    paths: dict[str, Path] = {}
    for given, path in archives:
        facts = sizing.ModelFacts.of_archive(path, environ)
        route = facts.name if given is None else given
        check_name("route", route)
        if route in found:
            raise ConfigError(f"two archives for the route {route!r}; give them names: ROUTE=PATH")
        other = paths.setdefault(path.name, path)
        if other != path and sha256(other) != sha256(path):
            raise ConfigError(f"{other} and {path} would be one file of the model store; rename one of them")
        found[route] = facts
    return found
