"""Labels by index and by name."""

from __future__ import annotations

import pytest

from bert_handler.errors import InvalidRequestError
from bert_handler.labels import Labels


@pytest.mark.parametrize(("target", "index"), [("neutral", 2), (0, 0), (1, 1), (3, 3)])
def test_a_target_is_a_label_or_its_index(target, index):
    assert Labels(("bad", "bad", "neutral", "good")).index(target) == index


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("bad", r"'bad' is the label of indices 0, 1; give the index, or each its own name in index_to_name\.json"),
        ("god", "did you mean 'good'"),
        (4, "must be a label or an index from 0 to 3"),
        (True, "must be a label or an index from 0 to 3"),
    ],
)
def test_a_target_that_says_too_little_is_refused(target, message):
    with pytest.raises(InvalidRequestError, match=message):
        Labels(("bad", "bad", "neutral", "good")).index(target)
