"""What the engines have in common that run a graph which the archive carries."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path

from bert_handler.artifact import Artifact
from bert_handler.config import HandlerConfig
from bert_handler.cost import Cost
from bert_handler.cpu import cpu_budget
from bert_handler.engines.base import Engine
from bert_handler.errors import ConfigError
from bert_handler.exported import Exported
from bert_handler.tasks.base import Task


class ExportedEngine(Engine):
    """Runs an exported graph on a CPU; each engine adds its sessions and `forward`."""

    def __init__(self, exported: Exported, graph: Path) -> None:
        self._graph = graph
        self._inputs = exported.inputs
        self._outputs = exported.outputs
        self._cost = exported.cost
        self.rounding = exported.rounding

    @classmethod
    def load(cls, artifact: Artifact, task: Task, config: HandlerConfig, device: str) -> Engine:
        if device != "cpu":
            raise ConfigError(f"device={device!r}: the {cls.name} engine runs on the CPU; use engine: torch on a GPU")
        exported = Exported.require(artifact, cls.name, task.name, config.quantization)
        return cls.open(exported, artifact.directory / exported.file, task, cpu_budget(config.threads).cores)

    @classmethod
    @abstractmethod
    def open(cls, exported: Exported, graph: Path, task: Task, cores: int) -> Engine:
        """Make the sessions of a graph for a number of cores; ConfigError where the tokenizer does not fit it."""

    @property
    def cost(self) -> Cost:
        return self._cost
