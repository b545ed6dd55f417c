"""The protocol's gRPC messages, and V2 as JSON made of them and into them.

They are built from a table, in a descriptor pool of their own: importing the SDK's generated code costs two
seconds, and its copy may be loaded beside this one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from google.protobuf import (  # type: ignore[import-untyped, unused-ignore]
    descriptor_pb2,
    descriptor_pool,
    message_factory,
)

from bert_handler import jsonio
from bert_handler.errors import InvalidRequestError
from bert_handler.parameters import describe, unknown
from bert_handler.protocols.tensors import check_datatype, check_shape, fit_shape, from_bytes, from_json, to_bytes
from bert_handler.protocols.v2 import KEYS
from bert_handler.protocols.v2_grpc import contents_block, parameters

TENSOR_KEYS = ("name", "shape", "datatype", "parameters", "data")
MESSAGES = {
    "ServerLiveRequest": "",
    "ServerLiveResponse": "live:bool",
    "ServerReadyRequest": "",
    "ServerReadyResponse": "ready:bool",
    "ModelReadyRequest": "name:string version:string",
    "ModelReadyResponse": "ready:bool",
    "ServerMetadataRequest": "",
    "ServerMetadataResponse": "name:string version:string extensions:string*",
    "ModelMetadataRequest": "name:string version:string",
    "ModelMetadataResponse": "name:string versions:string* platform:string inputs:TensorMetadata*"
    " outputs:TensorMetadata*",
    "ModelMetadataResponse.TensorMetadata": "name:string datatype:string shape:int64*",
    "ModelInferRequest": "model_name:string model_version:string id:string parameters:map inputs:InferInputTensor*"
    " outputs:InferRequestedOutputTensor* raw_input_contents:bytes*",
    "ModelInferRequest.InferInputTensor": "name:string datatype:string shape:int64* parameters:map"
    " contents:InferTensorContents",
    "ModelInferRequest.InferRequestedOutputTensor": "name:string parameters:map",
    "ModelInferResponse": "model_name:string model_version:string id:string parameters:map"
    " outputs:InferOutputTensor* raw_output_contents:bytes*",
    "ModelInferResponse.InferOutputTensor": "name:string datatype:string shape:int64* parameters:map"
    " contents:InferTensorContents",
    "InferParameter": "bool_param:bool int64_param:int64 string_param:string",
    "InferTensorContents": "bool_contents:bool* int_contents:int32* int64_contents:int64* uint_contents:uint32*"
    " uint64_contents:uint64* fp32_contents:float* fp64_contents:double* bytes_contents:bytes*",
}
"""Fields of the protocol's messages in the order of their numbers; * marks a repeated one."""


def request_fields(body: Mapping[str, Any] | bytes) -> dict[str, Any]:
    """The fields of a ModelInferRequest from a V2 request, parsed or not; its tensors become raw contents.

    Raises InvalidRequestError at a field that the message could not have.
    """
    request = _parsed(body)
    _check_keys(request, KEYS, "")
    inputs, blocks = [], []
    for index, tensor in enumerate(_objects(request, "inputs")):
        field = f"inputs[{index}]"
        _check_keys(tensor, TENSOR_KEYS, f"{field}: ")
        datatype = check_datatype(tensor.get("datatype"), field)
        values, nesting = from_json(datatype, tensor.get("data"), field)
        shape = fit_shape(check_shape(tensor.get("shape"), field), nesting, field)
        own = {"name": _name(tensor, field), "datatype": datatype, "parameters": _parameters(tensor, f"{field}.")}
        inputs.append({**own, "shape": nesting if shape is None else shape})
        blocks.append(to_bytes(datatype, values))
    return {
        "id": _id(request),
        "inputs": inputs,
        "outputs": [
            {"name": _name(output, f"outputs[{index}]"), "parameters": _parameters(output, f"outputs[{index}].")}
            for index, output in enumerate(_objects(request, "outputs"))
        ],
        "parameters": _parameters(request, ""),
        "raw_input_contents": blocks,
    }


def answer_document(message: Any) -> dict[str, Any]:
    """A ModelInferResponse, with raw contents or typed ones, as the V2 answer that REST gives."""
    outputs = []
    blocks = message.raw_output_contents or [contents_block(tensor, tensor.name) for tensor in message.outputs]
    for tensor, block in zip(message.outputs, blocks):
        values = from_bytes(tensor.datatype, block, tensor.name)
        data = [value.decode() for value in values] if tensor.datatype == "BYTES" else values.tolist()  # type: ignore[union-attr]
        own = {"name": tensor.name, "shape": list(tensor.shape), "datatype": tensor.datatype}
        outputs.append({**own, "data": data})
    answer: dict[str, Any] = {"id": message.id} if message.id else {}
    answer.update(model_name=message.model_name, model_version=message.model_version, outputs=outputs)
    notes = parameters(message.parameters)
    return {**answer, "parameters": notes} if notes else answer


def server_metadata(message: Any) -> dict[str, Any]:
    """A ServerMetadataResponse as REST gives it."""
    return {"name": message.name, "version": message.version, "extensions": list(message.extensions)}


def model_metadata(message: Any) -> dict[str, Any]:
    """A ModelMetadataResponse as REST gives it."""
    tensors = {
        side: [{"name": t.name, "datatype": t.datatype, "shape": list(t.shape)} for t in getattr(message, side)]
        for side in ("inputs", "outputs")
    }
    return {"name": message.name, "versions": list(message.versions), "platform": message.platform, **tensors}


@cache
def message_type(name: str) -> Any:
    """The class of one of the protocol's messages."""
    return message_factory.GetMessageClass(_pool().FindMessageTypeByName(f"inference.{name}"))


@cache
def _pool() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="grpc_predict_v2.proto", package="inference", syntax="proto3")
    made: dict[str, Any] = {}
    for name, fields in MESSAGES.items():
        outer, _, inner = name.rpartition(".")
        message = made[outer].nested_type.add(name=inner) if outer else file.message_type.add(name=inner)
        made[name] = message
        for number, entry in enumerate(fields.split(), 1):
            _add_field(message, name, number, *entry.split(":"))
    choice = made["InferParameter"]
    choice.oneof_decl.add(name="parameter_choice")
    for field in choice.field:
        field.oneof_index = 0
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)  # type: ignore[no-untyped-call, unused-ignore]
    return pool


def _add_field(message: Any, owner: str, number: int, name: str, kind: str) -> None:
    field = message.field.add(name=name, number=number)
    repeated = kind.endswith("*") or kind == "map"
    field.label = field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL
    kind = kind.rstrip("*")
    if kind == "map":
        entry = message.nested_type.add(name="ParametersEntry")
        entry.options.map_entry = True
        _add_field(entry, owner, 1, "key", "string")
        _add_field(entry, owner, 2, "value", "InferParameter")
        kind = f"{owner}.ParametersEntry"
    elif f"{owner}.{kind}" in MESSAGES:
        kind = f"{owner}.{kind}"
    if kind[0].isupper():
        field.type, field.type_name = field.TYPE_MESSAGE, f".inference.{kind}"
    else:
        field.type = getattr(field, f"TYPE_{kind.upper()}")


def _parsed(body: Mapping[str, Any] | bytes) -> Mapping[str, Any]:
    try:
        content = jsonio.loads(body) if isinstance(body, bytes) else body
    except ValueError as exc:
        raise InvalidRequestError(f"the request is not JSON: {exc}") from exc
    if not isinstance(content, Mapping):
        raise InvalidRequestError(f"the request must be an object, not {describe(content)}")
    return content


def _objects(request: Mapping[str, Any], field: str) -> Sequence[Mapping[str, Any]]:
    items = () if request.get(field) is None else request[field]
    if not isinstance(items, (list, tuple)) or not all(isinstance(item, Mapping) for item in items):
        raise InvalidRequestError(f"{field} must be a list of objects")
    return items


def _name(owner: Mapping[str, Any], field: str) -> str:
    name = owner.get("name", "")
    if not isinstance(name, str):
        raise InvalidRequestError(f"{field}.name must be a string, not {describe(name)}")
    return name


def _id(request: Mapping[str, Any]) -> str:
    given = request.get("id")
    if given is not None and not isinstance(given, str):
        raise InvalidRequestError(f"id must be a string, not {describe(given)}")
    return given or ""


def _check_keys(owner: Mapping[str, Any], known: Sequence[str], prefix: str) -> None:
    other = next((key for key in owner if key not in known), None)
    if other is not None:
        raise InvalidRequestError(prefix + unknown(other, known, "key"))


def _parameters(owner: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    given = owner.get("parameters")
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise InvalidRequestError(f"{prefix}parameters must be an object, not {describe(given)}")
    return {name: _parameter(name, value) for name, value in given.items()}


def _parameter(name: str, value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"bool_param": value}
    if isinstance(value, int):
        return {"int64_param": value}
    if isinstance(value, str):
        return {"string_param": value}
    raise InvalidRequestError(f"parameter {name} must be a string, an integer or a boolean over gRPC")
