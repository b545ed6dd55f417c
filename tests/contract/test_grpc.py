"""The Open Inference Protocol over gRPC, on the KServe host and on the front."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Iterator

import grpc
import pytest
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
from kserve.protocol.grpc import grpc_predict_v2_pb2_grpc as pb_grpc

from tests.contract.bodies import BAD, GOOD
from tests.servers import RunningServer

pytestmark = [pytest.mark.kserve, pytest.mark.torchserve]


@pytest.fixture(params=["kserve_host", "front_host"])
def stub(request: pytest.FixtureRequest) -> Iterator[pb_grpc.GRPCInferenceServiceStub]:
    host: RunningServer = request.getfixturevalue(request.param)
    with grpc.insecure_channel(f"127.0.0.1:{host.ports['grpc-port']}") as channel:
        yield pb_grpc.GRPCInferenceServiceStub(channel)


def texts(*elements: bytes, **more) -> pb.ModelInferRequest:
    tensor = {"name": "text", "datatype": "BYTES", "shape": [len(elements)], "contents": {"bytes_contents": elements}}
    return pb.ModelInferRequest(**{"model_name": "bert", "inputs": [tensor], **more})


def test_health_and_metadata(stub) -> None:
    assert stub.ServerLive(pb.ServerLiveRequest()).live
    assert stub.ServerReady(pb.ServerReadyRequest()).ready
    assert stub.ModelReady(pb.ModelReadyRequest(name="bert", version="1.0")).ready
    assert "binary_tensor_data" in stub.ServerMetadata(pb.ServerMetadataRequest()).extensions
    metadata = stub.ModelMetadata(pb.ModelMetadataRequest(name="bert"))
    assert metadata.name == "BERTSeqClassification"
    assert [(item.name, item.datatype, list(item.shape)) for item in metadata.outputs] == [
        ("predict", "BYTES", [-1]),
        ("score", "FP32", [-1]),
        ("probabilities", "FP32", [-1, 2]),
        ("logits", "FP32", [-1, 2]),
    ]


def test_contents_in_contents_out(stub) -> None:
    request = texts(GOOD.encode(), BAD.encode(), id="42", outputs=[{"name": "predict"}, {"name": "score"}])
    answer = stub.ModelInfer(request)
    assert (answer.id, answer.model_name, answer.model_version) == ("42", "BERTSeqClassification", "1.0")
    assert list(answer.outputs[0].contents.bytes_contents) == [b"Accepted", b"Not Accepted"]
    assert len(answer.outputs[1].contents.fp32_contents) == 2
    assert not answer.raw_output_contents


def test_raw_in_raw_out(stub) -> None:
    raw = b"".join(struct.pack("<I", len(item)) + item for item in (GOOD.encode(), BAD.encode()))
    request = pb.ModelInferRequest(
        model_name="bert",
        inputs=[{"name": "text", "datatype": "BYTES", "shape": [2]}],
        outputs=[{"name": "predict"}, {"name": "probabilities"}],
        raw_input_contents=[raw],
    )
    answer = stub.ModelInfer(request)
    assert answer.raw_output_contents[0] == b"\x08\x00\x00\x00Accepted\x0c\x00\x00\x00Not Accepted"
    assert len(answer.raw_output_contents[1]) == 2 * 2 * 4
    assert not answer.outputs[0].HasField("contents")


def test_token_tensors(stub) -> None:
    ids = [101, 10634, 12532, 3238, 6752, 102]
    request = pb.ModelInferRequest(
        model_name="bert",
        inputs=[{"name": "input_ids", "datatype": "INT64", "shape": [1, 6], "contents": {"int64_contents": ids}}],
    )
    assert list(stub.ModelInfer(request).outputs[0].contents.bytes_contents) == [b"Not Accepted"]


@pytest.mark.parametrize(
    ("request_", "code", "message"),
    [
        (texts(b"a", model_name="bart"), grpc.StatusCode.NOT_FOUND, "'bart'"),
        (texts(b"a", model_version="9"), grpc.StatusCode.NOT_FOUND, "'9'"),
        (texts(b"\xff"), grpc.StatusCode.INVALID_ARGUMENT, "not UTF-8"),
        (texts(b"a", inputs=[]), grpc.StatusCode.INVALID_ARGUMENT, "at least one tensor"),
        (texts(b"a", outputs=[{"name": "scor"}]), grpc.StatusCode.INVALID_ARGUMENT, "did you mean 'score'"),
        (texts(b"a", raw_input_contents=[b"a"]), grpc.StatusCode.INVALID_ARGUMENT, "raw_input_contents"),
        (texts(b"a", parameters={"top_k": {"int64_param": 0}}), grpc.StatusCode.INVALID_ARGUMENT, "at least 1"),
    ],
)
def test_refused(stub, request_, code, message) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        stub.ModelInfer(request_)
    assert refused.value.code() == code
    assert message in refused.value.details()


async def test_a_caller_that_is_gone_is_no_defect() -> None:
    from bert_handler.errors import InvalidRequestError
    from bert_handler.server.grpc import _abort

    class Gone:
        async def abort(self, code: object, message: str) -> None:
            raise grpc.aio.InternalError("cannot send")

    with pytest.raises(asyncio.CancelledError):
        await _abort(Gone(), InvalidRequestError("a refusal"))
