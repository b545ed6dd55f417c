"""What an engine is: runs the graph of a task's model on padded batches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Callable, ClassVar

import numpy as np
from numpy.typing import NDArray

from bert_handler.artifact import Artifact
from bert_handler.config import HandlerConfig
from bert_handler.cost import GPU, PADDED, Cost
from bert_handler.errors import ConfigError
from bert_handler.generation import Decoding, Generated, Watch
from bert_handler.schema import IntArray, Row
from bert_handler.tasks.base import Task


@dataclass(frozen=True)
class Batch:
    """Rows padded to the longest of them, all inputs in one buffer so that one copy moves them.

    buffer: int64 (sum of the inputs' sizes,), on the host.
    shapes: the shape of each input within it, in order.
    """

    buffer: IntArray
    shapes: Mapping[str, tuple[int, int]]

    def arrays(self) -> dict[str, IntArray]:
        """The inputs as (rows, length) views of the buffer."""
        views, start = {}, 0
        for name, (rows, length) in self.shapes.items():
            views[name] = self.buffer[start : start + rows * length].reshape(rows, length)
            start += rows * length
        return views


Shape = Callable[[int, int], tuple[int, int]]
"""From the rows and the longest row of a batch to what it is padded to."""


def check_vocabulary(n_embeddings: int, task: Task) -> None:
    """Raise ConfigError where the tokenizer has ids without an embedding.

    One of them ends the process on a GPU, and OpenVINO makes zeros of it.
    """
    highest = max(task.model.tokenizer.backend.get_vocab(with_added_tokens=True).values())
    if highest >= n_embeddings:
        raise ConfigError(
            f"the tokenizer has ids up to {highest}, but the model has {n_embeddings} embeddings; enlarge them "
            "(resize_token_embeddings), or choose engine: torch and device: cpu, where only texts with such tokens fail"
        )


def snug(n_rows: int, length: int) -> tuple[int, int]:
    """No more padding than the longest row asks for."""
    return n_rows, length


def bucket(n_rows: int, length: int, longest: int | None = None) -> tuple[int, int]:
    """The next of few shapes, each of which is compiled once: two numbers of rows an octave, and four lengths.

    longest: row that the model takes; padding does not go past it, where there may be no positions.
    """
    octave = 1 << (n_rows - 1).bit_length()
    lower = 3 * octave // 4
    step = max(16, 1 << max(0, length.bit_length() - 3))
    padded = -(-length // step) * step
    if longest is not None and length <= longest:
        padded = min(padded, longest)
    return lower if n_rows <= lower else octave, padded


def collate(rows: Sequence[Row], padding: Mapping[str, int], side: str = "right", shape: Shape = snug) -> Batch:
    """Pad rows into one batch.

    padding: value that fills each input; 0 where it is not named.  side: where the padding goes.
    shape: what the batch is padded to; rows beyond those given repeat the last one.
    """
    shapes = {name: shape(len(rows), max(len(row.inputs[name]) for row in rows)) for name in rows[0].inputs}
    batch = Batch(np.empty(sum(n * length for n, length in shapes.values()), dtype=np.int64), shapes)
    for name, array in batch.arrays().items():
        fill = padding.get(name, 0)
        width = array.shape[1]
        for i, row in enumerate(rows):
            values = row.inputs[name]
            if side == "right":
                array[i, : len(values)] = values
                array[i, len(values) :] = fill
            else:
                array[i, width - len(values) :] = values
                array[i, : width - len(values)] = fill
        array[len(rows) :] = array[len(rows) - 1]
    return batch


class Engine(ABC):
    """One way to run a model.  Outputs are float32 NumPy arrays whose first axis is the row."""

    name: ClassVar[str]
    supports_cuda: ClassVar[bool] = False
    supports_gradients: ClassVar[bool] = False
    supports_generation: ClassVar[bool] = False
    supports_compilation: ClassVar[bool] = False
    shape: Shape = staticmethod(snug)
    compiles_shapes: bool = False
    """Whether it makes something for each shape, of which `shape` then gives few."""
    widths: tuple[int, ...] = ()
    """Numbers of threads that one forward can use, 1 among them; none where it uses as many as it is given."""
    rounding: float = 1e-3
    """By how much a row's outputs may change with the rows beside it; relative where they exceed 1."""
    lost: bool = False
    """Whether its device has failed, and only a new process can compute."""

    @classmethod
    @abstractmethod
    def load(cls, artifact: Artifact, task: Task, config: HandlerConfig, device: str) -> Engine:
        """Load the model of an artifact with the task's head in its graph."""

    @abstractmethod
    def forward(self, batch: Batch, threads: int) -> Mapping[str, NDArray[Any]]:
        """Run one batch on at most `threads` cores.  Called from several threads at once.

        Raises DeviceLostError where neither these rows nor others will ever be computed here.
        """

    @property
    def eager(self) -> Engine:
        """The same model as it is before anything is compiled: itself, where nothing is."""
        return self

    @property
    def uncompiled(self) -> Engine:
        """The same model for batches of any shape: itself, where it does not compile each."""
        return self.eager if self.compiles_shapes else self

    def release_load_memory(self) -> None:  # noqa: B027
        """Let go of what loading and the first forward needed and others do not; called once after them."""

    def generate(self, batch: Batch, decoding: Decoding, watch: Watch, threads: int) -> list[Generated]:
        """Append tokens to every row of a batch until it ends; only where `supports_generation`.

        watch: called with (row, token) for each new token of a row that goes on, and returns whether to
        end it.  In a beam search, whose tokens are only known at its end, with None for the token; the
        search ends when all its rows shall.
        """
        raise ConfigError(f"engine={self.name!r} cannot generate text")

    @property
    def device(self) -> str:
        return "cpu"

    @property
    def cost(self) -> Cost:
        """What its forwards cost."""
        return PADDED if self.device == "cpu" else GPU

    @property
    def parallel_forwards(self) -> bool:
        """Whether several forwards run side by side on one copy of the weights."""
        return self.device == "cpu"
