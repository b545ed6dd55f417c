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
from tests.servers import RunningServer, front_server, kserve_server, torchserve_server
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
                made[key] = stack.enter_context(closing(Predictor.load(directory, model_yaml=yaml, environ={})))
            return made[key]

        yield get


@pytest.fixture(scope="session")
def archived(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`archived(directory, name=..., version=..., **options)`: a model's archive, built once a session.

    Without the builder's self-test: whoever asks for an archive loads it, which says more.
    """
    from bert_handler.packaging.mar import build as build_mar

    made: dict[str, Path] = {}

    def get(directory: Path, name: str = "model", version: str = "1.0", **options: object) -> Path:
        key = f"{directory} {name} {version} {sorted(options.items())}"
        if key not in made:
            with pytest.MonkeyPatch.context() as patch:
                leave_out_self_test(patch)
                made[key] = build_mar(directory, name, version, tmp_path_factory.mktemp("store"), **options).path
        return made[key]

    return get


@pytest.fixture
def no_self_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """`build` starts no Python of its own to load what it has made: the test does, or has no need of it."""
    leave_out_self_test(monkeypatch)


def leave_out_self_test(patch: pytest.MonkeyPatch) -> None:
    """For as long as the patch lasts."""
    patch.setattr("bert_handler.packaging.mar._self_test", lambda stage: None)


@pytest.fixture(scope="session")
def demo_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo classifier, a real model with real weights."""
    from bert_handler.packaging.demo_model import assemble

    return assemble(tmp_path_factory.mktemp("demo") / "BERTSeqClassification")


@pytest.fixture(scope="session")
def demo_mar(demo_dir: Path, archived: Callable[..., Path]) -> Path:
    """The demo classifier's archive, as the seed names it."""
    return archived(demo_dir, "BERTSeqClassification")


@pytest.fixture(scope="session")
def kserve_host(demo_mar: Path) -> Iterator[RunningServer]:
    """The demo archive on the KServe host, as `bert`."""
    with kserve_server(demo_mar, name="bert") as server:
        yield server


@pytest.fixture(scope="session")
def torchserve_host(demo_mar: Path) -> Iterator[RunningServer]:
    """The demo archive on a real TorchServe, as `bert`."""
    with torchserve_server(demo_mar, name="bert") as server:
        yield server


@pytest.fixture(scope="session")
def front_host(torchserve_host: RunningServer) -> Iterator[RunningServer]:
    """The V1/V2 front of that TorchServe."""
    with front_server(torchserve_host.url) as server:
        yield server


@pytest.fixture(params=["kserve_host", "torchserve_host", "front_host"])
def host(request: pytest.FixtureRequest) -> RunningServer:
    """Each way to reach the demo model."""
    return request.getfixturevalue(request.param)
