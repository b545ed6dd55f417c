"""What was measured, as tables, JSON and plots."""

from __future__ import annotations

import os
import platform
import statistics
from importlib import metadata
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bert_handler import jsonio
from bert_handler.cpu import cpu_budget
from scripts.benchmark_suite.aims import aims
from scripts.benchmark_suite.offline import QUEUE

GROWTH = {
    "tokens": "one client, by tokens of the text",
    "clients": "natural lengths, by clients",
    "models": "32 clients, by models in one server",
    "cpus": "32 clients, by CPU quota",
}
WIDTH = 120
"""Columns of a table that cuts no name short."""
PERCENTILES = ("p50", "p90", "p99")
PACKAGES = ("torch", "transformers", "tokenizers", "onnxruntime", "openvino", "kserve", "torchserve", "numpy")


def machine() -> dict[str, Any]:
    """Versions, processor and quota."""
    cpuinfo = Path("/proc/cpuinfo").read_text().splitlines()
    flags = next((line for line in cpuinfo if line.startswith("flags")), "").split()
    return {
        "python": platform.python_version(),
        "cpu": next((line.partition(": ")[2] for line in cpuinfo if line.startswith("model name")), "unknown"),
        "instructions": [name for name in ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8") if name in flags],
        "cores": cpu_budget().reason,
        "load_average_at_start": os.getloadavg()[0],
        "versions": {name: metadata.version(name) for name in PACKAGES},
    }


def median(rounds: list[dict[str, Any]], key: str) -> float:
    """The middle of one figure's rounds, of those that have it."""
    return statistics.median(item[key] for item in rounds if key in item)


def write(results: dict[str, Any], output: Path) -> None:
    """Print the tables; write results.json and the plots."""
    console = Console(width=max(Console().width, WIDTH))
    found = aims(results)
    results["ratios"] = [{**aim._asdict(), "reached": aim.reached} for aim in found]
    (output / "results.json").write_bytes(jsonio.dumps(results))
    columns = ("contender", "clients", "req/s", "p50 ms", "p90 ms", "p99 ms", "main thread ms", "padding", "errors")
    table = Table(*columns, title=results["machine"]["cpu"])
    for name, by_clients in results["load"].items():
        for clients, rounds in by_clients.items():
            figures = [f"{median(rounds, key):.1f}" for key in ("rate", *PERCENTILES)]
            figures.append(f"{median(rounds, 'main_thread_ms'):.2f}")
            figures.append(f"{median(rounds, 'padding'):.0%}" if any("padding" in item for item in rounds) else "")
            table.add_row(name, clients, *figures, str(sum(item["errors"] for item in rounds)))
    for name, rounds in results["offline"].items():
        table.add_row(f"offline {name}", "", f"{median(rounds, 'rate'):.1f}", f"{median(rounds, 'p50'):.1f}", *[""] * 5)
        table.add_row(f"scheduler, {name}", str(QUEUE), f"{median(rounds, 'queued'):.1f}", *[""] * 6)
    for name, measured in results["bulk"].items():
        table.add_row(f"bulk {name}", "", f"{median(measured['rates'], 'rate'):.1f}", *[""] * 6)
    console.print(table)
    table = Table("must reach", "measured", "bound", "", title="ratios in this run")
    for aim in found:
        verdict = "[green]pass[/green]" if aim.reached else "[red]falls short[/red]"
        table.add_row(aim.what, f"{aim.value:.2f}", aim.stated, verdict)
    console.print(table)
    plot(results, output)


def write_growth(results: dict[str, Any], output: Path) -> None:
    """Print how cost grows; write growth.json and growth.png."""
    console = Console()
    (output / "growth.json").write_bytes(jsonio.dumps(results))
    for what, figures in results["growth"].items():
        table = Table(what, "req/s", "p50 ms", "p99 ms", "errors", title=GROWTH[what])
        for n, item in figures.items():
            table.add_row(n, f"{item['rate']:.1f}", f"{item['p50']:.1f}", f"{item['p99']:.1f}", str(item["errors"]))
        console.print(table)
    plot_growth(results, output)


def plot_growth(results: dict[str, Any], output: Path) -> None:
    """One panel a variable: latency by tokens, throughput by the others."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(results["growth"]), figsize=(16, 4))
    for panel, (what, figures) in zip(axes, results["growth"].items()):
        key, label = ("p50", "median latency, ms") if what == "tokens" else ("rate", "requests a second")
        numbers = [float(n) for n in figures]
        panel.plot(numbers, [item[key] for item in figures.values()], marker="o")
        panel.set(xlabel=what, ylabel=label, title=GROWTH[what], ylim=(0, None))
        if what in ("tokens", "clients"):
            panel.set_xscale("log", base=2)
    figure.tight_layout()
    figure.savefig(output / "growth.png", dpi=120)
    pyplot.close(figure)


def plot(results: dict[str, Any], output: Path) -> None:
    """Throughput, latency percentiles and the share of padding, against clients."""
    load = results["load"]
    if not load:
        return
    _plot(load, output / "rate.png", {"rate": "requests a second"})
    _plot(load, output / "latency.png", {key: f"{key} latency, ms" for key in PERCENTILES})
    _plot(load, output / "padding.png", {"padding": "padding / all tokens of the batches"})


def _plot(load: dict[str, Any], path: Path, panels: dict[str, str]) -> None:
    """Side by side, a panel a figure with its label; those who do not have the figure are left out."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(panels), figsize=(4 + 4 * len(panels), 5), sharey=True, squeeze=False)
    for panel, (key, label) in zip(axes[0], panels.items()):
        for name, by_clients in load.items():
            counted = {int(n): rounds for n, rounds in by_clients.items() if any(key in item for item in rounds)}
            panel.plot(list(counted), [median(rounds, key) for rounds in counted.values()], marker="o", label=name)
        panel.set(xscale="log", xlabel="clients", ylabel=label)
        if key in PERCENTILES:
            panel.set_yscale("log")
        else:
            panel.set_ylim(0, None)
        panel.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
