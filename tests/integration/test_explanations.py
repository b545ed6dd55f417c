"""Explanations on real servers: the same answer on every route and host, and predictions that do not wait."""

from __future__ import annotations

import http.client
import json
import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest

from tests.servers import kserve_server

pytestmark = [pytest.mark.slow]

GOOD, BAD = "A warm, funny and beautifully acted film.", "Two hours of noise without a single idea."
PARAMETERS = {"n_steps": 10, "target": "Accepted"}
V2 = {
    "id": "7",
    "parameters": PARAMETERS,
    "inputs": [{"name": "text", "datatype": "BYTES", "shape": [2], "data": [GOOD, BAD]}],
}
V1 = {"instances": [GOOD, {"text": BAD}], "parameters": PARAMETERS}


@pytest.fixture(scope="module")
def expected(demo_dir):
    from bert_handler import Predictor

    return [found.content for found in Predictor.load(demo_dir, device="cpu").explain([GOOD, BAD], **PARAMETERS)]


def post(server, path, body, **headers):
    return server.client.post(server.url + path, json=body, headers=headers)


def same(found, expected):
    assert found["words"] == expected["words"]
    assert found["target"] == expected["target"] == "Accepted"
    np.testing.assert_allclose(found["importances"], expected["importances"], atol=1e-3)


def check_v2(response, expected):
    assert response.status_code == 200, response.text
    answer = response.json()
    assert answer["id"] == "7"
    (output,) = answer["outputs"]
    assert (output["name"], output["datatype"], output["shape"]) == ("explanation", "BYTES", [2])
    for document, right in zip(output["data"], expected):
        same(json.loads(document), right)


@pytest.mark.kserve
@pytest.mark.parametrize("path", ["/v2/models/bert/explain", "/v2/models/bert/versions/1.0/explain"])
def test_v2_on_kserve(kserve_host, expected, path):
    check_v2(post(kserve_host, path, V2), expected)


@pytest.mark.kserve
def test_v1_on_kserve(kserve_host, expected):
    found = post(kserve_host, "/v1/models/bert:explain", V1).json()["explanations"]
    for document, right in zip(found, expected):
        same(document, right)


@pytest.mark.kserve
def test_torchserve_route_on_kserve(kserve_host, expected):
    same(post(kserve_host, "/explanations/bert", {"text": GOOD, **PARAMETERS}).json(), expected[0])


@pytest.mark.kserve
def test_errors_of_single_instances(kserve_host):
    body = {"instances": [GOOD, {"text": BAD, "target": "nobody"}], "parameters": {"n_steps": 4}}
    good, bad = post(kserve_host, "/v1/models/bert:explain", body).json()["explanations"]
    assert good["target"] == "Accepted"
    assert bad["status"] == 400
    response = post(kserve_host, "/v2/models/bert/explain", {**V2, "outputs": [{"name": "score"}]})
    assert response.status_code == 400
    assert "explanation" in response.json()["error"]


@pytest.mark.kserve
def test_predictions_are_not_starved(kserve_host):
    """16 explanations and 200 predictions at once: all right, and the predictions' p95 grows by half at most."""
    texts = [f"{GOOD} {i}" for i in range(200)]
    body = {"instances": [f"{GOOD} {BAD}"], "parameters": {"n_steps": 20}}

    # A thread's own plain connection: 200 of httpx would be what is measured.
    own = threading.local()

    def post(verb, body):
        if not hasattr(own, "connection"):
            own.connection = http.client.HTTPConnection("127.0.0.1", kserve_host.ports["http-port"], timeout=300)
        own.connection.request("POST", f"/v1/models/bert:{verb}", json.dumps(body))
        response = own.connection.getresponse()
        return response.status, json.loads(response.read())

    def predict(text):
        started = time.monotonic()
        status, answer = post("predict", {"instances": [text]})
        return status, answer["predictions"], time.monotonic() - started

    def p95(found):
        assert all(status == 200 and answer == ["Accepted"] for status, answer, _ in found)
        return statistics.quantiles([seconds for _, _, seconds in found], n=20)[-1]

    with ThreadPoolExecutor(200) as clients, ThreadPoolExecutor(16) as others:
        list(clients.map(predict, texts))
        alone = min(p95(list(clients.map(predict, texts))) for _ in range(2))
        explanations = [others.submit(post, "explain", body) for _ in range(16)]
        time.sleep(0.5)
        together = min(p95(list(clients.map(predict, texts))) for _ in range(2))
        assert not all(future.done() for future in explanations)
        answers = [future.result() for future in explanations]
    assert [status for status, _ in answers] == [200] * 16
    assert len({json.dumps(answer["explanations"][0]["words"]) for _, answer in answers}) == 1
    print(f"p95 of 200 predictions: {alone:.3f} s alone, {together:.3f} s beside 16 explanations")
    assert together <= 1.5 * alone


@pytest.mark.kserve
def test_a_full_queue_is_said(demo_dir):
    with (
        kserve_server(demo_dir, name="bert", BERT_HANDLER_MAX_EXPLANATIONS="2") as server,
        ThreadPoolExecutor(8) as clients,
    ):
        body = {"instances": [GOOD, BAD], "parameters": {"n_steps": 30}}
        found = list(clients.map(lambda _: post(server, "/v1/models/bert:explain", body), range(8)))
        statuses = {response.status_code for response in found}
        assert statuses == {200, 429}
        refused = next(response for response in found if response.status_code == 429)
        assert "max_explanations is 2" in refused.json()["error"]
        assert refused.headers["retry-after"]


@pytest.mark.torchserve
def test_v2_on_torchserve_and_through_the_front(torchserve_host, front_host, expected):
    check_v2(post(torchserve_host, "/explanations/bert", V2), expected)
    check_v2(post(front_host, "/v2/models/bert/explain", V2), expected)
    found = post(front_host, "/v1/models/bert:explain", V1).json()["explanations"]
    same(found[0], expected[0])


@pytest.mark.torchserve
def test_rows_of_one_batch_are_explained_or_predicted_each_as_asked(torchserve_host, expected):
    def ask(path):
        return httpx.post(f"{torchserve_host.url}/{path}/bert", json={"text": GOOD, **PARAMETERS}, timeout=120)

    with ThreadPoolExecutor(8) as clients:
        paths = ["explanations", "predictions"] * 4
        for path, response in zip(paths, clients.map(ask, paths)):
            assert response.status_code == 200, response.text
            if path == "explanations":
                same(response.json(), expected[0])
            else:
                assert response.text == "Accepted"
