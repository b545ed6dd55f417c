"""With orjson and without it: the same texts are taken, the same values read, the same bytes written."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from bert_handler import jsonio

ORJSON = jsonio.orjson
REFUSED = object()

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(),
)
documents = st.recursive(
    scalars, lambda item: st.lists(item, max_size=5) | st.dictionaries(st.text(), item, max_size=5), max_leaves=20
)
answers = st.recursive(
    st.one_of(
        scalars,
        st.floats(),
        st.floats(width=32).map(np.float32),
        st.floats().map(np.float64),
        st.integers(-100, 100).map(np.int64),
        st.booleans().map(np.bool_),
        arrays.arrays(st.sampled_from([np.float16, np.float32, np.float64, np.int64, np.int32, np.bool_]), (3,)),
        arrays.arrays(np.float32, (2, 3)),
        arrays.arrays(np.float32, (2, 3)).map(np.transpose),
    ),
    lambda item: st.lists(item, max_size=4) | st.tuples(item, item) | st.dictionaries(st.text(), item, max_size=4),
    max_leaves=10,
)


@pytest.fixture(autouse=True)
def _both(monkeypatch):
    if ORJSON is None:
        pytest.skip("orjson is not installed: there is nothing to compare with")
    yield
    jsonio.orjson = ORJSON


def read(text, library):
    jsonio.orjson = library
    try:
        return jsonio.loads(text)
    except ValueError:
        return REFUSED
    finally:
        jsonio.orjson = ORJSON


def written(value, library):
    jsonio.orjson = library
    try:
        return jsonio.dumps(value)
    finally:
        jsonio.orjson = ORJSON


def same(text):
    first, second = read(text, ORJSON), read(text, None)
    assert (first is REFUSED) == (second is REFUSED), (first, second)
    # repr tells 1 from 1.0, True and -0.0.
    assert first is REFUSED or repr(first) == repr(second)


@given(documents)
def test_documents_are_read_alike(value):
    same(json.dumps(value))
    same(json.dumps(value, ensure_ascii=False).encode())


@given(st.binary(max_size=40))
@example(b'\xef\xbb\xbf{"a":1}')
@example('{"a":1}'.encode("utf-16"))
@example(b'"\xed\xa0\x80"')
def test_any_bytes_are_taken_or_refused_alike(text):
    same(text)


@given(st.text('0123456789eE+-.[]{},:"\\ud8c truefalsnNaIity\n', max_size=24))
def test_near_misses_are_taken_or_refused_alike(text):
    same(text)


@pytest.mark.parametrize(
    "text",
    [
        '"\\ud800"',
        '"\\udc00\\ud800"',
        '"\\uD83D\\uDE00"',
        '{"\\ud800":1}',
        "\ud800",
        "NaN",
        "-Infinity",
        "1e400",
        "-1e400",
        "1e-400",
        "-0",
        "-0.0",
        "01",
        "1.",
        ".5",
        "+1",
        "18446744073709551615",
        "18446744073709551616",
        "-9223372036854775808",
        "-9223372036854775809",
        "1" + "0" * 400,
        "1" * 5000,
        "1" * 300,
        '{"a":1,"a":2}',
        '{"a":[1,{"a":3}],"a":{"a":4}}',
        "[1,]",
        "{1:2}",
        "'a'",
        "",
        " ",
        "\x00",
        '"\x00"',
        '"\x7f"',
        "\ufeff1",
        "//c\n1",
        *("[" * depth + "]" * depth for depth in (99, 100, 101, 500, 990, 1024, 1025, 20_000, 200_000)),
        *('{"a":' * depth + "1" + "}" * depth for depth in (100, 101, 1100)),
        "[" * 200_000,
        "[" + ",".join(["[1]"] * 500) + "]",
    ],
    ids=lambda text: repr(text[:24]),
)
def test_awkward_texts_are_taken_or_refused_alike(text):
    same(text)
    if "\ud800" not in text:
        same(text.encode())


def test_depth_is_bounded():
    with pytest.raises(ValueError, match="more than 100 lists or objects"):
        jsonio.loads("[" * 101 + "]" * 101)
    assert jsonio.loads("[" * 100 + "]" * 100)


@settings(max_examples=300)
@given(answers)
def test_answers_are_written_alike(value):
    assert written(value, ORJSON) == written(value, None)


@settings(max_examples=1000)
@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
@example(1e-7)
@example(9.999999e-7)
@example(1e13)
@example(3e-45)
def test_scores_are_written_alike(value):
    row = np.array([value], dtype=np.float32)
    assert written(row, ORJSON) == written(row, None)
    assert written(float(value), ORJSON) == written(float(value), None)


@pytest.mark.parametrize("value", [{None: 1, True: 2, 3: 3, 1.5: 4}, (1, (2, "x")), '\x1f\x7f\u2028"\\/', {}])
def test_keys_and_escapes_are_written_alike(value):
    assert written(value, ORJSON) == written(value, None)


@pytest.mark.parametrize("value", [b"bytes", object(), {1, 2}])
def test_what_is_no_json_is_a_type_error_with_both(value):
    for library in (ORJSON, None):
        with pytest.raises(TypeError):
            written(value, library)
