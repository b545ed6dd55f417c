"""The shape of nested data is how it is nested, whatever was left open; nothing is cut another way."""

from __future__ import annotations

import json

import pytest

from bert_handler.errors import InvalidRequestError
from bert_handler.protocols import V2_REST

FLAT, NESTED = [2, 5, 3, 2, 6, 3], [[2, 5, 3], [2, 6, 3]]
ONE_ROW, TWO_ROWS, THREE_ROWS = [FLAT], NESTED, [[2, 5], [3, 2], [6, 3]]


def document(shape, data, name="input_ids", datatype="INT64"):
    return {"inputs": [{"name": name, "shape": shape, "datatype": datatype, "data": data}]}


def decode(*tensor, **own):
    return V2_REST.decode(json.dumps(document(*tensor, **own)).encode(), {})


@pytest.mark.parametrize(
    ("shape", "data", "rows", "scalar"),
    [
        (-1, NESTED, TWO_ROWS, False),
        ([-1], NESTED, TWO_ROWS, False),
        ([2, 3], NESTED, TWO_ROWS, False),
        ([-1, 3], NESTED, TWO_ROWS, False),
        ([2, -1], NESTED, TWO_ROWS, False),
        (-1, [FLAT], ONE_ROW, False),
        ([6], [FLAT], ONE_ROW, True),
        ([1, 6], [[FLAT]], ONE_ROW, False),
        (-1, FLAT, ONE_ROW, True),
        ([-1], FLAT, ONE_ROW, True),
        (6, FLAT, ONE_ROW, True),
        ([2, 3], FLAT, TWO_ROWS, False),
        ([3, -1], FLAT, THREE_ROWS, False),
    ],
)
def test_rows_of_tokens_are_those_that_were_sent(shape, data, rows, scalar):
    request = decode(shape, data)
    assert [item.inputs["input_ids"].tolist() for item in request.instances] == rows
    assert request.scalar == scalar


@pytest.mark.parametrize(
    ("shape", "filled"),
    [(6, [6]), ([6], [6]), ([3, 2], [3, 2]), ([3, -1], [3, 2]), ([1, 6], [1, 6]), ([2, 3, 1], [2, 3, 1])],
)
def test_a_shape_against_the_nesting_is_refused(shape, filled):
    with pytest.raises(InvalidRequestError) as caught:
        decode(shape, NESTED)
    assert str(caught.value) == f"inputs[0].shape {filled} does not fit its data, nested as [2, 3]"


@pytest.mark.parametrize("shape", [[2, 0], [10**15, 0], [2**63, 0]])
def test_rows_without_tokens_are_refused_and_not_made(shape):
    with pytest.raises(InvalidRequestError, match="inputs: input_ids has rows without tokens"):
        decode(shape, [])


@pytest.mark.parametrize("length", [0, 5, 2**63])
def test_no_rows_are_no_instances_of_any_length(length):
    assert decode([0, length], []).instances == []


@pytest.mark.parametrize("shape", [-1, [-1], [2, 2]])
def test_nested_texts_are_as_many_instances(shape):
    assert decode(shape, [["a", "b"], ["c", "d"]], "t", "BYTES").instances == ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    ("shape", "data", "sent"),
    [(-1, NESTED, [2, 3]), ([-1], NESTED, [2, 3]), (-1, FLAT, [6]), ([-1, 3], NESTED, [2, 3]), ([3, 2], FLAT, [3, 2])],
)
def test_the_grpc_client_sends_the_nesting(shape, data, sent):
    request_fields = pytest.importorskip("bert_handler.client.messages").request_fields
    assert list(request_fields(document(shape, data))["inputs"][0]["shape"]) == sent
    with pytest.raises(
        InvalidRequestError, match=r"inputs\[0\]\.shape \[6\] does not fit its data, nested as \[2, 3\]"
    ):
        request_fields(document([6], NESTED))
