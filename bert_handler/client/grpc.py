"""V2 over gRPC, for clients that have grpcio and protobuf but no KServe SDK."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Callable
from urllib.parse import urlsplit

from bert_handler.client.base import Exchange, InferResponse, V2Client
from bert_handler.errors import ConfigError, MissingExtraError, UnservableError
from bert_handler.protocols.v2_grpc import STATUS

try:
    import grpc

    from bert_handler.client.messages import (
        answer_document,
        message_type,
        model_metadata,
        request_fields,
        server_metadata,
    )
except ImportError as exc:  # pragma: no cover
    raise MissingExtraError("grpcio", "grpc") from exc

SERVICE = "inference.GRPCInferenceService"
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
            return self._answered(lambda: self._call("ServerMetadata", server_metadata)).document
        fields = {"name": model, "version": version or ""}
        return self._answered(lambda: self._call("ModelMetadata", model_metadata, **fields)).document

    def send(
        self, model: str, body: Mapping[str, Any] | bytes, *, version: str | None = None, explain: bool = False
    ) -> InferResponse:
        if explain:
            raise UnservableError("the protocol explains over REST only")
        fields = {**request_fields(body), "model_name": model, "model_version": version or ""}
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


def _status(code: str, trailing: Mapping[str, str]) -> int:
    # gRPC itself refuses a message that is too large with the code of a full queue, which says when to come again.
    return 413 if code == "RESOURCE_EXHAUSTED" and "retry-after" not in trailing else _HTTP.get(code, 500)
