"""What a model needs of a pod: worker processes, threads, memory, time to start.

The constants are resident memory and seconds measured with TorchServe 0.12, Python 3.11 and torch
2.13 on two cores, rounded up; `scripts/cpu_timeout` and the benchmark repeat the measurements.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, inf
from pathlib import Path

from bert_handler.artifact import MANIFEST, stated_identity
from bert_handler.cpu import CORES_PER_PROCESS
from bert_handler.errors import ArchiveError, ConfigError
from bert_handler.packaging import weights
from bert_handler.unpacking import DAMAGE, refuse_tar

MIB = 2**20
FRONTEND_BYTES = 384 * MIB
"""TorchServe's Java process: 190 MiB idle, more with requests in its queue."""
WRAPPER_BYTES = 160 * MIB
"""KServe's Python process in the pod of the stock runtime."""
WORKER_BYTES = 480 * MIB
"""A worker before its weights: Python, torch, transformers, activations of one micro-batch."""
WEIGHTS_FACTOR = 1.3
"""Resident bytes a byte of weights: they are read, converted and shared out once."""

SCRATCH_BYTES = 256 * MIB
"""Of temporary files beside the unpacked archives."""

CPU, MEMORY, GPU_MEMORY = "1", "2Gi", "4Gi"
"""Of a pod where none is given; `default_memory` gives a large model more."""

START_S = 120
"""Imports and the self-test on one throttled CPU (measured: 20 s on two busy ones), with reserve."""
READ_BYTES_PER_S = 10 * MIB
"""Unpacking, checking and loading from a slow volume."""

_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50, "Ei": 2**60}
_QUANTITY = re.compile(rf"\+?([0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE]([+-]?[0-9]+)|({'|'.join((*_DECIMAL, *_BINARY))}))")


@dataclass(frozen=True)
class ModelFacts:
    """An archive from outside: its file's name, the manifest's identity, bytes of weights.

    weight_bytes: of what is loaded.  stored_bytes: of all that is unpacked and checked.
    """

    archive: str
    name: str
    version: str
    weight_bytes: int
    stored_bytes: int

    @classmethod
    def of_archive(cls, path: Path, environ: Mapping[str, str] | None = None) -> ModelFacts:
        """Read a .mar without unpacking it.  Raises ArchiveError when it is none, ConfigError on wrong settings.

        environ: variables of the container, whose settings are above the archive's; default: none.
        """
        try:
            with zipfile.ZipFile(path) as mar:
                named = stated_identity(mar.read(MANIFEST))
                loaded, stored = weights.loaded_bytes(mar, environ or {}), weights.stored_bytes(mar)
            return cls(path.name, named.name, named.version, loaded, stored)
        except ArchiveError as exc:
            raise ArchiveError(f"{path}: {exc}") from exc
        except OSError as exc:
            raise ArchiveError(f"{path} cannot be read: {exc.strerror or exc}") from exc
        except LookupError as exc:
            refuse_tar(path)
            raise ArchiveError(f"{path} is no .mar archive: it has no {MANIFEST}") from exc
        except DAMAGE as exc:
            refuse_tar(path)
            raise ArchiveError(f"{path} is no .mar archive, or damaged: {exc}") from exc


@dataclass(frozen=True)
class WorkerPlan:
    """Worker processes of one pod, threads of each, and why."""

    workers: int
    threads: int
    reason: str


def plan_workers(weight_bytes: int, cpus: float, memory_bytes: int, workers: int | None = None) -> WorkerPlan:
    """Fit TorchServe's workers into a pod's limits: as many as use its cores, if the memory has room.

    workers: a wish, which is checked instead.  Raises ConfigError where the memory is too small,
    since TorchServe would show that as workers that die for ever.
    """
    each = worker_bytes(weight_bytes)
    room = max(0, memory_bytes - FRONTEND_BYTES - WRAPPER_BYTES)
    fit = room // each
    if fit < (workers or 1):
        needed = (workers or 1) * each + FRONTEND_BYTES + WRAPPER_BYTES
        raise ConfigError(
            f"{workers or 1} worker(s) of {mib(each)} do not fit a memory limit of {mib(memory_bytes)}, "
            f"of which TorchServe takes {mib(FRONTEND_BYTES + WRAPPER_BYTES)}; give at least --memory {mib(needed)}"
        )
    cores = max(1, int(cpus))
    count = workers or min(fit, ceil(cores / CORES_PER_PROCESS))
    return WorkerPlan(
        count,
        threads_each(cpus, count),
        f"{count} of {fit} worker(s) that fit: {mib(memory_bytes)} less {mib(FRONTEND_BYTES + WRAPPER_BYTES)} for "
        f"TorchServe, {mib(each)} each for {mib(weight_bytes)} of weights; {cpus:g} CPU(s)",
    )


def threads_each(cpus: float, n_workers: int) -> int:
    """Threads of each of the workers that share a pod's CPUs, one at least."""
    return max(1, int(cpus) // n_workers)


def worker_bytes(weight_bytes: int) -> int:
    """Resident bytes of a process with the model loaded."""
    return WORKER_BYTES + int(WEIGHTS_FACTOR * weight_bytes)


def default_memory(host: str, device: str, weight_bytes: int = 0) -> str:
    """Memory of a pod where none is given: MEMORY, GPU_MEMORY with a GPU, more where the model needs it."""
    return max(GPU_MEMORY if device == "gpu" else MEMORY, mib(_pod_bytes(host, weight_bytes)), key=quantity)


def check_memory(host: str, memory: str, weight_bytes: int) -> None:
    """Refuse with ConfigError a memory limit that the model does not fit: the pod would be killed for ever."""
    needed = _pod_bytes(host, weight_bytes)
    if quantity(memory) < needed:
        raise ConfigError(
            f"a model with {mib(weight_bytes)} of weights does not fit a memory limit of {memory}; "
            f"give at least --memory {mib(needed)}"
        )


def _pod_bytes(host: str, weight_bytes: int) -> int:
    # The KServe host is one process, without a frontend or a wrapper beside it.
    beside = FRONTEND_BYTES + WRAPPER_BYTES if host == "torchserve" else 0
    return beside + worker_bytes(weight_bytes)


def startup_s(stored_bytes: int) -> int:
    """Seconds that loading may take before something is wrong, in whole half minutes."""
    return 30 * ceil((START_S + stored_bytes / READ_BYTES_PER_S) / 30)


def scratch_bytes(stored_bytes: int) -> int:
    """Bytes that a pod may write to its temporary files: the archive unpacked, and its successor beside it."""
    return SCRATCH_BYTES + 2 * stored_bytes


def quantity(text: str) -> float:
    """Read a Kubernetes quantity: 500m, 2, 2Gi, 1500M, 4e9.  Raises ConfigError when it is none, or is zero."""
    found = _QUANTITY.fullmatch(text)
    value = _value(*found.groups()) if found else 0.0
    if not 0 < value < inf:
        raise ConfigError(f"{text!r} is no quantity; give one like 500m, 2, 2Gi or 1500M")
    return value


def _value(number: str, exponent: str | None, unit: str | None) -> float:
    if unit in _BINARY:
        return float(number) * _BINARY[unit]
    return float(f"{number}e{exponent or _DECIMAL[unit or '']}")


def mib(n_bytes: float) -> str:
    """Bytes as a Kubernetes quantity in Mi, rounded up."""
    return f"{ceil(n_bytes / MIB)}Mi"
