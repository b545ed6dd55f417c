"""Settings from the environment, where others' variables lie too."""

from __future__ import annotations

import pytest

from bert_handler.config import HandlerConfig, read_settings
from bert_handler.errors import ConfigError

SERVICE_LINKS = {
    "BERT_HANDLER_SERVICE_HOST": "10.96.12.7",
    "BERT_HANDLER_SERVICE_PORT": "80",
    "BERT_HANDLER_SERVICE_PORT_HTTP": "80",
    "BERT_HANDLER_PORT": "tcp://10.96.12.7:80",
    "BERT_HANDLER_PORT_80_TCP": "tcp://10.96.12.7:80",
    "BERT_HANDLER_PORT_80_TCP_PROTO": "tcp",
    "BERT_HANDLER_PORT_80_TCP_PORT": "80",
    "BERT_HANDLER_PORT_80_TCP_ADDR": "10.96.12.7",
    "BERT_HANDLER_PREDICTOR_SERVICE_HOST": "10.96.12.8",
    "BERT_HANDLER_PREDICTOR_PORT_53_UDP": "udp://[fd00::8]:53",
}
"""What the kubelet injects for Services named bert-handler and bert-handler-predictor."""


def test_service_links_are_no_settings(tmp_path):
    environ = {**SERVICE_LINKS, "BERT_HANDLER_THREADS": "4"}
    assert read_settings(tmp_path, None, environ) == {"threads": "4"}


@pytest.mark.parametrize("name", ["PORT", "HTTP_PORT", "SUPPORT", "SERVICE_HOSTS", "PORT_80"])
def test_typo_that_resembles_a_service_link_is_refused(tmp_path, name):
    settings = read_settings(tmp_path, None, {f"BERT_HANDLER_{name}": "8080"})
    with pytest.raises(ConfigError, match=f"unknown setting '{name.lower()}'"):
        HandlerConfig.parse({"mode": "fill_mask", **settings})
