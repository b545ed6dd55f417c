"""The gRPC form of the KServe host's routes."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, NoReturn

import grpc

import bert_handler
from bert_handler import jsonio
from bert_handler.deadlines import HEADER, MAX_TIMEOUT_MS
from bert_handler.deferred import IN_SERVERS, deferred
from bert_handler.errors import RequestError
from bert_handler.protocols import V2_REST, error_reply
from bert_handler.protocols.v2_grpc import STATUS, request_body, response_fields
from bert_handler.server.guard import Guard
from bert_handler.server.routes import EXTENSIONS, Models, ServedModel, find
from bert_handler.tracing import REQUEST_HEADERS

with deferred(*IN_SERVERS):
    from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
    from kserve.protocol.grpc import grpc_predict_v2_pb2_grpc as pb_grpc

PROBES = {"ServerLive", "ServerReady", "ModelReady"}


def grpc_server(
    servicer: Servicer, address: str, guard: Guard, max_body_bytes: int, tls: tuple[Path, Path] | None
) -> grpc.aio.Server:
    """A server that is not started yet.  tls: files of the certificate and its key."""
    server = grpc.aio.server(
        interceptors=[GuardInterceptor(guard)], options=[("grpc.max_receive_message_length", max_body_bytes)]
    )
    pb_grpc.add_GRPCInferenceServiceServicer_to_server(servicer, server)
    if tls is None:
        server.add_insecure_port(address)
    else:
        certificate, key = (path.read_bytes() for path in tls)
        server.add_secure_port(address, grpc.ssl_server_credentials([(key, certificate)]))
    return server


class Servicer(pb_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc, unused-ignore]
    """What each method answers."""

    def __init__(self, models: Models) -> None:
        self._models = models

    async def ServerLive(self, request: Any, context: Any) -> Any:  # noqa: N802
        return pb.ServerLiveResponse(live=not any(model.lost for model in self._models().values()))

    async def ServerReady(self, request: Any, context: Any) -> Any:  # noqa: N802
        states = [await model.healthy() for model in self._models().values()]
        return pb.ServerReadyResponse(ready=bool(states) and all(states))

    async def ModelReady(self, request: Any, context: Any) -> Any:  # noqa: N802
        model = await self._model(request.name, request.version, context)
        return pb.ModelReadyResponse(ready=await model.healthy())

    async def ServerMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802
        return pb.ServerMetadataResponse(name="bert-handler", version=bert_handler.__version__, extensions=EXTENSIONS)

    async def ModelMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802
        model = await self._model(request.name, request.version, context)
        try:
            return pb.ModelMetadataResponse(**await model.metadata())
        except RequestError as exc:
            return await _abort(context, exc.status, str(exc))

    async def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802
        model = await self._model(request.model_name, request.model_version, context)
        try:
            body, headers = request_body(request)
            headers.update(_timeout(context))
            carried = dict(context.invocation_metadata() or ())
            headers.update({name: carried[name] for name in REQUEST_HEADERS if name in carried})
            reply = await model.reply(body, headers, V2_REST)
        except RequestError as exc:
            reply = error_reply(exc)
        if reply.status != 200:
            if "Retry-After" in reply.headers:
                context.set_trailing_metadata((("retry-after", reply.headers["Retry-After"]),))
            await _abort(context, reply.status, str(jsonio.loads(reply.body)["error"]))
        return pb.ModelInferResponse(**response_fields(reply, raw=bool(request.raw_input_contents)))

    async def RepositoryModelLoad(self, request: Any, context: Any) -> Any:  # noqa: N802
        message = "models are loaded and unloaded over REST, where the server has --enable-repository"
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, message)

    RepositoryModelUnload = RepositoryModelLoad

    async def _model(self, name: str, version: str, context: Any) -> ServedModel:
        try:
            return await find(self._models(), name, version)
        except RequestError as exc:
            return await _abort(context, exc.status, str(exc))


def _timeout(context: Any) -> dict[str, str]:
    left = context.time_remaining()
    return {} if left is None else {HEADER: str(max(1, min(int(left * 1000), MAX_TIMEOUT_MS)))}


async def _abort(context: Any, status: int, message: str) -> NoReturn:
    try:
        await context.abort(getattr(grpc.StatusCode, STATUS.get(status, "INTERNAL")), message)
    except grpc.aio.InternalError as exc:
        # The caller has gone in this moment: there is nobody to tell, and nothing to log.
        raise asyncio.CancelledError from exc
    raise AssertionError("abort raises")


class GuardInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[misc, unused-ignore]
    """The guard before every gRPC method."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard

    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        metadata = {name: value for name, value in details.invocation_metadata or () if name == "authorization"}
        try:
            self._guard.admit(metadata.get("authorization"), probe=details.method.rpartition("/")[2] in PROBES)
        except RequestError as exc:
            status, message = exc.status, str(exc)

            async def refuse(request: Any, context: Any) -> Any:
                await _abort(context, status, message)

            return grpc.unary_unary_rpc_method_handler(refuse)
        return await continuation(details)
