"""Settings: the samples, and the environment, where others' variables lie too."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bert_handler.config import HandlerConfig, read_settings
from bert_handler.errors import ConfigError
from bert_handler.tasks import TASKS, task_class

CONTENTS = {
    path.stem: json.loads(path.read_text()) for path in (Path(__file__).parents[2] / "setup_config").glob("*.json")
}
SAMPLES = {name: content for name, content in CONTENTS.items() if "mode" in content}

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


def test_secrets_of_infer_are_no_settings(tmp_path):
    assert read_settings(tmp_path, None, {"BERT_HANDLER_COOKIE": "a=b", "BERT_HANDLER_TOKEN": "t"}) == {}


@pytest.mark.parametrize("name", ["PORT", "HTTP_PORT", "SUPPORT", "SERVICE_HOSTS", "PORT_80"])
def test_typo_that_resembles_a_service_link_is_refused(tmp_path, name):
    settings = read_settings(tmp_path, None, {f"BERT_HANDLER_{name}": "8080"})
    with pytest.raises(ConfigError, match=f"unknown setting '{name.lower()}'"):
        HandlerConfig.parse({"mode": "fill_mask", **settings})


@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_samples_are_settings(name):
    task = task_class(SAMPLES[name]["mode"], {})
    assert HandlerConfig.parse(SAMPLES[name], task.parameters).max_length >= 150


def test_every_task_has_a_sample():
    assert {name: SAMPLES[name]["mode"] for name in TASKS} == {name: name for name in TASKS}
    assert SAMPLES.keys() - TASKS.keys() == {"multi_label_classification", "regression"}


@pytest.mark.parametrize("mode", ["multi_label_classification", "regression"])
def test_a_problem_type_is_no_mode(mode):
    message = f"unknown mode '{mode}'; use mode: sequence_classification, the model's problem_type decides"
    with pytest.raises(ConfigError, match=message):
        task_class(mode, {})
