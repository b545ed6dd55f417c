"""Open Inference Protocol (V2) over REST: JSON, and JSON followed by binary tensors.

https://github.com/kserve/open-inference-protocol, with Triton's binary tensor data extension.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bert_handler import jsonio
from bert_handler.errors import InvalidRequestError
from bert_handler.parameters import check_unicode, describe, quoted, unknown
from bert_handler.protocols.base import (
    Body,
    Protocol,
    error_document,
    failed,
    object_of,
    parse_json,
    truncation_notes,
)
from bert_handler.protocols.columns import instances_of
from bert_handler.protocols.outputs import OutputTensor, output_tensors
from bert_handler.protocols.tensors import (
    Tensor,
    check_datatype,
    check_shape,
    fit_shape,
    from_bytes,
    from_json,
    to_bytes,
)
from bert_handler.schema import Failure, Identity, OutputSpec, Reply, Request, Response

HEADER_LENGTH = "inference-header-content-length"
KEYS = ("id", "inputs", "outputs", "parameters")
MAX_OUTPUTS = 64
"""Of one request: more than any task has."""


class V2(Protocol):
    """`{"inputs": [...]}` in, `{"outputs": [...]}` out."""

    name = "v2"

    def decode(self, body: Body, headers: Mapping[str, str], max_instances: int | None = None) -> Request:
        header, binary = _split_body(body, headers)
        document = parse_json(header)
        if not isinstance(document, dict):
            raise InvalidRequestError(f"the body must be a JSON object, not {describe(document)}")
        for key in document:
            if key not in KEYS:
                raise InvalidRequestError(unknown(key, KEYS, "key"))
        tensors, parameters = _inputs(document.get("inputs"), binary)
        parameters.update(object_of(document.get("parameters"), "parameters"))
        binary_default = _flag(parameters.pop("binary_data_output", False), "parameters.binary_data_output")
        outputs, binary_outputs = _requested(document.get("outputs"))
        instances, scalar = instances_of(tensors, max_instances)
        return Request(instances, _id(document.get("id")), parameters, outputs, scalar, binary_outputs, binary_default)

    def encode(self, response: Response, identity: Identity, specs: Mapping[str, OutputSpec]) -> Reply:
        error = failed(response)
        if error is not None:
            return error
        request = response.request
        tensors, blocks = [], []
        for tensor in output_tensors(response, specs):
            if request.binary_outputs.get(tensor.name, request.binary_default):
                raw = to_bytes(tensor.datatype, tensor.data)
                blocks.append(raw)
                tensors.append({**_head(tensor), "parameters": {"binary_data_size": len(raw)}})
            else:
                tensors.append({**_head(tensor), "data": tensor.data})
        answer: dict[str, Any] = {} if request.id is None else {"id": request.id}
        answer.update(model_name=identity.name, model_version=identity.version)
        notes = response_parameters(response)
        if notes:
            answer["parameters"] = notes
        answer["outputs"] = tensors
        header = jsonio.dumps(answer)
        if not blocks:
            return Reply(header)
        headers = {"Inference-Header-Content-Length": str(len(header))}
        return Reply(header + b"".join(blocks), content_type="application/octet-stream", headers=headers)


def response_parameters(response: Response) -> dict[str, Any]:
    """What a V2 response says beside its outputs: truncation, and the errors of single instances."""
    notes = truncation_notes(response)
    errors = [
        {"index": index, **error_document(item)}
        for index, item in enumerate(response.predictions)
        if isinstance(item, Failure)
    ]
    if errors:
        notes["errors"] = jsonio.dumps(errors).decode()
    return notes


def _split_body(body: Body, headers: Mapping[str, str]) -> tuple[Body, bytes | None]:
    stated = headers.get(HEADER_LENGTH)
    if stated is None:
        return body, None
    if not isinstance(body, (bytes, bytearray)):
        raise InvalidRequestError("Inference-Header-Content-Length needs Content-Type: application/octet-stream")
    if not (stated.isascii() and stated.isdigit() and len(stated) < 12) or int(stated) > len(body):
        raise InvalidRequestError(
            f"Inference-Header-Content-Length must be a number up to the body's {len(body)} bytes"
        )
    length = int(stated)
    return bytes(body[:length]), bytes(body[length:])


def _inputs(inputs: Any, binary: bytes | None) -> tuple[list[Tensor], dict[str, Any]]:
    if inputs is None:
        raise InvalidRequestError("inputs is missing; send at least one tensor")
    if not isinstance(inputs, list) or not inputs:
        raise InvalidRequestError("inputs must be a list of at least one tensor")
    tensors, start = [], 0
    parameters: dict[str, Any] = {}
    for index, document in enumerate(inputs):
        field = f"inputs[{index}]"
        if not isinstance(document, dict):
            raise InvalidRequestError(f"{field} must be an object, not {describe(document)}")
        own = object_of(document.get("parameters"), f"{field}.parameters")
        own.pop("content_type", None)
        size = own.pop("binary_data_size", None)
        raw = None
        if size is not None:
            raw = _block(binary, start, size, field)
            start += len(raw)
        tensors.append(_tensor(document, raw, field))
        for key, value in own.items():
            if parameters.setdefault(key, value) != value:
                raise InvalidRequestError(f"{field}.parameters.{key} has another value than in a tensor before it")
    if binary is not None and start != len(binary):
        raise InvalidRequestError(f"{len(binary) - start} bytes follow the binary tensors that inputs declares")
    return tensors, parameters


def _tensor(document: Mapping[str, Any], raw: bytes | None, field: str) -> Tensor:
    for key in document:
        if key not in ("name", "shape", "datatype", "data", "parameters"):
            known = ("name", "shape", "datatype", "data", "parameters")
            raise InvalidRequestError(f"{field}: {unknown(key, known, 'key')}")
    name = document.get("name")
    if not isinstance(name, str) or not name:
        raise InvalidRequestError(f"{field}.name must be a non-empty string")
    if "datatype" not in document:
        raise InvalidRequestError(f"{field}.datatype is missing")
    datatype = check_datatype(document["datatype"], field)
    if "shape" not in document:
        raise InvalidRequestError(f"{field}.shape is missing; send [n], or -1 to leave it open")
    shape = check_shape(document["shape"], field)
    if raw is None:
        if "data" not in document:
            raise InvalidRequestError(f"{field}.data is missing")
        data, nesting = from_json(datatype, document["data"], field)
    elif "data" in document:
        raise InvalidRequestError(f"{field} has both data and binary_data_size")
    else:
        data = from_bytes(datatype, raw, field)
        nesting = (len(data),)
    return Tensor(name, datatype, fit_shape(shape, nesting, field), data, bare=not nesting)


def _block(binary: bytes | None, start: int, size: Any, field: str) -> bytes:
    if binary is None:
        raise InvalidRequestError(f"{field}.binary_data_size needs the header Inference-Header-Content-Length")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise InvalidRequestError(f"{field}.binary_data_size must be a number of bytes")
    if start + size > len(binary):
        raise InvalidRequestError(f"{field}.binary_data_size is {size}, but {len(binary) - start} bytes are left")
    return binary[start : start + size]


def _requested(outputs: Any) -> tuple[tuple[str, ...] | None, dict[str, bool]]:
    if outputs is None or outputs == []:
        return None, {}
    if not isinstance(outputs, list):
        raise InvalidRequestError(f"outputs must be a list of objects with a name, not {describe(outputs)}")
    if len(outputs) > MAX_OUTPUTS:
        raise InvalidRequestError(f"outputs has {len(outputs)} entries; at most {MAX_OUTPUTS} are taken")
    wanted: dict[str, bool | None] = {}
    for index, item in enumerate(outputs):
        name, binary = _requested_output(item, f"outputs[{index}]")
        if name in wanted:
            raise InvalidRequestError(f"outputs[{index}].name: {quoted(name)} is asked for twice")
        wanted[name] = binary
    return tuple(wanted), {name: binary for name, binary in wanted.items() if binary is not None}


def _requested_output(item: Any, field: str) -> tuple[str, bool | None]:
    """Its name, and whether it is wanted as raw bytes, None where that is not said."""
    if not isinstance(item, dict):
        raise InvalidRequestError(f"{field} must be an object with a name, not {describe(item)}")
    name = item.get("name")
    if not isinstance(name, str) or not name:
        raise InvalidRequestError(f"{field}.name must be a non-empty string")
    for key in item:
        if key not in ("name", "parameters"):
            raise InvalidRequestError(f"{field}: {unknown(key, ('name', 'parameters'), 'key')}")
    own = object_of(item.get("parameters"), f"{field}.parameters")
    for key in own:
        if key != "binary_data":
            raise InvalidRequestError(f"{field}.parameters: {unknown(key, ['binary_data'], 'parameter')}")
    return name, _flag(own["binary_data"], f"{field}.parameters.binary_data") if own else None


def _flag(value: Any, field: str) -> bool:
    if not isinstance(value, bool):
        raise InvalidRequestError(f"{field} must be true or false, not {describe(value)}")
    return value


def _id(value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise InvalidRequestError(f"id must be a string, not {describe(value)}")
    if value is not None:
        check_unicode("id", value, InvalidRequestError)
    return value


def _head(tensor: OutputTensor) -> dict[str, Any]:
    return {"name": tensor.name, "shape": tensor.shape, "datatype": tensor.datatype}
