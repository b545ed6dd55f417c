"""What a serving target holds: one model, or the models that a config.properties registers."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bert_handler.artifact import is_servable, own_identity, read_identity
from bert_handler.errors import ConfigError
from bert_handler.packaging.properties import read_properties
from bert_handler.packaging.settings import CONFIG, POD_CONFIG, STORE, stated_models
from bert_handler.packaging.sizing import ModelFacts

logger = logging.getLogger(__name__)


def models_of(target: Path, name: str | None = None) -> dict[str | None, Path]:
    """The models to serve by the name of their route; None means the model's own name.

    target: a model directory, a .mar, a directory with one, or a model store: a directory with
    config.properties, beside the archives or as `config/config.properties` beside `model-store/`, as on
    the volume of a pod.
    Raises ConfigError when nothing can be served from it.
    """
    if target.is_file() or (target / "config.json").is_file():
        return {name: target}
    for candidate in (target / CONFIG, target / POD_CONFIG):
        if candidate.is_file():
            if name is not None:
                raise ConfigError(f"--name is for a single model; {candidate} names the models of this store")
            return _registered(candidate, target)
    if not target.is_dir():
        raise ConfigError(f"{target} does not exist")
    archives = sorted(target.glob("*.mar"))
    if not archives:
        raise ConfigError(f"{target} has neither config.json (a model) nor {CONFIG} (a model store) nor a .mar")
    if len(archives) > 1:
        names = ", ".join(path.name for path in archives)
        raise ConfigError(f"{target} holds {names}: name one, or write the settings with: bert-handler config")
    return {name: archives[0]}


def _registered(config: Path, root: Path) -> dict[str | None, Path]:
    """As TorchServe chooses: by its snapshot, else `load_models`; else what `models` has settings for."""
    properties = read_properties(config)
    store = _store(properties.get("model_store"), root)
    loaded = properties.get("load_models")
    if loaded and "model_snapshot" not in properties:
        return _loaded(config, store, loaded)
    try:
        stated = stated_models(properties)
    except ConfigError as exc:
        raise ConfigError(f"{config}: {exc}") from exc
    return {name: _present(config, store / _served(name, versions)) for name, versions in stated.items()}


def _served(name: str, versions: Mapping[str, Mapping[str, Any]]) -> str:
    """The file of a model's default version."""
    served = next((key for key, entry in versions.items() if entry.get("defaultVersion")), next(iter(versions)))
    if len(versions) > 1:
        logger.warning("of %s only version %s is served, not %s", name, served, ", ".join({*versions} - {served}))
    return str(versions[served].get("marName", f"{name}.mar"))


def _loaded(config: Path, store: Path, loaded: str) -> dict[str | None, Path]:
    """The models of `load_models`: `all`, or files, each as FILE or NAME=FILE."""
    if loaded.lower() == "all":
        given = [("", path) for path in sorted(store.iterdir()) if is_servable(path)]
    else:
        items = [item.strip() for item in loaded.split(",") if item.strip()]
        pairs = [item.partition("=") if "=" in item else ("", "", item) for item in items]
        given = [(name.strip(), _present(config, store / file.strip())) for name, _, file in pairs]
    if not given:
        raise ConfigError(f"{config}: load_models={loaded} does not name any models of {store}")
    if len(given) == 1:
        return {name or None: path for name, path in given}
    models: dict[str | None, Path] = {}
    for name, path in given:
        route = name or _own_name(path)
        if route in models:
            raise ConfigError(f"{config}: load_models has two models {route!r}: {models[route].name} and {path.name}")
        models[route] = path
    return models


def _own_name(path: Path) -> str:
    if path.is_dir():
        return (read_identity(path) or own_identity(path, None)).name
    return ModelFacts.of_archive(path).name


def _present(config: Path, path: Path) -> Path:
    if not path.exists():
        raise ConfigError(f"{config}: the archive {path.name!r} is missing: {path}")
    return path


def _store(stated: str | None, root: Path) -> Path:
    # Settings written for the pod name its mount point; here the archives lie beside them.
    candidates = [Path(stated)] if stated else []
    for path in (*candidates, root / STORE, root):
        if path.is_dir():
            return path
    raise ConfigError(f"the model store {stated} does not exist")
