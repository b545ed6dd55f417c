"""Load, replace and unload models under load: the model repository extension of the KServe host.

A new version is loaded and has passed its self-test before it takes the old one's place; the old one
answers until then, and whatever it has accepted after that. One that fails never replaces anything.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping
from pathlib import Path
from typing import Any

from starlette.routing import Route

from bert_handler import jsonio
from bert_handler.artifact import is_servable
from bert_handler.errors import (
    BertHandlerError,
    InternalError,
    InvalidRequestError,
    ModelNotFoundError,
    UnservableError,
)
from bert_handler.parameters import describe
from bert_handler.protocols.base import object_of, parse_json
from bert_handler.schema import Reply
from bert_handler.server.asgi import Handler, HttpRequest, Watch, route
from bert_handler.server.routes import REPOSITORY_INDEX
from bert_handler.serving import freeze_heap

logger = logging.getLogger(__name__)

MAX_INDEX_BYTES = 64 * 1024
RETIRE_AFTER_S = 2.0
"""Requests that have found the old version by now have handed it their rows by then."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class Repository:
    """The archives and model directories of one folder, by name.

    models: the live models of the server.  load: makes a ready model of a name and a path, or raises.
    """

    def __init__(self, models: MutableMapping[str, Any], store: Path, load: Callable[[str, Path], Any]) -> None:
        self._models = models
        self._store = store
        self._load = load
        self._locks: dict[str, asyncio.Lock] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def routes(self) -> list[Route]:
        """The routes, for a server that has been told to have them."""
        return [
            route("POST GET", REPOSITORY_INDEX, self._index),
            route("POST", "/v2/repository/models/{name}/load", _acting(self.load, "load")),
            route("POST", "/v2/repository/models/{name}/unload", _acting(self.unload, "unload")),
        ]

    async def load(self, name: str) -> None:
        """Load NAME.mar, or the directory NAME, and put it in the place of what has the name now.

        Raises ModelNotFoundError without such a file, UnservableError where it cannot be served.
        """
        path = self._path(name)
        # Whoever asks over gRPC may go meanwhile: what is loaded would be neither served nor stopped.
        await asyncio.shield(self._task(self._put(name, path)))

    async def _put(self, name: str, path: Path) -> None:
        async with self._locks.setdefault(name, asyncio.Lock()):
            try:
                model = await asyncio.to_thread(self._load, name, path)
            except BertHandlerError as exc:
                raise UnservableError(f"model {name!r} was not loaded: {exc}") from exc
            except Exception as exc:
                logger.exception("model %s was not loaded", name)
                raise InternalError from exc
            old, self._models[name] = self._models.get(name), model
            self._retire(old)

    async def unload(self, name: str) -> None:
        """Take a model out of the routes, behind whatever loads it now; what it has accepted is answered."""
        # Only a load makes locks: names that nobody has would be kept for ever.
        async with self._locks.get(name, asyncio.Lock()):
            if name not in self._models:
                raise ModelNotFoundError(f"model {name!r} is not served here")
            self._retire(self._models.pop(name))

    def _path(self, name: str) -> Path:
        if _NAME.fullmatch(name):
            for path in (self._store / f"{name}.mar", self._store / name):
                if path.is_file() or (path / "config.json").is_file():
                    return path
        raise ModelNotFoundError(f"the repository has no model {name!r}")

    def _retire(self, model: Any) -> None:
        async def retire() -> None:
            nonlocal model
            await asyncio.sleep(RETIRE_AFTER_S)
            await asyncio.to_thread(model.stop)
            # It is part of cycles, and no collection looks at what is frozen.
            model = None
            await asyncio.to_thread(freeze_heap)

        if model is not None:
            self._task(retire())

    def _task(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _index(self, request: HttpRequest) -> Reply:
        only_ready = await _only_ready(request)
        paths = filter(is_servable, self._store.iterdir())
        names = sorted({path.stem if path.suffix == ".mar" else path.name for path in paths} | set(self._models))
        rows = [await self._state(name) for name in names]
        return Reply(jsonio.dumps([row for row in rows if row["state"] == "READY" or not only_ready]))

    async def _state(self, name: str) -> dict[str, str]:
        model = self._models.get(name)
        if model is None:
            return {"name": name, "version": "", "state": "UNAVAILABLE", "reason": "not loaded"}
        version = (await model.metadata())["versions"][0]
        if not await model.healthy():
            return {"name": name, "version": version, "state": "UNAVAILABLE", "reason": "its device has failed"}
        return {"name": name, "version": version, "state": "READY", "reason": ""}


async def _only_ready(request: HttpRequest) -> bool:
    """What a list is asked for: `{"ready": true}`, or with no body all that there is."""
    with Watch(request):
        body = await request.body(MAX_INDEX_BYTES)
    ready = object_of(parse_json(body), "the body").get("ready", False) if body else False
    if not isinstance(ready, bool):
        raise InvalidRequestError(f"ready must be true or false, not {describe(ready)}")
    return ready


def _acting(act: Callable[[str], Awaitable[None]], done: str) -> Handler:
    async def handler(request: HttpRequest) -> Reply:
        name = request.path_params["name"]
        await act(name)
        return Reply(jsonio.dumps({"name": name, done: True}))

    return handler
