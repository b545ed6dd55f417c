"""Explanations of every task: what captum gives by hand, and sums that come out right."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
import torch
from captum.attr import FeatureAblation, LayerIntegratedGradients

from bert_handler import serving
from bert_handler.engines.base import collate
from bert_handler.errors import (
    DeadlineError,
    InternalError,
    InvalidRequestError,
    NotReadyError,
    QueueFullError,
    RequestTooLargeError,
    UnservableError,
)
from bert_handler.explain import Explainer
from bert_handler.explanations import methods
from bert_handler.explanations.gradients import ProbedInputs
from bert_handler.predictor import Predictor
from bert_handler.schema import Failure, Request, Row, Tokens
from bert_handler.serving import Call
from bert_handler.tasks.question_answering import Spans
from tests.zoo import ENCODERS

TEXTS = [
    "The film was good, the music was the best of the year.",
    "Nobody laughed.",
    "My name is Wolfgang and I live in Berlin, but I work at Siemens in Munich.",
]
CONTEXT = "My name is Wolfgang and I live in Berlin."
LONG = " ".join(TEXTS * 2)
OTHERS = ["O", "PER", "LOC"]
WINDOWED = ("bert", "modernbert")
TOLERANCE = 0.05
ONCE = "input_x_gradient"
ENTAILMENT = {"id2label": {0: "contradiction", 1: "neutral", 2: "entailment"}, "label2id": {}}


CASES = {
    "classification": ("sequence_classification", {"num_labels": 3}, {}, TEXTS[0]),
    "pair": ("sequence_classification", {"num_labels": 3}, {}, {"text": TEXTS[1], "text_pair": TEXTS[0]}),
    "windows": ("sequence_classification", {"num_labels": 3}, {}, {"text": LONG, "truncation": "stride"}),
    "multi-label": (
        "sequence_classification",
        {"num_labels": 3, "problem_type": "multi_label_classification"},
        {},
        TEXTS[0],
    ),
    "regression": ("sequence_classification", {"num_labels": 1, "problem_type": "regression"}, {}, TEXTS[0]),
    "entities": ("token_classification", {}, {}, {"text": TEXTS[2], "ignore_labels": OTHERS}),
    "entities in windows": (
        "token_classification",
        {},
        {},
        {"text": LONG, "truncation": "stride", "ignore_labels": OTHERS},
    ),
    "answer": ("question_answering", {}, {}, {"question": "Where do I live?", "context": CONTEXT}),
    "answer in windows": ("question_answering", {}, {}, {"question": "Where do I live?", "context": LONG}),
    "ranking": (
        "sequence_classification",
        {"num_labels": 1},
        {"mode": "text_ranking"},
        {"query": "Where do I live?", "documents": [TEXTS[0], CONTEXT]},
    ),
    "similarity": ("embedding", {}, {"mode": "text_embedding"}, {"text": TEXTS[0], "target": TEXTS[1]}),
    "hypotheses": (
        "sequence_classification",
        ENTAILMENT,
        {"mode": "zero_shot_classification"},
        {"text": TEXTS[0], "candidate_labels": ["music", "sport"]},
    ),
}


def parts(explanation):
    """The importances and deltas of an explanation, of both ends where it has two."""
    names = ["_answer_start", "_answer_end"] if "importances_answer_start" in explanation else [""]
    for name in names:
        end = name.replace("_answer", "")
        yield tuple(
            explanation[f"{key}"]
            for key in (f"importances{name}", f"delta{end}", f"value{end}", f"baseline_value{end}")
        )


@pytest.mark.parametrize(
    ("case", "architecture"),
    [(case, name) for case in CASES for name in (WINDOWED if "windows" in case else ENCODERS)],
)
def test_importances_sum_to_what_the_baseline_lacks(case, architecture, zoo, load):
    head, config, settings, instance = CASES[case]
    predictor = load(zoo(architecture, head, **config), **settings)
    for method in ("integrated_gradients", "feature_ablation"):
        options = {"n_steps": "auto", "tolerance": TOLERANCE} if method == "integrated_gradients" else {}
        explanation = predictor.explain([instance], method=method, **options)[0]
        for each in explanation.content.get("explanations", [explanation]):
            for importances, delta, value, baseline_value in parts(each):
                assert len(importances) == len(each["words"]) == len(each["offsets"])
                assert sum(importances) == pytest.approx(value - baseline_value + delta, abs=1e-3)
                if method == "integrated_gradients":
                    assert abs(delta) <= TOLERANCE


@pytest.mark.parametrize("architecture", ENCODERS)
def test_the_value_is_the_logit_of_the_prediction(architecture, zoo, load):
    predictor = load(zoo(architecture, "sequence_classification", num_labels=3))
    for text, explanation, prediction in zip(TEXTS, predictor.explain(TEXTS), predictor.predict(TEXTS)):
        assert explanation["value"] == pytest.approx(prediction["logits"].max(), abs=1e-4)
        assert explanation["target"] == explanation["predicted_label"] == prediction["predict"]
        assert explanation["score"] == pytest.approx(prediction["score"], abs=1e-5)
        for word, (start, end) in zip(explanation["words"], explanation["offsets"]):
            assert word == text[start:end]
        assert "".join(explanation["words"]) == text.replace(" ", "")


def by_hand(predictor, text, label, n_steps, filler):
    """captum's LayerIntegratedGradients on the embedding layer, summed to words."""
    model, spec = predictor.engine.graph.model, predictor.task.model.tokenizer.spec
    encoding = predictor.task.model.tokenizer.backend.encode(text)
    ids = torch.tensor([encoding.ids])
    special = torch.tensor([encoding.special_tokens_mask]).bool()
    baseline = torch.where(special, ids, torch.full_like(ids, getattr(spec, f"{filler}_id")))
    captum = LayerIntegratedGradients(
        lambda ids, mask: model(input_ids=ids, attention_mask=mask).logits, model.get_input_embeddings()
    )
    found = captum.attribute(
        ids, baseline, target=label, n_steps=n_steps, additional_forward_args=(torch.ones_like(ids),)
    )
    tokens = found.detach()[0].sum(-1).numpy()
    words: dict[int, float] = {}
    for word, value in zip(encoding.word_ids, tokens):
        if word is not None:
            words[word] = words.get(word, 0.0) + float(value)
    return list(words.values())


@pytest.mark.parametrize("filler", ["pad", "mask"])
@pytest.mark.parametrize("architecture", ENCODERS)
def test_attributions_equal_captum_by_hand(architecture, filler, zoo, load):
    predictor = load(zoo(architecture, "sequence_classification", num_labels=3))
    options = {"n_steps": 20, "baseline": filler, "target": 1}
    together = predictor.explain(TEXTS, **options)
    for text, batched in zip(TEXTS, together):
        alone = predictor.explain([text], **options)[0]
        expected = by_hand(predictor, text, 1, 20, filler)
        np.testing.assert_allclose(alone["importances"], expected, atol=1e-5)
        np.testing.assert_allclose(batched["importances"], expected, atol=1e-5)


@pytest.mark.parametrize("architecture", ["bert", "roberta", "deberta-v2"])
def test_ablation_equals_captum_by_hand(architecture, zoo, load):
    predictor = load(zoo(architecture, "sequence_classification", num_labels=3))
    model, spec = predictor.engine.graph.model, predictor.task.model.tokenizer.spec
    encoding = predictor.task.model.tokenizer.backend.encode(TEXTS[0])
    ids = torch.tensor([encoding.ids])
    n_words = 1 + max(word for word in encoding.word_ids if word is not None)
    groups = torch.tensor([[n_words if word is None else word for word in encoding.word_ids]])
    special = torch.tensor([encoding.special_tokens_mask]).bool()
    baseline = torch.where(special, ids, torch.full_like(ids, spec.mask_id))
    captum = FeatureAblation(lambda ids: model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits)
    with torch.no_grad():
        found = captum.attribute(ids, baseline, target=1, feature_mask=groups)[0].numpy()
    expected = [found[encoding.word_ids.index(word)] for word in range(n_words)]
    explanation = predictor.explain([TEXTS[0]], method="feature_ablation", baseline="mask", target=1)[0]
    np.testing.assert_allclose(explanation["importances"], expected, atol=1e-5)


@pytest.mark.parametrize("method", ["input_x_gradient", "layer_gradient_x_activation"])
@pytest.mark.parametrize("architecture", ENCODERS)
def test_gradients_once_through_explain_every_architecture(architecture, method, zoo, load):
    predictor = load(zoo(architecture, "sequence_classification", num_labels=3))
    explanation = predictor.explain([TEXTS[0]], method=method)[0]
    assert np.isfinite(explanation["importances"]).all()
    assert np.abs(explanation["importances"]).max() > 0
    assert explanation["n_steps"] == 1


@pytest.fixture(scope="module")
def bert(zoo, load) -> Predictor:
    return load(zoo("bert", "sequence_classification", num_labels=3))


def test_targets_by_name_and_index_in_one_request(bert):
    explanation = bert.explain([TEXTS[0]], target=["LABEL_2", 0])[0]
    assert [item["target"] for item in explanation["explanations"]] == ["LABEL_2", "LABEL_0"]
    for item, label in zip(explanation["explanations"], (2, 0)):
        np.testing.assert_allclose(
            item["importances"], bert.explain([TEXTS[0]], target=label)[0]["importances"], atol=1e-6
        )


@pytest.mark.parametrize("options", [{"baseline": "zero"}, {"baseline_text": "a bad film of the year"}])
def test_other_baselines_are_complete_too(bert, options):
    explanation = bert.explain([TEXTS[0]], n_steps="auto", **options)[0]
    assert abs(explanation["delta"]) < 0.02
    assert explanation["baseline"] == options.get("baseline", "text")


def test_entities_are_explained_one_by_one(zoo, load):
    predictor = load(zoo("bert", "token_classification"))
    entities = predictor.predict([TEXTS[2]])[0]["predict"]
    explanation = predictor.explain([TEXTS[2]], n_steps=4)[0]
    found = explanation.content.get("explanations", [explanation.content])
    assert [item["target"] for item in found] == [entity["entity_group"] for entity in entities[:16]]
    assert [item["target_place"]["start"] for item in found] == [entity["start"] for entity in entities[:16]]
    assert explanation.content.get("targets_left_out", 0) == max(0, len(entities) - 16)


@pytest.mark.parametrize("strategy", ["none", "simple", "first"])
@pytest.mark.parametrize("ignored", [["O"], ["B-LOC"], ["O", "PER", "I-ORG"]])
def test_the_entities_that_are_explained_are_those_of_the_answer(zoo, load, strategy, ignored):
    predictor, own = load(zoo("bert", "token_classification")), {"aggregation_strategy": strategy, "method": ONCE}
    instance = {"text": "the quick brown fox jumps over berlin", "ignore_labels": ignored, **own}
    entities = predictor.predict([instance])[0]["predict"][:16]
    explanation = predictor.explain([instance])[0].content
    found = [item["target_place"] for item in explanation.get("explanations", [explanation])]
    assert [(item["start"], item["end"]) for item in found] == [(item["start"], item["end"]) for item in entities]


def test_without_entities_the_likeliest_that_is_not_ignored_is_explained(zoo, load):
    predictor = load(zoo("bert", "token_classification"))
    explanation = predictor.explain([TEXTS[2]], ignore_labels=["O", "LOC", "PER"], method=ONCE)[0]
    assert explanation["target"] == "ORG"
    assert predictor.explain([TEXTS[2]], ignore_labels=["O", "LOC"], method=ONCE)[0]["target"] in {"ORG", "PER"}


def test_an_answer_has_a_start_and_an_end(zoo, load):
    predictor = load(zoo("bert", "question_answering"))
    instance = {"question": "Where do I live?", "context": CONTEXT}
    explanation = predictor.explain([instance], n_steps=4)[0]
    answer = predictor.predict([instance])[0]
    assert explanation["target"] == answer["predict"]
    assert explanation["target_place"] == {key: answer["answers"][0][key] for key in ("start", "end")}
    assert {"importances_answer_start", "importances_answer_end", "delta_start", "delta_end"} <= set(explanation)
    assert set(explanation["fields"]) == {"question", "context"}
    chosen = predictor.explain([{**instance, "target": "Wolfgang"}], n_steps=4)[0]
    assert CONTEXT[slice(*chosen["target_place"].values())] == "Wolfgang"


def test_an_answer_is_asked_for_by_its_rank(zoo, load):
    """As TorchServe's own sample request has it, with target 0."""
    predictor = load(zoo("bert", "question_answering"))
    instance = {"question": "Where do I live?", "context": CONTEXT}
    answers = predictor.predict([instance], top_k=2)[0]["answers"]
    for rank, answer in enumerate(answers):
        explanation = predictor.explain([{**instance, "target": rank}], n_steps=4)[0]
        assert explanation["target"] == answer["answer"]
    with pytest.raises(InvalidRequestError, match=r"target 999: the model has \d+ answers, the best is target 0"):
        predictor.explain([{**instance, "target": 999}])
    with pytest.raises(InvalidRequestError, match="a text that stands in the context, or the rank"):
        predictor.explain([{**instance, "target": "elsewhere"}])


def test_an_unknown_output_is_named(bert):
    answered = bert.explainer.respond(Request([TEXTS[0]], outputs=("explanation", "x" * 100)))
    message = "outputs[1]: (100 characters) is unknown; explanations have one output, 'explanation'"
    assert [str(item.error) for item in answered.predictions] == [message]


def test_the_best_answer_is_explained_where_the_model_decides_that_there_is_none(zoo, load, monkeypatch):
    predictor = load(zoo("bert", "question_answering"))
    instance = {"question": "Where do I live?", "context": CONTEXT, "handle_impossible_answer": True}
    answers = predictor.predict([{**instance, "top_k": 2}])[0]["answers"]
    monkeypatch.setattr(Spans, "null_score", property(lambda _: 1.0, lambda *_: None), raising=False)
    assert predictor.predict([instance])[0]["predict"] == ""
    explanation = predictor.explain([instance], n_steps=4)[0]
    assert explanation["predicted_label"] == ""
    assert explanation["target"] == answers[0]["answer"]


def test_tokens_of_the_client_are_explained_without_offsets(bert):
    ids = np.array(bert.task.model.tokenizer.backend.encode(TEXTS[0]).ids)
    explanation = bert.explain([Tokens({"input_ids": ids})], n_steps=4)[0]
    assert len(explanation["words"]) == len(ids) - 2
    assert set(explanation["offsets"]) == {None}


def test_one_instance_does_not_touch_its_neighbours(bert):
    instances = [TEXTS[0], {"text": TEXTS[1], "target": "nobody"}, {"text": TEXTS[1], "n_steps": 4}]
    found = bert.explainer.respond(Request(instances)).predictions
    assert isinstance(found[1], Failure)
    assert "unknown label 'nobody'" in str(found[1].error)
    assert found[0]["explanation"]["n_steps"] == 50
    assert found[2]["explanation"]["n_steps"] == 4


def test_predictions_ignore_the_keys_of_explanations(bert):
    plain = bert.predict([TEXTS[0]])[0]
    keys = {"target": "LABEL_1", "method": "feature_ablation", "n_steps": 4, "deadline_ms": 5}
    assert bert.predict([{"text": TEXTS[0], **keys}], **keys)[0]["predict"] == plain["predict"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_steps": 0}, "n_steps must be an integer from 1 to 1000"),
        ({"n_steps": True}, "n_steps must be"),
        ({"n_steps": "9" * 5000}, "n_steps must be"),
        ({"method": "shap"}, "method='shap' is unknown"),
        ({"baseline": "text"}, "baseline_text is missing"),
        ({"baseline": "pad", "baseline_text": "a"}, "baseline_text needs baseline: text"),
        ({"target": 3}, "from 0 to 2"),
        ({"target": [0] * 17}, "at most 16"),
        ({"target": {}}, "not an object"),
        ({"deadline_ms": 0}, "deadline_ms=0"),
        ({"steps": 3}, "unknown parameter 'steps'; did you mean 'n_steps'?"),
        ({"baselines": "pad"}, "unknown parameter 'baselines'; did you mean 'baseline'?"),
    ],
)
def test_wrong_options_are_named(bert, options, message):
    with pytest.raises(InvalidRequestError, match=message):
        bert.explain([TEXTS[0]], **options)


def test_a_baseline_text_has_the_limit_of_a_text(zoo, load):
    predictor = load(zoo("bert", "sequence_classification"), max_input_chars=100)
    with pytest.raises(RequestTooLargeError, match="baseline_text has 101 characters; max_input_chars is 100"):
        predictor.explain([TEXTS[0]], baseline_text="a" * 101)


def test_a_defect_while_options_are_read_is_the_requests_own(bert, monkeypatch):
    monkeypatch.setattr("bert_handler.explain.split", lambda _: 1 / 0)
    response = bert.explainer.respond(Request([TEXTS[0]] * 2))
    assert [str(item.error) for item in response.predictions] == [str(InternalError())] * 2


@pytest.fixture
def rows(monkeypatch):
    """Of the forwards of explanations, one number each."""
    seen, of_ids = [], ProbedInputs.of_ids
    monkeypatch.setattr(methods, "collate", lambda rows, padding: seen.append(len(rows)) or collate(rows, padding))
    monkeypatch.setattr(
        ProbedInputs, "of_ids", lambda self, ids, *rest: seen.append(len(ids)) or of_ids(self, ids, *rest)
    )
    return seen


@pytest.mark.parametrize("method", ["integrated_gradients", "feature_ablation"])
@pytest.mark.parametrize(("asked", "most"), [(2, 2), (4096, 128 // 15)])
def test_a_step_has_rows_up_to_the_number_that_is_asked_for_and_to_a_number_of_tokens(bert, rows, method, asked, most):
    assert bert.predict([TEXTS[0]])[0].input_tokens >= 15
    bert.explain([TEXTS[0]], method=method, n_steps=16, internal_batch_size=asked)
    assert 1 < max(rows) <= most


def test_a_variant_is_computed_once_for_all_targets(bert, rows):
    (explanation,) = bert.explain([TEXTS[1]], method="feature_ablation", target=["LABEL_0", "LABEL_1", "LABEL_2"])
    n_words = len(explanation["words"])
    assert sum(rows) == 2 + n_words
    alone = [bert.explain([TEXTS[1]], method="feature_ablation", target=n)[0]["importances"] for n in range(3)]
    assert [target["importances"] for target in explanation["explanations"]] == alone


def test_a_deadline_gives_the_best_answer_so_far(bert):
    started = time.monotonic()
    explanation = bert.explain([LONG], n_steps=1000, deadline_ms=300)[0]
    assert time.monotonic() - started < 2
    assert explanation["deadline_reached"]
    assert 8 <= explanation["n_steps"] < 1000
    with pytest.raises(DeadlineError, match="deadline_ms=300"):
        bert.explain([LONG], n_steps=1000, deadline_ms=300, on_deadline="error")


def test_a_deadline_that_is_kept_costs_no_steps(bert):
    explanation = bert.explain([TEXTS[1]], n_steps=30, deadline_ms=60_000)[0]
    assert explanation["n_steps"] == 30
    assert "deadline_reached" not in explanation
    np.testing.assert_allclose(
        explanation["importances"], bert.explain([TEXTS[1]], n_steps=30)[0]["importances"], atol=1e-6
    )


def test_predictions_meanwhile_are_what_they_are_alone(bert):
    """Captum hooks into modules; those of the served model must stay as they are."""
    expected = bert.predict(TEXTS)
    stop = threading.Event()
    worker = threading.Thread(target=lambda: [bert.explain([LONG], n_steps=50) for _ in iter(stop.is_set, True)])
    worker.start()
    try:
        for _ in range(30):
            for found, right in zip(bert.predict(TEXTS), expected):
                np.testing.assert_allclose(found["logits"], right["logits"], atol=1e-5)
    finally:
        stop.set()
        worker.join()


def test_the_queue_is_bounded(zoo, load):
    predictor = load(zoo("bert", "sequence_classification", num_labels=3), max_explanations=4)
    first = predictor.explainer.queue.submit(Request([LONG] * 4, parameters={"n_steps": 200}))
    with pytest.raises(QueueFullError, match="max_explanations is 4"):
        predictor.explainer.queue.submit(Request([LONG]))
    assert len(first.result().predictions) == 4
    assert predictor.explainer.queue.submit(Request([TEXTS[1]])).result().predictions


def test_captum_loads_without_holding_up_those_who_ask(bert, monkeypatch):
    explainer, loading, loaded = Explainer(bert), threading.Event(), threading.Event()
    in_time, load_methods = [], explainer._load

    def slow(name):
        loading.set()
        in_time.append(loaded.wait(3))
        return load_methods(name)

    monkeypatch.setattr(explainer, "_load", slow)
    first = explainer.queue.submit(Request([TEXTS[1]], parameters={"n_steps": 1}))
    assert loading.wait(10)
    assert explainer.queue.submit(Request([TEXTS[1]])).cancel()
    loaded.set()
    assert first.result(60).predictions[0]["explanation"]
    assert in_time == [True]
    explainer.queue.close()


def test_a_full_queue_says_when_to_come_back(zoo, load):
    explainer = load(zoo("bert", "sequence_classification", num_labels=3), max_explanations=4).explainer
    explainer.queue.submit(Request(["a"], parameters={"n_steps": 1})).result(60)
    assert 0 < explainer.queue._instance_s < 5
    explainer.queue._instance_s = 2.5
    waiting = explainer.queue.submit(Request(["a"] * 4, parameters={"n_steps": 1}))
    with pytest.raises(QueueFullError) as caught:
        explainer.queue.submit(Request(["a"]))
    assert caught.value.retry_after_s == 10
    waiting.result(60)


def test_closing_answers_what_waits_and_refuses_what_comes(bert):
    explainer = Explainer(bert)
    waiting = [explainer.queue.submit(Request([TEXTS[1]], parameters={"n_steps": 1})) for _ in range(3)]
    explainer.queue.close()
    assert [len(future.result(0).predictions[0]["explanation"]["words"]) for future in waiting] == [3, 3, 3]
    with pytest.raises(NotReadyError, match="the model is being unloaded"):
        explainer.queue.submit(Request([TEXTS[1]]))


@pytest.fixture
def steps(monkeypatch):
    """`steps(act)`: the numbers of the gradients' forwards, of which the second begins with `act`."""

    def count(act):
        seen, of_ids = [], ProbedInputs.of_ids

        def counted(probed, *arguments):
            seen.append(len(seen))
            if len(seen) == 2:
                act()
            return of_ids(probed, *arguments)

        monkeypatch.setattr(ProbedInputs, "of_ids", counted)
        return seen

    return count


def test_work_that_nobody_waits_for_ends_before_its_next_forward(bert, steps):
    queued = threading.Event()
    seen = steps(lambda: queued.wait(10) and future.cancel())
    future = bert.explainer.queue.submit(Request([TEXTS[0]] * 3, parameters={"n_steps": 1000}))
    queued.set()
    behind = bert.explainer.queue.submit(Request([TEXTS[0]], parameters={"method": "feature_ablation"}))
    assert behind.result(60).predictions[0]["explanation"]["words"]
    assert seen == [0, 1]


def test_work_whose_deadline_passes_ends_before_its_next_forward(bert, steps):
    seen = steps(lambda: time.sleep(0.2))
    response = bert.explainer.respond(Request([TEXTS[0]] * 3, deadline=time.monotonic() + 0.2))
    assert [type(item.error) for item in response.predictions] == [DeadlineError] * 3
    assert seen == [0, 1]


def test_who_has_gone_leaves_the_queue_at_once(zoo, load, steps):
    explainer, gone = load(zoo("bert", "sequence_classification", num_labels=3), max_explanations=4).explainer, []
    steps(lambda: [future.cancel() for future in gone])
    busy = explainer.queue.submit(Request([TEXTS[0]], parameters={"n_steps": 1}))
    gone += [explainer.queue.submit(Request([TEXTS[0]])) for _ in range(3)]
    with pytest.raises(QueueFullError):
        explainer.queue.submit(Request([TEXTS[0]] * 3))
    busy.result(60)
    assert len(explainer.queue.submit(Request([TEXTS[0]] * 4, parameters={"n_steps": 1})).result(60).predictions) == 4


def test_the_forward_of_an_explanation_has_its_deadline(bert, monkeypatch):
    opened, run = threading.Event(), bert.scheduler._run
    monkeypatch.setattr(bert.scheduler, "_run", lambda rows, threads: opened.wait(10) and run(rows, threads))
    computed = bert.scheduler.submit([Row({"input_ids": np.array([2, 3])}, 2)])
    waiting = bert.explainer.queue.submit(Request([TEXTS[0]], deadline=time.monotonic() + 0.1))
    time.sleep(0.12)
    opened.set()
    computed.result(60)
    assert str(waiting.result(60).predictions[0].error) == "the deadline passed before the model was free"


@pytest.mark.parametrize(("seconds", "late"), [(60, False), (0.05, True)])
def test_an_explanation_that_comes_too_late_is_refused(bert, monkeypatch, seconds, late):
    explain = bert.explainer._explain
    monkeypatch.setattr(bert.explainer, "_explain", lambda *given: (explain(*given), time.sleep(0.1))[0])
    request = Request([TEXTS[1]], parameters={"n_steps": 1}, deadline=time.monotonic() + seconds)
    answer = serving.explained(bert, Call(request, kind="explain"))
    assert isinstance(answer.call.error, DeadlineError) is late
    assert (answer.response is None) is late


def test_explanations_have_the_default_deadline_too(zoo, load):
    explainer = load(zoo("bert", "sequence_classification"), request_timeout_s=7).explainer
    assert explainer.timed(Request(["a"])).deadline == pytest.approx(time.monotonic() + 7, abs=1)
    assert explainer.timed(Request(["a"], deadline=5.0)).deadline == 5.0


def test_explanations_can_be_switched_off(zoo, load):
    predictor = load(zoo("bert", "sequence_classification", num_labels=3), captum_explanation=False)
    with pytest.raises(UnservableError, match="captum_explanation: false"):
        predictor.explain([TEXTS[0]])


@pytest.mark.parametrize(
    ("architecture", "head", "task"), [("bert", "fill_mask", "fill_mask"), ("gpt2", "generation", "text_generation")]
)
def test_a_task_without_a_decision_says_so_before_it_computes(zoo, load, architecture, head, task):
    predictor = load(zoo(architecture, head))
    computed = predictor.metrics.tokens
    with pytest.raises(UnservableError, match=f"{task} has no decision that could be explained"):
        predictor.explain(["a [MASK] film"])
    assert predictor.metrics.tokens == computed


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_quantized_weights_are_explained_without_gradients(zoo, load):
    predictor = load(zoo("bert", "sequence_classification", num_labels=3), quantization="int8")
    assert predictor.explain([TEXTS[0]])[0]["method"] == "feature_ablation"
    with pytest.raises(UnservableError, match="needs gradients"):
        predictor.explain([TEXTS[0]], method="integrated_gradients")


def test_captum_missing_names_the_extra_and_ablation_goes_without(zoo, load, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "captum.attr", None)
    explainer = Explainer(load(zoo("bert", "sequence_classification", num_labels=3)))
    failure = explainer.respond(Request([TEXTS[0]])).predictions[0]
    assert failure.error.status == 422
    assert "pip install 'captum', or all that is needed with: pip install '.[explain]' in a clone" in str(failure.error)
    ablated = explainer.respond(Request([TEXTS[0]], parameters={"method": "feature_ablation"})).predictions[0]
    assert ablated["explanation"]["method"] == "feature_ablation"


@pytest.mark.parametrize("engine", ["onnx", "openvino"])
def test_engines_without_gradients_explain_by_leaving_words_out(zoo, archived, engine):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("openvino")
    archive = archived(zoo("bert", "sequence_classification"), engine=engine)
    found = {}
    for name in (engine, "torch"):
        settings = {"handler": {"device": "cpu", "threads": 1, "engine": name}}
        predictor = Predictor.load(archive, environ={}, model_yaml=settings)
        found[name] = predictor.explain([TEXTS[0]], method="feature_ablation")[0]
        if name == engine:
            assert predictor.explain([TEXTS[0]])[0]["method"] == "feature_ablation"
            with pytest.raises(UnservableError, match=f"engine='{engine}'"):
                predictor.explain([TEXTS[0]], method="integrated_gradients")
        predictor.close()
    np.testing.assert_allclose(found[engine]["importances"], found["torch"]["importances"], atol=1e-4)


def test_offsets_count_from_the_text_behind_a_prompt(zoo, tmp_path):
    import json
    import shutil

    directory = tmp_path / "model"
    shutil.copytree(zoo("bert", "embedding"), directory)
    prompts = {"prompts": {"query": "question: "}, "default_prompt_name": "query"}
    (directory / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    (directory / "setup_config.json").write_text('{"mode": "text_embedding"}')
    predictor = Predictor.load(directory, device="cpu", environ={})
    explanation = predictor.explain([{"text": TEXTS[1], "target": TEXTS[0]}], n_steps=4)[0]
    predictor.close()
    assert explanation["words"][:2] == ["question", ":"]
    assert explanation["offsets"][:2] == [None, None]
    for word, (start, end) in zip(explanation["words"][2:], explanation["offsets"][2:]):
        assert TEXTS[1][start:end] == word
