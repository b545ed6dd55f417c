"""The types that a request passes through can be sent to another process."""

from __future__ import annotations

import pickle

from bert_handler.schema import Prediction, Reply, Request, Response


def test_a_request_its_response_and_reply_are_pickled():
    request = Request(["a text"])
    response = Response(request, [Prediction({"predict": "fine"})], ("predict",))
    found = pickle.loads(pickle.dumps(response))
    assert found.request.instances == ["a text"]
    assert found.request.parameters == found.request.binary_outputs == {}
    assert found.predictions == response.predictions
    assert pickle.loads(pickle.dumps(Reply(b"{}"))) == Reply(b"{}")
