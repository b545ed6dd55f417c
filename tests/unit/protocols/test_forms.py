"""Forms give the body that they hold, and wrong ones are refused in time."""

from __future__ import annotations

import time
import tracemalloc

import httpx
import pytest

from bert_handler.errors import InvalidRequestError
from bert_handler.protocols import unwrapped
from bert_handler.protocols.forms import MAX_HEAD, MAX_PARTS, MULTIPART, URLENCODED

BINARY = bytes(range(256)) + "東京\r\n\r\n--x\r\n".encode()


def sent(**form):
    request = httpx.Request("POST", "http://h/", **form)
    return request.read(), {"content-type": request.headers["content-type"]}


def test_a_part_is_given_back_as_it_was():
    assert unwrapped(*sent(files={"data": ("a.bin", BINARY)})) == BINARY
    assert unwrapped(*sent(files={"any": ("a.bin", BINARY)})) == BINARY
    assert unwrapped(*sent(files=[("x", (None, "1")), ("data", (None, "")), ("y", (None, "2"))])) == b""


def test_of_equal_names_the_last_is_the_body_as_on_torchserve():
    assert unwrapped(*sent(files=[("data", (None, "1")), ("data", (None, "2"))])) == b"2"
    assert unwrapped(*sent(data={"data": ["1", "2"]})) == b"2"


def test_a_body_of_many_fields_costs_next_to_nothing():
    body = b"=&" * 4_000_000
    tracemalloc.start()
    started = time.perf_counter()
    assert unwrapped(body, {"content-type": URLENCODED}) is body
    assert time.perf_counter() - started < 0.2
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


HEADERS = [b"a: b\r\n" * 200_000, b'Content-Disposition: form-data; name="' + b";" * 100_000]


@pytest.mark.parametrize("head", HEADERS, ids=["many", "quoted"])
def test_headers_of_a_part_cost_next_to_nothing(head):
    started = time.perf_counter()
    with pytest.raises(InvalidRequestError, match=f"more than {MAX_HEAD} bytes"):
        unwrapped(b"--x\r\n" + head + b"\r\n\r\na text\r\n--x--", {"content-type": f"{MULTIPART}; boundary=x"})
    with pytest.raises(InvalidRequestError, match=f"more than {MAX_HEAD} characters"):
        unwrapped(b"a text", {"content-type": f'{MULTIPART}; boundary="' + ";" * 60_000})
    assert time.perf_counter() - started < 0.2


def test_what_curl_calls_a_form_is_the_body():
    headers = {"content-type": URLENCODED}
    for body in (b'{"instances": ["a=b&c"]}', b"a text = data=", b"", b"\xff"):
        assert unwrapped(body, headers) == body
    headers = {"content-type": f"{URLENCODED}; charset=utf-8"}
    assert unwrapped(b"data=a+b%20%E6%9D%B1&more=1", headers) == "a b 東".encode()
    assert unwrapped(b"more=1&other=&data=a", headers) == b"a"
    assert unwrapped(b"data=a", {}) == b"data=a"


@pytest.mark.parametrize(
    ("body", "content_type", "message"),
    [
        (b"data=\xff", URLENCODED, "UTF-8"),
        (b"data=1" + b"&a=1" * MAX_PARTS, URLENCODED, f"{MAX_PARTS} fields"),
        (b"", MULTIPART, "needs a boundary"),
        (b"a text", f"{MULTIPART}; boundary=x", "stated boundary"),
        (b"--x\r\n\r\na", f"{MULTIPART}; boundary=x", "stated boundary"),
        (b"--x\r\n" * 1_000_000 + b"--x--", f"{MULTIPART}; boundary=x", f"{MAX_PARTS} parts"),
        (b"--x\r\na\r\n--x--", f"{MULTIPART}; boundary=x", "no end of its headers"),
        (sent(files={"a": (None, "1"), "b": (None, "2")})[0], None, "no field data"),
    ],
)
def test_a_wrong_form_is_refused(body, content_type, message):
    content_type = content_type or f"{MULTIPART}; boundary={body[2:].partition(chr(13).encode())[0].decode()}"
    with pytest.raises(InvalidRequestError, match=message):
        unwrapped(body, {"content-type": content_type})
