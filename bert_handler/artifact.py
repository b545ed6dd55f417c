"""A model on disk: a directory, or a .mar archive that is unpacked once, safely and checked."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from bert_handler import jsonio
from bert_handler.config import SETUP_CONFIG
from bert_handler.errors import ArchiveError, ConfigError
from bert_handler.schema import Identity
from bert_handler.scratch import Scratch
from bert_handler.unpacking import sha256, unpack, verify

MANIFEST = "MAR-INF/MANIFEST.json"
MODEL_SUFFIXES = {".safetensors", ".bin", ".onnx", ".data", ".xml", ".json", ".txt", ".model"}
"""Of weights, graphs, tokenizers, labels and configurations."""
PARTS = ".parts"
"""Ending of the directories that bulk scoring keeps beside its output, which may lie among the model's files."""
OWN_HANDLERS = (b"class TransformerHandler(", b"Serves the model of this archive.")
"""What the package's handler file has, and the one that `archive` writes, and no other."""

_UNNAMEABLE = re.compile(r"[^A-Za-z0-9._-]+")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Artifact:
    """A directory with a model's files, what config.json says, and the manifest's name if it has one.

    digests: SHA-256 of the files that have been compared with an archive's checksums.
    archive: what the directory was unpacked from, if it was.
    """

    directory: Path
    model_config: Mapping[str, Any]
    identity: Identity | None = None
    digests: Mapping[str, str] = field(default_factory=dict, repr=False)
    archive: Path | None = None
    _keep: Any = field(default=None, repr=False, compare=False)

    @classmethod
    def open(cls, target: str | Path, check: Callable[[Path], None] | None = None) -> Artifact:
        """Open a model directory or a .mar archive.

        check: looks at the unpacked archive, or the directory, before anything of it is read.

        An archive is unpacked into a private directory that lives as long as the returned object.
        Raises ConfigError when there is no model, ArchiveError when the archive is damaged or unsafe.
        """
        path = Path(target)
        if path.is_dir():
            if check is not None:
                check(path)
            _tell_of_handler(path)
            return cls.of_directory(path, verify(path) if check is not None else None)
        if not path.is_file():
            raise ConfigError(f"{path} does not exist; give a model directory or a .mar archive")
        owner = Scratch()
        directory = owner.path
        digests = unpack(path, directory)
        if check is not None:
            check(directory)
        _tell_of_handler(directory)
        opened = cls.of_directory(directory)
        return cls(directory, opened.model_config, opened.identity, digests, path, owner)

    @classmethod
    def of_directory(cls, directory: Path, digests: Mapping[str, str] | None = None) -> Artifact:
        """Open a directory of model files, an unpacked archive among them; digests: what `verify` has returned."""
        path = directory / "config.json"
        if not path.is_file():
            name = directory.resolve().name
            raise ConfigError(f"{name}/config.json is missing; save the model with save_pretrained()")
        return cls(directory, jsonio.read_file(path, dict), read_identity(directory), digests or {})

    def sha256(self, pattern: str) -> str:
        """Digests of the files that match a pattern, in the order of their names; empty where none does."""
        paths = (path for path in self.directory.rglob(pattern) if path.is_file())
        names = sorted(path.relative_to(self.directory).as_posix() for path in paths)
        return " ".join(self.digests.get(name) or sha256(self.directory / name) for name in names)

    def unowned(self) -> Artifact:
        """The same without a hold on what was unpacked: its digests are known, its files may be gone."""
        return replace(self, _keep=None)

    def fingerprint(self) -> str:
        """SHA-256 over the files that answers depend on: weights, graphs, tokenizer, labels, but no settings.

        Of an archive without checksums, over all of it.
        """
        digests = self.digests
        if not digests and self.archive is not None:
            return sha256(self.archive)
        if not digests:
            files = [path for path in self.directory.rglob("*") if path.is_file()]
            names = {path.relative_to(self.directory).as_posix(): path for path in files}
            digests = {name: sha256(path) for name, path in names.items() if _is_of_model(name)}
        lines = [f"{digests[name]}  {name}\n" for name in sorted(digests) if _is_of_model(name)]
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    @property
    def num_labels(self) -> int:
        """Outputs of the classification head, as transformers derives them (2 where nothing is said)."""
        id2label = self.model_config.get("id2label")
        return len(id2label) if id2label else int(self.model_config.get("num_labels", 2))


def own_identity(directory: Path, stated: str | None) -> Identity:
    """What a model directory without a manifest is called: as its settings state, else by the directory's name.

    The directory's is part of routes and of files, so what may not be in one becomes a dash.
    """
    return Identity(stated or _nameable(directory.resolve().name))


def is_servable(path: Path) -> bool:
    """Whether a path has the look of an archive or of a model directory."""
    return path.suffix == ".mar" or (path / "config.json").is_file()


def route_of(name: str) -> str:
    """The name in the routes of a model whose answers call it so: a hub's OWNER/MODEL would be two parts of a path."""
    return _nameable(name) if _UNNAMEABLE.search(name) or not name.strip(".") else name


def _nameable(name: str) -> str:
    return _UNNAMEABLE.sub("-", name).strip("-._") or "model"


def read_identity(directory: Path) -> Identity | None:
    """Name and version from an unpacked archive's manifest, None where there is no manifest."""
    path = directory / MANIFEST
    return stated_identity(path.read_bytes()) if path.is_file() else None


def stated_identity(manifest: bytes) -> Identity:
    """Name and version that a manifest's content states.  Raises ArchiveError where it does not."""
    try:
        model = jsonio.loads(manifest)["model"]
        return Identity(str(model["modelName"]), str(model["modelVersion"]))
    except (ValueError, KeyError, TypeError) as exc:
        raise ArchiveError(f"{MANIFEST} does not name the model and its version") from exc


def _tell_of_handler(directory: Path) -> None:
    """Say so where an archive brings a handler of its own, which runs in TorchServe alone."""
    try:
        name = PurePosixPath(jsonio.loads((directory / MANIFEST).read_bytes())["model"]["handler"]).name
        text = (directory / name).read_bytes()
    except (OSError, ValueError, KeyError, TypeError):
        return
    if not any(mark in text for mark in OWN_HANDLERS):
        logger.warning("%s is run by TorchServe alone: here the package answers, not the archive's handler", name)


def _is_of_model(name: str) -> bool:
    path = PurePosixPath(name)
    foreign = any(part.startswith(".") or part.endswith(PARTS) for part in path.parts)
    if foreign or path.parts[0] in {"bert_handler", "MAR-INF"} or path.name == SETUP_CONFIG:
        return False
    return path.suffix in MODEL_SUFFIXES
