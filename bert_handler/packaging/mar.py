"""Build a self-contained .mar: model, tokenizer, settings, and this package, byte for byte the same."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bert_handler
from bert_handler import jsonio
from bert_handler.artifact import MANIFEST, Artifact
from bert_handler.config import ENVIRONMENT_PREFIX as PREFIX
from bert_handler.config import MODEL_CONFIG, NOT_SETTINGS, QUANTIZATIONS, SETUP_CONFIG, read_settings
from bert_handler.engines import ENGINES, engine_class
from bert_handler.errors import ArchiveError, ConfigError
from bert_handler.exported import ENGINE_FILE
from bert_handler.loading import load_task
from bert_handler.packaging.archive_file import write_checksums, write_zip
from bert_handler.packaging.names import check_name
from bert_handler.packaging.staging import drop_auto_engine, stage_model
from bert_handler.parameters import unknown
from bert_handler.schema import Instance
from bert_handler.signing import read_private_key, sign
from bert_handler.unpacking import sha256

if TYPE_CHECKING:
    from bert_handler.packaging.engine_choice import Measured

CREATED_ON = "01/01/1980 00:00:00"
ARCHIVER_VERSION = "0.12.0"
HANDLER = '''"""The class that TorchServe loads: it takes the only one that this file itself defines."""

from bert_handler.handler import TransformerHandler


class Handler(TransformerHandler):
    """Serves the model of this archive."""
'''
NOT_SERVING = {"artifacts", "setup_config", "packaging", "commands", "bulk", "client", "cli.py", "__main__.py"}


@dataclass(frozen=True)
class Built:
    """A finished archive: where it is, its size in bytes and its digest, and the engines that were measured.

    left_out: folders of the training's earlier states, which it does not have.
    """

    path: Path
    size: int
    sha256: str
    measured: Sequence[Measured] = ()
    left_out: Sequence[str] = ()


def build(
    model_dir: Path,
    name: str,
    version: str,
    export_path: Path,
    *,
    setup_config: Path | None = None,
    index_to_name: Path | None = None,
    signing_key: Path | None = None,
    force: bool = False,
    engine: str | None = None,
    quantization: str = "none",
    calibration: Sequence[Instance] | None = None,
    engine_only: bool = False,
) -> Built:
    """Archive a `save_pretrained` directory; the same input gives the same bytes.

    engine: export for it, or with `auto` for the fastest; default: as setup_config.json says, else torch.
    calibration: texts of the model's own domain, which engines are checked and measured on.
    engine_only: leave out the weights that only the torch engine reads.
    `auto` chooses by time, so two runs may choose differently.
    Raises ConfigError when the model, its settings or its labels are not servable, ArchiveError
    when the result would overwrite a file or does not answer its own self-test.
    """
    check_name("name", name)
    check_name("version", version)
    target = export_path / f"{name}.mar"
    if target.exists() and not force:
        raise ArchiveError(f"{target} exists already; pass --force to replace it")
    private_key = None if signing_key is None else read_private_key(signing_key)
    _check_writable(export_path)
    with tempfile.TemporaryDirectory(prefix="bert_handler_archive_") as scratch:
        stage = Path(scratch) / "stage"
        stage.mkdir()
        left_out = stage_model(model_dir, stage, setup_config, index_to_name)
        measured = _carry_engine(stage, Path(scratch), engine, quantization, calibration)
        if engine_only:
            _leave_out_weights(stage, measured)
        _stage_package(stage)
        _write_manifest(stage, name, version)
        write_checksums(stage)
        if private_key is not None:
            sign(stage, private_key)
        _self_test(stage)
        export_path.mkdir(parents=True, exist_ok=True)
        write_zip(stage, target)
    return Built(target, target.stat().st_size, sha256(target), measured, left_out)


def _check_writable(directory: Path) -> None:
    """Raise ArchiveError where neither the directory nor what would take it can be written to; none is made yet."""
    existing = next(path for path in (directory, *directory.parents) if path.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise ArchiveError(f"{existing} is no directory that can be written to")


def _carry_engine(
    stage: Path, scratch: Path, wanted: str | None, quantization: str, calibration: Sequence[Instance] | None
) -> Sequence[Measured]:
    # The settings may name an engine whose graph is not there yet, so the task is read without them.
    settings = read_settings(stage, None, {})
    configured = settings.pop("engine", None)
    if wanted and configured and wanted != configured:
        raise ConfigError(f"--engine {wanted}, but the settings say engine={configured!r}; take one of them out")
    engine = wanted or configured or "torch"
    _check_choice(engine, quantization, calibration)
    drop_auto_engine(stage)
    if engine == "torch":
        return ()
    engine_class("torch")  # what is exported is its graph: its absence is told by name
    from bert_handler.packaging.engine_choice import EngineRequest, choose

    settings.pop("quantization", None)
    task = load_task(Artifact.of_directory(stage), settings)
    return choose(stage, scratch / "engines", task, EngineRequest(engine, quantization), calibration)


def _check_choice(engine: str, quantization: str, calibration: Sequence[Instance] | None) -> None:
    """ConfigError where the options of an engine cannot hold."""
    if engine not in {*ENGINES, "auto"}:
        raise ConfigError(unknown(engine, {*ENGINES, "auto"}, "engine"))
    if quantization not in QUANTIZATIONS:
        raise ConfigError(unknown(quantization, QUANTIZATIONS, "quantization"))
    if engine == "torch" and quantization != "none":
        raise ConfigError(
            f"--quantization {quantization} needs an exported engine; add --engine onnx, openvino or auto "
            f"(torch quantizes when it loads: set quantization to {quantization} in {SETUP_CONFIG})"
        )
    if engine == "torch" and calibration is not None:
        raise ConfigError("--calibration needs an exported engine; add --engine onnx, openvino or auto")


def _leave_out_weights(stage: Path, measured: Sequence[Measured]) -> None:
    if not (stage / ENGINE_FILE).is_file():
        if measured:
            raise ConfigError(
                "--engine-only, but auto has chosen torch, which reads the weights; leave it out, or name an --engine"
            )
        raise ConfigError("--engine-only needs an exported engine; add --engine onnx, openvino or auto")
    for path in stage.rglob("*.safetensors*"):
        path.unlink()


def _stage_package(stage: Path) -> None:
    package = Path(bert_handler.__file__).parent
    for path in sorted(package.rglob("*")):
        relative = path.relative_to(package)
        if not path.is_file() or "__pycache__" in relative.parts or relative.parts[0] in NOT_SERVING:
            continue
        destination = stage / "bert_handler" / relative
        destination.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, destination)
    (stage / "handler.py").write_text(HANDLER, encoding="utf-8")


def _write_manifest(stage: Path, name: str, version: str) -> None:
    model: dict[str, Any] = {"modelName": name, "handler": "handler.py", "modelVersion": version}
    if (stage / MODEL_CONFIG).is_file():
        model["configFile"] = MODEL_CONFIG
    manifest: Mapping[str, Any] = {
        "createdOn": CREATED_ON,
        "runtime": "python",
        "model": model,
        "archiverVersion": ARCHIVER_VERSION,
    }
    path = stage / MANIFEST
    path.parent.mkdir()
    path.write_bytes(jsonio.dumps(manifest) + b"\n")


def _self_test(stage: Path) -> None:
    """Load the staged archive with the package that it carries, in a process of its own.

    Its dependencies come from where this process has them: PYTHONPATH and the user's packages as well.
    What the environment sets of a model is left out: it is for what is served here, not where the archive goes.
    """
    code = (
        # An empty entry is the working directory, which has no part in it.
        "import sys; sys.path[:] = [sys.argv[1], *filter(None, sys.path)]\n"
        "import importlib.util, bert_handler\n"
        "found = bert_handler.__file__\n"
        "if not found.startswith(sys.argv[1]): sys.exit(f'{found} is not the package of the archive')\n"
        "if importlib.util.find_spec('ts'): import handler\n"
        "from bert_handler import Predictor\n"
        "Predictor.load(sys.argv[1], device='cpu').close()\n"
    )
    own = {name: os.environ[name] for name in os.environ if name in NOT_SETTINGS or not name.startswith(PREFIX)}
    # Not in the stage: PYTHONPATH may have relative entries.
    result = subprocess.run(
        [sys.executable, "-c", code, str(stage)],
        env={**own, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        lines = result.stderr.strip().splitlines() or ["no output"]
        raise ArchiveError(f"the archive does not answer its self-test: {lines[-1]}")
