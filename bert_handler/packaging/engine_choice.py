"""Export a model for the engines that are installed, check and measure them, and keep one."""

from __future__ import annotations

import logging
import shutil
import statistics
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from bert_handler.artifact import Artifact
from bert_handler.cpu import cpu_budget
from bert_handler.engines import engine_class
from bert_handler.engines.base import Engine, collate
from bert_handler.engines.torch_engine import TorchEngine
from bert_handler.errors import BertHandlerError, ConfigError
from bert_handler.exported import ENGINE_FILE, WEIGHTS, Exported, graph_files
from bert_handler.packaging.export import export, fuse, standardize
from bert_handler.packaging.int8 import dequantized_products, integer_products
from bert_handler.packaging.parity import TOLERANCE, Outputs, greatest_difference, token_mask
from bert_handler.packaging.quantization import KEPT_SHARES, Calibrated
from bert_handler.packaging.samples import default_instances, encode, mixed
from bert_handler.schema import Instance
from bert_handler.tasks.base import Task

logger = logging.getLogger(__name__)

AGREEMENT = 0.985
SAME_DIRECTION = 0.99
MIN_CALIBRATION = 32
PACKAGES = {"torch": "torch", "onnx": "onnxruntime", "openvino": "openvino"}


@dataclass(frozen=True)
class EngineRequest:
    """The engine that an archive shall carry, or `auto`, and the quantization of its weights."""

    engine: str
    quantization: str = "none"


@dataclass(frozen=True)
class Measured:
    """One engine on the sample texts.

    difference: of its outputs from torch eager.  agreement: share of equal answers.
    rate: sequences a second with one forward a core.  latency_ms: median of a lone sequence.
    problem: why it may not be chosen; empty where it may.
    """

    engine: str
    quantization: str
    difference: float = 0.0
    agreement: float = 1.0
    rate: float = 0.0
    latency_ms: float = 0.0
    problem: str = ""
    chosen: bool = False


def choose(
    stage: Path,
    scratch: Path,
    task: Task,
    request: EngineRequest,
    calibration: Sequence[Instance] | None,
) -> list[Measured]:
    """Put the wanted engine's graph into `stage`, or with `auto` the fastest that answers as torch does.

    calibration: texts or JSON instances of the model's own domain; int8 needs them.
    Returns what was measured.  Raises ConfigError where the wanted engine cannot answer as torch does.
    """
    engine, quantization = request.engine, request.quantization
    reason = _torch_alone(task)
    if reason:
        if engine in {"torch", "auto"} and quantization == "none":
            return [Measured("torch", "none", chosen=True)]
        raise ConfigError(f"engine={engine!r} with quantization={quantization!r}: {reason}")
    if quantization == "int8" and (calibration is None or len(calibration) < MIN_CALIBRATION):
        raise ConfigError(
            f"quantization=int8 is calibrated and checked on texts of your own; give --calibration FILE "
            f"with at least {MIN_CALIBRATION} lines"
        )
    trial = Trial(stage, task, calibration, scratch)
    results = [trial.measure(name, kind) for name, kind in _candidates(engine, quantization, calibration)]
    usable = [result for result in results if not result.problem]
    wanted = [result for result in usable if engine in {result.engine, "auto"} and _fits(result, quantization, engine)]
    if not wanted:
        problems = "; ".join(f"{row.engine} {row.quantization}: {row.problem}" for row in results if row.problem)
        missing = f"none of the installed engines can be {quantization}; install onnxruntime or openvino"
        raise ConfigError(f"engine={engine!r} with quantization={quantization!r}: {problems or missing}")
    best = max(wanted, key=lambda result: result.rate)
    trial.keep(best)
    return [replace(result, chosen=result is best) for result in results]


def _torch_alone(task: Task) -> str:
    """Why no exported graph may be chosen; empty where one may."""
    config = task.model.config
    if task.needs_generation:
        return f"{task.name} runs on the torch engine only: the exported graphs do not generate"
    if config.device not in (None, "cpu"):
        return f"the settings say device={config.device!r}, and exported graphs run on the CPU; take one of them out"
    if config.compile:
        return "the settings say compile, which is for the torch engine; take one of them out"
    return ""


def _candidates(engine: str, quantization: str, calibration: Sequence[Instance] | None) -> list[tuple[str, str]]:
    if engine != "auto":
        return [("torch", "none"), *([(engine, quantization)] if engine != "torch" else [])]
    every = [("torch", "none"), ("onnx", "none"), ("openvino", "none")]
    if calibration is not None and len(calibration) >= MIN_CALIBRATION:
        every += [("onnx", "int8"), ("openvino", "int8")]
    return [(name, kind) for name, kind in every if find_spec(PACKAGES[name])]


def _fits(result: Measured, quantization: str, engine: str) -> bool:
    return result.quantization == quantization or (engine == "auto" and quantization == "none")


class Trial:
    """Exports, loads, checks and times candidates on one set of samples."""

    def __init__(self, stage: Path, task: Task, calibration: Sequence[Instance] | None, scratch: Path) -> None:
        self._stage = stage
        self._task = task
        self._scratch = scratch
        self._artifact = Artifact.of_directory(stage)
        self._cores = cpu_budget(task.model.config.threads).cores
        instances = list(calibration) if calibration else default_instances(task)
        # Ranges are calibrated on one half and answers are compared on the other.
        self._samples = encode(task, instances[1::2] if len(instances) >= MIN_CALIBRATION else instances)
        self._calibration = encode(task, instances[::2])
        self._mixed = mixed(task, self._samples)
        # The exported graphs are in fp32, whatever the torch engine is to run in.
        self._config = replace(task.model.config, dtype="float32")
        self._torch = TorchEngine.load(self._artifact, task, self._config, "cpu")
        # Of two lengths where any row is padded: by chance, an output may be as wide as one batch is long.
        shortest = min(self._samples.rows, key=lambda row: row.length)
        self._compared_on = [*self._samples.batches, collate([shortest], {})]
        self._expected = [self._torch.forward(batch, self._cores) for batch in self._compared_on]
        self._padded: dict[str, str] = {}
        self._calibrated: dict[str, Calibrated] = {}

    def measure(self, engine: str, quantization: str) -> Measured:
        """Check and time one candidate; a failure of its own is its `problem`.

        int8 keeps as little in fp32 as its answers allow.
        """
        for kept_share in KEPT_SHARES if quantization == "int8" else (0.0,):
            measured = self._measure(engine, quantization, kept_share)
            if not measured.problem:
                break
        return measured

    def _measure(self, engine: str, quantization: str, kept_share: float) -> Measured:
        try:
            return self._compared(engine, quantization, kept_share)
        except BertHandlerError as exc:
            problem = str(exc)
        except Exception as exc:
            # The engines' own errors share no other base.
            logger.debug("%s %s has failed", engine, quantization, exc_info=exc)
            problem = ": ".join([type(exc).__name__, *str(exc).strip().splitlines()[:1]])
        return Measured(engine, quantization, problem=problem)

    def _compared(self, engine: str, quantization: str, kept_share: float) -> Measured:
        loaded = self._torch if engine == "torch" else self._load(engine, quantization, kept_share)
        outputs = [loaded.forward(batch, 1) for batch in self._compared_on]
        masks = [token_mask(batch.arrays()) for batch in self._compared_on]
        difference = greatest_difference(self._expected, outputs, masks)
        agreement = self._agreement(outputs)
        problem = ""
        if quantization == "none" and difference > TOLERANCE:
            problem = f"outputs differ from torch by {difference:.2g}, more than {TOLERANCE:g}"
        elif agreement < AGREEMENT:
            problem = f"only {agreement:.1%} of the answers are torch's; {AGREEMENT:.1%} are wanted"
        return Measured(engine, quantization, difference, agreement, *self._times(loaded), problem)

    def keep(self, result: Measured) -> None:
        """Copy the files of the chosen candidate into the archive."""
        if result.engine != "torch":
            shutil.copytree(self._candidate(result.engine, result.quantization), self._stage, dirs_exist_ok=True)

    def _candidate(self, engine: str, quantization: str) -> Path:
        return self._scratch / f"{engine}-{quantization}"

    @cached_property
    def _plain(self) -> tuple[Path, list[str], list[str]]:
        """The graph as it is exported, and the names of its inputs and outputs."""
        path = self._scratch / "plain" / "model.onnx"
        return (path, *export(self._torch.graph, self._mixed, path))

    def _load(self, engine: str, quantization: str, kept_share: float) -> Engine:
        directory = self._candidate(engine, quantization)
        file = self._file(engine, quantization)
        padded = self._write(engine)
        if quantization == "int8":
            self._calibrate(engine).write(file, kept_share)
        _, inputs, outputs = self._plain
        artifact = Artifact(directory, self._artifact.model_config)
        name = f"{engine}/{file.name}"
        digests = artifact.sha256(graph_files(name)), self._artifact.sha256(WEIGHTS)
        exported = Exported(engine, name, self._task.name, quantization, inputs, outputs, *digests, padded)
        (directory / ENGINE_FILE).write_bytes(exported.to_json())
        return engine_class(engine).load(artifact, self._task, self._config, "cpu")

    def _file(self, engine: str, quantization: str) -> Path:
        return self._candidate(engine, quantization) / engine / "model.onnx"

    def _write(self, engine: str) -> str:
        """Write an engine's graph in fp32, once; returns what of it is padded."""
        if engine not in self._padded:
            (plain, _, _), file = self._plain, self._file(engine, "none")
            self._padded[engine] = (
                standardize(plain, file, self._mixed)
                if engine == "openvino"
                else fuse(plain, file, self._artifact.model_config, self._mixed)
            )
        return self._padded[engine]

    def _calibrate(self, engine: str) -> Calibrated:
        """Calibrate an engine's graph, once."""
        if engine not in self._calibrated:
            feeds = [batch.arrays() for batch in self._calibration.batches]
            products = dequantized_products if engine == "openvino" else integer_products
            self._calibrated[engine] = Calibrated.of(self._file(engine, "none"), feeds, products)
        return self._calibrated[engine]

    def _agreement(self, outputs: Sequence[Outputs]) -> float:
        answers, expected = (self._answers(found) for found in (outputs, self._expected))
        return statistics.mean(same(left, right) for left, right in zip(answers, expected))

    def _answers(self, outputs: Sequence[Outputs]) -> list[Any]:
        by_row: dict[int, Outputs] = {}
        for indices, found in zip(self._samples.order, outputs):
            for place, index in enumerate(indices):
                by_row[index] = {name: values[place] for name, values in found.items()}
        answers, start = [], 0
        for encoded in self._samples.encoded:
            rows = [by_row[start + i] for i in range(len(encoded.rows))]
            answers.append(self._task.comparable(self._task.decode(encoded, rows)["predict"]))
            start += len(rows)
        return answers

    def _times(self, engine: Engine) -> tuple[float, float]:
        repeats = max(1, 200 // len(self._samples.rows))
        batches = list(self._samples.batches) * repeats
        with ThreadPoolExecutor(self._cores) as pool:
            started = time.perf_counter()
            list(pool.map(lambda batch: engine.forward(batch, 1), batches))
            rate = len(self._samples.rows) * repeats / (time.perf_counter() - started)
        lone = [collate([row], {}) for row in self._samples.rows[:20]]
        seconds = []
        for batch in lone:
            started = time.perf_counter()
            engine.forward(batch, self._cores)
            seconds.append(time.perf_counter() - started)
        return rate, 1000 * statistics.median(seconds)


def same(left: Any, right: Any) -> bool:
    """Whether two answers say the same: equal but for scores; vectors of one direction."""
    if isinstance(left, np.ndarray) and left.dtype.kind == "f":
        norms = float(np.linalg.norm(left)), float(np.linalg.norm(right))
        if 0.0 in norms:
            return norms[0] == norms[1]
        return float(np.dot(left.ravel(), right.ravel())) >= SAME_DIRECTION * norms[0] * norms[1]
    if isinstance(left, (float, np.floating)):
        return abs(float(left) - float(right)) <= 0.05 * max(1.0, abs(float(right)))
    return bool(_without_scores(left) == _without_scores(right))


def _without_scores(answer: Any) -> Any:
    if isinstance(answer, Mapping):
        return {key: _without_scores(value) for key, value in answer.items() if not isinstance(value, float)}
    if isinstance(answer, (list, tuple)):
        return [_without_scores(item) for item in answer]
    return answer
