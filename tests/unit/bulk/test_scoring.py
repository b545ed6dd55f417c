from __future__ import annotations

import csv
import errno
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import Future
from pathlib import Path
from unittest.mock import Mock

import pytest

from bert_handler import bulk
from bert_handler.errors import ConfigError

pytest.importorskip("pyarrow")
TEXTS = ["The film was good.", 'A "bad", long\nfilm', "", "Yes, it was: the best 😀 of the year."]
NLI = {"id2label": {0: "contradiction", 1: "entailment"}, "label2id": {"contradiction": 0, "entailment": 1}}


@pytest.fixture(scope="module")
def predictor(zoo, load):
    return load(zoo("bert", "sequence_classification"))


@pytest.fixture(scope="module")
def expected(predictor):
    return [prediction["predict"] for prediction in predictor.predict(TEXTS)]


def write(path: Path, texts: list[str]) -> Path:
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps({"id": i, "text": text}) + "\n" for i, text in enumerate(texts)))
    elif path.suffix == ".csv":
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([("id", "text"), *enumerate(texts)])
    elif path.suffix == ".parquet":
        import pyarrow as pa
        from pyarrow import parquet

        parquet.write_table(pa.table({"id": list(range(len(texts))), "text": texts}), path)
    else:
        path.write_text("".join(text.replace("\n", " ") + "\n" for text in texts))
    return path


def read(path: Path) -> list[dict]:
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    if path.suffix == ".csv":
        with path.open(newline="") as file:
            return list(csv.DictReader(file))
    from pyarrow import parquet

    return parquet.read_table(path).to_pylist()


@pytest.mark.parametrize("target", [".jsonl", ".csv", ".parquet"])
@pytest.mark.parametrize("source", [".txt", ".jsonl", ".csv", ".parquet"])
def test_every_format_in_and_out(tmp_path, predictor, expected, source, target):
    output = tmp_path / f"out{target}"
    assert bulk.score(predictor, write(tmp_path / f"in{source}", TEXTS), output, batch_rows=3) == 4
    rows = read(output)
    assert [row["predict"] for row in rows] == expected
    assert [not row["error"] for row in rows] == [True] * 4
    if source != ".txt":
        assert [row["text"] for row in rows] == TEXTS
        assert [str(row["id"]) for row in rows] == ["0", "1", "2", "3"]
    assert not (tmp_path / f"out{target}.parts").exists()


def test_a_refused_row_has_its_error_and_its_neighbours_their_answers(tmp_path, predictor, expected):
    source = tmp_path / "in.jsonl"
    source.write_text('{"text": "The film was good."}\n{"text": 7}\n{"title": "x"}\n"The film was good."\n')
    bulk.score(predictor, source, tmp_path / "out.jsonl")
    rows = read(tmp_path / "out.jsonl")
    assert [row["predict"] for row in rows] == [expected[0], None, None, expected[0]]
    assert "text must be a string" in rows[1]["error"]
    assert "text is missing" in rows[2]["error"]


@pytest.mark.parametrize("settings", [{"max_instances": 3}, {"max_request_tokens": 30}, {"max_queue_rows": 3}])
def test_what_bounds_a_request_does_not_bound_a_file(tmp_path, zoo, load, expected, settings):
    bounded = load(zoo("bert", "sequence_classification"), **settings)
    bulk.score(bounded, write(tmp_path / "in.jsonl", TEXTS * 10), tmp_path / "out.jsonl", batch_rows=16)
    rows = read(tmp_path / "out.jsonl")
    assert [row["error"] for row in rows] == [None] * 40
    assert [row["predict"] for row in rows] == expected * 10


def test_rows_of_many_sequences_wait_for_the_queue(tmp_path, zoo, load):
    settings = {"candidate_labels": [f"label {i}" for i in range(20)], "max_queue_rows": 64}
    zero_shot = load(zoo("bert", "sequence_classification", **NLI), mode="zero_shot_classification", **settings)
    source = write(tmp_path / "in.jsonl", [f"text {i}" for i in range(60)])
    bulk.score(zero_shot, source, tmp_path / "out.jsonl", batch_rows=20)
    assert [row["error"] for row in read(tmp_path / "out.jsonl")] == [None] * 60


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("in.jsonl", '{"text": "the cat", "candidate_labels": ["a", "b, c"], "multi_label": true, "id": 1}\n'),
        ("in.csv", 'text,candidate_labels,multi_label,stride,id\nthe cat,"[""a"", ""b, c""]",true,,1\n'),
    ],
)
def test_a_row_brings_its_own_parameters(tmp_path, zoo, load, name, content):
    zero_shot = load(zoo("bert", "sequence_classification", **NLI), mode="zero_shot_classification", outputs=["scores"])
    (tmp_path / name).write_text(content)
    bulk.score(zero_shot, tmp_path / name, tmp_path / "out.jsonl")
    (row,) = read(tmp_path / "out.jsonl")
    instance = {"text": "the cat", "candidate_labels": ["a", "b, c"], "multi_label": True}
    (expected,) = zero_shot.predict([instance])
    assert row["error"] is None
    assert row["scores"] == pytest.approx(expected["scores"].tolist())
    assert str(row["id"]) == "1"


def test_a_wrong_parameter_is_the_error_of_its_row(tmp_path, predictor):
    source = tmp_path / "in.csv"
    source.write_text("text,top_k,seed\na,2,x\nb,many,x\n")
    bulk.score(predictor, source, tmp_path / "out.jsonl")
    rows = read(tmp_path / "out.jsonl")
    assert [row["error"] for row in rows] == [None, "parameter top_k must be an integer, not a string"]
    assert len(rows[0]["predict"]) == 2
    (tmp_path / "in.jsonl").write_text('{"text": "a", "top_k": "2"}\n')
    bulk.score(predictor, tmp_path / "in.jsonl", tmp_path / "out.jsonl")
    assert read(tmp_path / "out.jsonl")[0]["error"] == "parameter top_k must be an integer, not a string"


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_an_empty_file_gives_an_empty_one(tmp_path, predictor, suffix):
    source = write(tmp_path / "in.csv", [])
    assert bulk.score(predictor, source, tmp_path / f"out{suffix}") == 0
    assert read(tmp_path / f"out{suffix}") == []


def test_unknown_formats_and_damaged_lines_are_named(tmp_path, predictor):
    source = tmp_path / "in.jsonl"
    source.write_text('{"text": "a"}\n{"text": \n')
    with pytest.raises(ConfigError, match=r"in\.jsonl, line 2"):
        bulk.score(predictor, source, tmp_path / "out.jsonl")
    assert not (tmp_path / "out.jsonl.parts").exists()
    with pytest.raises(ConfigError, match=r"out\.xml: the name must end with one of \.jsonl, \.csv, \.parquet"):
        bulk.score(predictor, source, tmp_path / "out.xml")


def test_an_interruption_takes_the_rows_back_that_are_with_the_engine(tmp_path, monkeypatch, predictor):
    begin, run, begun, release = predictor.begin, predictor.scheduler._run, [], threading.Event()

    def spied(requests):
        begun.extend(begin(requests))
        return begun[-1:]

    monkeypatch.setattr(predictor, "begin", spied)
    monkeypatch.setattr(predictor.scheduler, "_run", lambda rows, threads: release.wait(20) and run(rows, threads))
    monkeypatch.setattr(Future, "result", Mock(side_effect=KeyboardInterrupt))
    source = write(tmp_path / "in.txt", TEXTS)
    with pytest.raises(KeyboardInterrupt):
        bulk.score(predictor, source, tmp_path / "out.csv", batch_rows=2)
    assert [pending.waiter.cancelled() for pending in begun] == [True, True]
    release.set()


def test_an_input_without_the_tasks_column_is_refused(tmp_path, predictor):
    source = tmp_path / "in.csv"
    source.write_text("review,stars\ngood,5\n")
    with pytest.raises(ConfigError, match=r"^in\.csv has no column 'text'; it has review, stars$"):
        bulk.score(predictor, source, tmp_path / "out.csv")


def stopped(predictor, source, output):
    """A run that was stopped behind its first part."""

    def stop(done, total):
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bulk.score(predictor, source, output, 2, stop)


def test_parts_of_another_run_are_not_mixed_in(tmp_path, predictor):
    source = tmp_path / "in.jsonl"
    source.write_text('{"text": "a"}\n' * 4)
    stopped(predictor, source, tmp_path / "out.jsonl")
    source.write_text('{"text": "a"}\n' * 5)
    with pytest.raises(ConfigError, match="parts of another run"):
        bulk.score(predictor, source, tmp_path / "out.jsonl", batch_rows=2)


@pytest.mark.parametrize(
    ("head", "settings", "difference"),
    [
        ("sequence_classification", {"top_k": 2}, r"\(setting top_k was null, is 2\); remove that directory"),
        ("sequence_classification", {"outputs": ["score"]}, r'\(outputs was \["predict"\], is \["score"\]\)'),
        ("token_classification", {}, 'task was "sequence_classification", is "token_classification"; model was'),
    ],
)
def test_another_model_does_not_go_on_with_the_parts(tmp_path, zoo, load, predictor, head, settings, difference):
    source, output = write(tmp_path / "in.csv", TEXTS), tmp_path / "out.csv"
    stopped(predictor, source, output)
    with pytest.raises(ConfigError, match=difference):
        bulk.score(load(zoo("bert", head), **settings), source, output, 2)
    assert bulk.score(load(zoo("bert", "sequence_classification"), max_batch_rows=2), source, output, 2) == 4


def test_other_weights_and_a_changed_input_do_not_go_on_with_the_parts(tmp_path, zoo, load, predictor):
    source, output = write(tmp_path / "in.csv", TEXTS), tmp_path / "out.csv"
    stopped(predictor, source, output)
    other = shutil.copytree(zoo("bert", "sequence_classification"), tmp_path / "other")
    weights = other / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x3f")
    with pytest.raises(ConfigError, match=r'out\.csv\.parts holds parts of another run \(model was "\w+", is "\w+"\)'):
        bulk.score(load(other), source, output, 2)
    os.utime(source, (1, 1))
    with pytest.raises(ConfigError, match=r"input_modified was .*or give another --output"):
        bulk.score(predictor, source, output, 2)


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_an_output_among_the_models_files_is_gone_on_with(tmp_path, zoo, load, suffix):
    model = shutil.copytree(zoo("bert", "sequence_classification"), tmp_path / "model")
    source, output = write(model / "in.csv", TEXTS), model / f"out{suffix}"
    stopped(load(model), source, output)
    fingerprint = load(model).task.model.fingerprint()
    assert bulk.score(load(model), source, output, 2) == 4
    assert [row["text"] for row in read(output)] == TEXTS
    assert load(model).task.model.fingerprint() == fingerprint


@pytest.mark.parametrize("gone", ["state.json", "00000000.part", "00000001.part"])
def test_an_interruption_while_parts_are_removed_touches_no_other_run(tmp_path, monkeypatch, predictor, gone):
    source, output = write(tmp_path / "in.csv", TEXTS), tmp_path / "out.csv"

    def interrupted(directory, **options):
        if not directory.is_dir():
            return
        (directory / gone).unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", interrupted)
        with pytest.raises(KeyboardInterrupt):
            bulk.score(predictor, source, output, 2)
    assert [row["text"] for row in read(output)] == TEXTS
    write(source, TEXTS[::-1])
    assert bulk.score(predictor, source, output, 2) == 4
    assert [row["text"] for row in read(output)] == TEXTS[::-1]
    assert {path.name for path in tmp_path.iterdir()} == {"in.csv", "out.csv"}


@pytest.mark.parametrize("gone", ["state.json", "00000000.part"])
def test_parts_that_are_not_all_there_are_not_gone_on_with(tmp_path, monkeypatch, predictor, gone):
    source, output = write(tmp_path / "in.csv", TEXTS * 2), tmp_path / "out.csv"
    with monkeypatch.context() as patched:
        patched.setattr(bulk.Job, "join", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            bulk.score(predictor, source, output, 2)
    (tmp_path / "out.csv.parts" / "state.json").write_text("{")
    with pytest.raises(ConfigError, match=r"out\.csv\.parts/state\.json is damaged; remove that directory"):
        bulk.score(predictor, source, output, 2)
    (tmp_path / "out.csv.parts" / gone).unlink()
    with pytest.raises(
        ConfigError, match=rf"out\.csv\.parts holds parts of a run, but no {gone}; remove that directory"
    ):
        bulk.score(predictor, source, output, 2)
    assert not output.exists()


def test_a_second_run_on_one_output_is_refused(tmp_path, predictor):
    source, output = write(tmp_path / "in.csv", TEXTS), tmp_path / "out.csv"
    refused = []

    def other(done, total):
        with pytest.raises(ConfigError) as caught:
            bulk.score(predictor, source, output, 2)
        refused.append(str(caught.value))
        bulk.score(predictor, source, tmp_path / "other.csv", 2)

    assert bulk.score(predictor, source, output, 2, other) == 4
    assert refused == [f"another run writes {output}; wait for it, or give another --output"] * 3
    assert [row["text"] for row in read(output)] == TEXTS
    assert {path.name for path in tmp_path.iterdir()} == {"in.csv", "out.csv", "other.csv"}


@pytest.mark.parametrize("removed", ["lock", "directory"])
def test_parts_that_are_joined_while_they_are_locked_are_begun_anew(tmp_path, monkeypatch, predictor, removed):
    source, output = write(tmp_path / "in.csv", TEXTS), tmp_path / "out.csv"
    flock, opened = fcntl.flock, Path.open

    def joined():
        monkeypatch.undo()
        shutil.rmtree(tmp_path / "out.csv.parts")

    def open_late(path, *mode, **options):
        if path.name == "lock":
            joined()
        return opened(path, *mode, **options)

    if removed == "lock":
        monkeypatch.setattr(fcntl, "flock", lambda *given: joined() or flock(*given))
    else:
        monkeypatch.setattr(Path, "open", open_late)
    assert bulk.score(predictor, source, output, 2) == 4
    assert [row["text"] for row in read(output)] == TEXTS


def test_a_file_system_without_locks_is_told(tmp_path, monkeypatch, predictor, caplog):
    monkeypatch.setattr(fcntl, "flock", Mock(side_effect=OSError(errno.ENOLCK, "No locks available")))
    assert bulk.score(predictor, write(tmp_path / "in.csv", TEXTS), tmp_path / "out.csv", 2) == 4
    assert "out.csv.parts/lock: its file system knows no locks" in caplog.text


def test_an_input_that_grows_meanwhile_is_no_finished_output(tmp_path, predictor):
    source, output = write(tmp_path / "in.csv", TEXTS), tmp_path / "out.csv"

    def grow(done, total):
        if not done:
            write(source, [*TEXTS, "one more"])

    with pytest.raises(ConfigError, match=r"^in\.csv had 4 rows, and now 5; it must not change meanwhile$"):
        bulk.score(predictor, source, output, 2, grow)
    assert not output.exists()


def test_a_part_that_has_gone_is_no_finished_output(tmp_path, predictor):
    source, output = write(tmp_path / "in.csv", TEXTS), tmp_path / "out.csv"

    def take(done, total):
        if done == total:
            (tmp_path / "out.csv.parts" / "00000000.part").unlink()

    with pytest.raises(ConfigError, match=r"holds parts of a run, but no 00000000\.part"):
        bulk.score(predictor, source, output, 2, take)
    assert not output.exists()


SLOW = """
import sys, time
from pathlib import Path
from bert_handler import Predictor, bulk
predictor = Predictor.load(sys.argv[1], device="cpu", environ={})
bulk.score(predictor, Path(sys.argv[2]), Path(sys.argv[3]), 20, lambda done, total: time.sleep(0.05))
"""


def test_killed_runs_go_on_where_they_were(tmp_path, zoo):
    source = tmp_path / "in.csv"
    write(source, [f"film {i}\nof the year" for i in range(600)])
    output = tmp_path / "out.csv"
    command = [sys.executable, "-c", SLOW, zoo("bert", "sequence_classification"), source, output]
    for stop_after in (4, 12):
        run = subprocess.Popen(command)
        deadline = time.monotonic() + 60
        while len(list(tmp_path.glob("out.csv.parts/*.part"))) < stop_after:
            assert time.monotonic() < deadline
            assert run.poll() is None
            time.sleep(0.01)
        run.send_signal(signal.SIGKILL)
        run.wait()
        assert not output.exists()
    subprocess.run(command, check=True)
    rows = read(output)
    assert [row["id"] for row in rows] == [str(i) for i in range(600)]
    assert all(row["predict"] for row in rows)
