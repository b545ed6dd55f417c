"""V2 over gRPC, for clients that have grpcio and protobuf but no KServe SDK.

The protocol's messages are built here from a table, in a descriptor pool of their own: importing
the SDK's generated code costs two seconds, and its copy may be loaded beside this one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Callable
from urllib.parse import urlsplit

from bert_handler import jsonio
from bert_handler.client.base import Exchange, InferResponse, V2Client
from bert_handler.errors import ConfigError, InvalidRequestError, MissingExtraError, UnservableError
from bert_handler.parameters import describe, unknown
from bert_handler.protocols.tensors import check_datatype, check_shape, fit_shape, from_bytes, from_json, to_bytes
from bert_handler.protocols.v2 import KEYS
from bert_handler.protocols.v2_grpc import STATUS, parameters

try:
    import grpc
    from google.protobuf import (  # type: ignore[import-untyped, unused-ignore]
        descriptor_pb2,
        descriptor_pool,
        message_factory,
    )
except ImportError as exc:  # pragma: no cover
    raise MissingExtraError("grpcio", "grpc") from exc

TENSOR_KEYS = ("name", "shape", "datatype", "parameters", "data")
SERVICE = "inference.GRPCInferenceService"
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

_HTTP = {code: status for status, code in reversed(list(STATUS.items()))}


class GrpcClient(V2Client):
    """V2 over gRPC.  host: the :authority."""

    def _connect(self, headers: dict[str, str], ca_file: Path | None) -> None:
        self._channel = _channel(self.url, headers.pop("host", None), ca_file, local=self.local)
        self._metadata = list(headers.items())

    def close(self) -> None:
        self._channel.close()

    def live(self) -> bool:
        return self._is("ServerLive", "live")

    def ready(self, model: str | None = None) -> bool:
        return self._is("ModelReady", "ready", name=model) if model else self._is("ServerReady", "ready")

    def models(self) -> list[str]:
        raise UnservableError("the protocol lists models over REST only")

    def metadata(self, model: str | None = None, version: str | None = None) -> Mapping[str, Any]:
        if model is None:
            return self._answered(lambda: self._call("ServerMetadata", _server_metadata)).document
        fields = {"name": model, "version": version or ""}
        return self._answered(lambda: self._call("ModelMetadata", _model_metadata, **fields)).document

    def send(
        self, model: str, body: Mapping[str, Any] | bytes, *, version: str | None = None, explain: bool = False
    ) -> InferResponse:
        if explain:
            raise UnservableError("the protocol explains over REST only")
        fields = {**request_fields(_parsed(body)), "model_name": model, "model_version": version or ""}
        return self._answered(lambda: self._call("ModelInfer", answer_document, **fields))

    def _is(self, method: str, state: str, **fields: Any) -> bool:
        return self._call(method, lambda message: getattr(message, state), **fields).document is True

    def _call(self, method: str, read: Callable[[Any], Any], **fields: Any) -> Exchange:
        reply_type = message_type(f"{method}Response")
        call = self._channel.unary_unary(
            f"/{SERVICE}/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=reply_type.FromString,
        )
        request = message_type(f"{method}Request")(**fields)
        try:
            return Exchange(200, read(call(request, timeout=self.timeout_s, metadata=self._metadata)))
        except grpc.RpcError as exc:
            metadata: Any = exc.trailing_metadata()
            trailing = {str(key): str(value) for key, value in metadata or ()}
            return Exchange(_status(exc.code().name, trailing), None, exc.details() or exc.code().name, trailing)


def request_fields(request: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a ModelInferRequest from a V2 request as JSON; its tensors become raw contents.

    Raises InvalidRequestError at a field that the message could not have.
    """
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
    """A ModelInferResponse with raw contents as the V2 answer that REST gives."""
    outputs = []
    for tensor, block in zip(message.outputs, message.raw_output_contents):
        values = from_bytes(tensor.datatype, block, tensor.name)
        data = [value.decode() for value in values] if tensor.datatype == "BYTES" else values.tolist()  # type: ignore[union-attr]
        own = {"name": tensor.name, "shape": list(tensor.shape), "datatype": tensor.datatype}
        outputs.append({**own, "data": data})
    answer: dict[str, Any] = {"id": message.id} if message.id else {}
    answer.update(model_name=message.model_name, model_version=message.model_version, outputs=outputs)
    notes = parameters(message.parameters)
    return {**answer, "parameters": notes} if notes else answer


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


def _channel(url: str, host: str | None, ca_file: Path | None, *, local: bool) -> Any:
    parts = urlsplit(url if "//" in url else f"//{url}")
    if parts.scheme not in ("", "http", "https", "grpc", "grpcs") or parts.path.strip("/") or not parts.netloc:
        raise ConfigError(f"{url!r} is no gRPC address; give http://HOST:PORT or https://HOST:PORT")
    options: list[tuple[str, Any]] = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    if host:
        options.append(("grpc.default_authority", host))
    if local:
        # A proxy would see texts and token of what never leaves this machine.
        options.append(("grpc.enable_http_proxy", 0))
    if parts.scheme not in ("https", "grpcs"):
        return grpc.insecure_channel(parts.netloc, options)
    roots = ca_file.read_bytes() if ca_file else None
    return grpc.secure_channel(parts.netloc, grpc.ssl_channel_credentials(roots), options)


def _server_metadata(message: Any) -> dict[str, Any]:
    return {"name": message.name, "version": message.version, "extensions": list(message.extensions)}


def _model_metadata(message: Any) -> dict[str, Any]:
    tensors = {
        side: [{"name": t.name, "datatype": t.datatype, "shape": list(t.shape)} for t in getattr(message, side)]
        for side in ("inputs", "outputs")
    }
    return {"name": message.name, "versions": list(message.versions), "platform": message.platform, **tensors}


def _status(code: str, trailing: Mapping[str, str]) -> int:
    # gRPC itself refuses a message that is too large with the code of a full queue, which says when to come again.
    return 413 if code == "RESOURCE_EXHAUSTED" and "retry-after" not in trailing else _HTTP.get(code, 500)


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
