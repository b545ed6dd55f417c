"""The HTTP routes of the KServe host: the Open Inference Protocol, V1, and TorchServe's own.

They stand in the place of the SDK's: those refuse requests that clients send (shapes of -1, bare
strings, missing content types), parse each body twice, and answer errors in another form.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, Callable, Optional, Union
from typing import Protocol as Interface

from starlette.convertors import Convertor, register_url_convertor
from starlette.responses import StreamingResponse
from starlette.routing import Route

import bert_handler
from bert_handler import jsonio
from bert_handler.errors import ModelNotFoundError, NotReadyError
from bert_handler.parameters import quoted
from bert_handler.protocols import V2_REST, Protocol
from bert_handler.schema import Reply
from bert_handler.server import DEFAULT_BODY_BYTES, openapi
from bert_handler.server.asgi import HARDENING, Handler, HttpRequest, Watch, route
from bert_handler.serving import EVENT_STREAM, EXPLAIN_HEADER, wants_stream

REPOSITORY_INDEX = "/v2/repository/index"
_STREAM = {"content-type": EVENT_STREAM, **{name.decode(): value.decode() for name, value in HARDENING}}

Events = AsyncIterator[bytes]


class ModelName(Convertor[str]):
    """A name before `:predict`, so that a GET of that path is a wrong method and no unknown model."""

    regex = "[^/:]+"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("model", ModelName())


class ServedModel(Interface):
    """What a route needs of a model, be it in this process or behind another server.

    streams: whether it may answer with server-sent events.
    """

    streams: bool

    @property
    def lost(self) -> bool:
        """Whether only a new process can serve it."""

    async def reply(self, body: bytes, headers: Mapping[str, str], protocol: Optional[Protocol]) -> Reply:
        """Answer one body; never raises for a refused request."""

    async def stream(
        self, body: bytes, headers: Mapping[str, str], protocol: Optional[Protocol]
    ) -> Union[Reply, Events]:
        """Answer one body with server-sent events, or refuse it."""

    async def metadata(self) -> Mapping[str, Any]:
        """V2 model metadata."""

    async def healthy(self) -> bool:
        """Whether it would answer now."""


Models = Callable[[], Mapping[str, ServedModel]]


class Routes:
    """The endpoints over a live view of the served models."""

    def __init__(self, models: Models, max_body_bytes: int = DEFAULT_BODY_BYTES) -> None:
        self._models = models
        self._max_body_bytes = max_body_bytes

    def routes(self) -> list[Route]:
        """All routes, most requested first.

        TorchServe's take PUT as well: `curl -T FILE` sends it.
        """
        table: list[tuple[str, str, Handler]] = [
            ("POST", "/v2/models/{name}/infer", self._infer(V2_REST)),
            ("POST", "/v2/models/{name}/versions/{version}/infer", self._infer(V2_REST)),
            ("POST", "/v1/models/{name}:predict", self._infer(None)),
            ("POST PUT", "/predictions/{name}", self._infer(None)),
            ("POST PUT", "/predictions/{name}/{version}", self._infer(None)),
            ("POST", "/v2/models/{name}/explain", self._infer(V2_REST, explain=True)),
            ("POST", "/v2/models/{name}/versions/{version}/explain", self._infer(V2_REST, explain=True)),
            ("POST", "/v1/models/{name}:explain", self._infer(None, explain=True)),
            ("POST PUT", "/explanations/{name}", self._infer(None, explain=True)),
            ("POST PUT", "/explanations/{name}/{version}", self._infer(None, explain=True)),
            ("GET", "/", self.live),
            ("GET", "/v2", self.server_metadata),
            ("GET", "/v2/", self.server_metadata),
            ("GET", "/v2/health/live", self.live),
            ("GET", "/v2/health/ready", self.ready),
            ("GET", "/v2/models", self.list_models),
            ("GET", "/v1/models", self.list_models),
            ("GET", "/v2/models/{name}", self.model_metadata),
            ("GET", "/v2/models/{name}/versions/{version}", self.model_metadata),
            ("GET", "/v2/models/{name}/ready", self.model_ready),
            ("GET", "/v2/models/{name}/versions/{version}/ready", self.model_ready),
            ("GET", "/v1/models/{name:model}", self.model_ready),
            ("GET", "/openapi.json", self.described),
        ]
        return [route(*row) for row in table]

    async def server_metadata(self, request: HttpRequest) -> Reply:
        """Name, version and extensions of the server."""
        paths = {route.path for route in request.scope["app"].routes}
        extensions = extensions_of(repository=REPOSITORY_INDEX in paths)
        return _json({"name": "bert-handler", "version": bert_handler.__version__, "extensions": extensions})

    async def live(self, request: HttpRequest) -> Reply:
        """The process answers, and need not be started again for a device that has failed."""
        lost = [name for name, model in self._models().items() if model.lost]
        if lost:
            raise NotReadyError(f"the device has failed of: {', '.join(lost)}")
        return _json({"live": True})

    async def ready(self, request: HttpRequest) -> Reply:
        """Every model is loaded and has passed its self-test."""
        models = self._models()
        waiting = [name for name, model in models.items() if not await model.healthy()]
        if waiting or not models:
            raise NotReadyError(f"not ready: {', '.join(waiting) or 'no model is loaded'}")
        return _json({"ready": True})

    async def list_models(self, request: HttpRequest) -> Reply:
        """Names of the models."""
        return _json({"models": list(self._models())})

    async def model_metadata(self, request: HttpRequest) -> Reply:
        """Inputs and outputs of one model."""
        return _json(await (await self._model(request)).metadata())

    async def model_ready(self, request: HttpRequest) -> Reply:
        """Whether one model would answer now."""
        name = request.path_params["name"]
        if not await (await self._model(request)).healthy():
            raise NotReadyError(f"model {name!r} is not ready")
        return _json({"name": name, "ready": True})

    async def described(self, request: HttpRequest) -> Reply:
        """OpenAPI of the routes that this server has."""
        paths = [route.path for route in request.scope["app"].routes]
        return _json(openapi.description(paths, self._models()))

    def _infer(self, protocol: Protocol | None, *, explain: bool = False) -> Handler:
        async def infer(request: HttpRequest) -> Reply | StreamingResponse:
            await self._model(request)
            headers = request.headers
            headers.pop(EXPLAIN_HEADER, None)
            if explain:
                headers[EXPLAIN_HEADER] = "True"
            with Watch(request) as watch:
                body = await request.body(self._max_body_bytes)
                # While it came, another model may have taken the name.
                model = await self._model(request)
                if explain or not wants_stream(headers, streams=model.streams):
                    watch.received()
                    return await model.reply(body, headers, protocol)
            opened = await model.stream(body, headers, protocol)
            return opened if isinstance(opened, Reply) else StreamingResponse(opened, 200, _STREAM)

        return infer

    async def _model(self, request: HttpRequest) -> ServedModel:
        return await find(self._models(), request.path_params["name"], request.path_params.get("version"))


def extensions_of(*, repository: bool) -> list[str]:
    """The protocol's extensions that a server has."""
    return ["binary_tensor_data", *(["model_repository"] if repository else [])]


async def find(models: Mapping[str, ServedModel], name: str, version: str | None) -> ServedModel:
    """The model of that name, and version where one is asked for; ModelNotFoundError without it."""
    model = models.get(name)
    if model is None:
        raise ModelNotFoundError(f"model {quoted(name)} is not served here; served: {', '.join(models) or 'none'}")
    if version:
        versions = (await model.metadata())["versions"]
        if version not in versions:
            raise ModelNotFoundError(f"model {name!r} has version {', '.join(versions)}, not {quoted(version)}")
    return model


async def begun(events: Events) -> Events:
    """Events past their first, which only begins them: a generator that has not begun would never end either.

    Its client may be gone before anybody reads.
    """
    await events.__anext__()
    return events


def _json(content: Any) -> Reply:
    return Reply(jsonio.dumps(content))
