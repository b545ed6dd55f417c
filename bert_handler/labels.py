"""Label names: index_to_name.json, else the model's id2label, else LABEL_i."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bert_handler import jsonio
from bert_handler.errors import ConfigError, InvalidRequestError
from bert_handler.parameters import unknown

INDEX_TO_NAME = "index_to_name.json"


class Labels:
    """The model's label names, by index and by name.

    Several may have one name: stars that mean the same, for instance.
    """

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names
        self._indices: dict[str, list[int]] = {}
        for index, name in enumerate(names):
            self._indices.setdefault(name, []).append(index)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> str:
        return self.names[index]

    def index(self, label: Any) -> int:
        """Index of a label that a client gave by name or by number."""
        if isinstance(label, str) and label in self._indices:
            indices = self._indices[label]
            if len(indices) > 1:
                raise InvalidRequestError(
                    f"target: {label!r} is the label of indices {', '.join(map(str, indices))}; "
                    f"give the index, or each its own name in {INDEX_TO_NAME}"
                )
            return indices[0]
        if isinstance(label, int) and not isinstance(label, bool) and 0 <= label < len(self.names):
            return label
        if isinstance(label, str):
            raise InvalidRequestError(f"target: {unknown(label, self.names, 'label')}")
        raise InvalidRequestError(f"target: must be a label or an index from 0 to {len(self.names) - 1}")

    @classmethod
    def load(cls, directory: Path, id2label: Mapping[str, str] | None, num_labels: int) -> Labels:
        """Read the labels of a model with `num_labels` outputs.

        id2label: of the model's config.json, keyed by the index as text.
        num_labels: 0 for a model whose outputs have no names.
        Raises ConfigError when index_to_name.json names another number of labels.
        """
        path = directory / INDEX_TO_NAME
        if num_labels and path.is_file():
            names = _read_names(path)
            if len(names) != num_labels:
                raise ConfigError(
                    f"{INDEX_TO_NAME} names {len(names)} labels, but the model has {num_labels}; "
                    f"give one entry for each index from 0 to {num_labels - 1}"
                )
            return cls(names)
        given = id2label or {}
        return cls(tuple(str(given.get(str(index), f"LABEL_{index}")) for index in range(num_labels)))


def _read_names(path: Path) -> tuple[str, ...]:
    content = jsonio.read_file(path, dict, 'an object such as {"0": "Not Accepted", "1": "Accepted"}')
    if set(content) == {"label_list"}:
        return _label_list(content["label_list"], path.name)
    indices = [str(index) for index in range(len(content))]
    missing = [index for index in indices if index not in content]
    if missing:
        raise ConfigError(f"{path.name} has no entry for index {missing[0]}; its keys must be 0 to {len(content) - 1}")
    for index in indices:
        if not isinstance(content[index], str):
            raise ConfigError(f"{path.name}: the name of index {index} must be a string")
    return tuple(content[index] for index in indices)


def _label_list(value: Any, file_name: str) -> tuple[str, ...]:
    if isinstance(value, str):
        # The stock samples write the list as text: "[O, B-MISC, I-MISC]".
        value = [re.sub(r"^(['\"])(.*)\1$", r"\2", item.strip()) for item in value.strip().strip("[]").split(",")]
    if not isinstance(value, list) or not value or not all(isinstance(name, str) and name for name in value):
        raise ConfigError(f'{file_name}: label_list must be a list of names, or the text "[O, B-PER, I-PER]"')
    return tuple(value)
