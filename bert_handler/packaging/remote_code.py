"""The modules of a model that brings its own code: those that `auto_map` names, and what they import beside them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bert_handler import jsonio
from bert_handler.config import HandlerConfig
from bert_handler.errors import ConfigError

STATED_IN = ("config.json", "tokenizer_config.json")


def asks_for_code(settings: Mapping[str, Any]) -> bool:
    """Whether a model's settings ask for its own code to be run."""
    stated = {"trust_remote_code": settings.get("trust_remote_code", False)}
    return HandlerConfig.parse({"mode": "", **stated}).trust_remote_code


def copy_modules(model_dir: Path, stage: Path) -> None:
    """Copy the modules that transformers will import for the model.

    Raises ConfigError where one is missing, or is another repository's, which a pod does not have.
    """
    from transformers.dynamic_module_utils import get_relative_import_files

    for reference in _references(model_dir):
        if "--" in reference:
            raise ConfigError(f"auto_map names {reference!r} of another repository; put its modules beside config.json")
        module = model_dir / f"{reference.partition('.')[0]}.py"
        try:
            for source in (module, *map(Path, get_relative_import_files(module))):
                target = stage / source.relative_to(model_dir)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)
        except (OSError, ValueError) as exc:
            raise ConfigError(f"auto_map names {reference!r}, whose modules cannot be copied: {exc}") from exc


def _references(model_dir: Path) -> Iterator[str]:
    for path in (model_dir / name for name in STATED_IN if (model_dir / name).is_file()):
        try:
            values = list((jsonio.loads(path.read_bytes()).get("auto_map") or {}).values())
        except (ValueError, AttributeError) as exc:
            raise ConfigError(f"{path.name} has no auto_map that can be read: {exc}") from exc
        for value in values:
            # A tokenizer has two classes, of which one may be null.
            yield from (item for item in (value if isinstance(value, list) else [value]) if isinstance(item, str))
