"""The gRPC form of the KServe host's routes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from functools import wraps
from pathlib import Path
from typing import Any, Callable, NoReturn

import grpc

import bert_handler
from bert_handler import jsonio
from bert_handler.deadlines import HEADER, MAX_TIMEOUT_MS
from bert_handler.deferred import IN_SERVERS, deferred
from bert_handler.errors import ForbiddenError, InternalError, RequestError, of_status
from bert_handler.metrics import caller_of
from bert_handler.protocols import V2_REST
from bert_handler.protocols.v2_grpc import STATUS, request_body, response_fields
from bert_handler.server.guard import UNMANAGED, Guard
from bert_handler.server.repository import Repository
from bert_handler.server.routes import Models, extensions_of, find
from bert_handler.tracing import REQUEST_HEADERS

with deferred(*IN_SERVERS):
    from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
    from kserve.protocol.grpc import grpc_predict_v2_pb2_grpc as pb_grpc

logger = logging.getLogger(__name__)

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


Method = Callable[[Any, Any, Any], Awaitable[Any]]


def _answering(method: Method) -> Method:
    """The method, with what it raises as a gRPC status; of a defect the client is told nothing."""

    @wraps(method)
    async def answered(self: Any, request: Any, context: Any) -> Any:
        error: RequestError
        try:
            return await method(self, request, context)
        except RequestError as exc:
            error = exc
        except Exception:
            caller = caller_of(dict(context.invocation_metadata() or ()))
            logger.exception("%s failed, request_id=%a", method.__name__, caller)
            error = InternalError()
        return await _abort(context, error)

    return answered


class Servicer(pb_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc, unused-ignore]
    """What each method answers."""

    def __init__(self, models: Models, repository: Repository | None = None) -> None:
        self._models = models
        self._repository = repository

    @_answering
    async def ServerLive(self, request: Any, context: Any) -> Any:  # noqa: N802
        return pb.ServerLiveResponse(live=not any(model.lost for model in self._models().values()))

    @_answering
    async def ServerReady(self, request: Any, context: Any) -> Any:  # noqa: N802
        states = [await model.healthy() for model in self._models().values()]
        return pb.ServerReadyResponse(ready=bool(states) and all(states))

    @_answering
    async def ModelReady(self, request: Any, context: Any) -> Any:  # noqa: N802
        model = await find(self._models(), request.name, request.version)
        return pb.ModelReadyResponse(ready=await model.healthy())

    @_answering
    async def ServerMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802
        extensions = extensions_of(repository=self._repository is not None)
        return pb.ServerMetadataResponse(name="bert-handler", version=bert_handler.__version__, extensions=extensions)

    @_answering
    async def ModelMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802
        model = await find(self._models(), request.name, request.version)
        return pb.ModelMetadataResponse(**await model.metadata())

    @_answering
    async def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802
        model = await find(self._models(), request.model_name, request.model_version)
        body, headers = request_body(request)
        headers.update(_timeout(context))
        carried = dict(context.invocation_metadata() or ())
        headers.update({name: carried[name] for name in REQUEST_HEADERS if name in carried})
        reply = await model.reply(body, headers, V2_REST)
        if reply.status != 200:
            if "Retry-After" in reply.headers:
                context.set_trailing_metadata((("retry-after", reply.headers["Retry-After"]),))
            raise of_status(reply.status, str(jsonio.loads(reply.body)["error"]))
        return pb.ModelInferResponse(**response_fields(reply, raw=bool(request.raw_input_contents)))

    @_answering
    async def RepositoryModelLoad(self, request: Any, context: Any) -> Any:  # noqa: N802
        await self._kept().load(request.model_name)
        return pb.RepositoryModelLoadResponse(model_name=request.model_name, isLoaded=True)

    @_answering
    async def RepositoryModelUnload(self, request: Any, context: Any) -> Any:  # noqa: N802
        await self._kept().unload(request.model_name)
        return pb.RepositoryModelUnloadResponse(model_name=request.model_name, isUnloaded=True)

    def _kept(self) -> Repository:
        if self._repository is None:
            raise ForbiddenError(UNMANAGED)
        return self._repository


def _timeout(context: Any) -> dict[str, str]:
    left = context.time_remaining()
    return {} if left is None else {HEADER: str(max(1, min(int(left * 1000), MAX_TIMEOUT_MS)))}


async def _abort(context: Any, error: RequestError) -> NoReturn:
    try:
        await context.abort(getattr(grpc.StatusCode, STATUS.get(error.status, "INTERNAL")), str(error))
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
        method = details.method.rpartition("/")[2]
        try:
            self._guard.admit(
                metadata.get("authorization"), probe=method in PROBES, management=method.startswith("Repository")
            )
        except RequestError as exc:
            error = exc

            async def refuse(request: Any, context: Any) -> Any:
                await _abort(context, error)

            return grpc.unary_unary_rpc_method_handler(refuse)
        return await continuation(details)
