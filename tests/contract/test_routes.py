"""What the KServe host and the front say of themselves."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bert_handler.packaging.settings import RegisteredModel, TorchServeSettings
from tests.contract.bodies import GOOD
from tests.servers import RunningServer, front_server, kserve_server, torchserve_server, wait_until

pytestmark = [pytest.mark.kserve, pytest.mark.torchserve]


@pytest.fixture(params=["kserve_host", "front_host"])
def server(request: pytest.FixtureRequest) -> RunningServer:
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/v2/health/live", {"live": True}),
        ("/v2/health/ready", {"ready": True}),
        ("/v2/models", {"models": ["bert"]}),
        ("/v1/models", {"models": ["bert"]}),
        ("/v2/models/bert/ready", {"name": "bert", "ready": True}),
        ("/v2/models/bert/versions/1.0/ready", {"name": "bert", "ready": True}),
        ("/v1/models/bert", {"name": "bert", "ready": True}),
    ],
)
def test_get(server: RunningServer, path: str, expected: object) -> None:
    response = server.get(path)
    assert (response.status_code, response.json()) == (200, expected)


def test_server_metadata(server: RunningServer) -> None:
    metadata = server.get("/v2").json()
    assert set(metadata) == {"name", "version", "extensions"}
    assert "binary_tensor_data" in metadata["extensions"]


def test_model_metadata_has_real_tensors(server: RunningServer) -> None:
    metadata = server.get("/v2/models/bert").json()
    assert metadata == server.get("/v2/models/bert/versions/1.0").json()
    assert metadata["name"] == "BERTSeqClassification"
    assert metadata["versions"] == ["1.0"]
    assert metadata["inputs"] == [{"name": "text", "datatype": "BYTES", "shape": [-1]}]
    assert {item["name"]: (item["datatype"], item["shape"]) for item in metadata["outputs"]} == {
        "predict": ("BYTES", [-1]),
        "score": ("FP32", [-1]),
        "probabilities": ("FP32", [-1, 2]),
        "logits": ("FP32", [-1, 2]),
    }


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/v2/models/bart", "'bart'"),
        ("/v2/models/bart/ready", "'bart'"),
        ("/v2/models/bert/versions/9", "'9'"),
        ("/v2/models/bert/versions/9/ready", "'9'"),
        ("/v1/models/bart", "'bart'"),
    ],
)
def test_unknown_is_404(server: RunningServer, path: str, message: str) -> None:
    response = server.get(path)
    assert response.status_code == 404
    assert message in response.json()["error"]


def test_a_store_with_config_properties_serves_its_models(demo_mar: Path, demo_dir: Path, tmp_path: Path) -> None:
    """The volume of the seed's pod: settings name the models, archives lie beside them."""
    store = tmp_path / "model-store"
    store.mkdir()
    (tmp_path / "config").mkdir()
    shutil.copy(demo_mar, store)
    models = {"bert": RegisteredModel(demo_mar.name), "second": RegisteredModel(demo_mar.name)}
    (tmp_path / "config" / "config.properties").write_text(TorchServeSettings(models).text())
    with kserve_server(tmp_path) as server:
        assert server.get("/v2/models").json() == {"models": ["bert", "second"]}
        for name in models:
            assert server.client.post(f"{server.url}/predictions/{name}", content=GOOD).text == "Accepted"


def test_the_front_follows_a_torchserve_that_comes_late_with_tokens(demo_mar: Path, tmp_path: Path) -> None:
    from tests.servers import free_ports

    port = free_ports("inference-port")["inference-port"]
    keys = tmp_path / "key_file.json"
    with front_server(f"http://127.0.0.1:{port}", "--torchserve-key-file", str(keys), name="bert") as front:
        assert front.get("/v2/health/ready").status_code == 503
        refused = front.client.post(f"{front.url}/v1/models/bert:predict", content=GOOD)
        assert refused.status_code == 503
        assert "error" in refused.json()
        options = ["--token-auth", "--work-dir", str(tmp_path), "--inference-port", str(port)]
        with torchserve_server(demo_mar, *options, name="bert") as behind:
            wait_until(front, lambda: front.get("/v2/models/bert/ready").status_code == 200)
            assert behind.client.post(f"http://127.0.0.1:{port}/predictions/bert", content=GOOD).status_code != 200
            answer = front.client.post(f"{front.url}/v1/models/bert:predict", content=GOOD)
            assert (answer.status_code, answer.text) == (200, "Accepted")
        assert front.get("/v2/health/ready").status_code == 503
