"""What an archive says of the engine files that it carries: engine.json."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from bert_handler import jsonio
from bert_handler.artifact import Artifact
from bert_handler.cost import COSTS, Cost
from bert_handler.errors import ConfigError

ENGINE_FILE = "engine.json"


WEIGHTS = "*.safetensors"


def graph_files(file: str) -> str:
    """Pattern of a graph's files: the graph, and its weights beside it."""
    return f"{file}*"


def weights_file(graph: Path) -> Path:
    """The weights beside a graph."""
    return graph.with_name(f"{graph.name}.data")


@dataclass(frozen=True)
class Exported:
    """One exported graph.

    engine: who runs it.  file: the graph, relative to the model's directory.
    task: the mode whose head is in the graph.  quantization: none or int8.
    inputs, outputs: names in the graph's order.
    graph_sha256: of the graph's files.  weights_sha256: of the files it was exported from.
    padded: what of it computes padding too, a name in cost.COSTS.
    """

    engine: str
    file: str
    task: str
    quantization: str
    inputs: Sequence[str]
    outputs: Sequence[str]
    graph_sha256: str
    weights_sha256: str
    padded: str = "all"

    @property
    def cost(self) -> Cost:
        """What its forwards cost."""
        return COSTS[self.padded]

    @property
    def rounding(self) -> float:
        """How much outputs may change by rounding: a last digit can make an int8 step."""
        return 0.1 if self.quantization == "int8" else 1e-3

    @classmethod
    def read(cls, directory: Path) -> Exported | None:
        """Read engine.json; None where the directory carries no exported graph."""
        path = directory / ENGINE_FILE
        if not path.is_file():
            return None
        other = ConfigError(f"{ENGINE_FILE} was not written by this version of bert-handler; archive the model again")
        content = jsonio.read_file(path, dict, "a JSON object; archive the model again")
        names = {item.name for item in fields(cls)}
        if not names - {"padded"} <= set(content) <= names:
            raise other
        exported = cls(**content)
        if exported.padded not in COSTS or exported.file != f"{exported.engine}/{Path(exported.file).name}":
            raise other
        return exported

    @classmethod
    def require(cls, artifact: Artifact, engine: str, task: str, quantization: str) -> Exported:
        """The graph for an engine and a task; ConfigError says how to get it where it is not there."""
        exported = cls.read(artifact.directory)
        if exported is None or exported.engine != engine:
            carried = "none" if exported is None else f"one for the {exported.engine} engine"
            raise ConfigError(
                f"engine={engine!r} runs a graph that the archive carries, and this model carries {carried}; "
                f"run: bert-handler archive MODEL_DIR --engine {engine} ..."
            )
        if exported.task != task:
            raise ConfigError(
                f"the exported graph is for mode {exported.task!r}, not {task!r}; archive the model again"
            )
        if quantization not in {"none", exported.quantization}:
            raise ConfigError(
                f"quantization={quantization!r} is set, but the exported graph has {exported.quantization!r}; "
                f"archive the model with --engine {engine} --quantization {quantization}"
            )
        exported.check_files(artifact)
        return exported

    def check_files(self, artifact: Artifact) -> None:
        """ConfigError where the graph is another one, or the weights beside it are not those it was made from.

        An archive's checksums cannot tell: they may have been written for the files that do not belong together.
        """
        if artifact.sha256(graph_files(self.file)) != self.graph_sha256:
            raise ConfigError(f"{self.file} is not the graph that {ENGINE_FILE} describes; archive the model again")
        weights = artifact.sha256(WEIGHTS)
        if weights and weights != self.weights_sha256:
            raise ConfigError(
                f"{self.file} was exported from other weights than the archive's own; archive the model again"
            )

    def to_json(self) -> bytes:
        """The content of engine.json."""
        return jsonio.dumps(asdict(self)) + b"\n"
