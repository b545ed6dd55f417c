"""Every task on both real hosts, in V1 and V2: the same bytes, equal to the predictor's own answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bert_handler import Predictor, jsonio
from bert_handler.packaging.mar import build
from bert_handler.packaging.settings import RegisteredModel, TorchServeSettings
from tests.contract.task_examples import EXAMPLES, Example
from tests.servers import RunningServer, free_ports, kserve_server, torchserve_of

pytestmark = [pytest.mark.kserve, pytest.mark.torchserve]


@pytest.fixture(scope="module")
def store(zoo, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A volume as the seed's pod mounts it, with an archive a task."""
    root = tmp_path_factory.mktemp("volume")
    models = {}
    # Both hosts load these archives below, which says more than the builder's own test would.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bert_handler.packaging.mar._self_test", lambda stage: None)
        for example in EXAMPLES:
            models[example.task] = archived(example, zoo(*example.model, **example.config), root)
    ports = free_ports("inference_port", "metrics_port", "grpc_inference_port", "grpc_management_port")
    (root / "ports.json").write_text(json.dumps(ports))
    settings = TorchServeSettings(models, str(root / "model-store"), "127.0.0.1", **ports)
    (root / "config.properties").write_text(settings.text())
    return root


def archived(example: Example, source: Path, root: Path) -> RegisteredModel:
    """Archive a tiny model for one task; its entry in the settings."""
    setup = root / f"{example.task}.json"
    setup.write_text(json.dumps({"mode": example.task}))
    build(source, example.task, "1.0", root / "model-store", setup_config=setup)
    return RegisteredModel(f"{example.task}.mar", max_batch_delay_ms=1)


@pytest.fixture(scope="module")
def kserve(store: Path) -> Iterator[RunningServer]:
    with kserve_server(store) as server:
        yield server


@pytest.fixture(scope="module")
def torchserve(store: Path) -> Iterator[RunningServer]:
    work_dir = store / "torchserve"
    work_dir.mkdir()
    ports = json.loads((store / "ports.json").read_text())
    models = {item.task: RegisteredModel(f"{item.task}.mar", max_batch_delay_ms=1) for item in EXAMPLES}
    settings = TorchServeSettings(models, str(store / "model-store"), "127.0.0.1", **ports)
    with torchserve_of(settings, ports, work_dir) as running:
        yield running


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.task)
def test_both_hosts_give_the_predictors_answer(example: Example, kserve, torchserve, store: Path) -> None:
    v2 = [host.infer(example.task, example.v2(), content_type="application/json") for host in (kserve, torchserve)]
    assert [answer.status_code for answer in v2] == [200, 200], v2[0].text
    # The last bits of a float depend on the rows that shared its forward.
    assert close(v2[0].json(), v2[1].json())
    predictor = Predictor.load(store / "model-store" / f"{example.task}.mar", environ={})
    expected = predictor.predict([example.instance], **example.parameters)[0]
    for tensor in v2[0].json()["outputs"]:
        compare(tensor, expected[tensor["name"]])
    v1 = [
        host.client.post(host.url + path.format(example.task), content=example.v1())
        for host, path in ((kserve, "/v1/models/{}:predict"), (torchserve, "/predictions/{}"))
    ]
    assert [answer.status_code for answer in v1] == [200, 200], v1[0].text
    assert close(v1[0].json(), v1[1].json())
    predictor.close()


def compare(tensor: dict, expected: object) -> None:
    if isinstance(expected, (list, dict)):
        assert close(json.loads(tensor["data"][0]), jsonio.loads(jsonio.dumps(expected)))
    elif isinstance(expected, str):
        assert tensor["data"] == [expected]
    elif isinstance(expected, tuple):
        assert tensor["data"] == list(expected)
    else:
        np.testing.assert_allclose(tensor["data"], np.ravel(expected), atol=1e-5)


def close(ours: object, theirs: object) -> bool:
    if isinstance(ours, dict):
        return set(ours) == set(theirs) and all(close(ours[key], theirs[key]) for key in ours)
    if isinstance(ours, list):
        return len(ours) == len(theirs) and all(map(close, ours, theirs))
    return ours == pytest.approx(theirs, abs=1e-5) if isinstance(ours, float) else ours == theirs


def test_generated_text_streams_on_both_hosts(kserve, torchserve) -> None:
    example = next(item for item in EXAMPLES if item.task == "text_generation")
    streams = []
    for host in (kserve, torchserve):
        url, headers = host.url + host.infer_path.format(example.task), {"accept": "text/event-stream"}
        with host.client.stream("POST", url, content=example.v2(), headers=headers) as response:
            assert response.status_code == 200
            assert response.headers["content-type"] == "text/event-stream"
            body = b"".join(response.iter_raw())
        streams.append([json.loads(event.removeprefix("data: ")) for event in body.decode().strip().split("\n\n")])
    assert streams[0] == streams[1]
    *pieces, whole = streams[0]
    assert len(pieces) > 1
    assert "".join(piece["text"] for piece in pieces) == whole["predict"]


@pytest.mark.parametrize(
    ("task", "parameters", "status", "message"),
    [
        ("text_generation", {"max_new_tokens": 0}, 400, "parameter max_new_tokens=0; it must be at least 1"),
        ("fill_mask", {}, 422, "fill_mask does not generate text; only text_generation can be streamed"),
    ],
)
def test_a_stream_is_refused_with_a_status(kserve, torchserve, task, parameters, status, message) -> None:
    body = replace(next(item for item in EXAMPLES if item.task == task), parameters=parameters).v2()
    for host in (kserve, torchserve):
        response = host.infer(task, body, accept="text/event-stream")
        assert (response.status_code, response.json()) == (status, {"error": message})
