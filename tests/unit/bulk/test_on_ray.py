"""Bulk scoring on a real local Ray: what it writes is what one machine writes."""

from __future__ import annotations

import builtins
import json
import subprocess
import sys

import pytest

from bert_handler import bulk
from bert_handler.cli import main
from bert_handler.errors import ConfigError, MissingExtraError
from bert_handler.loading import open_model
from tests.unit.bulk.test_scoring import read, write

ray = pytest.importorskip("ray")
bulk_ray = pytest.importorskip("bert_handler.bulk.on_ray")

TEXTS = [f"film {i}, {'good' * (i % 5)}\nof the year" for i in range(110)]
BATCH_ROWS = 20


@pytest.fixture(scope="module")
def model(zoo):
    return zoo("bert", "sequence_classification")


@pytest.fixture(scope="module")
def predictor(model, load):
    return load(model)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A Ray that the process has joined already."""
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, _node_ip_address="127.0.0.1")
    yield
    ray.shutdown()


@pytest.mark.slow
def test_the_command_starts_a_ray_and_goes_on_where_one_machine_stopped(tmp_path, model, predictor):
    source = write(tmp_path / "in.jsonl", TEXTS)
    lines = source.read_text().splitlines()
    lines[50], lines[51] = '{"id": 50, "text": 7}', '{"id": 51}'
    source.write_text("\n".join(lines) + "\n")
    bulk.score(predictor, source, tmp_path / "expected.jsonl", BATCH_ROWS)

    def stop(done, total):
        if done == 2 * BATCH_ROWS:
            raise KeyboardInterrupt

    output = tmp_path / "out.jsonl"
    with pytest.raises(KeyboardInterrupt):
        bulk.score(predictor, source, output, BATCH_ROWS, stop)
    first = tmp_path / "out.jsonl.parts" / "00000000.part"
    kept = first.read_text().replace('"id":0', '"id":"kept"')
    first.write_text(kept)
    words = ["predict", model, "--input", source, "--output", output, "--device", "cpu", "--batch-rows", BATCH_ROWS]
    command = [sys.executable, "-m", "bert_handler", *map(str, words), "--runner", "ray"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (0, f"110 rows -> {output}\n"), done.stderr
    expected = (tmp_path / "expected.jsonl").read_text()
    assert output.read_text() == expected.replace('"id":0', '"id":"kept"', 1)
    rows = read(output)
    assert "text must be a string" in rows[50]["error"]
    assert "text is missing" in rows[51]["error"]


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_actors_write_the_same_bytes_as_one_machine(tmp_path, model, load):
    source = write(tmp_path / "in.parquet", TEXTS)
    expected, output = tmp_path / "expected.parquet", tmp_path / "out.parquet"
    parameters = {"top_k": 2, "truncation": "stride"}
    bulk.score(load(model, **parameters), source, expected, BATCH_ROWS)
    options = {"batch_rows": BATCH_ROWS, "device": "cpu", "actors": 2, "parameters": parameters}
    assert bulk_ray.score(model, source, output, **options) == len(TEXTS)
    assert output.read_bytes() == expected.read_bytes()
    assert {len(json.loads(row["predict"])) for row in read(output)} == {2}


def test_an_empty_file_and_a_damaged_line_pass_through_the_reader(tmp_path, predictor):
    source = tmp_path / "in.jsonl"
    source.write_text("")
    job = bulk.Job.of(source, tmp_path / "out.csv", 2, predictor.task, "torch")
    assert [block["records"].to_pylist() for block in bulk_ray._blocks(job, 0)] == [[bulk_ray.pickle.dumps([])]]
    source.write_text('"a"\n"b"\nbroken\n')
    whole, damaged = bulk_ray._blocks(job, 0)
    assert whole["error"].to_pylist() == [""]
    assert "in.jsonl, line 3: not JSON" in damaged["error"][0].as_py()
    with pytest.raises(ConfigError, match=r"in\.jsonl, line 3"):
        list(bulk_ray._finished([damaged.to_pylist()[0]]))


def test_an_actor_that_cannot_load_says_why(tmp_path, model, predictor):
    source = write(tmp_path / "in.jsonl", TEXTS[:2])
    job = bulk.Job.of(source, tmp_path / "out.csv", 2, predictor.task, "torch")
    scorer = bulk_ray._Scorer(job, {"target": model, "engine": "onnx", "environ": {}})
    (block,) = bulk_ray._blocks(job, 0)
    assert "onnx" in scorer(block)["error"][0].as_py()


def test_both_runners_know_a_model_by_the_same_state(tmp_path, model, predictor):
    source, output = write(tmp_path / "in.jsonl", TEXTS[:2]), tmp_path / "out.csv"
    _, task, kind = open_model(model, environ={})
    here, there = (predictor.task, predictor.engine.name), (task, kind.name)
    assert bulk.Job.of(source, output, 2, *here).state == bulk.Job.of(source, output, 2, *there).state


@pytest.mark.parametrize(
    ("cpus", "actors", "pool"),
    [
        ([2], None, (1, 2, 0, 2)),
        ([16], None, (4, 4, 0, 4)),
        ([16, 6], None, (5, 4, 0, 4)),
        ([2], 2, (2, 1, 0, 1)),
        ([2], 3, (3, 0.6666, 0, 1)),
        ([1, 1], 3, (3, 0.5, 0, 1)),
        ([8, 0], 3, (3, 2, 0, 2)),
    ],
)
def test_cores_are_shared_out_among_actors(cpus, actors, pool):
    nodes = [{"CPU": float(n)} for n in cpus]
    assert bulk_ray.plan_pool(nodes, actors, wants_gpu=True) == bulk_ray.Pool(*pool)


def test_a_gpu_takes_one_actor():
    nodes = [{"CPU": 8.0, "GPU": 2.0}, {"CPU": 8.0}]
    assert bulk_ray.plan_pool(nodes, None, wants_gpu=True) == bulk_ray.Pool(2, 1.0, 1, 4)
    assert bulk_ray.plan_pool(nodes, None, wants_gpu=False).gpus == 0
    with pytest.raises(ConfigError, match=r"--actors 3, but the Ray cluster has 2 GPU\(s\)"):
        bulk_ray.plan_pool(nodes, 3, wants_gpu=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--runner", "spark"], "--runner spark is unknown; choose from local, ray"),
        (["--actors", "2"], "--ray-address and --actors go with --runner ray"),
        (["--runner", "ray", "--ray-address", "ray://head:10001"], "run the command on one of its nodes"),
    ],
)
def test_options_that_do_not_go_together_are_refused(tmp_path, model, capsys, options, message):
    source = write(tmp_path / "in.jsonl", TEXTS[:2])
    words = ["predict", str(model), "--input", str(source), "--output", str(tmp_path / "out.csv")]
    assert main([*words, *options]) == 1
    assert message in " ".join(capsys.readouterr().err.split())


def test_texts_are_not_for_ray(model, capsys):
    assert main(["predict", str(model), "--text", "a", "--runner", "ray"]) == 1
    assert "--runner ray scores files" in capsys.readouterr().err


def test_without_ray_the_extra_is_named(monkeypatch):
    def without_ray(name, *args, **kwargs):
        if name.partition(".")[0] == "ray":
            raise ImportError(name)
        return imported(name, *args, **kwargs)

    imported = builtins.__import__
    monkeypatch.delitem(sys.modules, "bert_handler.bulk.on_ray")
    monkeypatch.setattr(builtins, "__import__", without_ray)
    with pytest.raises(MissingExtraError, match=r"pip install 'ray\[data\]', or .* '\.\[ray\]' in a clone"):
        import bert_handler.bulk.on_ray  # noqa: F401
