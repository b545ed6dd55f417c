"""What the KServe host's process listens on."""

from __future__ import annotations

from unittest.mock import Mock

import pytest

pytest.importorskip("kserve")
from bert_handler.server import model_server


async def test_an_ipv6_address_is_bound_by_both_protocols(monkeypatch):
    bound = []

    class Rpc:
        async def start(self):
            raise KeyError("as far as this test goes")

    monkeypatch.setattr(model_server, "grpc_server", lambda servicer, address, *rest: bound.append(address) or Rpc())
    monkeypatch.setattr(model_server.Server, "_drain_on_signals", lambda self, server: None)
    monkeypatch.setattr(model_server.prometheus_client.REGISTRY, "register", lambda collector: None)
    server = model_server.Server("::1", 8080, 8081)
    server._rest_server = Mock()
    with pytest.raises(KeyError):
        await server._serve()
    assert (server._rest_server.config.host, bound) == ("::1", ["[::1]:8081"])
