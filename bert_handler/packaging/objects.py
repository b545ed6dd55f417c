"""The objects of a manifest, made or own: their names, and the mark that has their pods replaced."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bert_handler.errors import ConfigError

REVISION = "bert-handler/revision"
"""Annotation of the pods: of the files on the volume that they serve."""

_EXPONENT = re.compile(r"[+-]?[0-9.]+[eE][+-]?[0-9]+")


def read_objects(path: Path) -> list[Any]:
    """Read a manifest.  Raises ConfigError when it is none."""
    import yaml

    try:
        objects = [item for item in yaml.safe_load_all(path.read_text(encoding="utf-8")) if item]
        object_names(objects)
    except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError, AttributeError) as exc:
        raise ConfigError(f"{path} is no manifest: {exc}") from exc
    return objects


def render_objects(objects: Sequence[Any]) -> str:
    """The manifest as YAML."""
    import yaml

    class Dumper(yaml.SafeDumper):
        """Quotes 4e9 too, which is a string in YAML 1.1 and a number to kubectl."""

    Dumper.add_implicit_resolver("tag:yaml.org,2002:float", _EXPONENT, list("+-.0123456789"))
    return str(yaml.dump_all(objects, Dumper=Dumper, sort_keys=False, default_flow_style=False, width=120))


def object_names(objects: Sequence[Any]) -> list[str]:
    """KIND/NAME of each object."""
    return [f"{item['kind'].lower()}/{item['metadata']['name']}" for item in objects]


def find_service(objects: Sequence[Any], name: str) -> Any:
    """The InferenceService of that name.  Raises ConfigError where there is none, or no predictor in it."""
    for item in objects:
        if item["kind"] == "InferenceService" and item["metadata"]["name"] == name:
            if isinstance(item.get("spec"), dict) and isinstance(item["spec"].get("predictor"), dict):
                return item
            raise ConfigError(f"the InferenceService {name!r} has no spec.predictor")
    raise ConfigError(f"the manifest has no InferenceService {name!r}; it has {', '.join(object_names(objects))}")


def predictor_variables(objects: Sequence[Any], name: str) -> dict[str, str]:
    """Variables that a service's predictor sets, over those of its runtime where the manifest has it.

    Those that come from a Secret or the like are left out.  Raises as `find_service`.
    """
    predictor = find_service(objects, name)["spec"]["predictor"]
    model = predictor.get("model")
    named = model.get("runtime") if isinstance(model, dict) else None
    runtimes = [item for item in objects if item["kind"].endswith("ServingRuntime")]
    return _stated_variables([*(item for item in runtimes if named in (None, item["metadata"]["name"])), predictor])


def _stated_variables(part: Any) -> dict[str, str]:
    """What `env` says anywhere in it, by name: the last one."""
    inner = part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
    found = {name: value for item in inner for name, value in _stated_variables(item).items()}
    env = part.get("env") if isinstance(part, dict) else None
    stated = [item for item in env if isinstance(item, dict)] if isinstance(env, list) else []
    return {**found, **{str(item.get("name")): item["value"] for item in stated if isinstance(item.get("value"), str)}}


def mark_revision(service: Any, revision: str) -> None:
    """Have the pods of an InferenceService replaced when the files that they serve have changed."""
    for component in (service["spec"].get(part) for part in ("predictor", "explainer")):
        if component:
            component["annotations"] = {**(component.get("annotations") or {}), REVISION: revision}
