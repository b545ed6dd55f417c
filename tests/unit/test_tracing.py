"""Spans on both hosts' way of a request, what stands in them, and that there are none where nobody asks."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
from types import SimpleNamespace

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from bert_handler import tracing
from bert_handler.protocols import V2_REST, v2

STAGES = ["decode", "tokenize", "queue", "forward", "postprocess", "encode", "request"]
SECRET = "xylophone"
CALLER = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "x-request-id": "r-17"}


@pytest.fixture
def exporter(monkeypatch):
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(tracing, "_tracer", lambda: provider.get_tracer("test"))
    return exporter


@pytest.fixture(scope="module")
def predictor(zoo, load):
    return load(zoo("bert", "sequence_classification"))


def body(*texts):
    return json.dumps({"inputs": [{"name": "text", "shape": [-1], "datatype": "BYTES", "data": texts}]}).encode()


def ask_kserve(predictor, *requests):
    model = pytest.importorskip("bert_handler.kserve_model").LocalModel("bert", predictor)

    async def ask():
        return await asyncio.gather(*(model.reply(content, headers, V2_REST) for content, headers in requests))

    return [(reply.status, reply.body) for reply in asyncio.run(ask())]


class Context:
    """As much of TorchServe's context as a handler uses."""

    def __init__(self, headers):
        self.headers = headers
        self.statuses = [200] * len(headers)

    def get_all_request_header(self, index):
        return self.headers[index]

    def get_request_id(self, index):
        return f"torchserve-{index}"

    def set_response_status(self, code, phrase, index):
        self.statuses[index] = code

    def set_response_header(self, index, name, value):
        pass

    def set_response_content_type(self, index, value):
        pass


def ask_torchserve(predictor, *requests):
    handler = pytest.importorskip("bert_handler.handler").TransformerHandler()
    context = Context([headers for _, headers in requests])
    handler.predictor, handler._next_report, handler.context = predictor, 0.0, context
    bodies = handler.handle([{"body": content} for content, _ in requests], context)
    return list(zip(context.statuses, bodies))


both_hosts = pytest.mark.parametrize("ask", [ask_kserve, ask_torchserve], ids=["kserve", "torchserve"])


@both_hosts
def test_every_stage_is_a_span_of_the_callers_trace(exporter, predictor, ask):
    (answer,) = ask(predictor, (body("good film", "bad"), CALLER))
    assert answer[0] == 200
    spans = {span.name: span for span in exporter.get_finished_spans()}
    assert set(spans) == set(STAGES)
    root = spans["request"]
    assert f"{root.context.trace_id:032x}" == CALLER["traceparent"].split("-")[1]
    assert f"{root.parent.span_id:016x}" == CALLER["traceparent"].split("-")[2]
    assert {span.parent.span_id for span in spans.values() if span is not root} == {root.context.span_id}
    assert all(root.start_time <= span.start_time <= span.end_time <= root.end_time for span in spans.values())
    ordered = [spans[name].start_time for name in STAGES[:-1]]
    assert ordered == sorted(ordered)
    assert root.attributes["bert_handler.request_id"] == "r-17"
    assert root.attributes["bert_handler.instances"] == 2
    assert root.attributes["http.response.status_code"] == 200


def test_grpc_metadata_names_the_callers_trace(exporter, predictor):
    kserve_model = pytest.importorskip("bert_handler.kserve_model")
    kserve_grpc = pytest.importorskip("bert_handler.server.grpc")
    servicer = kserve_grpc.Servicer(lambda: {"bert": kserve_model.LocalModel("bert", predictor)})
    request = kserve_grpc.pb.ModelInferRequest(model_name="bert")
    tensor = request.inputs.add(name="text", datatype="BYTES", shape=[1])
    tensor.contents.bytes_contents.append(b"good film")
    context = SimpleNamespace(time_remaining=lambda: None, invocation_metadata=lambda: tuple(CALLER.items()))
    assert asyncio.run(servicer.ModelInfer(request, context)).outputs
    (root,) = [span for span in exporter.get_finished_spans() if span.name == "request"]
    assert f"{root.parent.span_id:016x}" == CALLER["traceparent"].split("-")[2]
    assert root.attributes["bert_handler.request_id"] == "r-17"


@both_hosts
def test_requests_of_one_batch_have_traces_of_their_own(exporter, predictor, ask):
    other = {"traceparent": CALLER["traceparent"].replace("0af7", "1bf7")}
    ask(predictor, (body("good film"), CALLER), (body("bad"), other), (b"{}", {}))
    traces = {}
    for span in exporter.get_finished_spans():
        traces.setdefault(f"{span.context.trace_id:032x}"[:4], []).append(span.name)
    assert set(traces) > {"0af7", "1bf7"}
    assert sorted(traces.pop("0af7")) == sorted(traces.pop("1bf7")) == sorted(STAGES)
    assert list(traces.values()) == [["decode", "encode", "request"]]


@both_hosts
@pytest.mark.parametrize("broken", [False, True], ids=["answered", "refused"])
def test_no_text_and_no_token_is_in_a_span(exporter, predictor, ask, broken):
    content = body(SECRET) if not broken else json.dumps({"inputs": [{"name": SECRET, SECRET: SECRET}]}).encode()
    (answer,) = ask(predictor, (content, {}))
    assert answer[0] == (400 if broken else 200)
    spans = exporter.get_finished_spans()
    assert spans
    assert SECRET not in "".join(span.to_json() for span in spans)
    values = [value for span in spans for value in span.attributes.values()]
    assert all(isinstance(value, (str, int)) for value in values)


@both_hosts
def test_a_failed_request_is_an_error_and_its_log_line_has_its_id(exporter, predictor, ask, caplog, monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError(SECRET)

    monkeypatch.setattr(type(predictor.task), "predict", fail)
    monkeypatch.setattr("bert_handler.predictor.logger.exception", lambda *args: None)
    content = json.dumps({"instances": ["good film"]}).encode()
    caplog.set_level(logging.DEBUG, "bert_handler.metrics")
    ask(predictor, (content, CALLER))
    (line,) = [record.getMessage() for record in caplog.records if record.name == "bert_handler.metrics"]
    assert "request_id='r-17'" in line
    (root,) = [span for span in exporter.get_finished_spans() if span.name == "request"]
    assert root.attributes["http.response.status_code"] == int(line.partition("status=")[2][:3])
    assert SECRET not in root.to_json() + line


FAILING = {
    "tokenize": ("task", "encode"),
    "forward": ("engine", "forward"),
    "decode": ("task", "predict"),
    "explain": ("explainer", "_explain"),
    "body": ("v2", "instances_of"),
    "answer": ("v2", "output_tensors"),
}


@both_hosts
@pytest.mark.parametrize(("part", "function"), FAILING.values(), ids=list(FAILING))
def test_the_log_names_the_request_of_what_fails(predictor, ask, caplog, monkeypatch, part, function):
    def fail(*args, **kwargs):
        raise RuntimeError("defect")

    monkeypatch.setattr(v2 if part == "v2" else getattr(predictor, part), function, fail)
    explain = {"explain": "True"} if part == "explainer" else {}
    requests = [(body("good film"), {"x-request-id": name, **explain}) for name in ("r-17", "r-18")]
    assert [status for status, _ in ask(predictor, *requests)] == [500, 500]
    lines = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert sorted(line.rpartition("request_id=")[2] for line in lines) == ["'r-17'", "'r-18'"]


@both_hosts
@pytest.mark.parametrize(("headers", "found"), [(CALLER, "r-17"), ({}, "torchserve-0")])
def test_a_refused_request_is_logged_with_its_id(predictor, ask, caplog, headers, found):
    caplog.set_level(logging.DEBUG, "bert_handler.metrics")
    ask(predictor, (b'{"inputs": 7}', headers))
    if ask is ask_kserve and not headers:
        found = "-"
    assert f"request_id='{found}' status=400" in caplog.text


@pytest.mark.parametrize(
    ("environ", "names"),
    [
        ({}, []),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}, ["otlp"]),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, ["otlp/grpc"]),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_TRACES_EXPORTER": "none"}, []),
        ({"OTEL_TRACES_EXPORTER": "console, otlp"}, ["console", "otlp"]),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_SDK_DISABLED": "true"}, []),
    ],
)
def test_the_environment_chooses_the_exporter(environ, names):
    assert tracing.exporter_names(environ) == names
    assert set(names) <= set(tracing.EXPORTERS)


@pytest.mark.parametrize("name", tracing.EXPORTERS)
def test_the_exporters_are_where_they_are_looked_for(name):
    module, _, attribute = tracing.EXPORTERS[name].partition(":")
    assert hasattr(pytest.importorskip(module), attribute)


PROBE = """
import sys
from bert_handler import tracing
trace = tracing.start({"traceparent": "x"})
with trace.measure("decode"):
    pass
trace.end(200)
tracing._tracer() and tracing._tracer().start_span("ended").end()
print("opentelemetry" in sys.modules, "opentelemetry.sdk" in sys.modules, trace is tracing.UNTRACED)
"""


@pytest.mark.parametrize(("environ", "said"), [({}, "False False True"), ({"OTEL_TRACES_EXPORTER": "console"}, "True")])
def test_nothing_is_imported_until_the_environment_asks(environ, said):
    done = subprocess.run(
        [sys.executable, "-c", PROBE], env={"PATH": "", **environ}, capture_output=True, text=True, check=True
    )
    assert said in done.stdout
    assert ('"name": "ended"' in done.stdout) is bool(environ)


def test_an_exporter_that_is_not_there_is_said_once_and_traces_nothing(monkeypatch, caplog):
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "zipkin")
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", None)
    tracing._tracer.cache_clear()
    try:
        assert tracing.start({}) is tracing.UNTRACED
        assert tracing.start({}) is tracing.UNTRACED
    finally:
        tracing._tracer.cache_clear()
    (line,) = [record.getMessage() for record in caplog.records]
    assert "pip install '.[otel]' in a clone" in line
