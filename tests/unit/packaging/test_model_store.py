"""TorchServe's own forms of config.properties: what is served of them, and what is written back."""

from __future__ import annotations

import json
import zipfile

import pytest

from bert_handler.errors import ConfigError
from bert_handler.packaging.model_store import models_of
from bert_handler.packaging.properties import parse_properties, properties_text
from bert_handler.packaging.settings import TorchServeSettings, WrittenSettings, stated_routes, stated_workers

GUIDE = """\
# of TorchServe's configuration guide
models={\\
  "bert": {\\
    "1.0": {\\
        "defaultVersion": true,\\
        "marName": "b.mar",\\
        "minWorkers": 2,\\
        "maxWorkers": 2\\
    }\\
  },\\
  "other": {\\
    "1.0": {"marName": "a.mar", "minWorkers": 1}\\
  }\\
}
"""
SNAPSHOT = r"""#Saving snapshot
#Fri Nov 28 12\:00\:00 UTC
inference_address=http\://0.0.0.0\:8085
load_models=x\=c.mar
model_snapshot={\n  "name"\: "20251128-startup.cfg",\n  "modelCount"\: 1,\n  "created"\: 1764331200000,\n  "models"\: \
    {\n    "bert"\: {\n      "1.0"\: {\n        "defaultVersion"\: true,\n        "marName"\: "b.mar",\n        \
    "minWorkers"\: 3,\n        "runtimeType"\: "python"\n      }\n    }\n  }\n}
"""


@pytest.fixture
def store(tmp_path):
    """`store(text)`: a model store of three archives with these settings."""
    for name in ("a", "b", "c"):
        with zipfile.ZipFile(tmp_path / f"{name}.mar", "w") as mar:
            manifest = {"model": {"modelName": f"own-{name}", "modelVersion": "1.0"}}
            mar.writestr("MAR-INF/MANIFEST.json", json.dumps(manifest))

    def write(text):
        (tmp_path / "config.properties").write_text(text)
        return tmp_path

    return write


def served(directory):
    return {name: path.name for name, path in models_of(directory).items()}


@pytest.mark.parametrize(
    ("text", "models"),
    [
        (GUIDE, {"bert": "b.mar", "other": "a.mar"}),
        (GUIDE.replace("\n", "\r\n"), {"bert": "b.mar", "other": "a.mar"}),
        (GUIDE + "load_models=bert=b.mar\n", {"bert": "b.mar"}),
        (SNAPSHOT, {"bert": "b.mar"}),
        ("load_models=bert=b.mar", {"bert": "b.mar"}),
        ("load_models=b.mar", {None: "b.mar"}),
        ("load_models: bert=b.mar, c.mar,", {"bert": "b.mar", "own-c": "c.mar"}),
        ("load_models=a.mar,b.mar", {"own-a": "a.mar", "own-b": "b.mar"}),
        ("load_models=all", {"own-a": "a.mar", "own-b": "b.mar", "own-c": "c.mar"}),
        ("load_models ALL", {"own-a": "a.mar", "own-b": "b.mar", "own-c": "c.mar"}),
    ],
)
def test_models_are_those_that_torchserve_would_load(store, text, models):
    assert served(store(text)) == models


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "model_snapshot does not name models as TorchServe does"),
        ("models={", "models does not name models as TorchServe does"),
        (
            'models={"a": {"1.0": {"marName": "a.mar"}}, "b": {"1.0": "b.mar"}}',
            r'models does not name models as TorchServe does \(models={"name": {"version": {\.\.\.}}}\)',
        ),
        ("models=[]", "models does not name models as TorchServe does"),
        ('model_snapshot={"models": {"bert": ["1.0"]}}', "model_snapshot does not name models as TorchServe does"),
        ("load_models=,", "load_models=, does not name any models of"),
        ("load_models=d.mar", r"the archive 'd\.mar' is missing"),
        ("load_models=http://host/d.mar", r"the archive 'd\.mar' is missing"),
        ("load_models=x=a.mar,x=b.mar", r"load_models has two models 'x': a\.mar and b\.mar"),
    ],
)
def test_settings_without_a_servable_model_are_named(store, text, message):
    with pytest.raises(ConfigError, match=rf"config\.properties: {message}"):
        models_of(store(text))


@pytest.mark.parametrize(("text", "workers"), [(GUIDE, 3), (SNAPSHOT, 3), ("load_models=all", None)])
def test_workers_are_counted(text, workers):
    assert stated_workers(text.encode()) == workers


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_routes_are_read_in_the_encoding_of_the_file(encoding):
    assert stated_routes(GUIDE.replace("other", "modèle").encode(encoding)) == ["bert", "modèle"]


@pytest.mark.parametrize("text", [GUIDE, SNAPSHOT])
def test_settings_that_are_written_back_are_read_as_the_same(store, text):
    path = store(text) / "config.properties"
    ports = {"inference": 1, "metrics": 2, "grpc_inference": 3, "grpc_management": 4}
    written = WrittenSettings.read(path, "127.0.0.1", ports, path.parent).text()
    again = parse_properties(written)
    assert again.items() >= {**parse_properties(text), "inference_address": "http://127.0.0.1:1"}.items()
    assert len(written.splitlines()) == len(again)


def test_an_ipv6_address_is_bracketed_in_urls(store):
    path = store(SNAPSHOT) / "config.properties"
    ports = {"inference": 1, "metrics": 2, "grpc_inference": 3, "grpc_management": 4}
    own = TorchServeSettings({}, host="::1", inference_port=1, metrics_port=2)
    for settings in (own, WrittenSettings.read(path, "::1", ports, path.parent)):
        written = parse_properties(settings.text())
        assert written["inference_address"] == written["management_address"] == "http://[::1]:1"
        assert (written["metrics_address"], written["grpc_inference_address"]) == ("http://[::1]:2", "::1")


JAVA = r"""
! a comment \
  # another
a=1
  b : 2
c d
d
e\ f\=g=\ h
i=j\
   k\\
l=\u00e9\ud83d\ude00\t.\u12
m=n=o:p
q=r\
# no comment
s=c:\\dir
w=\
"""


def test_lines_are_read_as_java_does():
    assert parse_properties(JAVA) == {
        "a": "1",
        "b": "2",
        "c": "d",
        "d": "",
        "e f=g": " h",
        "i": "jk\\",
        "l": "é😀\t.u12",
        "m": "n=o:p",
        "q": "r# no comment",
        "s": "c:\\dir",
        "w": "",
    }


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_settings_are_read_in_the_encoding_of_either(store, encoding):
    directory = store("")
    path = directory / "config.properties"
    path.write_text("# für alle\nnote=é\nload_models=x=a.mar\n", encoding=encoding)
    assert served(directory) == {"x": "a.mar"}
    ports = dict.fromkeys(("inference", "metrics", "grpc_inference", "grpc_management"), 1)
    assert WrittenSettings.read(path, "127.0.0.1", ports, directory).properties["note"] == "é"


def test_what_is_written_is_read_again():
    properties = {"a": 'c:\\dir "é😀"\n\tx', "b": "http://0.0.0.0:8085", "c": "=: d", "e": "\\", " #f=:": " g"}
    text = properties_text(properties)
    assert text.isascii()
    assert "b=http://0.0.0.0:8085\n" in text
    assert parse_properties(text) == properties
