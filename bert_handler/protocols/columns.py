"""What the tensors of a V2 request stand for: instances one after the other, their fields, or token ids."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bert_handler.errors import InvalidRequestError, RequestError
from bert_handler.parameters import quoted, unknown
from bert_handler.protocols.base import check_count, element
from bert_handler.protocols.tensors import INTEGERS, Tensor
from bert_handler.schema import Failure, Instance, Tokens

COLUMNS = ("text", "text_pair", "question", "context", "query", "documents", "candidate_labels")
"""Names of BYTES tensors that are fields of the instances; any other name is a tensor of instances."""
STOCK_FIELDS = ("data", "body")
"""Where TorchServe's stock handlers look for an instance, and where its sample requests have it."""
TOKEN_INPUTS = {
    "input_ids": "input_ids",
    "attention_mask": "attention_mask",
    "attention_masks": "attention_mask",
    "token_type_ids": "token_type_ids",
}


def instances_of(tensors: Sequence[Tensor], max_instances: int | None = None) -> tuple[list[Instance], bool]:
    """Turn input tensors into instances, `max_instances` at most, and say whether they are one scalar instance.

    BYTES tensors named like fields are columns; others are lists of instances, one after the other.
    """
    text = [tensor for tensor in tensors if tensor.datatype == "BYTES"]
    if text and len(text) < len(tensors):
        raise InvalidRequestError("inputs mixes BYTES with numbers; send texts or token tensors, not both")
    if not text:
        return _tokenized(tensors, max_instances)
    columns = [tensor for tensor in text if tensor.name in COLUMNS]
    if len(text) > 1 and len(columns) == len(text):
        return _from_columns(columns, max_instances)
    if len(text) > 1 and columns:
        other = next(tensor.name for tensor in text if tensor.name not in COLUMNS)
        raise InvalidRequestError(
            f"inputs: tensor {quoted(other)} stands beside field {columns[0].name!r}; "
            f"known fields: {', '.join(COLUMNS)}"
        )
    elements = [item for tensor in text for item in tensor.data]
    check_count(len(elements), max_instances)
    instances = [_element(item) for item in elements]
    return instances, len(text) == 1 and text[0].scalar and len(instances) == 1


def _from_columns(columns: Sequence[Tensor], max_instances: int | None) -> tuple[list[Instance], bool]:
    names = [tensor.name for tensor in columns]
    if len(set(names)) < len(names):
        raise InvalidRequestError(f"inputs names a field twice: {', '.join(names)}")
    counts = {len(tensor.data) for tensor in columns}
    if len(counts) > 1:
        sizes = ", ".join(f"{tensor.name} {len(tensor.data)}" for tensor in columns)
        raise InvalidRequestError(f"inputs: the fields must have as many elements as each other ({sizes})")
    check_count(len(columns[0].data), max_instances)
    instances: list[Instance] = []
    for row in zip(*(tensor.data for tensor in columns)):
        try:
            instances.append({name: _text(item) for name, item in zip(names, row)})
        except RequestError as exc:
            instances.append(Failure(exc))
    return instances, all(tensor.scalar for tensor in columns)


def _tokenized(tensors: Sequence[Tensor], max_instances: int | None) -> tuple[list[Instance], bool]:
    rows = {}
    for tensor in tensors:
        name = TOKEN_INPUTS.get(tensor.name)
        if name is None:
            raise InvalidRequestError(f"inputs: {unknown(tensor.name, TOKEN_INPUTS, 'tensor')} (or a BYTES tensor)")
        if tensor.datatype not in INTEGERS:
            raise InvalidRequestError(f"inputs: {tensor.name} must have an integer datatype, not {tensor.datatype}")
        if name in rows:
            raise InvalidRequestError(f"inputs names {name} twice")
        if tensor.shape is not None and len(tensor.shape) > 2:
            raise InvalidRequestError(f"inputs: {tensor.name} must be [rows, tokens], not {list(tensor.shape)}")
        check_count(tensor.n_rows, max_instances)
        if tensor.n_rows > 1 and not len(tensor.data):
            raise InvalidRequestError(f"inputs: {tensor.name} has rows without tokens")
        rows[name] = tensor.rows().astype(np.int64)
    if "input_ids" not in rows:
        raise InvalidRequestError("inputs: input_ids is missing")
    shapes = {array.shape for array in rows.values()}
    if len(shapes) > 1:
        sizes = ", ".join(f"{name} {list(array.shape)}" for name, array in rows.items())
        raise InvalidRequestError(f"inputs: the token tensors must have the same shape ({sizes})")
    n_rows = len(rows["input_ids"])
    single = all(tensor.shape is None or len(tensor.shape) < 2 for tensor in tensors)
    return [Tokens({name: array[i] for name, array in rows.items()}) for i in range(n_rows)], single


def _element(item: str | bytes) -> Instance:
    try:
        instance: Instance = element(item)
    except RequestError as exc:
        return Failure(exc)
    return instance


def _text(item: str | bytes) -> str:
    if isinstance(item, str):
        return item
    try:
        return item.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise InvalidRequestError(f"the element is not UTF-8 (byte {exc.start})") from exc
