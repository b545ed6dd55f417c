"""How addresses are written, and which are this machine's own."""

from __future__ import annotations

import pytest

from bert_handler.addresses import authority, is_loopback


@pytest.mark.parametrize(
    "url",
    [
        *(
            "http://127.0.0.1:8080",
            "https://localhost/x",
            "http://LOCALHOST.:1",
            "http://a.localhost",
            "127.0.0.2:8081",
        ),
        *("http://[::1]:8080", "http://[::ffff:127.0.0.1]", "http://127.1", "http://user:secret@127.0.0.1", "[::1]:80"),
        *("grpc://127.0.0.1:8081", "http://0.0.0.0:8080", "http://[::]:8080", "localhost"),
    ],
)
def test_addresses_of_this_machine(url):
    assert is_loopback(url)


@pytest.mark.parametrize(
    "url",
    [
        *("http://128.0.0.1", "http://localhost.example.com", "http://notlocalhost", "http://127.0.0.1.example.com"),
        *("http://localhost@example.com", "http://[2001:db8::1]", "http://10.0.0.1", "example.com:80", "http://", ""),
    ],
)
def test_addresses_of_others(url):
    assert not is_loopback(url)


@pytest.mark.parametrize(
    ("host", "written"),
    [("127.0.0.1", "127.0.0.1:80"), ("::1", "[::1]:80"), ("::", "[::]:80"), ("[::1]", "[::1]:80"), ("a.b", "a.b:80")],
)
def test_an_ipv6_address_is_bracketed_before_its_port(host, written):
    assert authority(host, 80) == written
