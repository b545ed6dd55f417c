"""`predict` and `explain`: whatever ends them, the model's threads end with them."""

from __future__ import annotations

import json
import threading

import pytest

from bert_handler import bulk
from bert_handler.cli import main


@pytest.fixture
def model(zoo):
    return zoo("bert", "sequence_classification")


@pytest.fixture(autouse=True)
def _no_thread_stays():
    before = set(threading.enumerate())
    yield
    assert not {thread.name for thread in set(threading.enumerate()) - before if thread.name.startswith("forward")}


def test_an_interrupted_file_says_how_far_it_came_and_is_finished_by_the_same_command(
    capsys, monkeypatch, model, tmp_path
):
    source, output = tmp_path / "in.txt", tmp_path / "out.jsonl"
    source.write_text("good\n" * 5)
    words = ["predict", str(model), "--input", str(source), "--output", str(output), "--batch-rows", "2"]
    calls = []

    def interrupted(*args):
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return write(*args)

    write = bulk.Job.write
    with monkeypatch.context() as patched:
        patched.setattr(bulk.Job, "write", interrupted)
        assert main(words) == 130
    assert "interrupted after 2 rows; the same command goes on" in capsys.readouterr().err
    assert main(words) == 0
    assert len(output.read_text().splitlines()) == 5


def test_a_row_that_is_not_readable_ends_the_command_with_its_line(capsys, model, tmp_path):
    source = tmp_path / "in.jsonl"
    source.write_text('"good"\nnot json\n')
    assert main(["predict", str(model), "--input", str(source), "--output", str(tmp_path / "out.csv")]) == 1
    assert "in.jsonl, line 2: not JSON" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["predict", "explain"])
def test_a_refused_text_ends_the_command(capsys, model, command):
    assert main([command, str(model), "--text", '{"text": 7}']) == 1
    assert "instance 0: text must be a string" in capsys.readouterr().err


def test_what_is_cut_or_has_no_answer_is_told(capsys, model, tmp_path):
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text(f'"good"\n"{"good " * 100}"\n{{"text": 7}}\n')
    assert main(["predict", str(model), "--input", str(source), "--output", str(output)]) == 0
    said = capsys.readouterr()
    assert said.out == f"3 rows -> {output}\n"
    assert "1 rows have more tokens than the model takes and were cut; --parameter truncation=stride" in said.err
    assert "1 rows have no answer; column error says why" in said.err
    assert main(["predict", str(model), "--text", "good", "--text", "good " * 100]) == 0
    assert "text 2 has 202 tokens and was cut; --parameter truncation=stride" in capsys.readouterr().err


def test_an_input_is_not_written_over(capsys, model, tmp_path):
    source = tmp_path / "in.jsonl"
    source.write_text('"good"\n')
    assert main(["predict", str(model), "--input", str(source), "--output", str(source)]) == 1
    assert "is the input; give another file" in capsys.readouterr().err
    assert source.read_text() == '"good"\n'


@pytest.mark.parametrize(
    ("source", "output", "message"),
    [
        ("in.xml", "out.csv", "in.xml: the name must end with one of .txt, .jsonl, .csv, .parquet"),
        ("in.txt", "new/out.txt", "out.txt: the name must end with one of .jsonl, .csv, .parquet"),
        ("missing.txt", "out.csv", "missing.txt does not exist"),
    ],
)
@pytest.mark.parametrize("runner", ["local", "ray"])
def test_wrong_files_are_found_before_a_model_is_loaded(capsys, tmp_path, runner, source, output, message):
    (tmp_path / "in.xml").touch()
    (tmp_path / "in.txt").touch()
    words = ["predict", "no-model", "--input", str(tmp_path / source), "--output", str(tmp_path / output)]
    assert main([*words, "--runner", runner]) == 1
    assert message in " ".join(capsys.readouterr().err.split())
    assert {path.name for path in tmp_path.iterdir()} == {"in.xml", "in.txt"}


def test_parameters_are_for_every_text(capsys, model):
    words = ["predict", str(model), "--text", "good", "--text", '{"text": "bad", "top_k": 1}']
    assert main([*words, "--parameter", "top_k=2", "--parameter", "function_to_apply=sigmoid"]) == 0
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [len(answer["predict"]) for answer in answers] == [2, 1]
    assert sum(answers[0]["probabilities"]) != pytest.approx(1)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--outputs", "scores", "unknown output 'scores'; did you mean 'score'?"),
        ("--outputs", " , ", "setting outputs has 0 entries"),
        ("--parameter", "top_k", "--parameter 'top_k' must be NAME=VALUE"),
        ("--parameter", "topk=2", "unknown parameter 'topk'; did you mean 'top_k'?"),
        ("--parameter", "top_k=two", "parameter top_k must be an integer, not a string"),
        ("--parameter", "max_length=8", "unknown parameter 'max_length'; known: function_to_apply"),
    ],
)
@pytest.mark.parametrize("what", ["text", "input"])
def test_wrong_parameters_and_outputs_are_refused(capsys, model, tmp_path, what, option, value, message):
    source, output = tmp_path / "in.txt", tmp_path / "out.csv"
    source.write_text("good\n")
    given = ["--text", "good"] if what == "text" else ["--input", str(source), "--output", str(output)]
    assert main(["predict", str(model), *given, option, value]) == 1
    assert message in " ".join(capsys.readouterr().err.split())
    assert list(tmp_path.iterdir()) == [source]


def test_outputs_are_chosen_for_texts_and_files(capsys, model, tmp_path):
    assert main(["predict", str(model), "--text", "good", "--outputs", "score, predict"]) == 0
    assert list(json.loads(capsys.readouterr().out)) == ["score", "predict"]
    source, output = tmp_path / "in.txt", tmp_path / "out.jsonl"
    source.write_text("good\n")
    given = ["predict", str(model), "--input", str(source), "--output", str(output)]
    assert main([*given, "--outputs", "logits,predict"]) == 0
    assert list(json.loads(output.read_text())) == ["text", "logits", "predict", "error"]


def test_parts_with_other_parameters_are_not_mixed(capsys, monkeypatch, model, tmp_path):
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text('"good"\n{"text": "bad", "top_k": 1}\n"fine"\n')
    words = ["predict", str(model), "--input", str(source), "--output", str(output), "--batch-rows", "2"]
    with monkeypatch.context() as patched:
        patched.setattr(bulk.scoring.Parts, "join", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
        assert main([*words, "--parameter", "top_k=2"]) == 130
    for other, said in ([], "null"), (["--parameter", "top_k=3"], "3"):
        capsys.readouterr()
        assert main([*words, *other]) == 1
        assert f"another run (setting top_k was 2, is {said})" in " ".join(capsys.readouterr().err.split())
    assert main([*words, "--parameter", "top_k=2"]) == 0
    assert [len(json.loads(line)["predict"]) for line in output.read_text().splitlines()] == [2, 1, 2]
