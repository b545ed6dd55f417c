"""What was cut of a bare text is told in a header, which every client and proxy takes."""

from __future__ import annotations

import json

import pytest

from bert_handler.protocols import RAW
from bert_handler.schema import Identity, Prediction, Request, Response


@pytest.mark.parametrize(
    ("n", "told"),
    [
        (1, {"truncated": True, "input_tokens": 700}),
        (3, {"truncated": "[true,false,true]", "input_tokens": "[700,7,700]"}),
        (1000, {"truncated": True}),
    ],
)
def test_the_header_says_what_was_cut_and_stays_small(n, told):
    predictions = [Prediction({"predict": "good"}, 7 if i % 2 else 700, truncated=not i % 2) for i in range(n)]
    reply = RAW.encode(Response(Request(["a"] * n), predictions, ("predict",)), Identity("m"), {})
    assert json.loads(reply.headers["X-Truncated"]) == told
    assert len(reply.headers["X-Truncated"]) < 4096
