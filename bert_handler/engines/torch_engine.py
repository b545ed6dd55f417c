"""PyTorch, eager or compiled, on a CPU or a GPU: the reference that the other engines are compared with."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache, partial
from typing import Any, Callable

import numpy as np
import torch
from numpy.typing import NDArray

from bert_handler.artifact import Artifact
from bert_handler.config import HandlerConfig
from bert_handler.cpu import cpu_budget, usable
from bert_handler.engines.base import Batch, Engine, bucket, check_vocabulary
from bert_handler.engines.torch_decoding import generate
from bert_handler.engines.torch_loading import TRANSFORMERS, find_device, load_model
from bert_handler.errors import ConfigError, DeviceLostError
from bert_handler.generation import Decoding, Generated, Watch
from bert_handler.tasks.base import Task

logger = logging.getLogger(__name__)

ROUNDING = {"float32": 1e-3, "float16": 0.05, "bfloat16": 0.2}
"""Of outputs, by the weights' type; what reads padding changes by more."""
OUT_OF_MEMORY = 2
"""CUDA's code of that, where not torch itself found it."""

MASK = "attention_mask"

Arrival = Callable[[], "dict[str, NDArray[Any]]"]
"""Waits for the outputs of a forward that was launched."""


class Graph(torch.nn.Module):
    """A transformers model with the task's head behind it: what runs, and what is exported."""

    def __init__(self, model: torch.nn.Module, task: Task) -> None:
        super().__init__()
        self.model = model
        self.task = task
        self.model_inputs = frozenset(inspect.signature(model.forward).parameters)

    def forward(self, **inputs: torch.Tensor) -> dict[str, torch.Tensor]:
        return self._answer(inputs, self.model_inputs)

    def unmasked(self, **inputs: torch.Tensor) -> dict[str, torch.Tensor]:
        """The same for rows without padding, whose mask only the head is given."""
        return self._answer(inputs, self.model_inputs - {MASK})

    def _answer(self, inputs: Mapping[str, torch.Tensor], names: frozenset[str]) -> dict[str, torch.Tensor]:
        taken = {name: value for name, value in inputs.items() if name in names}
        return self.task.head(self.model(**taken), inputs)


class Transfer:
    """Moves a batch to the device and its outputs back, one copy each way."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def to_device(self, buffer: NDArray[np.int64]) -> torch.Tensor:
        """Copy the batch's one buffer; from pinned memory and without waiting on a GPU."""
        host = torch.from_numpy(buffer)
        if self.device.type == "cpu":
            return host
        # torch gives a pinned block out again only when the copies from it have ended.
        return host.pin_memory().to(self.device, non_blocking=True)

    def to_host(self, outputs: Mapping[str, torch.Tensor]) -> Arrival:
        """Begin to copy all outputs back, packed into one buffer; the arrival waits for them."""
        if self.device.type == "cpu":
            return lambda: {name: value.numpy() for name, value in outputs.items()}
        shapes = {name: value.shape for name, value in outputs.items()}
        packed = torch.cat([value.float().flatten() for value in outputs.values()])
        pinned = torch.empty(packed.shape, dtype=packed.dtype, pin_memory=True)
        pinned.copy_(packed, non_blocking=True)
        # Who waits sleeps: by default CUDA spins, on a core that the tokenizer needs.
        copied = torch.cuda.Event(blocking=True)
        copied.record(torch.cuda.current_stream(self.device))

        def arrive() -> dict[str, NDArray[Any]]:
            copied.synchronize()
            # Pinned memory is scarce, and rows keep their outputs until they are answered.
            return _unpacked(pinned.numpy().copy(), shapes)

        return arrive


def _unpacked(packed: NDArray[Any], shapes: Mapping[str, torch.Size]) -> dict[str, NDArray[Any]]:
    unpacked, start = {}, 0
    for name, shape in shapes.items():
        unpacked[name] = packed[start : start + shape.numel()].reshape(shape)
        start += shape.numel()
    return unpacked


class TorchEngine(Engine):
    """Runs the graph in inference mode; the weights stay in the configured dtype."""

    name = "torch"
    supports_cuda = True
    supports_gradients = True
    supports_generation = True
    supports_compilation = True

    def __init__(self, graph: Graph, device: torch.device) -> None:
        self.graph = graph
        self.transfer = Transfer(device)
        self._run: Any = graph
        self._launcher = None if device.type == "cpu" else _launcher(str(device))

    @classmethod
    def load(cls, artifact: Artifact, task: Task, config: HandlerConfig, device: str) -> TorchEngine:
        target = find_device(device)
        _check_quantization(config, target)
        model = load_model(artifact, task, config, getattr(torch, config.dtype))
        if target.type != "cpu":
            check_vocabulary(len(model.get_input_embeddings().weight), task)
            # TorchServe allows TF32 where it is imported; an answer is the same on both hosts.
            torch.set_float32_matmul_precision("highest")
        model = model.to(target).eval()
        if config.quantization == "int8":
            model = torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8)
        engine = cls(Graph(model, task), target)
        engine.rounding = ROUNDING[config.dtype]
        if config.compile:
            engine.compile(cpu_budget(config.threads).cores)
        return engine

    def compile(self, cores: int) -> None:
        """Compile the graph for all shapes at once; on a GPU, record a CUDA graph for each of few shapes.

        That happens in the first forwards, which are those of the self-test.
        """
        if self._launcher is None:
            # A graph is made for a number of threads.
            self.widths = (1, cores)
        else:
            longest = self.graph.task.model.tokenizer.spec.max_length
            self.shape, self.compiles_shapes = partial(bucket, longest=longest), True
            self._launcher.submit(_expect_many_shapes).result()
        self._run = torch.compile(self.graph, dynamic=True, mode="reduce-overhead" if self.compiles_shapes else None)

    @property
    def eager(self) -> TorchEngine:
        return self if self._run is self.graph else TorchEngine(self.graph, self.transfer.device)

    @property
    def device(self) -> str:
        return str(self.transfer.device)

    def forward(self, batch: Batch, threads: int) -> Mapping[str, NDArray[Any]]:
        self._limit_threads(threads)
        with self._watched():
            launcher = self._launcher
            arrive = self._launch(batch) if launcher is None else launcher.submit(self._launch, batch).result()
            return arrive()

    def _launch(self, batch: Batch) -> Arrival:
        run = self.graph.unmasked if self._may_unmask and _is_whole(batch) else self._run
        with torch.inference_mode():
            return self.transfer.to_host(run(**self._inputs(batch)))

    @property
    def _may_unmask(self) -> bool:
        """Whether the model waits for a GPU to tell whether a mask masks anything, and for a mask only.

        Fused attention has faster kernels without one. transformers 4 makes one where none is given.
        """
        model = self.graph.task.model
        if self.device == "cpu" or self._run is not self.graph or model.config.trust_remote_code:
            return False
        return TRANSFORMERS >= (5, 0) and self.graph.model.config._attn_implementation == "sdpa"

    def generate(self, batch: Batch, decoding: Decoding, watch: Watch, threads: int) -> list[Generated]:
        self._limit_threads(threads)
        pad_id = self.graph.task.model.tokenizer.spec.pad_id
        with self._watched(), torch.inference_mode():
            return generate(self.graph.model, self._inputs(batch), decoding, watch, pad_id)

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Find out where the device has failed for good."""
        try:
            yield
        except RuntimeError as exc:
            if not _is_of_device(exc):
                raise
            if not self.lost:
                logger.critical("%s has failed; only a new process can compute on it", self.device, exc_info=exc)
            self.lost = True
            raise DeviceLostError from exc

    def _inputs(self, batch: Batch) -> dict[str, torch.Tensor]:
        buffer = self.transfer.to_device(batch.buffer)
        parts = buffer.split([rows * length for rows, length in batch.shapes.values()])
        return {name: part.view(shape) for (name, shape), part in zip(batch.shapes.items(), parts)}

    def _limit_threads(self, threads: int) -> None:
        # The intra-op limit belongs to the calling thread, so two forwards can have one core each.
        if self.device == "cpu":
            torch.set_num_threads(usable(threads, self.widths))


def _check_quantization(config: HandlerConfig, device: torch.device) -> None:
    """ConfigError where torch's dynamic quantization, which takes float32 on a CPU, cannot run."""
    if config.quantization != "int8":
        return
    if device.type != "cpu":
        raise ConfigError("quantization=int8 of the torch engine runs on the CPU only")
    if config.dtype != "float32":
        raise ConfigError(
            f"dtype={config.dtype!r} with quantization='int8': the torch engine quantizes weights of dtype float32 "
            "only; leave one of the two settings out"
        )


def _is_of_device(error: RuntimeError) -> bool:
    """Whether a GPU has failed: it answers nothing but the same error from then on, unless it only lacked memory.

    cuBLAS names errors of its own so; where one of them is the device's, the next forward meets that.
    """
    text = str(error)
    lacks_memory = getattr(error, "error_code", None) == OUT_OF_MEMORY or "out of memory" in text
    return "CUDA error" in text and "CUBLAS_STATUS" not in text and not lacks_memory


@cache
def _launcher(device: str) -> ThreadPoolExecutor:
    """The one thread that launches all forwards of a GPU, whatever their model.

    torch.compile records CUDA graphs anew in each thread, and before torch 2.13 in no second one.
    """
    return ThreadPoolExecutor(1, thread_name_prefix="launch")


def _is_whole(batch: Batch) -> bool:
    """Whether no row has padding, or anything else that attention leaves out."""
    mask = batch.arrays().get(MASK)
    return mask is not None and bool(mask.all())


def _expect_many_shapes() -> None:
    """Prepare this thread to compile for many shapes; torch's settings are each thread's own."""
    import torch.fx.experimental._config as symbols
    from torch._inductor.config import triton

    # A CUDA graph a shape is meant, not warned of; that two inputs are of one length by chance is no rule.
    for settings, name, value in (
        (triton, "cudagraph_dynamic_shape_warn_limit", None),
        (symbols, "use_duck_shape", False),
    ):
        # Not every version of torch has both.
        if hasattr(settings, name):
            setattr(settings, name, value)
