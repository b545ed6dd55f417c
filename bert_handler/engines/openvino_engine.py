"""OpenVINO on a CPU, on the graph that the archive carries.  Needs neither torch nor transformers."""

from __future__ import annotations

import queue
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from bert_handler import runtimes
from bert_handler.engines.base import Batch, check_vocabulary
from bert_handler.engines.exported_engine import ExportedEngine
from bert_handler.exported import Exported, weights_file
from bert_handler.memory import keep_large_buffers_apart, release_mapped, trim_heap
from bert_handler.tasks.base import Task

openvino = runtimes.openvino()


class OpenVinoEngine(ExportedEngine):
    """One compiled model with a stream a core: its streams share the weights.

    A stream has a fixed thread, so a lone request runs on one core.
    """

    name = "openvino"
    widths = (1,)

    def __init__(self, exported: Exported, compiled: Any, streams: int, graph: Path) -> None:
        super().__init__(exported, graph)
        # A request is not thread-safe; whoever computes takes one and puts it back.
        self._requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for _ in range(streams):
            self._requests.put(compiled.create_infer_request())

    @classmethod
    def open(cls, exported: Exported, graph: Path, task: Task, cores: int) -> OpenVinoEngine:
        if n_embeddings := task.model.model_config.get("vocab_size"):
            check_vocabulary(n_embeddings, task)
        keep_large_buffers_apart()
        settings = {
            "NUM_STREAMS": str(cores),
            "INFERENCE_NUM_THREADS": str(cores),
            # Its default is bfloat16 where the processor has it: outside of the parity that is promised.
            "INFERENCE_PRECISION_HINT": "f32",
            "ENABLE_CPU_PINNING": "NO",
            # Its default, 5,000 prepared operators a stream, grows for hours under texts of all lengths.
            "CPU_RUNTIME_CACHE_CAPACITY": "16",
        }
        core = openvino.Core()
        compiled = core.compile_model(core.read_model(str(graph)), "CPU", settings)
        return cls(exported, compiled, cores, graph)

    def release_load_memory(self) -> None:
        # The weights are packed for their kernels in the first forward, and stay mapped.
        release_mapped(weights_file(self._graph))
        trim_heap()

    def forward(self, batch: Batch, threads: int) -> Mapping[str, NDArray[Any]]:
        arrays = batch.arrays()
        request = self._requests.get()
        try:
            results = request.infer({name: arrays[name] for name in self._inputs}, share_inputs=True)
            return {name: results[name].copy() for name in self._outputs}
        finally:
            self._requests.put(request)
