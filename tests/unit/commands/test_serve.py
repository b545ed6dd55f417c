"""`serve`: what it refuses before a model is loaded, and what it finds in a folder."""

from __future__ import annotations

import json
import os
import shutil
import sys

import pytest

from bert_handler.cli import main
from bert_handler.errors import ConfigError
from bert_handler.packaging.model_store import models_of
from tests.servers import free_ports


@pytest.mark.parametrize(
    "options",
    [
        "--engine onnx",
        "--device cpu",
        "--require-signature release.pub",
        "--trust-remote-code",
        "--enable-repository store",
    ],
)
def test_options_of_a_model_are_refused_where_torchserve_has_it(capsys, options):
    assert main(["serve", "--torchserve", "http://127.0.0.1:1", *options.split()]) == 1
    said = f"error: {options.split()[0]}: the models are TorchServe's, and so are their settings\n"
    assert capsys.readouterr().err == said


def test_options_of_torchserve_go_with_it(capsys):
    assert main(["serve", "model", "--torchserve-key-file", "key_file.json"]) == 1
    assert capsys.readouterr().err == "error: --torchserve-key-file: goes with --torchserve\n"


@pytest.mark.parametrize("url", ["127.0.0.1:8085", "localhost", "http://", "ftp://a", "http://a:port", "http:///x"])
def test_an_address_of_torchserve_has_scheme_and_host(capsys, url):
    assert main(["serve", "--torchserve", url]) == 1
    assert f"--torchserve {url!r} is no address; give one like http://127.0.0.1:8085" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["a/b", "", "..", "a b", "ä", "-a", "a:predict", "a" * 201])
@pytest.mark.parametrize("served", [["model"], ["--torchserve", "http://127.0.0.1:1"]])
def test_a_name_is_one_part_of_a_path(capsys, served, name):
    assert main(["serve", *served, f"--name={name}"]) == 1
    assert "--name" in (said := capsys.readouterr().err)
    assert "must be letters, digits, dots, dashes and underscores" in said


@pytest.mark.parametrize(
    ("stated", "route"),
    [
        ("textattack/bert-base-uncased-SST-2", "textattack-bert-base-uncased-SST-2"),
        ("my model", "my-model"),
        ("//", "model"),
        ("..", "model"),
        ("_bert_1.0", "_bert_1.0"),
    ],
)
def test_a_stated_name_is_made_a_part_of_a_path_and_stays_in_answers(zoo, tmp_path, monkeypatch, stated, route):
    pytest.importorskip("kserve")
    from bert_handler.server import model_server

    model, served = tmp_path / "dir", []
    shutil.copytree(zoo("bert", "sequence_classification"), model)
    (model / "setup_config.json").write_text(json.dumps({"model_name": stated}))
    monkeypatch.setattr(model_server, "serve", lambda models, server: served.extend(models))
    monkeypatch.setattr(model_server, "Server", lambda *given, **named: None)
    monkeypatch.setattr(os, "environ", {**os.environ})
    ports = [f"--{name}={port}" for name, port in free_ports("http-port", "grpc-port").items()]
    assert main(["serve", str(model), "--device", "cpu", *ports]) == 0
    (only,) = served
    assert (only.name, only.predictor.identity.name) == (route, stated)
    only.stop()


def test_a_repository_that_is_not_there_is_named(capsys):
    assert main(["serve", "model", "--enable-repository", "nodir"]) == 1
    assert capsys.readouterr().err == "error: --enable-repository nodir is no directory\n"


def test_without_kserve_the_extra_is_named(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "kserve", None)
    assert main(["serve", "model"]) == 1
    assert "kserve is not installed" in capsys.readouterr().err


def test_the_only_archive_of_a_folder_is_served(tmp_path):
    (tmp_path / "a.mar").touch()
    assert models_of(tmp_path) == {None: tmp_path / "a.mar"}
    assert models_of(tmp_path, "bert") == {"bert": tmp_path / "a.mar"}


def test_one_of_several_archives_has_to_be_named(tmp_path):
    for name in ("b.mar", "a.mar"):
        (tmp_path / name).touch()
    with pytest.raises(ConfigError) as caught:
        models_of(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path} holds a.mar, b.mar: name one, or write the settings with: bert-handler config"
    )
