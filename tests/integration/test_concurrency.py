"""Many callers at once: each gets its own answer, equal to the one it gets alone."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from bert_handler.packaging.demo_data import held_out_reviews
from tests.servers import RunningServer

pytestmark = [pytest.mark.kserve, pytest.mark.torchserve]


def request(index: int, text: str) -> str:
    tensor = {"name": "text", "shape": [1], "datatype": "BYTES", "data": [text]}
    outputs = [{"name": "predict"}, {"name": "score"}]
    return json.dumps({"id": str(index), "inputs": [tensor], "outputs": outputs})


def test_64_callers_each_get_their_own_answer(host: RunningServer) -> None:
    bodies = [request(i, text) for i, text in enumerate(held_out_reviews()[0][:64])]

    def ask(body: str) -> dict:
        response = host.infer("bert", body, content_type="application/json")
        assert response.status_code == 200, response.text
        return response.json()

    with ThreadPoolExecutor(64) as pool:
        together = list(pool.map(ask, bodies))
    for index, (answer, body) in enumerate(zip(together, bodies)):
        assert answer["id"] == str(index)
        alone = ask(body)
        assert answer["outputs"][0] == alone["outputs"][0]
        assert answer["outputs"][1]["data"] == pytest.approx(alone["outputs"][1]["data"], abs=1e-4)


def test_one_bad_request_in_a_batch_of_eight_is_refused_alone(torchserve_host: RunningServer) -> None:
    bodies = [request(i, f"film number {i} is good") for i in range(8)]
    bodies[3] = '{"inputs": "nothing"}'
    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            answers = list(pool.map(lambda body: torchserve_host.infer("bert", body), bodies))
            assert [answer.status_code for answer in answers] == [200] * 3 + [400] + [200] * 4
            assert [answer.json()["id"] for i, answer in enumerate(answers) if i != 3] == list("0124567")
