"""How many replicas a load takes, from measured figures: no model of queues, what was seen.

A figure is one replica under growing load. Tokens and a costlier model stretch its latencies and
shrink its throughput alike, which holds as long as the forward dominates (from about ten tokens on).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, isfinite
from pathlib import Path
from typing import Any

from bert_handler import jsonio
from bert_handler.errors import ConfigError

FIGURES = "figures.json"
HEADROOM = 0.75
"""Share of the measured throughput to plan with: loads are uneven, and a replica may be restarting."""


@dataclass(frozen=True)
class Capacity:
    """Replicas for a load, and what one of them is planned to do.

    concurrency: requests in flight in one replica at that load, for the autoscaler.
    """

    replicas: int
    cores: int
    requests_per_s: float
    p95_ms: float
    concurrency: int


def plan_capacity(
    figures: Mapping[str, Any], requests_per_s: float, p95_ms: float, tokens: float, cost: float = 1.0
) -> Capacity:
    """Choose the highest measured load that keeps the latency, and divide the traffic by it.

    cost: of one forward of the model against the demo's of the figures (BERT-base: 6).
    Raises ConfigError when no load keeps it, with the latency that can be kept.
    """
    if not all(map(isfinite, (requests_per_s, p95_ms, tokens, cost))):
        raise ConfigError("rps, p95, tokens and cost must be finite numbers")
    stretch = cost * tokens / float(figures["tokens"])
    loads = sorted(figures["loads"], key=lambda load: float(load["requests_per_s"]))
    kept = [load for load in loads if load["p95_ms"] * stretch <= p95_ms]
    if not kept:
        best = min(load["p95_ms"] for load in loads) * stretch
        raise ConfigError(
            f"p95 of {p95_ms:g} ms cannot be kept: {best:.0f} ms is the least that one replica of "
            f"{figures['cores']} core(s) reaches; use int8, a faster engine, shorter texts or a GPU"
        )
    chosen = kept[-1]
    each = HEADROOM * chosen["requests_per_s"] / stretch
    replicas = max(1, ceil(requests_per_s / each))
    cores = replicas * int(figures["cores"])
    return Capacity(replicas, cores, each, chosen["p95_ms"] * stretch, int(chosen["clients"]))


def read_figures(path: Path | None = None) -> Mapping[str, Any]:
    """Read a figures file; default: the one that the package brings.  ConfigError when it is none."""
    path = path or _own()
    try:
        figures: Mapping[str, Any] = jsonio.loads(path.read_bytes())
        if not figures["loads"] or not figures["tokens"] or not figures["cores"]:
            raise ConfigError(f"{path} has no loads")
        return figures
    except OSError as exc:
        raise ConfigError(f"{path} cannot be read: {exc.strerror or exc}") from exc
    except (ValueError, KeyError, TypeError) as exc:
        raise ConfigError(f"{path} is no figures file; scripts/cpu_timeout figures writes one") from exc


def milliseconds(text: str) -> float:
    """Read a duration: 100ms, 0.5s, or milliseconds without a unit.  ConfigError when it is none."""
    number, factor = (text[:-2], 1.0) if text.endswith("ms") else (text.removesuffix("s"), 1000.0)
    try:
        value = float(number) * (factor if text.endswith("s") else 1.0)
    except ValueError as exc:
        raise ConfigError(f"{text!r} is no duration; give one like 100ms or 0.5s") from exc
    if not value > 0:
        raise ConfigError(f"{text!r} is no duration above zero")
    return value


def _own() -> Path:
    package = Path(__file__).parents[1]
    # Installed, the samples are a data package; in a checkout they lie beside the package.
    candidates = (package / "setup_config" / FIGURES, package.parent / "setup_config" / FIGURES)
    return next((path for path in candidates if path.is_file()), candidates[0])
