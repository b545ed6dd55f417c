"""The rules of the house: layers, owners of heavy dependencies, and a light import."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import bert_handler

PACKAGE = Path(bert_handler.__file__).parent

LAYERS = (
    {"errors"},
    {
        "addresses",
        "artifact",
        "config",
        "cost",
        "cpu",
        "deadlines",
        "decisions",
        "deferred",
        "ending",
        "exported",
        "generation",
        "jsonio",
        "labels",
        "locks",
        "memory",
        "parameters",
        "runtimes",
        "schema",
        "scores",
        "scratch",
        "signing",
        "state_dicts",
        "tokenization",
        "tracing",
        "unpacking",
    },
    {"protocols", "tasks", "engines"},
    {
        "batching",
        "cores",
        "explain",
        "explanations",
        "intake",
        "length_queue",
        "loading",
        "metrics",
        "pending",
        "predictor",
        "server",
        "serving",
        "tickets",
        "warmup",
    },
    {"handler", "kserve_model", "torchserve_proxy", "client"},
    {"packaging", "bulk"},
    {"commands", "cli", "__main__"},
)
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}

OWNERS = {
    "ts": {"handler"},
    "kserve": {"server", "kserve_model", "torchserve_proxy"},
    "captum": {"explanations"},
    # Engines run what packaging has exported and quantized; neither imports the other's half.
    "onnxruntime": {"runtimes", "packaging"},
    "openvino": {"runtimes"},
    "starlette": {"server"},
    "opentelemetry": {"tracing"},
    "ray": {"bulk"},
    "typer": {"commands", "cli"},
}


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py" or path.parent != PACKAGE)


def unit(path: Path) -> str:
    """The top-level name that a file belongs to: `tasks/base.py` is of `tasks`."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    """Dotted names that a file imports for running, at its top or inside of a function."""
    found: set[str] = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.dump(block.test)
        for node in ast.walk(block)
    }
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_from_lower_levels(path: Path) -> None:
    own = unit(path)
    assert own in LEVEL, f"{own} has no level; add it to LAYERS"
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "bert_handler" and len(parts) > 1 and parts[1] in LEVEL and parts[1] != own:
            assert LEVEL[parts[1]] <= LEVEL[own], f"{own} imports {parts[1]}, which lies above it"


@pytest.mark.parametrize("folder", ["protocols", "tasks", "engines"])
def test_siblings_go_through_base(folder: str) -> None:
    shared = {"base", "columns", "exported_engine", "instances", "outputs", "size", "tensors", "windows"}
    for path in (PACKAGE / folder).glob("*.py"):
        if path.stem in {"__init__", *shared}:
            continue
        for name in imports(path):
            parts = name.split(".")
            if parts[:2] == ["bert_handler", folder] and len(parts) > 2:
                allowed = shared | ALLOWED_SIBLINGS.get(f"{folder}/{path.stem}", set())
                assert parts[2] in allowed, f"{folder}/{path.name} imports its sibling {parts[2]}"


ALLOWED_SIBLINGS = {
    "engines/torch_engine": {"torch_decoding", "torch_loading"},
    # gRPC is a transport of V2's bytes; a raw body is a V1 instance without its list.
    "protocols/v2_grpc": {"v2"},
    "protocols/raw": {"v1"},
}


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_heavy_dependencies_have_one_owner(path: Path) -> None:
    for name in imports(path):
        owners = OWNERS.get(name.split(".")[0])
        assert owners is None or unit(path) in owners, f"{unit(path)} imports {name}"


def test_the_import_is_light() -> None:
    code = (
        "import time; start = time.perf_counter(); import bert_handler; seconds = time.perf_counter() - start\n"
        "import sys\n"
        "heavy = {'ts', 'kserve', 'captum', 'onnxruntime', 'torch', 'transformers', 'starlette', 'fastapi'}\n"
        "print(sorted(heavy & set(sys.modules)), seconds < 0.3)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[] True"


def test_the_public_names() -> None:
    assert bert_handler.__all__ == ["Failure", "Prediction", "Predictor", "TransformerHandler", "__version__"]
    assert all(getattr(bert_handler, name) for name in bert_handler.__all__)
