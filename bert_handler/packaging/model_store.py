"""What a serving target holds: one model, or the models that a config.properties registers."""

from __future__ import annotations

import logging
from pathlib import Path

from bert_handler import jsonio
from bert_handler.errors import ConfigError
from bert_handler.packaging.settings import CONFIG, POD_CONFIG, STORE, parse_properties

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
    properties = parse_properties(config.read_text(encoding="utf-8"))
    try:
        snapshot = jsonio.loads(properties["model_snapshot"])["models"]
        entries = {name: versions for name, versions in snapshot.items() if versions}
    except (KeyError, ValueError, TypeError, AttributeError) as exc:
        raise ConfigError(f"{config}: model_snapshot does not name any models") from exc
    store = _store(properties.get("model_store"), root)
    models: dict[str | None, Path] = {}
    for name, versions in entries.items():
        served = next((key for key, entry in versions.items() if entry.get("defaultVersion")), next(iter(versions)))
        path = store / str(versions[served].get("marName", f"{name}.mar"))
        if not path.exists():
            raise ConfigError(f"{config}: the archive of {name!r} is missing: {path}")
        if len(versions) > 1:
            logger.warning("of %s only version %s is served, not %s", name, served, ", ".join({*versions} - {served}))
        models[name] = path
    if not models:
        raise ConfigError(f"{config}: model_snapshot does not name any models")
    return models


def _store(stated: str | None, root: Path) -> Path:
    # Settings written for the pod name its mount point; here the archives lie beside them.
    candidates = [Path(stated)] if stated else []
    for path in (*candidates, root / STORE, root):
        if path.is_dir():
            return path
    raise ConfigError(f"the model store {stated} does not exist")
