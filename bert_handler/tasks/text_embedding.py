"""Turn a text into one vector, as a sentence-transformers directory says where the model is one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import normalizers

from bert_handler import jsonio
from bert_handler.decisions import Decision, Probe, Target
from bert_handler.errors import ConfigError, InvalidRequestError, UnservableError
from bert_handler.parameters import Parameter
from bert_handler.schema import OutputSpec, Prediction
from bert_handler.tasks.base import STRIDE, TRUNCATION, RowOutputs, Task
from bert_handler.tasks.instances import EncodedExample, Example, Model
from bert_handler.tokenization import Text, TextTokenizer, Truncation

POOLINGS = ("mean", "cls", "max")
HIDDEN_SIZES = ("hidden_size", "dim", "d_model", "n_embd")
MODULES = "modules.json"
TRANSFORMER_CONFIGS = tuple(
    f"sentence_{name}_config.json"
    for name in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
LEGACY_POOLINGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}


@dataclass(frozen=True)
class SentenceSettings:
    """What a sentence-transformers directory says of its model; these defaults in any other one.

    pooling: its name; may be one that this task does not have.  prompt: stands before every text.
    max_length: tokens of one sequence; the model's own limit may be larger.
    """

    pooling: str = "mean"
    normalize: bool = False
    max_length: int | None = None
    do_lower_case: bool = False
    prompt: str = ""

    @classmethod
    def read(cls, directory: Path | None) -> SentenceSettings:
        """Read modules.json and the files beside it.

        Raises ConfigError on a module that is more than a transformer, a pooling or a normalization:
        without it the vectors would be wrong.
        """
        if directory is None:
            return cls()
        pooling, normalize = "1_Pooling", False
        for module in jsonio.read_file(directory / MODULES, list):
            kind = str(module.get("type", "")).rpartition(".")[2]
            if kind == "Pooling":
                pooling = _inside(str(module.get("path")))
            elif kind == "Normalize":
                normalize = True
            elif kind != "Transformer":
                raise ConfigError(f"{MODULES}: a module of type {kind!r} is not supported")
        pooled = jsonio.read_file(directory / pooling / "config.json", dict)
        prompt = _prompt(jsonio.read_file(directory / "config_sentence_transformers.json", dict))
        if prompt and pooled.get("include_prompt") is False:
            raise ConfigError(
                f"{pooling}/config.json: include_prompt: false is not supported where there is a default prompt: "
                "its tokens are in the vectors here; remove default_prompt_name from config_sentence_transformers.json "
                "and send texts without it"
            )
        found = [directory / name for name in TRANSFORMER_CONFIGS if (directory / name).is_file()]
        own = jsonio.read_file(found[0], dict) if found else {}
        return cls(
            _pooling(pooled),
            normalize,
            own.get("max_seq_length"),
            bool(own.get("do_lower_case")),
            prompt,
        )


class TextEmbedding(Task):
    """All poolings leave the graph, so that requests of different ones share a forward.

    With `truncation: stride` the vector is the mean of the windows' vectors, each weighted by its
    tokens; it is normalized after that.
    """

    name = "text_embedding"
    model_class = "AutoModel"
    architectures = ("Model",)
    optional_weights = ("pooler.",)
    default_outputs = ("embedding",)
    targets_are_texts = True
    parameters = (
        Parameter("pooling", str, None, "default: the model's own, else mean", choices=POOLINGS),
        Parameter("normalize", bool, None, "scale to length 1; default: the model's own, else false"),
        TRUNCATION,
        STRIDE,
    )

    def __init__(self, model: Model) -> None:
        super().__init__(model)
        if model.model_config.get("is_encoder_decoder"):
            raise ConfigError(f"{self.name} needs an encoder; this model is an encoder-decoder")
        self.settings = SentenceSettings.read(model.directory)
        if model.config.parameters.get("pooling") is None and self.settings.pooling not in POOLINGS:
            raise ConfigError(f"the model's pooling {self.settings.pooling!r} is not one of {', '.join(POOLINGS)}")
        if self.settings.do_lower_case:
            lower_case(model.tokenizer)

    @property
    def outputs(self) -> tuple[OutputSpec, ...]:
        config = self.model.model_config
        size = int(next((config[name] for name in HIDDEN_SIZES if name in config), -1))
        return OutputSpec("predict", "FP32", (size,)), OutputSpec("embedding", "FP32", (size,))

    def texts(self, example: Example) -> list[Text]:
        return [self.settings.prompt + example.fields["text"]]

    def truncation(self, example: Example) -> Truncation:
        # A configured max_length is a choice; the directory's is what the model was trained with.
        stated = None if self.model.config.max_length else self.settings.max_length
        limits = [limit for limit in (self.model.max_length, stated) if limit]
        return super().truncation(example)._replace(max_length=min(limits) if limits else None)

    def head(self, output: Any, inputs: Mapping[str, Any]) -> dict[str, Any]:
        hidden = output.last_hidden_state.float()
        mask = inputs["attention_mask"] if "attention_mask" in inputs else hidden.new_ones(hidden.shape[:2])
        mask = mask.unsqueeze(-1).to(hidden.dtype)
        first = mask.argmax(dim=1, keepdim=True).expand(-1, 1, hidden.shape[-1])
        return {
            "mean": (hidden * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1e-9),
            "cls": hidden.gather(1, first).squeeze(1),
            "max": hidden.masked_fill(mask == 0, float("-inf")).amax(dim=1),
        }

    def decode(self, encoded: EncodedExample, rows: Sequence[RowOutputs]) -> Mapping[str, Any]:
        parameters = encoded.example.parameters
        pooling = parameters["pooling"] or self.settings.pooling
        asked = parameters["normalize"]
        weights = [row.length for row in encoded.rows]
        vector = np.average([row[pooling] for row in rows], axis=0, weights=weights).astype(np.float32)
        if self.settings.normalize if asked is None else asked:
            vector = unit(vector)
        return {"predict": vector, "embedding": vector}

    def decision(
        self,
        encoded: EncodedExample,
        rows: Sequence[RowOutputs],
        asked: Sequence[Any],
        references: Sequence[Prediction] = (),
    ) -> Decision:
        """The cosine similarity with each target text, whose own vector stays as it is."""
        if not references:
            raise InvalidRequestError("target is missing; send the text whose similarity is to be explained")
        if len(rows) > 1:
            raise UnservableError("the text has several windows; their joint similarity cannot be explained")
        pooling = encoded.example.parameters["pooling"] or self.settings.pooling
        own = unit(rows[0][pooling])
        targets = []
        for text, reference in zip(asked, references):
            other = unit(reference["embedding"])
            parts = {"": [Probe(0, pooling, other, cosine=True)]}
            targets.append(Target(text, parts, float(own @ other)))
        return Decision(targets[0].name, targets[0].score, targets)


def unit(vector: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale a vector to length 1; a zero vector stays."""
    scaled: NDArray[np.float32] = vector / max(float(np.linalg.norm(vector)), 1e-12)
    return scaled


def lower_case(tokenizer: TextTokenizer) -> None:
    """Have the tokenizer lower-case texts, special tokens excepted, before all else that it does."""
    own = tokenizer.backend.normalizer
    steps = [normalizers.Lowercase()] if own is None else [normalizers.Lowercase(), own]
    tokenizer.backend.normalizer = normalizers.Sequence(steps)


def _pooling(config: Mapping[str, Any]) -> str:
    stated = config.get("pooling_mode")
    if stated is None:
        stated = [name for key, name in LEGACY_POOLINGS.items() if config.get(key)] or ["mean"]
    return stated if isinstance(stated, str) else "+".join(map(str, stated))


def _prompt(config: Mapping[str, Any]) -> str:
    name = config.get("default_prompt_name")
    return "" if name is None else str((config.get("prompts") or {}).get(name) or "")


def _inside(path: str) -> str:
    parts = PurePosixPath(path).parts
    if path.startswith("/") or ".." in parts or "\\" in path:
        raise ConfigError(f"{MODULES}: the path {path!r} points outside of the model directory")
    return path
