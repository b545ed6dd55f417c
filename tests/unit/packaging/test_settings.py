"""config.properties: the pod's ports, workers that fit its memory, loading apart from answering."""

from __future__ import annotations

import json
import zipfile

import numpy as np
import pytest
import safetensors.numpy

from bert_handler.cli import main
from bert_handler.errors import ArchiveError, ConfigError
from bert_handler.exported import Exported
from bert_handler.packaging import sizing
from bert_handler.packaging.properties import parse_properties

MIB = 2**20


@pytest.fixture(scope="module")
def mar(tmp_path_factory):
    """An archive of 88 MiB of weights, as far as its directory tells."""
    return archive(tmp_path_factory.mktemp("store") / "BERTSeqClassification.mar", bytes(88 * MIB))


def archive(path, weights=b"", name="BERTSeqClassification"):
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as mar:
        manifest = {"model": {"modelName": name, "modelVersion": "1.0", "handler": "handler.py"}}
        mar.writestr("MAR-INF/MANIFEST.json", json.dumps(manifest))
        mar.writestr("model.safetensors", weights)
        mar.writestr("tokenizer.json", "{}")
    return path


def properties(capsys, *words):
    assert main(["config", *map(str, words)]) == 0
    return parse_properties(capsys.readouterr().out)


def test_pod_of_the_seed(capsys, mar):
    found = properties(capsys, f"bert={mar}")
    assert found["inference_address"] == found["management_address"] == "http://0.0.0.0:8085"
    assert found["metrics_address"] == "http://0.0.0.0:8082"
    assert (found["grpc_inference_port"], found["grpc_management_port"]) == ("7070", "7071")
    assert found["model_store"] == "/mnt/models/model-store"
    assert found["enable_envvars_config"] == "true"
    assert found["disable_token_authorization"] == "true"
    assert json.loads(found["model_snapshot"]) == {
        "name": "startup.cfg",
        "modelCount": 1,
        "models": {
            "bert": {
                "1.0": {
                    "defaultVersion": True,
                    "marName": "BERTSeqClassification.mar",
                    "minWorkers": 1,
                    "maxWorkers": 1,
                    "batchSize": 32,
                    "maxBatchDelay": 3,
                    "responseTimeout": 150,
                    "startupTimeout": 150,
                }
            }
        },
    }


def test_reason_for_the_workers_is_a_comment_and_on_standard_error(capsys, mar, tmp_path):
    file = tmp_path / "config" / "config.properties"
    assert main(["config", str(mar), "--cpu", "8", "--memory", "8Gi", "-o", str(file)]) == 0
    said = capsys.readouterr()
    assert said.out == ""
    lines = [line[2:] for line in file.read_text().splitlines() if line.startswith("# ")]
    assert "".join(f"{line}\n" for line in lines) == said.err
    assert lines[0].startswith("BERTSeqClassification: 2 of 12 worker(s) that fit: 8192Mi less 544Mi for TorchServe")
    assert lines[1] == "set BERT_HANDLER_THREADS=4 in the pod, so that 2 workers share its cores"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--cpu", "4"], "# set BERT_HANDLER_THREADS=2 in the pod, so that 2 workers share its cores\n"),
        (
            ["--cpu", "8", "--workers", "2"],
            "# set BERT_HANDLER_THREADS=2 in the pod, so that 4 workers share its cores\n",
        ),
        (["--cpu", "1900m"], "# set BERT_HANDLER_THREADS=1 in the pod, so that 2 workers share its cores\n"),
        (["--cpu", "1"], None),
    ],
)
def test_workers_of_several_models_share_the_cores_too(capsys, mar, words, said):
    assert main(["config", f"a={mar}", f"b={mar}", "--memory", "8Gi", *words]) == 0
    settings = capsys.readouterr().out
    assert "set BERT_HANDLER_THREADS" not in settings if said is None else settings.count(said) == 1


def test_token_authorization_is_on_or_explicitly_off(capsys, mar):
    assert properties(capsys, mar, "--token-auth")["disable_token_authorization"] == "false"


def test_two_models_share_the_pod(capsys, mar):
    found = properties(capsys, f"a={mar}", f"b={mar}", "--memory", "4Gi")
    assert list(json.loads(found["model_snapshot"])["models"]) == ["a", "b"]
    assert main(["config", str(mar), str(mar)]) == 1


def test_two_archives_of_one_file_name_are_refused(capsys, tmp_path):
    ours, same, other = (tmp_path / folder / "m.mar" for folder in ("ours", "same", "other"))
    archive(ours, b"1"), archive(other, b"2")
    same.parent.mkdir()
    same.write_bytes(ours.read_bytes())
    assert list(json.loads(properties(capsys, f"a={ours}", f"b={same}")["model_snapshot"])["models"]) == ["a", "b"]
    assert main(["config", f"a={ours}", f"b={other}"]) == 1
    assert f"{ours} and {other} would be one file of the model store" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("route", "path", "routes"), [("", "a=b/m.mar", ["own"]), ("r=", "a=b/m.mar", ["r"]), ("", "r=m.mar", ["own"])]
)
def test_path_may_have_an_equals_sign(capsys, tmp_path, monkeypatch, route, path, routes):
    monkeypatch.chdir(tmp_path)
    archive(tmp_path / path, name="own")
    snapshot = json.loads(properties(capsys, f"{route}{path}")["model_snapshot"])
    assert list(snapshot["models"]) == routes


@pytest.mark.parametrize("route", ["a/b", "..", "ä", "", "a b"])
def test_route_must_be_a_name(capsys, mar, route):
    assert main(["config", f"{route}={mar}"]) == 1
    assert f"route {route!r} must be letters" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("weights", "cpus", "memory", "workers", "threads"),
    [
        (88 * MIB, 1, "2Gi", 1, 1),
        (88 * MIB, 4, "8Gi", 1, 4),
        (88 * MIB, 16, "8Gi", 4, 4),
        (418 * MIB, 16, "2560Mi", 1, 16),  # one fits, whatever the cores
    ],
)
def test_workers_use_the_cores_where_the_memory_has_room(weights, cpus, memory, workers, threads):
    plan = sizing.plan_workers(weights, cpus, int(sizing.quantity(memory)))
    assert (plan.workers, plan.threads) == (workers, threads)


def test_model_that_does_not_fit_says_what_it_needs():
    with pytest.raises(ConfigError, match=r"do not fit a memory limit of 1024Mi.*at least --memory 1139Mi"):
        sizing.plan_workers(88 * MIB, 1, 2**30)
    with pytest.raises(ConfigError, match="3 worker"):
        sizing.plan_workers(88 * MIB, 4, 2 * 2**30, workers=3)


def test_start_budget_grows_with_the_model():
    assert [sizing.startup_s(size * MIB) for size in (0, 88, 418, 14_000)] == [120, 150, 180, 1530]


@pytest.mark.parametrize(
    ("host", "device", "weights", "memory"),
    [
        *(("torchserve", "cpu", 88 * MIB, "2Gi"), ("torchserve", "gpu", 88 * MIB, "4Gi"), ("kserve", "cpu", 0, "2Gi")),
        *(("torchserve", "cpu", 1000 * MIB, "2324Mi"), ("kserve", "cpu", 1000 * MIB, "2Gi")),
        *(("torchserve", "gpu", 3000 * MIB, "4924Mi"), ("kserve", "gpu", 3000 * MIB, "4380Mi")),
    ],
)
def test_memory_grows_with_the_model(host, device, weights, memory):
    assert sizing.default_memory(host, device, weights) == memory


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(("500m", 0.5), ("2", 2), ("0.5", 0.5), (".5", 0.5), ("2.", 2), ("+2", 2)),
        *(("4194304Ki", 2**32), ("2Mi", 2**21), ("2Gi", 2**31), ("2Ti", 2**41), ("1Pi", 2**50), ("1Ei", 2**60)),
        *(("9k", 9e3), ("1500M", 1.5e9), ("1.5G", 1.5e9), ("2T", 2e12), ("1P", 1e15), ("1E", 1e18)),
        *(("1e3", 1e3), ("1E3", 1e3), ("2.5e+9", 2.5e9), ("1500e-3", 1.5), ("500000u", 0.5), ("1000000000n", 1)),
    ],
)
def test_quantities_are_those_of_kubernetes(text, value):
    assert sizing.quantity(text) == value


@pytest.mark.parametrize(
    "text", ["", "2GB", "-1", "0", "0e3", "zwei", "2ki", "2K", "2mi", "2 Gi", " 2Gi", "e3", "1e999", ".", "\uff12Gi"]
)
def test_wrong_quantities_are_refused(text):
    with pytest.raises(ConfigError, match="is no quantity"):
        sizing.quantity(text)


@pytest.mark.parametrize(
    ("stored", "setting", "loaded"),
    [
        ("float16", {}, 4000 + 80),
        ("float32", {}, 4000 + 80),
        ("float32", {"dtype": "bfloat16"}, 2000 + 80),
        ("float16", {"dtype": "float16"}, 2000 + 80),
    ],
)
def test_weights_are_counted_as_they_are_loaded(tmp_path, stored, setting, loaded):
    tensors = {"weight": np.zeros((10, 100), stored), "positions": np.zeros(10, np.int64)}
    path = archive(tmp_path / "m.mar", safetensors.numpy.save(tensors, {"format": "pt"}))
    with zipfile.ZipFile(path, "a") as mar:
        mar.writestr("setup_config.json", json.dumps(setting))
    assert sizing.ModelFacts.of_archive(path).weight_bytes == loaded


@pytest.mark.parametrize(
    ("variables", "loaded"),
    [
        ({}, 500),
        ({"BERT_HANDLER_ENGINE": "onnx"}, 500),
        ({"BERT_HANDLER_ENGINE": "torch"}, 2000),
        ({"BERT_HANDLER_ENGINE": "torch", "BERT_HANDLER_DTYPE": "float16"}, 1000),
    ],
)
def test_weights_of_the_engine_that_runs_are_counted_alone(tmp_path, variables, loaded):
    path = archive(tmp_path / "m.mar", safetensors.numpy.save({"weight": np.zeros(500, np.float32)}))
    exported = Exported("onnx", "onnx/model.onnx", "fill_mask", "int8", [], [], "", "")
    with zipfile.ZipFile(path, "a") as mar:
        mar.writestr("engine.json", exported.to_json())
        mar.writestr("onnx/model.onnx", bytes(100))
        mar.writestr("onnx/model.onnx.data", bytes(400))
    facts = sizing.ModelFacts.of_archive(path, variables)
    assert facts.weight_bytes == loaded
    assert facts.stored_bytes > 2500


@pytest.mark.parametrize("content", [b"", b"one", bytes(64), b"\xff" * 64, b"\2\0\0\0\0\0\0\0[]"])
def test_weights_without_a_readable_header_are_counted_whole(tmp_path, content):
    assert sizing.ModelFacts.of_archive(archive(tmp_path / "m.mar", content)).weight_bytes == len(content)


def test_no_archive_is_an_error(tmp_path):
    (tmp_path / "x.mar").write_bytes(b"PK")
    for name in ("x.mar", "missing.mar"):
        with pytest.raises(ArchiveError, match=name):
            sizing.ModelFacts.of_archive(tmp_path / name)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({}, r"m\.mar is no \.mar archive: it has no MAR-INF/MANIFEST\.json"),
        ({"MAR-INF/MANIFEST.json": "{"}, r"m\.mar: MAR-INF/MANIFEST\.json does not name the model and its version"),
        ({"MAR-INF/MANIFEST.json": "{}"}, r"m\.mar: MAR-INF/MANIFEST\.json does not name the model and its version"),
    ],
)
def test_archive_without_a_readable_manifest_is_named(tmp_path, entries, message):
    with zipfile.ZipFile(tmp_path / "m.mar", "w") as mar:
        for name, content in entries.items():
            mar.writestr(name, content)
    with pytest.raises(ArchiveError, match=message):
        sizing.ModelFacts.of_archive(tmp_path / "m.mar")
