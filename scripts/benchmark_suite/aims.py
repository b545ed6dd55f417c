"""The ratios that must be reached, each of figures that were measured one after the other.

A shared machine drifts by a tenth within minutes: a ratio is taken in each round, and its median counts.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

FP32 = ("torch", "onnx", "openvino")
INT8 = ("onnx int8", "openvino int8")

Rounds = Sequence[dict[str, Any]]


class Aim(NamedTuple):
    """What must be reached.  at_least: `bound` is the lowest value, else the highest."""

    what: str
    value: float
    bound: float
    at_least: bool = True

    @property
    def reached(self) -> bool:
        return self.value >= self.bound if self.at_least else self.value <= self.bound

    @property
    def stated(self) -> str:
        """The bound as it is shown."""
        return f"{'>=' if self.at_least else '<='} {self.bound:g}"


def paired(left: Rounds, right: Rounds, key: str = "rate") -> float:
    """The median of a figure's ratios, round by round."""
    return statistics.median(mine[key] / other[key] for mine, other in zip(left, right))


def aims(results: dict[str, Any]) -> list[Aim]:
    """Those that this run can tell."""
    return [
        *_throughput(results),
        *(aim for name in (*FP32, *INT8) for aim in _latency(results, name)),
        *(
            Aim(f"bulk, {name} / its limit", paired(found["rates"], found["limits"]), 0.95)
            for name, found in results["bulk"].items()
        ),
        *_servers(results),
    ]


def _load(results: dict[str, Any], server: str, clients: str = "32") -> Rounds:
    found: Rounds = results["load"].get(server, {}).get(clients, [])
    return found


def _throughput(results: dict[str, Any]) -> Iterator[Aim]:
    limits, padded = results["offline"], _load(results, "torchserve padded")
    for names, of_limit, of_padded in ((FP32, 0.90, 7), (INT8, 0.85, 10)):
        served = {name: own for name in names if (own := _load(results, f"kserve {name}"))}
        # The engine that serves most is the best.
        name = max(served, key=lambda name: statistics.median(item["rate"] for item in served[name]), default="")
        own = served.get(name, [])
        if own:
            yield Aim(f"KServe host, 32 clients, {name} / its limit", paired(own, limits[name]), of_limit)
        if own and padded:
            yield Aim(f"KServe host, 32 clients, {name} / padded row by row", paired(own, padded), of_padded)
    for name in limits:
        own = _load(results, f"torchserve {name}")
        if own:
            yield Aim(f"TorchServe host, 32 clients, {name} / its limit", paired(own, limits[name]), 0.70)


def _latency(results: dict[str, Any], name: str) -> Iterator[Aim]:
    lone, many = _load(results, f"kserve {name}", "1"), _load(results, f"kserve {name}")
    other = _load(results, f"torchserve {name}", "1")
    if lone:
        value = paired(lone, results["offline"][name], "p50")
        yield Aim(f"KServe host, one client, p50 / bare {name}", value, 1.25, at_least=False)
    if many:
        value = statistics.median(item["p99"] / item["p50"] for item in many)
        yield Aim(f"KServe host, 32 clients, {name}, p99 / p50", value, 3, at_least=False)
    if lone and other:
        value = statistics.median(item["p50"] - mine["p50"] for item, mine in zip(other, lone))
        yield Aim(f"TorchServe host over KServe host, one client, {name}, ms", value, 8, at_least=False)


def _servers(results: dict[str, Any]) -> Iterator[Aim]:
    for name, figures in results["servers"].items():
        yield Aim(f"{name}, memory / allowed", figures["memory_mb"] / figures["allowed_mb"], 1.0, at_least=False)
        yield Aim(f"{name}, start / bare start", figures["ready_over_bare"], 1.5, at_least=False)
