"""Fixtures that all tests share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

# Before anything imports transformers or tokenizers.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from bert_handler import Predictor
from tests.zoo import build


@pytest.fixture(scope="session")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`zoo(architecture, head, **config)`: the directory of a tiny model, built once a session."""
    made: dict[str, Path] = {}

    def get(architecture: str, head: str, **config: object) -> Path:
        key = f"{architecture} {head} {sorted(config.items())}"
        if key not in made:
            made[key] = build(architecture, head, tmp_path_factory.mktemp(f"{architecture}-{head}"), **config)
        return made[key]

    return get


@pytest.fixture(scope="session")
def load() -> Iterator[Callable[..., Predictor]]:
    """`load(directory, **settings)`: a predictor of a model directory, loaded once a session."""
    made: dict[str, Predictor] = {}
    with ExitStack() as stack:

        def get(directory: Path, **settings: object) -> Predictor:
            key = f"{directory} {sorted(settings.items())}"
            if key not in made:
                yaml = {"handler": {"device": "cpu", "threads": 1, **settings}}
                made[key] = stack.enter_context(
                    closing(Predictor.load(directory, model_yaml=yaml, environ={}))
                )
            return made[key]

        yield get
