"""A model on disk: a directory, or a .mar archive that is unpacked once, safely and checked."""

from __future__ import annotations

import hashlib
import lzma
import os
import re
import shutil
import stat
import struct
import tempfile
import weakref
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from bert_handler import jsonio
from bert_handler.config import SETUP_CONFIG
from bert_handler.errors import ArchiveError, ConfigError
from bert_handler.schema import Identity

MANIFEST = "MAR-INF/MANIFEST.json"
CHECKSUMS = "MAR-INF/SHA256SUMS"
SIGNATURE = "MAR-INF/SIGNATURE"
BYTECODE = "__pycache__"
MODEL_SUFFIXES = {".safetensors", ".bin", ".onnx", ".data", ".xml", ".json", ".txt", ".model"}
"""Of weights, graphs, tokenizers, labels and configurations."""
DAMAGE = (
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    zlib.error,
    lzma.LZMAError,
    struct.error,
)
"""What Python's zip reader raises on bytes that are no archive, or not a whole one."""
MAX_ENTRIES = 10_000
MAX_UNPACKED_BYTES = 64 * 2**30
MAX_RATIO = 200
"""Deflate reaches 1000:1 on zeros; weights and vocabularies stay below 10:1."""

_UNNAMEABLE = re.compile(r"[^A-Za-z0-9._-]+")


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
                return cls.of_directory(path, verify(path))
            return cls.of_directory(path)
        if not path.is_file():
            raise ConfigError(f"{path} does not exist; give a model directory or a .mar archive")
        directory = Path(tempfile.mkdtemp(prefix="bert_handler_"))
        owner = _TemporaryDirectory(directory)
        digests = unpack(path, directory)
        if check is not None:
            check(directory)
        opened = cls.of_directory(directory)
        return cls(directory, opened.model_config, opened.identity, digests, path, owner)

    @classmethod
    def of_directory(cls, directory: Path, digests: Mapping[str, str] | None = None) -> Artifact:
        """Open a directory of model files, an unpacked archive among them; digests: what `verify` has returned."""
        path = directory / "config.json"
        if not path.is_file():
            raise ConfigError(f"{directory.name}/config.json is missing; save the model with save_pretrained()")
        try:
            model_config = jsonio.loads(path.read_bytes())
        except ValueError as exc:
            raise ConfigError(f"config.json is not JSON: {exc}") from exc
        if not isinstance(model_config, dict):
            raise ConfigError("config.json must be a JSON object")
        return cls(directory, model_config, read_identity(directory), digests or {})

    def sha256(self, pattern: str) -> str:
        """Digests of the files that match a pattern, in the order of their names; empty where none does."""
        paths = (path for path in self.directory.rglob(pattern) if path.is_file())
        names = sorted(path.relative_to(self.directory).as_posix() for path in paths)
        return " ".join(self.digests.get(name) or sha256(self.directory / name) for name in names)

    def unowned(self) -> Artifact:
        """The same without a hold on what was unpacked: its digests are known, its files may be gone."""
        return replace(self, _keep=None)

    def fingerprint(self) -> str:
        """SHA-256 over the files that answers depend on: weights, graphs, tokenizer, labels, but no settings."""
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

    The name is part of routes and of files, so what may not be in one becomes a dash.
    """
    return Identity(stated or _UNNAMEABLE.sub("-", directory.resolve().name).strip("-._") or "model")


def read_identity(directory: Path) -> Identity | None:
    """Name and version from an unpacked archive's manifest, None where there is no manifest."""
    path = directory / MANIFEST
    if not path.is_file():
        return None
    try:
        model = jsonio.loads(path.read_bytes())["model"]
        return Identity(str(model["modelName"]), str(model["modelVersion"]))
    except (ValueError, KeyError, TypeError) as exc:
        raise ArchiveError(f"{MANIFEST} does not name the model and its version") from exc


def unpack(archive: Path, directory: Path) -> Mapping[str, str]:
    """Unpack a .mar into an empty directory, then compare every file with the archive's checksums.

    Returns the digests of the files by name, as `verify` does.
    Raises ArchiveError on anything that is not a plain file below `directory`, on an implausible
    size, and on a file that is missing, surplus or changed.
    """
    try:
        with zipfile.ZipFile(archive) as mar:
            entries = _safe_entries(mar, archive.stat().st_size)
            for entry, relative in entries:
                target = directory.joinpath(*relative.parts)
                target.parent.mkdir(parents=True, exist_ok=True)
                with mar.open(entry) as source, target.open("xb") as sink:
                    shutil.copyfileobj(source, sink, 1 << 20)
    except DAMAGE as exc:
        refuse_tar(archive)
        raise ArchiveError(f"{archive.name} is cut short or damaged: {exc}") from exc
    except OSError as exc:
        raise ArchiveError(f"{archive.name} cannot be unpacked: {exc.strerror or exc}") from exc
    return verify(directory)


def refuse_tar(archive: Path) -> None:
    """Raise ArchiveError where a .mar is a tar, as `torch-model-archiver --archive-format tgz` makes it."""
    import tarfile

    try:
        with tarfile.open(archive) as tar:
            first = tar.next()
    except (tarfile.TarError, OSError, *DAMAGE):
        return
    if first is not None:
        raise ArchiveError(
            f"{archive.name} is a tar archive; build it with --archive-format default, or with bert-handler archive"
        )


def verify(directory: Path, *, compiled: bool = False) -> Mapping[str, str]:
    """Compare the files of an unpacked archive with its checksums; archives without any are accepted.

    Returns the SHA-256 of every file by its name.
    compiled: whether Python may have written bytecode beside its modules since the archive was unpacked.
    """
    path = directory / CHECKSUMS
    if not path.is_file():
        return {}
    stated: dict[str, str] = {}
    for line in _text(path).splitlines():
        digest, _, name = line.partition("  ")
        stated[name] = digest
    files = [file.relative_to(directory) for file in directory.rglob("*") if file.is_file()]
    present = {file.as_posix() for file in files if not (compiled and BYTECODE in file.parts)} - {CHECKSUMS, SIGNATURE}
    for name in sorted(set(stated) | present):
        if name not in present:
            raise ArchiveError(f"the archive's file {name} is missing")
        if name not in stated:
            raise ArchiveError(f"the archive has a file that its checksums do not list: {name}")
        if sha256(directory / name) != stated[name]:
            raise ArchiveError(f"the archive's file {name} is not the one that was archived (sha256 differs)")
    return stated


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except ValueError as exc:
        raise ArchiveError(f"the archive's file {path.name} is not text") from exc


def sha256(path: Path) -> str:
    """Hexadecimal digest of a file, read in blocks."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def _is_of_model(name: str) -> bool:
    path = PurePosixPath(name)
    hidden = any(part.startswith(".") for part in path.parts)
    if hidden or path.parts[0] in {"bert_handler", "MAR-INF"} or path.name == SETUP_CONFIG:
        return False
    return path.suffix in MODEL_SUFFIXES


def _safe_entries(mar: zipfile.ZipFile, archive_bytes: int) -> list[tuple[zipfile.ZipInfo, PurePosixPath]]:
    entries = [entry for entry in mar.infolist() if not entry.filename.endswith("/")]
    if len(entries) > MAX_ENTRIES:
        raise ArchiveError(f"the archive has {len(entries)} files; at most {MAX_ENTRIES} are unpacked")
    if sum(entry.file_size for entry in entries) > MAX_UNPACKED_BYTES:
        raise ArchiveError(f"the archive unpacks to more than {MAX_UNPACKED_BYTES} bytes")
    if sum(entry.compress_size for entry in entries) > archive_bytes:
        raise ArchiveError("the archive's entries overlap: they are larger together than the archive")
    seen: set[PurePosixPath] = set()
    safe = []
    for entry in entries:
        relative = PurePosixPath(entry.filename)
        outside = not relative.parts or relative.is_absolute() or ".." in relative.parts
        if outside or "\\" in entry.filename or ":" in relative.parts[0]:
            raise ArchiveError(f"the archive's entry {entry.filename!r} points outside of it")
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if kind not in (0, stat.S_IFREG):
            raise ArchiveError(f"the archive's entry {entry.filename!r} is not a plain file")
        if entry.file_size > MAX_RATIO * max(entry.compress_size, 1) and entry.file_size > 2**20:
            raise ArchiveError(f"the archive's entry {entry.filename!r} unpacks to an implausible size")
        if relative in seen:
            raise ArchiveError(f"the archive has two entries named {entry.filename!r}")
        seen.add(relative)
        safe.append((entry, relative))
    return safe


class _TemporaryDirectory:
    """Removes a directory when the last user of it is gone, at the end of the process at the latest."""

    def __init__(self, path: Path) -> None:
        self._finalizer = weakref.finalize(self, shutil.rmtree, os.fspath(path), ignore_errors=True)
