"""The playground: static files of `ui/` under `/ui/`, which talk to the routes beside them."""

from __future__ import annotations

from importlib import resources

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

FILES = {
    "index.html": "text/html; charset=utf-8",
    "style.css": "text/css; charset=utf-8",
    "app.js": "text/javascript; charset=utf-8",
    "render.js": "text/javascript; charset=utf-8",
}
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
    "object-src 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def playground_routes() -> list[Route]:
    """`/ui/` and its files; all links are relative, so that it works behind any path prefix."""
    return [
        Route("/ui", _redirect, methods=["GET"]),
        Route("/ui/", _file, methods=["GET"]),
        Route("/ui/{name}", _file, methods=["GET"]),
    ]


async def _redirect(request: Request) -> Response:
    # Relative: the prefix that a gateway has cut off stays in the browser's address.
    return RedirectResponse("ui/", headers=HEADERS)


async def _file(request: Request) -> Response:
    name = request.path_params.get("name", "index.html")
    if name not in FILES:
        raise HTTPException(404)
    content = resources.files("bert_handler.server").joinpath("ui", name).read_bytes()
    return Response(content, 200, {**HEADERS, "Content-Type": FILES[name]})
