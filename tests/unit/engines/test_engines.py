from __future__ import annotations

import json
import re
import shutil
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import transformers
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer

from bert_handler import Predictor, runtimes
from bert_handler.artifact import Artifact
from bert_handler.engines import engine_class, torch_engine
from bert_handler.engines.onnx_engine import OnnxEngine
from bert_handler.engines.torch_loading import load_model
from bert_handler.errors import ConfigError, MissingExtraError
from bert_handler.exported import ENGINE_FILE, Exported
from bert_handler.packaging import engine_choice, mar, quantization, samples
from bert_handler.packaging.archive_file import write_checksums, write_zip
from bert_handler.packaging.demo_data import bucket, held_out_reviews, reviews
from bert_handler.packaging.export import export
from bert_handler.packaging.mar import build
from bert_handler.packaging.parity import greatest_difference
from bert_handler.unpacking import CHECKSUMS, sha256, unpack
from tests.zoo import ENCODERS, MAX_LENGTH

pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("openvino")

pytestmark = pytest.mark.usefixtures("no_self_test")

PADDED = dict.fromkeys(
    (("onnx", name) for name in ("distilbert", "electra", "roberta", "xlm-roberta")), "fused attention"
)
MODULES = {"torch": "torch", "onnx": "onnxruntime", "openvino": "openvino"}
TEXTS = ["The film was good.", "Where do I live? I live in a house by the river, not far from the old bridge.", "Yes"]
CASES = {
    "sequence_classification": ("sequence_classification", TEXTS, "logits"),
    "token_classification": ("token_classification", TEXTS, None),
    "question_answering": (
        "question_answering",
        [{"question": "Where do I live?", "context": text + " I live in Berlin."} for text in TEXTS],
        "score",
    ),
    "text_embedding": ("embedding", TEXTS, "embedding"),
}


def answers(archive: Path, texts: list, **settings: object) -> list:
    predictor = Predictor.load(archive, environ={}, model_yaml={"handler": {"device": "cpu", "threads": 2, **settings}})
    try:
        return predictor.predict(texts)
    finally:
        predictor.close()


@pytest.mark.parametrize("engine", ["onnx", "openvino"])
@pytest.mark.parametrize("task", CASES)
def test_an_engine_answers_as_torch_does(archived, zoo, task, engine):
    head, texts, output = CASES[task]
    archive = archived(zoo("bert", head), engine=engine)
    found, expected = (answers(archive, texts, engine=name) for name in (engine, "torch"))
    for left, right in zip(found, expected):
        if output is not None:
            np.testing.assert_allclose(left[output], right[output], atol=1e-4)
        else:
            assert [item["word"] for item in left["predict"]] == [item["word"] for item in right["predict"]]


def test_the_scheduler_knows_that_a_stream_of_openvino_has_one_thread(archived, zoo):
    archive = archived(zoo("bert", "sequence_classification"), engine="openvino")
    settings = {"handler": {"device": "cpu", "threads": 4, "warmup": False}}
    with Predictor.load(archive, environ={}, model_yaml=settings) as predictor:
        taken, take = [], predictor.scheduler._take
        predictor.scheduler._take = lambda free: taken.append(take(free)) or taken[-1]
        predictor.predict(TEXTS[:1])
    assert [threads for _, threads in taken] == [1]


EXPORTS = [
    (name, engine)
    for name in sorted(set(ENCODERS) - {"bert"})
    for engine in ("onnx", "openvino")
    if (name, engine) != ("deberta-v2", "openvino")
]


@pytest.mark.parametrize(("architecture", "engine"), EXPORTS)
def test_architectures_export(archived, zoo, architecture, engine):
    archive = archived(zoo(architecture, "sequence_classification"), engine=engine)
    artifact = Artifact.open(archive)
    padded = Exported.read(artifact.directory).padded
    assert padded == PADDED.get((engine, architecture), "attention")
    found, expected = (answers(archive, TEXTS, engine=name) for name in (engine, "torch"))
    for left, right in zip(found, expected):
        np.testing.assert_allclose(left["logits"], right["logits"], atol=1e-4)


def test_a_model_with_one_type_of_token_exports_with_a_tokenizer_that_gives_types(archived, zoo):
    archive = archived(zoo("bert", "sequence_classification", type_vocab_size=1), engine="onnx")
    found, expected = (answers(archive, TEXTS, engine=name) for name in ("onnx", "torch"))
    for left, right in zip(found, expected):
        np.testing.assert_allclose(left["logits"], right["logits"], atol=1e-4)


def test_an_engine_that_computes_something_else_is_refused(archived, zoo):
    """OpenVINO 2026.4 does not compute DeBERTa's relative positions right, also in the graph as it was exported."""
    with pytest.raises(ConfigError, match="openvino none: outputs differ from torch by"):
        archived(zoo("deberta-v2", "sequence_classification"), engine="openvino")


def test_openvino_refuses_a_tokenizer_with_more_ids_than_embeddings(archived, zoo):
    size = Tokenizer.from_file(str(zoo("bert", "sequence_classification") / "tokenizer.json")).get_vocab_size()
    model = zoo("bert", "sequence_classification", vocab_size=size - 1)
    with pytest.raises(ConfigError, match=rf"openvino none: the tokenizer has ids up to {size - 1}, but the model has"):
        archived(model, engine="openvino")
    assert len(answers(archived(model, engine="onnx"), TEXTS)) == len(TEXTS)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_graphs_are_in_fp32_whatever_torch_is_to_run_in(tmp_path, archived, zoo, dtype):
    model = tmp_path / "model"
    shutil.copytree(zoo("bert", "sequence_classification"), model)
    (model / "setup_config.json").write_text(json.dumps({"dtype": dtype}))
    archive = archived(model, engine="onnx")
    found, expected = answers(archive, TEXTS), answers(zoo("bert", "sequence_classification"), TEXTS)
    for left, right in zip(found, expected):
        np.testing.assert_allclose(left["logits"], right["logits"], atol=1e-4)


def test_masks_are_gathered_in_the_graph(archived, zoo):
    archive = archived(zoo("bert", "fill_mask"), engine="onnx")
    text = ["The [MASK] was good.", "The film was [MASK], and the music was [MASK] of the year."]
    found, expected = (answers(archive, text, engine=name) for name in ("onnx", "torch"))
    assert found[0]["predict"][0]["token"] == expected[0]["predict"][0]["token"]
    assert found[0]["predict"][0]["score"] == pytest.approx(expected[0]["predict"][0]["score"], abs=1e-4)


def test_a_masked_token_inside_a_sequence_is_not_read(archived, zoo):
    archive = archived(zoo("bert", "sequence_classification"), engine="onnx")
    from bert_handler.schema import Tokens

    ids = np.array([2, 40, 41, 42, 43, 3])
    tokens = [Tokens({"input_ids": ids, "attention_mask": np.array([1, 1, 0, 1, 0, 1])})]
    found, expected = (answers(archive, tokens, engine=name) for name in ("onnx", "torch"))
    np.testing.assert_allclose(found[0]["logits"], expected[0]["logits"], atol=1e-4)


def test_the_same_model_gives_the_same_bytes(tmp_path, archived, zoo):
    calibration = TEXTS * 20
    int8 = {"quantization": "int8", "calibration": calibration}
    model = zoo("bert", "embedding")
    cases = ({"engine": "onnx"}, {"engine": "onnx", **int8}, {"engine": "openvino", **int8})
    for i, options in enumerate(cases):
        again = build(model, "model", "1.0", tmp_path / str(i), **options)
        assert again.sha256 == sha256(archived(model, **options))


def test_auto_keeps_the_fastest_that_is_right(tmp_path, zoo):
    built = build(zoo("bert", "sequence_classification"), "model", "1.0", tmp_path, engine="auto")
    assert [(row.engine, row.quantization) for row in built.measured] == [
        ("torch", "none"),
        ("onnx", "none"),
        ("openvino", "none"),
    ]
    chosen = next(row for row in built.measured if row.chosen)
    assert not chosen.problem
    assert chosen.rate == max(row.rate for row in built.measured if not row.problem)


@pytest.mark.parametrize("architecture", sorted(ENCODERS))
def test_the_graph_that_is_exported_answers_as_before(tmp_path, zoo, load, architecture):
    predictor = load(zoo(architecture, "sequence_classification"))
    taken = samples.encode(predictor.task, samples.default_instances(predictor.task))
    before, after = [], []
    for outputs in (before, after):
        outputs += [predictor.engine.forward(batch, 1) for batch in taken.batches]
        if not after:
            export(predictor.engine.graph, samples.mixed(predictor.task, taken), tmp_path / "model.onnx")
    for left, right in zip(before, after):
        assert all(np.array_equal(values, right[name]) for name, values in left.items())


def test_one_copy_of_the_model_is_loaded_to_archive_it(tmp_path, zoo, monkeypatch):
    loaded = []
    monkeypatch.setattr(torch_engine, "load_model", lambda *given: loaded.append(load_model(*given)) or loaded[-1])
    build(zoo("bert", "sequence_classification"), "model", "1.0", tmp_path, engine="auto")
    assert len(loaded) == 1


def test_auto_takes_torch_where_the_other_engines_fail_in_ways_of_their_own(tmp_path, zoo):
    """The tracing exporter makes constants of Longformer's sizes: other batches than its own fail in the engines."""
    model = tmp_path / "model"
    shutil.copytree(zoo("roberta", "sequence_classification"), model)
    sizes = json.loads((model / "config.json").read_text())
    names = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    names += ("max_position_embeddings", "pad_token_id", "bos_token_id", "eos_token_id")
    config = transformers.LongformerConfig(attention_window=8, **{name: sizes[name] for name in names})
    transformers.LongformerForSequenceClassification(config).save_pretrained(model)
    built = build(model, "model", "1.0", tmp_path, engine="auto")
    problems = {row.engine: row.problem for row in built.measured}
    assert [row.engine for row in built.measured if row.chosen] == ["torch"]
    assert not problems["torch"]
    assert all(re.match(r"\w+: .+", problems[name]) for name in ("onnx", "openvino")), problems


def test_auto_takes_a_tokenizer_that_gives_no_mask(tmp_path, zoo):
    model = tmp_path / "model"
    shutil.copytree(zoo("bert", "sequence_classification"), model)
    tokenizer = json.loads((model / "tokenizer_config.json").read_text())
    (model / "tokenizer_config.json").write_text(json.dumps({**tokenizer, "model_input_names": ["input_ids"]}))
    built = build(model, "model", "1.0", tmp_path, engine="auto", calibration=TEXTS * 20)
    assert {row.engine for row in built.measured} == {"torch", "onnx", "openvino"}
    assert not [row.problem for row in built.measured if row.quantization == "none" and row.problem]


def test_an_engine_only_archive_has_no_torch_weights(archived, zoo):
    archive = archived(zoo("bert", "sequence_classification"), engine="onnx", engine_only=True)
    assert answers(archive, TEXTS)[0]["predict"]
    with pytest.raises(ConfigError):
        answers(archive, TEXTS, engine="torch")


@pytest.fixture(scope="module")
def exports(zoo, archived, tmp_path_factory):
    """Unpacked archives of two models of one shape, by engine."""
    own, other = zoo("bert", "sequence_classification"), tmp_path_factory.mktemp("other") / "model"
    shutil.copytree(own, other)
    weights = load_file(own / "model.safetensors")
    save_file({name: value * np.float32(1.1) for name, value in weights.items()}, other / "model.safetensors")

    def unpacked(model, engine):
        directory = tmp_path_factory.mktemp(engine)
        unpack(archived(model, engine=engine), directory)
        return directory

    return {engine: [unpacked(model, engine) for model in (own, other)] for engine in ("onnx", "openvino")}


@pytest.mark.parametrize("engine", ["onnx", "openvino"])
@pytest.mark.parametrize(
    ("taken", "message"),
    [
        (["model.onnx", "model.onnx.data"], "model.onnx is not the graph that engine.json describes"),
        (["model.onnx.data"], "model.onnx is not the graph that engine.json describes"),
        (["model.onnx", "model.onnx.data", "../engine.json"], "was exported from other weights than the archive's own"),
        (["../model.safetensors"], "was exported from other weights than the archive's own"),
    ],
)
def test_an_engine_file_for_other_weights_is_found_at_load(exports, tmp_path, engine, taken, message):
    """Whoever mixes two archives up, on purpose or not, may well have written fitting checksums."""
    own, other = exports[engine]
    mixed = tmp_path / "mixed"
    shutil.copytree(own, mixed)
    for name in taken:
        shutil.copyfile(other / engine / name, mixed / engine / name)
    (mixed / CHECKSUMS).unlink()
    write_checksums(mixed)
    path = tmp_path / "mixed.mar"
    write_zip(mixed, path)
    with pytest.raises(ConfigError, match=message):
        answers(path, TEXTS)
    assert answers(path, TEXTS, engine="torch")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "onnx", "quantization": "int8"}, "give --calibration FILE with at least 32 lines"),
        ({"engine": "auto", "quantization": "int8"}, "give --calibration FILE with at least 32 lines"),
        ({"engine": "onx"}, "unknown engine 'onx'; did you mean 'onnx'"),
        ({"engine": "onnx", "quantization": "int4"}, "unknown quantization 'int4'; did you mean 'int8'"),
        ({"quantization": "int8"}, "--quantization int8 needs an exported engine; add --engine onnx"),
        ({"calibration": TEXTS}, "--calibration needs an exported engine"),
        ({"engine_only": True}, "--engine-only needs an exported engine"),
    ],
)
def test_wrong_wishes_say_what_to_change(tmp_path, zoo, options, message):
    with pytest.raises(ConfigError, match=message):
        build(zoo("bert", "sequence_classification"), "model", "1.0", tmp_path, **options)


def test_an_engine_that_the_settings_contradict_is_refused(tmp_path, zoo):
    model = tmp_path / "model"
    shutil.copytree(zoo("bert", "sequence_classification"), model)
    (model / "setup_config.json").write_text('{"engine": "onnx"}')
    with pytest.raises(ConfigError, match="--engine torch, but the settings say engine='onnx'"):
        build(model, "model", "1.0", tmp_path, engine="torch")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"device": "cuda"}, "the settings say device='cuda', and exported graphs run on the CPU"),
        ({"device": "cuda:1"}, "the settings say device='cuda:1', and exported graphs run on the CPU"),
        ({"compile": True}, "the settings say compile, which is for the torch engine"),
    ],
)
def test_an_archive_for_a_gpu_or_to_be_compiled_carries_no_graph(tmp_path, zoo, monkeypatch, settings, message):
    """The self-test runs on the CPU and would not tell; it compiles, which takes its time."""
    monkeypatch.setattr(mar, "_self_test", lambda stage: None)
    model = tmp_path / "model"
    shutil.copytree(zoo("bert", "sequence_classification"), model)
    (model / "setup_config.json").write_text(json.dumps(settings))
    built = build(model, "model", "1.0", tmp_path, engine="auto")
    assert [(row.engine, row.chosen) for row in built.measured] == [("torch", True)]
    with pytest.raises(ConfigError, match="--engine-only, but auto has chosen torch"):
        build(model, "other", "1.0", tmp_path, engine="auto", engine_only=True)
    for wish in ({"engine": "onnx"}, {"engine": "auto", "quantization": "int8", "calibration": TEXTS * 20}):
        with pytest.raises(ConfigError, match=message):
            build(model, "other", "1.0", tmp_path, **wish)


@pytest.mark.parametrize("given", [None, "auto"])
def test_settings_may_leave_the_engine_to_the_archive(tmp_path, zoo, given):
    model = tmp_path / "model"
    shutil.copytree(zoo("bert", "sequence_classification"), model)
    (model / "setup_config.json").write_text('{"engine": "auto", "max_length": 40}')
    built = build(model, "model", "1.0", tmp_path, engine=given)
    chosen = next(row.engine for row in built.measured if row.chosen)
    predictor = Predictor.load(built.path, device="cpu", environ={})
    predictor.close()
    assert predictor.engine.name == chosen
    assert Artifact.open(built.path).directory.joinpath("setup_config.json").read_bytes() == b'{"max_length":40}\n'


def test_auto_is_for_archives_only(zoo):
    with pytest.raises(ConfigError, match="engine='auto' is settled when a model is archived"):
        answers(zoo("bert", "sequence_classification"), TEXTS, engine="auto")


def test_model_config_that_leaves_the_engine_open_is_refused(tmp_path, zoo):
    model = tmp_path / "model"
    shutil.copytree(zoo("bert", "sequence_classification"), model)
    (model / "model-config.yaml").write_text("handler: {engine: auto}\n")
    with pytest.raises(ConfigError, match=r"model-config.yaml says engine: auto; say it in setup_config.json"):
        build(model, "model", "1.0", tmp_path)


def test_auto_says_why_nothing_is_chosen(tmp_path, zoo, monkeypatch):
    monkeypatch.setattr(engine_choice, "AGREEMENT", 1.1)
    options = {"engine": "auto", "quantization": "int8", "calibration": TEXTS * 20}
    with pytest.raises(ConfigError, match=r"onnx int8: only .* of the answers are torch's.*openvino int8: only"):
        build(zoo("bert", "sequence_classification"), "model", "1.0", tmp_path, **options)


@pytest.mark.parametrize(
    ("agreement", "shares"), [(0.0, quantization.KEPT_SHARES[:1]), (1.1, quantization.KEPT_SHARES)]
)
def test_int8_keeps_more_in_fp32_where_the_answers_need_it(tmp_path, zoo, monkeypatch, agreement, shares):
    calibrated, tried = [], []

    class Recorded(quantization.Calibrated):
        @classmethod
        def of(cls, *arguments):
            calibrated.append(arguments[0])
            return super().of(*arguments)

        def write(self, path, kept_share):
            tried.append(kept_share)
            return super().write(path, kept_share)

    monkeypatch.setattr(engine_choice, "AGREEMENT", agreement)
    monkeypatch.setattr(engine_choice, "Calibrated", Recorded)
    options = {"engine": "onnx", "quantization": "int8", "calibration": TEXTS * 20}
    with suppress(ConfigError):
        build(zoo("bert", "sequence_classification"), "model", "1.0", tmp_path, **options)
    assert len(calibrated) == 1, "what the first form was measured with is used again"
    assert tried == list(shares)


def test_weights_of_any_size_are_no_part_of_what_goes_through_bytes(tmp_path, zoo, monkeypatch):
    """Protobuf takes 2 GB at most; a lower limit stands in for it, above the graphs and below their weights."""
    from onnx import version_converter

    def limited(action):
        def refusing(given, *more, **options):
            content = given.read_bytes() if isinstance(given, Path) else given
            size = len(content if isinstance(content, bytes) else content.SerializeToString())
            if size > 2**18:
                raise ValueError(f"{size} bytes exceed the maximum protobuf size")
            return action(given, *more, **options)

        return refusing

    for module, name in ((version_converter, "convert_version"), (runtimes, "quiet_session")):
        monkeypatch.setattr(module, name, limited(getattr(module, name)))
    model = zoo("bert", "sequence_classification", hidden_size=128)
    assert (model / "model.safetensors").stat().st_size > 2**19
    built = build(model, "model", "1.0", tmp_path, engine="onnx", quantization="int8", calibration=TEXTS * 20)
    assert len(answers(built.path, TEXTS)) == len(TEXTS)


def test_what_is_kept_in_fp32_is_what_errs_most_for_its_size():
    from onnx import helper, numpy_helper

    names, sizes = "abcd", (10, 40, 40, 10)
    weights = [numpy_helper.from_array(np.zeros((size, 1), np.float32), name) for name, size in zip(names, sizes)]
    model = helper.make_model(helper.make_graph([], "g", [], [], weights))
    matrices = [quantization.Matrix(name, "x", name) for name in names]
    errors = {"a": 1.0, "b": 8.0, "c": 1.0, "d": 6.0}
    # "b" comes second, but is more than may be kept.
    assert quantization._worst(model, matrices, errors, 0.3) == ["d"]
    assert quantization._worst(model, matrices, errors, 0.4) == ["d", "a"]
    assert quantization._worst(model, matrices, errors, 0.0) == []


def test_a_graph_of_a_newer_onnx_runtime_says_what_to_do(tmp_path):
    from onnx import helper

    from bert_handler.engines.onnx_engine import session

    graph = helper.make_graph([helper.make_node("FromTheFuture", ["x"], ["y"])], "g", [], [])
    path = tmp_path / "model.onnx"
    path.write_bytes(helper.make_model(graph).SerializeToString())
    with pytest.raises(ConfigError, match=r"cannot load model\.onnx: .* archive the model again"):
        session(path, 1)


def test_generation_says_that_it_needs_torch(tmp_path, zoo):
    with pytest.raises(ConfigError, match="text_generation runs on the torch engine only"):
        build(zoo("gpt2", "generation"), "model", "1.0", tmp_path, engine="onnx")


def test_a_directory_without_a_graph_says_how_to_get_one(zoo):
    with pytest.raises(ConfigError, match="bert-handler archive MODEL_DIR --engine onnx"):
        answers(zoo("bert", "sequence_classification"), TEXTS, engine="onnx")


@pytest.fixture(scope="module")
def held_out(demo_dir, archived):
    """The held-out reviews, what is right, and what the demo model answers in fp32."""
    texts, labels = held_out_reviews()
    archive = archived(demo_dir, engine="onnx")
    return texts, labels, [row["predict"] for row in answers(archive, texts)]


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["onnx", "openvino"])
def test_int8_agrees_on_the_demo_models_held_out_reviews(archived, demo_dir, held_out, engine):
    calibration = [review.text for review in reviews() if bucket(review.film)][::25][:400]
    archive = archived(demo_dir, engine=engine, quantization="int8", calibration=calibration)
    texts, labels, expected = held_out
    found = [row["predict"] for row in answers(archive, texts)]
    agreement = np.mean([left == right for left, right in zip(found, expected)])
    right, right_int8 = (
        np.mean([(row == "Accepted") == bool(label) for row, label in zip(rows, labels)]) for rows in (expected, found)
    )
    assert agreement >= 0.985
    assert right - right_int8 <= 0.005


@pytest.mark.parametrize("engine", MODULES)
def test_an_engine_without_its_library_names_the_extra(monkeypatch, engine):
    monkeypatch.setitem(sys.modules, MODULES[engine], None)
    monkeypatch.delitem(sys.modules, f"bert_handler.engines.{engine}_engine", raising=False)
    with pytest.raises(MissingExtraError, match=rf"^{MODULES[engine]} is not installed.*\[{engine}\]"):
        engine_class(engine)


def test_loading_draws_no_progress_bar(capfd, zoo):
    model = zoo("bert", "sequence_classification")
    transformers.logging.enable_progress_bar()
    Predictor.load(model, device="cpu").close()
    assert capfd.readouterr().err == ""


def test_which_of_two_equal_tokens_comes_first_is_no_difference():
    scores, mask = np.full((1, 1, 2), 0.5, np.float32), np.ones((1, 3), np.int64)
    left, right = ({"scores": scores, "tokens": np.array([[order]])} for order in ([7, 8], [8, 7]))
    assert greatest_difference([left], [right], [mask]) == 0


def test_an_output_as_wide_as_one_batch_is_long_is_compared_whole():
    masks = [np.array([[1, 1, 0]]), np.array([[1, 1, 1, 0]])]
    whole = [{"logits": np.zeros((1, 3), np.float32)} for _ in masks]
    apart = [{"logits": np.array([[0, 0, 1]], np.float32)}, whole[1]]
    assert greatest_difference(whole, apart, masks) == 1
    of_tokens = [{"logits": np.zeros(mask.shape, np.float32)} for mask in masks]
    noisy = [{"logits": np.where(mask, 0, 7).astype(np.float32)} for mask in masks]
    assert greatest_difference(of_tokens, noisy, masks) == 0, "nobody reads padding"


def test_an_output_as_wide_as_the_only_batch_of_samples_is_compared_whole(tmp_path, zoo, load, monkeypatch):
    model = zoo("bert", "sequence_classification", id2label={i: f"label {i}" for i in range(MAX_LENGTH)})
    task = load(model).task
    (batch,) = samples.encode(task, samples.default_instances(task)).batches
    assert batch.shapes["input_ids"][1] == MAX_LENGTH
    forward = OnnxEngine.forward

    def wrong_at_padding(self, batch, threads):
        logits, mask = forward(self, batch, threads)["logits"], batch.arrays()["attention_mask"]
        return {"logits": np.where(mask, logits, logits - 1) if mask.shape == logits.shape else logits}

    monkeypatch.setattr(OnnxEngine, "forward", wrong_at_padding)
    with pytest.raises(ConfigError, match="outputs differ from torch by 1, more than"):
        build(model, "model", "1.0", tmp_path, engine="onnx")


def test_vectors_of_no_direction_are_the_same_only_as_each_other():
    zeros, ones = np.zeros(3, np.float32), np.ones(3, np.float32)
    assert engine_choice.same(zeros, zeros)
    assert not engine_choice.same(zeros, ones)


def test_the_likeliest_token_of_each_mask_is_what_int8_is_judged_by(zoo, load):
    task = load(zoo("bert", "fill_mask")).task
    one, other = ([{"token": token} for token in tokens] for tokens in ([7, 8], [7, 9]))
    assert task.comparable(one) == task.comparable(other) == [7]
    assert task.comparable([one, other]) == [7, 7]


def test_a_calibration_instance_that_cannot_be_served_is_named(tmp_path, zoo):
    options = {"engine": "onnx", "quantization": "int8", "calibration": [*TEXTS * 20, {"txt": "a"}]}
    with pytest.raises(ConfigError, match=r"calibration instance of several fields .* unknown field 'txt'"):
        build(zoo("bert", "sequence_classification"), "model", "1.0", tmp_path, **options)


@pytest.mark.parametrize(
    "content", [b"{", b"[]", b'{"file": "/etc/passwd"}', b'{"padded": "none"}'], ids=["broken", "list", "path", "cost"]
)
def test_an_engine_file_of_another_hand_is_refused(tmp_path, content):
    plain = Exported("onnx", "onnx/model.onnx", "fill_mask", "none", [], [], "", "")
    changed = {**json.loads(plain.to_json()), **(json.loads(content) if content.startswith(b'{"') else {})}
    (tmp_path / ENGINE_FILE).write_bytes(json.dumps(changed).encode() if content.startswith(b'{"') else content)
    with pytest.raises(ConfigError, match=r"engine\.json (was not written by this version|must be|is not JSON)"):
        Exported.read(tmp_path)


def test_ranges_of_a_row_of_features_are_not_taken_for_tokens():
    from onnx import TensorProto, helper

    names = ("attention_mask", "x")
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["b", "l"]) for name in names]
    node = helper.make_node("Identity", ["x"], ["y"])
    graph = helper.make_graph([node], "g", inputs, [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    feed = {"attention_mask": np.ones((2, 3), np.float32), "x": np.arange(6, dtype=np.float32).reshape(2, 3)}
    low, high = quantization._ranges(model, [quantization.Matrix("y", "x", "w")], [feed])["x"]
    assert (low.tolist(), high.tolist()) == ([0, 0, 0], [3, 4, 5])
