"""The predictor as Python calls it."""

from __future__ import annotations

import pytest

from bert_handler.errors import InvalidRequestError


@pytest.mark.parametrize("method", ["predict", "explain"])
@pytest.mark.parametrize(
    ("instances", "kind"), [("good film", "a string"), ({"text": "good film"}, "an object"), (b"good", "bytes")]
)
def test_one_instance_outside_of_a_list_is_refused(zoo, load, method, instances, kind):
    predictor = load(zoo("bert", "sequence_classification"))
    with pytest.raises(InvalidRequestError) as caught:
        getattr(predictor, method)(instances)
    assert (
        str(caught.value) == f"instances must be a list of texts or objects, not {kind}; put a single one into a list"
    )


def test_instances_may_come_one_by_one(zoo, load):
    predictor = load(zoo("bert", "sequence_classification"))
    assert len(predictor.predict(text for text in ("a fox", "a dog"))) == 2
