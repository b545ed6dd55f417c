"""V2 over gRPC, as a transport of V2 with binary tensors: the same bytes behind another frame.

Messages are read and built by their field names, so that no generated code is imported here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bert_handler import jsonio
from bert_handler.errors import InternalError, InvalidRequestError
from bert_handler.parameters import quoted
from bert_handler.protocols.tensors import DTYPES, check_datatype, from_bytes, to_bytes
from bert_handler.protocols.v2 import HEADER_LENGTH
from bert_handler.schema import Reply

CONTENTS = {
    "BOOL": "bool_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
"""The protocol has no field for FP16: it travels raw only."""

STATUS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    413: "INVALID_ARGUMENT",
    422: "FAILED_PRECONDITION",
    429: "RESOURCE_EXHAUSTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
"""gRPC code of an HTTP status; INTERNAL where it is not listed."""


def request_body(message: Any) -> tuple[bytes, dict[str, str]]:
    """A ModelInferRequest as a V2 body with binary tensors, and its headers.

    Raises InvalidRequestError when contents and raw contents are mixed or missing.
    """
    raw = list(message.raw_input_contents)
    if raw and len(raw) != len(message.inputs):
        raise InvalidRequestError(f"raw_input_contents has {len(raw)} entries for {len(message.inputs)} inputs")
    blocks, inputs = [], []
    for index, tensor in enumerate(message.inputs):
        field = f"inputs[{index}]"
        if raw and tensor.HasField("contents"):
            raise InvalidRequestError(f"{field} has contents beside raw_input_contents; send one of them")
        block = raw[index] if raw else contents_block(tensor, field)
        own = {**parameters(tensor.parameters), "binary_data_size": len(block)}
        shape = list(tensor.shape)
        inputs.append({"name": tensor.name, "datatype": tensor.datatype, "shape": shape, "parameters": own})
        blocks.append(block)
    document: dict[str, Any] = {"inputs": inputs}
    if message.id:
        document["id"] = message.id
    if message.outputs:
        document["outputs"] = [
            {"name": output.name, "parameters": {**parameters(output.parameters), "binary_data": True}}
            for output in message.outputs
        ]
    document["parameters"] = {**parameters(message.parameters), "binary_data_output": True}
    header = jsonio.dumps(document)
    return header + b"".join(blocks), {HEADER_LENGTH: str(len(header))}


def response_fields(reply: Reply, *, raw: bool) -> dict[str, Any]:
    """The fields of a ModelInferResponse from a V2 reply with binary tensors.

    raw: answer with raw contents, as the request came.
    Raises InternalError where the reply is no V2 document: a handler of one's own may answer in another form.
    """
    stated = {name.lower(): value for name, value in reply.headers.items()}.get(HEADER_LENGTH)
    length = len(reply.body) if stated is None else int(stated)
    document = _document(reply.body[:length])
    outputs, blocks, start = [], [], length
    for tensor in document["outputs"]:
        size = tensor["parameters"]["binary_data_size"]
        block = reply.body[start : start + size]
        start += size
        fields = {"name": tensor["name"], "datatype": tensor["datatype"], "shape": tensor["shape"]}
        if not raw:
            fields["contents"] = {CONTENTS[tensor["datatype"]]: _values(tensor["datatype"], block)}
        blocks.append(block)
        outputs.append(fields)
    notes = document.get("parameters", {})
    return {
        "id": document.get("id", ""),
        "model_name": document["model_name"],
        "model_version": document["model_version"],
        "parameters": {name: _parameter(value) for name, value in notes.items()},
        "outputs": outputs,
        "raw_output_contents": blocks if raw else [],
    }


def _document(body: bytes) -> Mapping[str, Any]:
    try:
        document = jsonio.loads(body)
    except ValueError:
        document = None
    if not isinstance(document, dict) or "outputs" not in document:
        raise InternalError("the model's handler did not answer in V2; ask it over REST")
    return document


def parameters(message: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a map of InferParameter."""
    values = {}
    for name, parameter in message.items():
        choice = parameter.WhichOneof("parameter_choice")
        if choice is None:
            raise InvalidRequestError(f"parameter {quoted(name)} has no value")
        values[name] = getattr(parameter, choice)
    return values


def contents_block(tensor: Any, field: str) -> bytes:
    """The typed contents of a tensor as its raw ones.

    Raises InvalidRequestError where the datatype is unknown, or the contents are of another.
    """
    datatype = check_datatype(tensor.datatype, field)
    if datatype not in CONTENTS:
        raise InvalidRequestError(f"{field}: {datatype} travels in raw_input_contents only")
    values: Sequence[Any] = getattr(tensor.contents, CONTENTS[datatype])
    filled = [entry.name for entry, _ in tensor.contents.ListFields()]
    if filled not in ([], [CONTENTS[datatype]]):
        raise InvalidRequestError(f"{field}.contents must use {CONTENTS[datatype]} for {datatype}")
    if datatype in DTYPES and len(values):
        array = np.array(values)
        if not np.array_equal(array.astype(DTYPES[datatype]), array, equal_nan=True):
            raise InvalidRequestError(f"{field}.contents has a value that is no {datatype}")
    return to_bytes(datatype, values)


def _values(datatype: str, block: bytes) -> list[Any]:
    values = from_bytes(datatype, block, "outputs")
    return values if isinstance(values, list) else list(values.tolist())


def _parameter(value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"bool_param": value}
    return {"int64_param": value} if isinstance(value, int) else {"string_param": str(value)}
