"""Every bad request is refused with its own status and message, and never with a defect's."""

from __future__ import annotations

import json
import logging

import pytest

from bert_handler import serving
from bert_handler.errors import RequestError
from bert_handler.protocols import V1_REST, V2_REST, error_reply
from bert_handler.protocols.v2_grpc import STATUS, request_body
from tests.contract import bad_requests as table

NLI = {0: "contradiction", 1: "neutral", 2: "entailment"}
MODELS = {
    "classify": (("bert", "sequence_classification"), {}, {}),
    "generate": (("gpt2", "generation"), {}, {}),
    "answer": (("bert", "question_answering"), {}, {}),
    "rank": (("bert", "sequence_classification"), {"num_labels": 1}, {"mode": "text_ranking"}),
    "zero-shot": (
        ("bert", "sequence_classification"),
        {"id2label": NLI, "label2id": {name: index for index, name in NLI.items()}},
        {"mode": "zero_shot_classification"},
    ),
    "fill": (("bert", "fill_mask"), {}, {}),
}
TABLES = (
    ("classify", V2_REST, table.V2_DOCUMENTS),
    ("classify", V2_REST, table.V2_TENSORS),
    ("classify", V2_REST, table.V2_TOKENS),
    ("classify", None, table.V1_DOCUMENTS),
    ("classify", None, table.PARAMETERS),
    ("generate", None, table.GENERATION),
    ("answer", None, table.QUESTIONS),
    ("rank", None, table.RANKING),
    ("zero-shot", None, table.ZERO_SHOT),
    ("fill", None, table.MASKS),
)
DOCUMENTS = [(model, protocol, *row) for model, protocol, rows in TABLES for row in rows]


@pytest.fixture
def ask(zoo, load, caplog):
    def send(model, body, headers, protocol):
        which, config, settings = MODELS[model]
        predictor = load(zoo(*which, **config), **settings)
        call = serving.decode(body, headers, protocol)
        return serving.encode(predictor, serving.answers([call], serving.begin(predictor, [call]))[0])

    yield send
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def refusal(reply):
    return reply.status, json.loads(reply.body)


def test_the_table_is_large_and_names_each_request_once():
    requests = [repr(row[:3]) for row in DOCUMENTS]
    requests += [repr(row[:-2]) for rows in (table.RAW, table.HEADERS, table.BINARY, table.GRPC) for row in rows]
    assert len(set(requests)) == len(requests) >= 500


@pytest.mark.parametrize(("model", "protocol", "body", "status", "message"), DOCUMENTS)
def test_documents(ask, model, protocol, body, status, message):
    reply = ask(model, body.encode(), {"content-type": "application/json"}, protocol)
    assert refusal(reply) == (status, {"error": message})


@pytest.mark.parametrize(("body", "content_type", "status", "message"), table.RAW)
def test_bare_bodies(ask, body, content_type, status, message):
    headers = {"content-type": content_type} if content_type else {}
    assert refusal(ask("classify", body, headers, None)) == (status, {"error": message})


@pytest.mark.parametrize(("body", "headers", "status", "message"), table.HEADERS)
def test_headers(ask, body, headers, status, message):
    assert refusal(ask("classify", body, headers, None)) == (status, {"error": message})


@pytest.mark.parametrize(("header", "tail", "length", "status", "message"), table.BINARY)
def test_binary_tensors(ask, header, tail, length, status, message):
    stated = str(len(header)) if length is None else length
    reply = ask("classify", header.encode() + tail, {"inference-header-content-length": stated}, V2_REST)
    assert refusal(reply) == (status, {"error": message})


@pytest.mark.parametrize(("fields", "status", "message"), table.GRPC)
def test_grpc(ask, fields, status, message):
    pb = pytest.importorskip("kserve.protocol.grpc.grpc_predict_v2_pb2")
    try:
        reply = ask("classify", *request_body(pb.ModelInferRequest(**fields)), V2_REST)
    except RequestError as exc:
        reply = error_reply(exc)
    assert refusal(reply) == (status, {"error": message})
    assert status in STATUS


def test_v1_states_itself_where_the_route_does(ask):
    reply = ask("classify", b'{"text": "a"}', {}, V1_REST)
    message = "unknown key 'text'; known: instances, outputs, parameters, signature_name"
    assert refusal(reply) == (400, {"error": message})


# ---- the same over real servers -------------------------------------------------------------

SAMPLE = [row[2:] for row in DOCUMENTS if row[0] == "classify"]
TOO_LONG = "input_ids has 60 tokens; this model takes at most 48"
"""Of two rows: the demo model takes 256, and answers."""


def of_the_demo_model(message):
    return message.replace("input_ids must be between 0 and 904", "input_ids must be between 0 and 30521")


@pytest.mark.kserve
def test_the_kserve_host_refuses_alike(kserve_host):
    wrong, longer = [], []
    for body, status, message in SAMPLE:
        v2 = body in {row[0] for row in (*table.V2_DOCUMENTS, *table.V2_TENSORS, *table.V2_TOKENS)}
        path = "/v2/models/bert/infer" if v2 else "/v1/models/bert:predict"
        answer = kserve_host.client.post(
            kserve_host.url + path, content=body.encode(), headers={"content-type": "application/json"}
        )
        if message == TOO_LONG:
            longer.append(answer.status_code)
        elif (answer.status_code, answer.json()) != (status, {"error": of_the_demo_model(message)}):
            wrong.append((body[:200], answer.status_code, answer.text[:200]))
    assert len(SAMPLE) > 250
    assert wrong == []
    assert longer == [200, 200]


@pytest.mark.kserve
def test_the_kserve_host_refuses_grpc_alike(kserve_host):
    grpc = pytest.importorskip("grpc")
    from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
    from kserve.protocol.grpc import grpc_predict_v2_pb2_grpc as pb_grpc

    with grpc.insecure_channel(f"127.0.0.1:{kserve_host.ports['grpc-port']}") as channel:
        stub = pb_grpc.GRPCInferenceServiceStub(channel)
        for fields, status, message in table.GRPC:
            with pytest.raises(grpc.RpcError) as caught:
                stub.ModelInfer(pb.ModelInferRequest(model_name="bert", **fields), timeout=20)
            assert (caught.value.code().name, caught.value.details()) == (STATUS[status], of_the_demo_model(message))
