"""`bert-handler doctor`: what is installed, what would be used, and why."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from importlib import metadata
from typing import List, Tuple

from rich.console import Console
from rich.table import Table

PACKAGES = (
    "torch",
    "transformers",
    "tokenizers",
    "torchserve",
    "kserve",
    "captum",
    "onnxruntime",
    "openvino",
    "orjson",
)


def doctor() -> None:
    """Print versions, the CPU budget, GPU and Java.

    Example: bert-handler doctor
    """
    table = Table("what", "found", title="bert-handler doctor")
    for what, found in _findings():
        table.add_row(what, found)
    Console().print(table)


def _findings() -> Iterator[Tuple[str, str]]:
    from bert_handler.cpu import cpu_budget

    yield "python", f"{platform.python_version()}{_unoptimised()}"
    for package in PACKAGES:
        yield package, _installed(package)
    budget = cpu_budget()
    yield "cores to compute on", f"{budget.cores}: {budget.reason}"
    yield from (("gpu", found) for found in _gpus())
    yield "java (TorchServe)", _java()


def _unoptimised() -> str:
    """What to do where Python was built from its source without profile-guided optimisation, as pyenv does.

    A distribution's own Python does not state how it was built.
    """
    options = sysconfig.get_config_var("CONFIG_ARGS")
    if not options or "--enable-optimizations" in options or sys.base_prefix == "/usr":
        return ""
    return ", built without --enable-optimizations: the python images and distributions have a faster one"


def _installed(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _gpus() -> List[str]:
    try:
        import torch
    except ImportError:
        return ["unknown: torch is not installed"]
    if not torch.backends.cuda.is_built():
        return ["none: this torch is built without CUDA, models run on the CPU"]
    found = [f"cuda:{index}: {torch.cuda.get_device_name(index)}" for index in range(torch.cuda.device_count())]
    return found or ["none: models run on the CPU"]


def _java() -> str:
    java = shutil.which("java")
    if java is None:
        return "not found: apt-get install openjdk-17-jre-headless"
    result = subprocess.run([java, "-version"], capture_output=True, text=True, check=False)
    return (result.stderr.splitlines() or ["unknown"])[0]
