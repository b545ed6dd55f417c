"""One table of bodies, three hosts, the same answers."""

from __future__ import annotations

import json

import pytest

from tests.contract.bodies import ANSWERED, BAD, GOOD, REFUSED, SEED, Body, tensor, v2
from tests.servers import RunningServer

pytestmark = [pytest.mark.kserve, pytest.mark.torchserve]


def send(host: RunningServer, body: Body):
    return host.client.post(host.url + host.infer_path.format("bert"), content=body.raw, headers=body.headers)


def test_the_seeds_request_gets_the_seeds_answer(host: RunningServer) -> None:
    response = host.infer("bert", json.dumps(SEED), content_type="application/json")
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert response.json() == {
        "id": "d3b15cad-50a2-4eaf-80ce-8b0a428bd298",
        "model_name": "BERTSeqClassification",
        "model_version": "1.0",
        "outputs": [{"name": "predict", "shape": [], "datatype": "BYTES", "data": ["Not Accepted"]}],
    }


@pytest.mark.parametrize("body", ANSWERED, ids=lambda body: body.name)
def test_answered_alike(body: Body, kserve_host, torchserve_host, front_host) -> None:
    answers = [send(host, body) for host in (kserve_host, torchserve_host, front_host)]
    assert [answer.status_code for answer in answers] == [200] * 3, answers[0].text
    assert answers[0].content == answers[1].content == answers[2].content
    outputs = {item["name"]: (item["shape"], item["data"]) for item in answers[0].json()["outputs"]}
    for name, expected in body.outputs.items():
        assert outputs[name] == expected


@pytest.mark.parametrize("body", REFUSED, ids=lambda body: body.name)
def test_refused_alike(body: Body, kserve_host, torchserve_host, front_host) -> None:
    answers = [send(host, body) for host in (kserve_host, torchserve_host, front_host)]
    assert [answer.status_code for answer in answers] == [body.status] * 3, answers[0].text
    assert answers[0].json() == answers[1].json() == answers[2].json()
    assert set(answers[0].json()) == {"error"}
    assert body.error in answers[0].json()["error"]


def test_all_outputs_are_typed(host: RunningServer) -> None:
    names = ["predict", "score", "probabilities", "logits"]
    body = v2(tensor([GOOD, BAD], [2]), outputs=[{"name": name} for name in names])
    outputs = host.infer("bert", json.dumps(body), content_type="application/json").json()["outputs"]
    assert [(item["name"], item["datatype"], item["shape"]) for item in outputs] == [
        ("predict", "BYTES", [2]),
        ("score", "FP32", [2]),
        ("probabilities", "FP32", [2, 2]),
        ("logits", "FP32", [2, 2]),
    ]
    assert outputs[1]["data"] == pytest.approx([outputs[2]["data"][1], outputs[2]["data"][2]])
    assert sum(outputs[2]["data"][:2]) == pytest.approx(1, abs=1e-5)


def test_one_bad_element_leaves_its_neighbours(host: RunningServer) -> None:
    body = v2(tensor([GOOD, '{"text": 3}', BAD], [3]))
    response = host.infer("bert", json.dumps(body), content_type="application/json")
    assert response.status_code == 200
    answer = response.json()
    (output,) = answer["outputs"]
    assert [output["data"][0], output["data"][2]] == ["Accepted", "Not Accepted"]
    assert json.loads(output["data"][1]) == {"error": "text must be a string, not an integer", "status": 400}
    assert json.loads(answer["parameters"]["errors"]) == [
        {"index": 1, "error": "text must be a string, not an integer", "status": 400}
    ]


def test_truncation_is_told(host: RunningServer) -> None:
    body = v2(tensor(["good " * 400, GOOD], [2]))
    answer = host.infer("bert", json.dumps(body), content_type="application/json").json()
    assert json.loads(answer["parameters"]["truncated"]) == [True, False]
    assert json.loads(answer["parameters"]["input_tokens"]) == [402, 9]


@pytest.mark.parametrize(
    ("body", "headers", "content_type", "expected"),
    [
        (GOOD, {"content-type": "text/plain"}, "text/plain; charset=utf-8", b"Accepted"),
        (BAD, {"content-type": "application/octet-stream"}, "text/plain; charset=utf-8", b"Not Accepted"),
        (BAD, {}, "text/plain; charset=utf-8", b"Not Accepted"),
        (json.dumps({"text": GOOD, "target": 1}), {}, "text/plain; charset=utf-8", b"Accepted"),
        (json.dumps([GOOD, BAD]), {}, "application/json", b'["Accepted","Not Accepted"]'),
        # What TorchServe's stock handlers read, and its sample requests send.
        (json.dumps({"data": BAD, "target": 0}), {}, "text/plain; charset=utf-8", b"Not Accepted"),
        (
            json.dumps({"instances": [{"data": GOOD, "target": 0}, {"body": json.dumps({"text": BAD})}]}),
            {},
            "application/json",
            b'{"predictions":["Accepted","Not Accepted"]}',
        ),
        # The type that a browser's fetch gives to JSON in a string.
        (
            json.dumps({"instances": [GOOD, BAD]}),
            {"content-type": "text/plain;charset=UTF-8"},
            "application/json",
            b'{"predictions":["Accepted","Not Accepted"]}',
        ),
        (
            json.dumps({"nothing": BAD}),
            {"content-type": "text/plain"},
            "text/plain; charset=utf-8",
            b"Not Accepted",
        ),
        (
            json.dumps({"instances": [GOOD, {"text": BAD, "text_pair": ""}]}),
            {"content-type": "application/json"},
            "application/json",
            b'{"predictions":["Accepted","Not Accepted"]}',
        ),
    ],
)
def test_raw_and_v1_on_both_hosts(body, headers, content_type, expected, kserve_host, torchserve_host, front_host):
    for host, path in (
        (kserve_host, "/v1/models/bert:predict"),
        (kserve_host, "/predictions/bert"),
        (torchserve_host, "/predictions/bert"),
        (front_host, "/v1/models/bert:predict"),
    ):
        response = host.client.post(host.url + path, content=body, headers=headers)
        assert response.status_code == 200, response.text
        assert response.content == expected
        assert response.headers["content-type"] == content_type


TWO = json.dumps({"instances": [GOOD, BAD]})


@pytest.mark.parametrize(
    "form",
    [
        {"files": {"data": ("in.json", TWO)}},
        {"files": {"data": ("in.json", TWO, "application/json")}},
        {"files": {"other": ("in.json", TWO)}},
        {"files": {"body": (None, TWO), "more": (None, "x")}},
        {"data": {"data": TWO}},
        {"data": {"more": "x", "data": TWO}},
        {"files": [("data", (None, "x")), ("data", (None, TWO))]},
        {"data": {"data": ["x", TWO]}},
    ],
)
def test_a_form_holds_the_body(form, kserve_host, torchserve_host, front_host) -> None:
    for host in (kserve_host, torchserve_host, front_host):
        response = host.client.post(f"{host.url}/predictions/bert", **form)
        assert (response.status_code, response.text) == (200, '{"predictions":["Accepted","Not Accepted"]}')


def test_an_unknown_model_is_404(kserve_host, front_host) -> None:
    for host in (kserve_host, front_host):
        response = host.infer("bart", json.dumps(SEED))
        assert response.status_code == 404
        assert "'bart'" in response.json()["error"]


def test_curls_default_content_type_is_answered_by_the_kserve_hosts(kserve_host, torchserve_host, front_host) -> None:
    form = {"content_type": "application/x-www-form-urlencoded"}
    for host in (kserve_host, front_host):
        assert host.infer("bert", json.dumps(SEED), **form).json()["outputs"][0]["data"] == ["Not Accepted"]
    # TorchServe's frontend drops such a body before any handler sees it.
    response = torchserve_host.infer("bert", json.dumps(SEED), **form)
    assert response.status_code == 400
    assert "send Content-Type: application/json" in response.json()["error"]
