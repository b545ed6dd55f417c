"""The OpenAPI description of the routes that a server really has."""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import lru_cache
from importlib import resources
from typing import Any

import yaml

import bert_handler

FILE = "openapi.yaml"
_CONVERTOR = re.compile(r"{(\w+):\w+}")


@lru_cache(maxsize=1)
def _written() -> Any:
    return yaml.safe_load(resources.files("bert_handler.server").joinpath(FILE).read_text(encoding="utf-8"))


def description(paths: Collection[str], models: Collection[str]) -> dict[str, Any]:
    """The OpenAPI document of a server.

    paths: of its routes, as starlette writes them.  models: names that it serves now.
    """
    written = _written()
    served = {_CONVERTOR.sub(r"{\1}", path) for path in paths}
    components = dict(written["components"])
    if models:
        name = components["parameters"]["name"]
        schema = {**name["schema"], "enum": sorted(models)}
        components["parameters"] = {**components["parameters"], "name": {**name, "schema": schema}}
    return {
        **written,
        "info": {**written["info"], "version": bert_handler.__version__},
        "paths": {path: item for path, item in written["paths"].items() if path in served},
        "components": components,
    }
