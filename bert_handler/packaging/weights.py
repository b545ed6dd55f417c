"""What of an archive's weights is loaded, and what it takes in memory; read without unpacking it."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path, PurePath
from typing import Any

from bert_handler import jsonio
from bert_handler.config import MODEL_CONFIG, SETUP_CONFIG, read_settings
from bert_handler.exported import ENGINE_FILE, Exported, graph_files
from bert_handler.state_dicts import SAFETENSORS
from bert_handler.state_dicts import SUFFIXES as STATE_DICTS

GRAPHS = {".onnx", ".data"}
FLOATS = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1}
"""Bytes of an element by its type in a safetensors file; these are converted when they are loaded."""
DTYPES = {"float32": 4, "bfloat16": 2, "float16": 2}
"""Bytes of an element by the setting `dtype`."""
MAX_HEADER_BYTES = 100_000_000
"""The format's own limit."""


def stored_bytes(mar: zipfile.ZipFile) -> int:
    """Bytes of all weights in an archive's files, which are unpacked and checked."""
    return _sizes(_with_suffix(mar, {SAFETENSORS} | STATE_DICTS | GRAPHS))


def loaded_bytes(mar: zipfile.ZipFile, environ: Mapping[str, str]) -> int:
    """Bytes of the weights that one engine loads: an exported graph's, else the model's own in the `dtype` set.

    It is the engine that the settings say, else that of the graph that the archive carries.
    environ: where it will run; as there, its settings are above the archive's.
    Raises ConfigError where its settings or its engine.json are not what they should be.
    """
    settings, exported = _stated(mar, environ)
    chosen = settings.get("engine") or (exported.engine if exported else "torch")
    if exported and chosen == exported.engine:
        pattern = graph_files(exported.file)
        return _sizes([entry for entry in mar.infolist() if fnmatch(entry.filename, pattern)])
    checkpoints = _with_suffix(mar, {SAFETENSORS})
    width = DTYPES.get(str(settings.get("dtype")), DTYPES["float32"])
    if checkpoints:
        return sum(_converted_bytes(mar, entry, width) for entry in checkpoints)
    return _sizes(_with_suffix(mar, STATE_DICTS) or _with_suffix(mar, GRAPHS))


def _stated(mar: zipfile.ZipFile, environ: Mapping[str, str]) -> tuple[dict[str, Any], Exported | None]:
    """The settings that hold, and the exported graph that the archive carries."""
    with tempfile.TemporaryDirectory(prefix="bert_handler_settings_") as scratch:
        directory = Path(scratch)
        for name in {SETUP_CONFIG, MODEL_CONFIG, ENGINE_FILE}.intersection(mar.namelist()):
            (directory / name).write_bytes(mar.read(name))
        return read_settings(directory, None, environ), Exported.read(directory)


def _with_suffix(mar: zipfile.ZipFile, suffixes: set[str]) -> list[zipfile.ZipInfo]:
    return [entry for entry in mar.infolist() if PurePath(entry.filename).suffix in suffixes]


def _sizes(entries: Sequence[zipfile.ZipInfo]) -> int:
    return sum(entry.file_size for entry in entries)


def _converted_bytes(mar: zipfile.ZipFile, entry: zipfile.ZipInfo, width: int) -> int:
    """Bytes of a safetensors file's tensors, floats in `width` bytes each; its size where its header is unreadable.

    The format: https://huggingface.co/docs/safetensors/index#format
    """
    try:
        with mar.open(entry) as file:
            n_bytes = int.from_bytes(file.read(8), "little")
            header = jsonio.loads(file.read(min(n_bytes, MAX_HEADER_BYTES)))
        tensors = [tensor for name, tensor in header.items() if name != "__metadata__"]
        return sum(_tensor_bytes(tensor["dtype"], tensor["data_offsets"], width) for tensor in tensors)
    except (ValueError, TypeError, KeyError, AttributeError):
        return entry.file_size


def _tensor_bytes(dtype: str, offsets: Sequence[int], width: int) -> int:
    start, end = offsets
    return (end - start) * width // FLOATS[dtype] if dtype in FLOATS else end - start
