"""Answers, compared with the last question-answering pipeline, which transformers 5 does not have."""

from __future__ import annotations

import pytest
import transformers

from tests.zoo import CORPUS, ENCODERS, MAX_LENGTH

pytestmark = [
    pytest.mark.skipif(not transformers.__version__.startswith("4."), reason="needs transformers 4"),
    pytest.mark.filterwarnings("ignore:Passing a list of SQuAD examples"),
]

SHORT = (
    ("Who met Obama?", "Angela Merkel met Barack Obama in Berlin on Monday."),
    ("Where?", "Zürich\r\n東京 Paris"),
    ("Wer?", "Don't worry, it's only a test 😀."),
)
LONG = (("Who?", " ".join(CORPUS[:6])), ("Where do I live?", " ".join(CORPUS[12:16])))


@pytest.fixture(scope="module")
def reference(zoo):
    made = {}

    def get(architecture):
        if architecture not in made:
            directory = str(zoo(architecture, "question_answering"))
            made[architecture] = transformers.pipeline("question-answering", model=directory, device="cpu")
        return made[architecture]

    return get


@pytest.mark.parametrize("handle_impossible_answer", [False, True])
@pytest.mark.parametrize("top_k", [1, 5])
@pytest.mark.parametrize("architecture", ENCODERS)
def test_equals_the_pipeline(architecture, top_k, handle_impossible_answer, zoo, load, reference):
    parameters = {"top_k": top_k, "handle_impossible_answer": handle_impossible_answer}
    predictor = load(zoo(architecture, "question_answering"))
    pairs = [*SHORT, *LONG]
    batch = predictor.predict(
        [{"question": question, "context": context} for question, context in pairs], stride=10, **parameters
    )
    for (question, context), found in zip(pairs, batch):
        expected = reference(architecture)(
            question=question, context=context, max_seq_len=MAX_LENGTH, doc_stride=10, **parameters
        )
        expected = expected if isinstance(expected, list) else [expected]
        # With fewer spans than asked for, the pipeline adds impossible ones of score zero.
        expected = [answer for answer in expected if answer["score"] > 0]
        places = [(answer["answer"], answer["start"], answer["end"]) for answer in found["answers"]]
        assert places == [(answer["answer"], answer["start"], answer["end"]) for answer in expected]
        for mine, theirs in zip(found["answers"], expected):
            assert mine["score"] == pytest.approx(theirs["score"], abs=1e-4)


@pytest.mark.parametrize("architecture", ["bert", "roberta"])
def test_max_answer_tokens_is_the_pipelines_max_answer_len(architecture, zoo, load, reference):
    for question, context in SHORT:
        found = load(zoo(architecture, "question_answering")).predict(
            [{"question": question, "context": context}], max_answer_tokens=2
        )[0]
        expected = reference(architecture)(question=question, context=context, max_answer_len=2)
        assert found["predict"] == expected["answer"]
        assert found["score"] == pytest.approx(expected["score"], abs=1e-4)
