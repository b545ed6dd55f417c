"""ONNX Runtime on a CPU, on the graph that the archive carries.  Needs neither torch nor transformers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from bert_handler import runtimes
from bert_handler.engines.base import Batch
from bert_handler.engines.exported_engine import ExportedEngine
from bert_handler.errors import ConfigError
from bert_handler.exported import Exported, weights_file
from bert_handler.memory import release_mapped
from bert_handler.tasks.base import Task

onnxruntime = runtimes.onnxruntime()

MAX_SECOND_SESSION_BYTES = 150 * 2**20
"""Larger weights are not prepared a second time; they run on one session that has all threads."""


class OnnxEngine(ExportedEngine):
    """Two sessions on one memory-mapped file: single-threaded forwards side by side, and one on all cores.

    A session's threads are fixed when it is made, so a deep queue and a lone request need one each.
    """

    name = "onnx"

    def __init__(self, exported: Exported, narrow: Any, wide: Any, graph: Path) -> None:
        super().__init__(exported, graph)
        self._narrow = narrow
        self._wide = wide

    @classmethod
    def open(cls, exported: Exported, graph: Path, task: Task, cores: int) -> OnnxEngine:
        wide = session(graph, cores)
        small = sum(file.stat().st_size for file in graph.parent.iterdir()) <= MAX_SECOND_SESSION_BYTES
        narrow = wide if cores == 1 or not small else session(graph, 1)
        return cls(exported, narrow, wide, graph)

    def release_load_memory(self) -> None:
        # What the sessions have not packed stays mapped: the embeddings, of which a text needs few rows.
        release_mapped(weights_file(self._graph))

    def forward(self, batch: Batch, threads: int) -> Mapping[str, NDArray[Any]]:
        arrays = batch.arrays()
        chosen = self._wide if threads > 1 else self._narrow
        outputs = chosen.run(self._outputs, {name: arrays[name] for name in self._inputs})
        return dict(zip(self._outputs, outputs))


def session(path: Path, threads: int) -> Any:
    """Load a graph for a number of threads, which sleep where there is nothing to do.

    Raises ConfigError where this version of ONNX Runtime does not know all of its operators.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # A spinning thread takes its quota away from the tokenizer, the event loop and other containers.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # It would remember a layout for every shape that it has ever seen.
    options.enable_mem_pattern = False
    # It puts back what the archive's graph has spelled out, for it is slower.
    disabled = ["SkipLayerNormFusion"]
    try:
        return onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"], disabled_optimizers=disabled
        )
    except Exception as exc:  # onnxruntime's own errors share no other base
        raise ConfigError(
            f"onnxruntime {onnxruntime.__version__} cannot load {path.name}: {exc}; "
            "install the version that the archive was made with, or archive the model again with this one"
        ) from exc
