"""The V2 client against a scripted HTTP server, and its gRPC messages against the SDK's."""

from __future__ import annotations

import json
import math
import sys
import threading
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import time

import pytest
from google.protobuf import descriptor_pb2
from kserve.protocol.grpc import grpc_predict_v2_pb2 as sdk

from bert_handler import errors
from bert_handler.cli import main
from bert_handler.client.grpc import GrpcClient
from bert_handler.client.messages import MESSAGES, answer_document, message_type
from bert_handler.client.rest import Client, Retry, document
from bert_handler.commands.infer import cookies

ANSWER = {"model_name": "m", "outputs": [{"name": "predict", "shape": [], "datatype": "BYTES", "data": ["yes"]}]}


class ScriptedServer(ThreadingHTTPServer):
    """Answers with `script`, (status, headers, body) one after the other; keeps what it was asked."""

    def __init__(self, script):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.script = list(script)
        self.asked = []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        self.server.asked.append((self.command, self.path, dict(self.headers), body))
        status, headers, answer = self.server.script.pop(0)
        content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST  # noqa: N815

    def log_message(self, *args):
        pass


@pytest.fixture
def scripted():
    servers = []

    def start(*script):
        server = ScriptedServer(script)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def waiting_client(server, **options):
    client = Client(server.url, **options)
    waits = []
    client._sleep = waits.append
    return client, waits


def test_one_text_is_a_scalar_and_a_list_a_vector():
    assert document("good") == {"inputs": [{"name": "text", "shape": [], "datatype": "BYTES", "data": ["good"]}]}
    asked = document(["a", {"text": "b", "target": 1}], outputs=["score"], parameters={"top_k": 2}, id="7")
    assert asked == {
        "id": "7",
        "inputs": [
            {"name": "text", "shape": [2], "datatype": "BYTES", "data": ["a", '{"text":"b","target":1}']},
        ],
        "parameters": {"top_k": 2},
        "outputs": [{"name": "score"}],
    }


def test_gateway_sees_the_host_the_cookie_and_the_token(scripted):
    server = scripted((200, {}, ANSWER))
    with Client(server.url, host="bert.example.com", cookies={"session": "abc"}, token="t0") as client:
        assert client.infer("bert", "good")["predict"] == ["yes"]
    method, path, headers, _ = server.asked[0]
    assert (method, path) == ("POST", "/v2/models/bert/infer")
    assert headers["host" if "host" in headers else "Host"] == "bert.example.com"
    lowered = {name.lower(): value for name, value in headers.items()}
    assert (lowered["cookie"], lowered["authorization"]) == ("session=abc", "Bearer t0")


def test_request_of_bytes_is_sent_as_it_is(scripted):
    server = scripted((200, {}, ANSWER))
    Client(server.url).send("bert", b'{"inputs": [ ]}', version="2", explain=True)
    assert server.asked[0][1] == "/v2/models/bert/versions/2/explain"
    assert server.asked[0][3] == b'{"inputs": [ ]}'


def test_busy_server_is_asked_again_when_it_said(scripted):
    server = scripted((429, {"Retry-After": "3"}, {"error": "full"}), (503, {}, {}), (200, {}, ANSWER))
    client, waits = waiting_client(server, retry=Retry(backoff_s=1))
    answer = client.infer("bert", "good")
    assert answer.attempts == 3
    assert waits[0] == 3
    assert 1 <= waits[1] <= 2  # doubled once, with jitter
    assert answer.waited_s == sum(waits)


def test_retry_after_may_be_a_date():
    assert 8 < Retry().wait_s(1, formatdate(time() + 10, usegmt=True)) <= 10
    assert Retry(max_wait_s=5).wait_s(1, "3600") == 5
    assert Retry(backoff_s=1).wait_s(1, "soon") <= 1


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, errors.InvalidRequestError),
        (404, errors.ModelNotFoundError),
        (413, errors.RequestTooLargeError),
        (422, errors.UnservableError),
        (500, errors.RequestError),
        (504, errors.DeadlineError),
    ],
)
def test_other_refusals_are_final(scripted, status, error):
    server = scripted((status, {}, {"error": "inputs[0].shape is wrong"}))
    client, waits = waiting_client(server)
    with pytest.raises(error, match=f"{status}: inputs\\[0\\].shape is wrong") as caught:
        client.infer("bert", "good")
    assert (caught.value.status, waits, len(server.asked)) == (status, [], 1)


def test_server_that_stays_busy_is_given_up(scripted):
    server = scripted(*[(429, {"Retry-After": "2"}, {"error": "queue full"})] * 3)
    client, waits = waiting_client(server, retry=Retry(attempts=3))
    with pytest.raises(errors.QueueFullError, match="queue full") as caught:
        client.infer("bert", "good")
    assert waits == [2, 2]
    assert caught.value.retry_after_s == 2


def test_login_page_is_named_and_not_followed(scripted):
    server = scripted((302, {"Location": "/dex/auth?state=secret"}, b""))
    with pytest.raises(errors.RequestError, match="session cookie is missing or has expired") as caught:
        Client(server.url, cookies={"s": "hidden"}).infer("bert", "good")
    assert "secret" not in str(caught.value)
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("status", "body", "well"),
    [(200, {"ready": True}, True), (200, b"", True), (200, b"<html>", False), (503, b"", False), (400, b"", False)],
)
def test_health_may_be_told_by_the_status_alone(scripted, status, body, well):
    server = scripted(*[(status, {}, body)] * 3)
    client = Client(server.url)
    assert [client.live(), client.ready(), client.ready("m")] == [well] * 3


def test_answer_that_is_no_json_is_an_error(scripted):
    server = scripted((200, {"Content-Type": "text/html"}, b"<html>"))
    with pytest.raises(errors.RequestError, match="text/html, not JSON"):
        Client(server.url).infer("bert", "good")


@pytest.mark.parametrize(
    ("content", "words"), [({"detail": [{"msg": "no"}]}, '[{"msg":"no"}]'), ({"code": 1, "message": "gone"}, "gone")]
)
def test_refusals_of_other_servers_are_readable(scripted, content, words):
    with pytest.raises(errors.RequestError) as caught:
        Client(scripted((418, {}, content)).url).infer("bert", "good")
    assert str(caught.value) == f"418: {words}"


def test_nothing_shows_the_secrets(scripted, caplog):
    caplog.set_level("DEBUG")
    server = scripted((403, {}, {"error": "no"}))
    client = Client(server.url, cookies={"s": "hidden"}, token="hidden")
    with pytest.raises(errors.RequestError) as caught:
        client.infer("bert", "good")
    assert "hidden" not in f"{client!r} {client.__dict__} {caught.value} {caplog.text}"


@pytest.mark.parametrize("made", [Client, GrpcClient])
@pytest.mark.parametrize("secret", ["hidden\nhidden", "hidd\u00e9n", "hidden\x00"])
@pytest.mark.parametrize("name", ["token", "host", "cookies"])
def test_what_no_header_can_have_is_refused_unrepeated(made, name, secret):
    given = {name: {"s": secret} if name == "cookies" else secret}
    with pytest.raises(errors.ConfigError, match=f"^{name} must be printable ASCII$") as caught:
        made("http://127.0.0.1:9", **given)
    assert caught.value.__context__ is None


def test_a_line_end_is_no_part_of_a_token(scripted, monkeypatch, capsys):
    server = scripted((200, {}, ANSWER), (200, {}, ANSWER))
    Client(server.url, token="t0\n", host=" bert.example.com\n").infer("bert", "good")
    monkeypatch.setenv("BERT_HANDLER_TOKEN", "t0\n")
    assert main(["infer", "--url", server.url, "--model", "bert", "--text", "good"]) == 0
    asked = [{name.lower(): value for name, value in headers.items()} for _, _, headers, _ in server.asked]
    assert [headers["authorization"] for headers in asked] == ["Bearer t0"] * 2
    assert asked[0]["host"] == "bert.example.com"


def test_unreachable_server_is_not_ready():
    with pytest.raises(errors.NotReadyError, match="cannot be reached"):
        Client("http://127.0.0.1:9").infer("bert", "good")


@pytest.fixture
def proxy(scripted, monkeypatch):
    """The environment's proxy, which refuses everything; `asked` has what it saw."""
    server = scripted(*[(418, {}, {"error": "of the proxy"})] * 9)
    for name in ("HTTP_PROXY", "ALL_PROXY", "http_proxy", "all_proxy"):
        monkeypatch.setenv(name, server.url)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    return server


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1", "[::ffff:127.0.0.1]"])
def test_what_stays_on_this_machine_passes_no_proxy(scripted, proxy, host):
    server = scripted((200, {}, ANSWER))
    url = server.url.replace("127.0.0.1", host)
    assert Client(url, token="t0", retry=Retry(attempts=1)).infer("bert", "good")["predict"] == ["yes"]
    assert not proxy.asked


@pytest.mark.parametrize("host", ["example.invalid", "128.0.0.1", "localhost.example.invalid", "[2001:db8::1]"])
def test_what_leaves_this_machine_passes_the_proxy(proxy, host):
    with pytest.raises(errors.RequestError, match="of the proxy"):
        Client(f"http://{host}:80").infer("bert", "good")
    assert len(proxy.asked) == 1


@pytest.mark.parametrize(
    ("proxy", "said"),
    [("socks5://u:hidden@p:1", r"pip install 'httpx\[socks\]'"), ("ftp://u:hidden@p:1", "none that can")],
)
def test_a_proxy_that_cannot_be_used_is_said_unrepeated(monkeypatch, capsys, proxy, said):
    if said.startswith("pip"):
        monkeypatch.setitem(sys.modules, "socksio", None)
    monkeypatch.setenv("ALL_PROXY", proxy)
    with pytest.raises(errors.ConfigError, match=said):
        Client("http://example.invalid")
    assert main(["infer", "--url", "http://example.invalid", "--model", "bert", "--text", "good"]) == 1
    shown = capsys.readouterr().err
    assert shown.startswith("error: the ")
    assert "hidden" not in shown
    Client("http://localhost:9").close()


@pytest.mark.parametrize("made", [Client, GrpcClient])
def test_an_address_that_is_none_is_said(made):
    with pytest.raises(errors.ConfigError, match=r"^'http://\[::1' is no address: "):
        made("http://[::1")


def test_lists_of_other_servers_are_names(scripted):
    server = scripted((200, {}, {"models": ["bert"]}), (200, {}, {"models": [{"name": "bert"}]}))
    assert [Client(server.url).models() for _ in range(2)] == [["bert"], ["bert"]]


def test_missing_output_names_those_there_are(scripted):
    answer = Client(scripted((200, {}, ANSWER)).url).infer("bert", "good")
    with pytest.raises(KeyError, match="the answer has predict"):
        answer["score"]


def test_cookies_come_from_options_else_from_the_environment():
    environ = {"BERT_HANDLER_COOKIE": "a=1; b=x=y"}
    assert cookies([], environ) == {"a": "1", "b": "x=y"}
    assert cookies(["c=3"], environ) == {"c": "3"}
    assert cookies([], {}) == {}
    with pytest.raises(errors.ConfigError, match="NAME=VALUE") as caught:
        cookies([], {"BERT_HANDLER_COOKIE": "s3cret"})
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"inputs": [', "request.json is not JSON: "),
        ("\x00", "request.json is not JSON: "),
        ("[]", "request.json must be a JSON object"),
        ('{"inputs": {}}', "inputs must be a list of objects"),
        ('{"inputs": [7]}', "inputs must be a list of objects"),
        ('{"inputs": [{"name": 7, "datatype": "BOOL", "data": []}]}', "inputs[0].name must be a string"),
        ('{"outputs": [{"name": []}]}', "outputs[0].name must be a string, not a list"),
        ('{"parameters": []}', "parameters must be an object, not a list"),
    ],
)
def test_a_file_that_is_no_request_is_named_before_it_is_sent_over_grpc(tmp_path, capsys, content, message):
    (tmp_path / "request.json").write_text(content)
    words = ["infer", "--grpc", "--url", "http://127.0.0.1:9", "--model", "bert", "--attempts", "1"]
    assert main([*words, "--file", str(tmp_path / "request.json")]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("body", "message"), [(b"{", "the request is not JSON"), (b"[]", "must be an object, not a list")]
)
def test_bytes_that_are_no_request_are_refused_before_they_are_sent_over_grpc(body, message):
    with GrpcClient("http://127.0.0.1:9") as client, pytest.raises(errors.InvalidRequestError, match=message):
        client.send("bert", body)


@pytest.mark.parametrize("name", [name for name in MESSAGES if "." not in name])
def test_grpc_messages_are_the_protocols(name):
    made, generated = descriptor_pb2.DescriptorProto(), descriptor_pb2.DescriptorProto()
    message_type(name).DESCRIPTOR.CopyToProto(made)
    getattr(sdk, name).DESCRIPTOR.CopyToProto(generated)
    assert _fields(made) == _fields(generated)


@pytest.mark.parametrize("raw", [True, False])
def test_grpc_answers_may_have_raw_contents_or_typed_ones(raw):
    """KServe's own servers answer with typed ones, however they were asked."""
    typed = {"predict": ("BYTES", {"bytes_contents": [b"yes"]}), "score": ("FP32", {"fp32_contents": [0.5]})}
    blocks = [b"\3\0\0\0yes", b"\0\0\0\x3f"] if raw else []
    outputs = [
        {"name": name, "datatype": datatype, "shape": [1], **({} if raw else {"contents": contents})}
        for name, (datatype, contents) in typed.items()
    ]
    assert answer_document(_answer(*outputs, raw_output_contents=blocks))["outputs"] == [
        {"name": "predict", "shape": [1], "datatype": "BYTES", "data": ["yes"]},
        {"name": "score", "shape": [1], "datatype": "FP32", "data": [0.5]},
    ]


def test_a_grpc_answer_has_a_failed_instance_as_not_a_number():
    output = {"name": "score", "datatype": "FP32", "shape": [2], "contents": {"fp32_contents": [0.5, math.nan]}}
    ((good, failed),) = (item["data"] for item in answer_document(_answer(output))["outputs"])
    assert good == 0.5
    assert math.isnan(failed)


def _answer(*outputs, **other):
    return message_type("ModelInferResponse")(model_name="m", outputs=outputs, **other)


def _fields(message):
    own = [(f.number, f.name, f.type, f.label, f.type_name, f.HasField("oneof_index")) for f in message.field]
    return own, sorted((nested.name, _fields(nested)) for nested in message.nested_type)
