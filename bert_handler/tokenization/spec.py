"""What a model needs to know of its tokenizer beside tokenizer.json, and the file that keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Callable

from bert_handler import jsonio
from bert_handler.errors import ConfigError

TOKENIZER_SPEC = "tokenizer_spec.json"


@dataclass(frozen=True)
class TokenizerSpec:
    """What a model needs to know of its tokenizer beside tokenizer.json.

    input_names: inputs that the model takes, in the tokenizer's order.
    max_length: most tokens of one sequence, special tokens included; None where there is no limit.
    do_lower_case: as the setting was when tokenizer.json was made, else as it does; None where that was not kept.
    """

    input_names: tuple[str, ...]
    max_length: int | None
    pad_id: int
    pad_type_id: int = 0
    padding_side: str = "right"
    truncation_side: str = "right"
    mask_token: str | None = None
    mask_id: int | None = None
    unk_id: int | None = None
    special_ids: tuple[int, ...] = ()
    do_lower_case: bool | None = None

    @property
    def padding(self) -> Mapping[str, int]:
        """What fills each input of a shorter row; 0 where it is not named."""
        return {"input_ids": self.pad_id, "token_type_ids": self.pad_type_id}

    @classmethod
    def read(cls, path: Path) -> TokenizerSpec:
        """Read tokenizer_spec.json; ConfigError names the key that is missing or unknown."""
        content = jsonio.read_file(path, dict, "a JSON object; archive the model again")
        names = {item.name for item in fields(cls)}
        if not {"input_names", "max_length", "pad_id"} <= set(content) <= names:
            raise ConfigError(f"{path.name} was not written by this version of bert-handler; archive the model again")
        for key, value in content.items():
            if not _SPEC_CHECKS[key](value):
                raise ConfigError(f"{path.name}: {key} has a value that cannot be; archive the model again")
        for key in ("input_names", "special_ids"):
            content[key] = tuple(content.get(key, ()))
        return cls(**content)

    def to_json(self) -> bytes:
        """The content of tokenizer_spec.json."""
        return jsonio.dumps(asdict(self)) + b"\n"


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


_SPEC_CHECKS: Mapping[str, Callable[[Any], bool]] = {
    "input_names": lambda value: isinstance(value, list) and all(isinstance(item, str) for item in value),
    "special_ids": lambda value: isinstance(value, list) and all(map(_is_id, value)),
    "max_length": lambda value: value is None or (_is_id(value) and value > 0),
    "pad_id": _is_id,
    "pad_type_id": _is_id,
    "padding_side": lambda value: value in ("left", "right"),
    "truncation_side": lambda value: value in ("left", "right"),
    "mask_token": lambda value: value is None or isinstance(value, str),
    "mask_id": lambda value: value is None or _is_id(value),
    "unk_id": lambda value: value is None or _is_id(value),
    "do_lower_case": lambda value: value is None or isinstance(value, bool),
}
