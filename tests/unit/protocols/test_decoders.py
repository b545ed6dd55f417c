"""Whatever arrives, a decoder answers with a Request or a RequestError, a file reader with its own error."""

from __future__ import annotations

import json
import struct
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bert_handler import serving
from bert_handler.config import SETTINGS, HandlerConfig, read_settings
from bert_handler.errors import ArchiveError, BertHandlerError, ConfigError, InternalError, RequestError
from bert_handler.labels import INDEX_TO_NAME, Labels
from bert_handler.packaging.properties import parse_properties
from bert_handler.protocols import PROTOCOLS, V2_REST
from bert_handler.protocols.tensors import DATATYPES, from_bytes, to_bytes
from bert_handler.protocols.v2_grpc import CONTENTS, request_body, response_fields
from bert_handler.tasks import TASKS
from bert_handler.tokenization.spec import TOKENIZER_SPEC, TokenizerSpec

CORPUS = sorted(path for path in Path(__file__).parents[2].glob("fuzz/corpus/tensors/*") if path.stat().st_size)
FILES = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)

scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(-3, 3), st.floats(), st.text(max_size=20), st.just("{")
)
values = st.recursive(
    scalars,
    lambda item: st.lists(item, max_size=4) | st.dictionaries(st.text(max_size=6), item, max_size=3),
    max_leaves=8,
)
names = st.sampled_from(
    ["text", "text_pair", "question", "input_ids", "attention_mask", "attention_masks", "token_type_ids", "t"]
)
datas = st.one_of(
    values,
    st.lists(st.integers(-2, 300), max_size=6),
    st.lists(st.lists(st.integers(0, 9), max_size=3), max_size=3),
    st.lists(st.text(max_size=8) | st.sampled_from(['{"text": "a"}', '{"text": 1}', "{"]), max_size=4),
)
tensors = st.fixed_dictionaries(
    {},
    optional={
        "name": names | values,
        "datatype": st.sampled_from(DATATYPES) | values,
        "shape": st.lists(st.integers(-2, 4), max_size=3) | values,
        "data": datas,
        "parameters": st.dictionaries(st.sampled_from(["binary_data_size", "content_type", "x"]), values, max_size=2),
    },
)
bodies = st.one_of(
    values,
    st.fixed_dictionaries(
        {},
        optional={
            "id": values,
            "inputs": st.lists(tensors | values, max_size=3) | values,
            "outputs": st.lists(st.fixed_dictionaries({"name": values}), max_size=2) | values,
            "instances": st.lists(values, max_size=4) | values,
            "parameters": st.dictionaries(st.sampled_from(["top_k", "binary_data_output", "timeout_ms"]), values)
            | values,
            "text": values,
        },
    ),
)
headers = st.fixed_dictionaries(
    {},
    optional={
        "content-type": st.sampled_from(["application/json", "text/plain", "application/octet-stream", ""]),
        "inference-header-content-length": st.sampled_from(["0", "1", "7", "-1", "²", "9" * 6000]),
        "content-encoding": st.sampled_from(["gzip", "identity", ""]),
        "x-inference-protocol": st.sampled_from(["v1", "v2", "raw", "v3"]),
        "x-request-timeout-ms": st.text(max_size=5),
    },
)


@pytest.fixture(scope="module")
def predictor(zoo, load):
    return load(zoo("bert", "sequence_classification"))


def answer(predictor, body, header, protocol=None):
    """Decode a body in-process and answer it; nothing may be a defect."""
    call = serving.decode(body, header, protocol)
    assert not isinstance(call.error, InternalError), body
    reply = serving.encode(predictor, serving.answers([call], serving.begin(predictor, [call]))[0])
    assert reply.status in (200, 400, 413, 422, 504), (body, reply)
    return reply


@settings(deadline=None, max_examples=300)
@given(body=st.binary(max_size=60), header=headers, protocol=st.sampled_from([None, *PROTOCOLS.values()]))
def test_any_bytes(predictor, body, header, protocol):
    answer(predictor, body, header, protocol)


@settings(deadline=None, max_examples=600)
@given(body=bodies, header=headers, protocol=st.sampled_from([None, *PROTOCOLS.values()]))
def test_any_json(predictor, body, header, protocol):
    answer(predictor, json.dumps(body).encode(errors="replace"), header, protocol)


@settings(deadline=None, max_examples=300)
@given(body=bodies)
def test_any_body_that_torchserve_has_parsed(predictor, body):
    answer(predictor, body, {})


@settings(deadline=None, max_examples=400)
@given(tensor=tensors, tail=st.binary(max_size=40), size=st.integers(-1, 41), extra=st.integers(-3, 3))
def test_any_binary_tensor(predictor, tensor, tail, size, extra):
    tensor = {**tensor, "parameters": {"binary_data_size": size}}
    tensor.pop("data", None)
    header = json.dumps({"inputs": [tensor]}).encode(errors="replace")
    stated = {"inference-header-content-length": str(max(len(header) + extra, 0))}
    answer(predictor, header + tail, stated, V2_REST)


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.name[:12])
def test_what_fuzzing_has_found(path):
    """The first byte is the length of the JSON header, over 2; the rest is the body."""
    data = path.read_bytes()
    with suppress(RequestError):
        V2_REST.decode(data[1:], {"inference-header-content-length": str(data[0] * 2)})


@given(datatype=st.sampled_from(DATATYPES), raw=st.binary(max_size=64))
def test_any_tensor_bytes_are_read_back_as_they_were(datatype, raw):
    try:
        read = from_bytes(datatype, raw, "t")
    except RequestError as exc:
        assert str(exc).startswith("t ")  # noqa: PT017
    else:
        if datatype != "BOOL":
            assert to_bytes(datatype, read) == raw


@given(st.lists(st.binary(max_size=9), max_size=6))
def test_elements_are_read_back(elements):
    assert from_bytes("BYTES", b"".join(struct.pack("<I", len(e)) + e for e in elements), "t") == elements


contents = st.fixed_dictionaries(
    {},
    optional={
        "bool_contents": st.lists(st.booleans(), max_size=3),
        "int_contents": st.lists(st.integers(-(2**31), 2**31 - 1), max_size=3),
        "int64_contents": st.lists(st.integers(-(2**63), 2**63 - 1), max_size=3),
        "uint_contents": st.lists(st.integers(0, 2**32 - 1), max_size=3),
        "uint64_contents": st.lists(st.integers(0, 2**64 - 1), max_size=3),
        "fp32_contents": st.lists(st.floats(width=32), max_size=3),
        "fp64_contents": st.lists(st.floats(), max_size=3),
        "bytes_contents": st.lists(st.binary(max_size=5), max_size=3),
    },
)
unicode_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
grpc_parameters = st.dictionaries(
    unicode_text | st.just("top_k"),
    st.one_of(
        st.just({}),
        st.fixed_dictionaries({"int64_param": st.integers(-(2**63), 2**63 - 1)}),
        st.fixed_dictionaries({"bool_param": st.booleans()}),
        st.fixed_dictionaries({"string_param": unicode_text}),
    ),
    max_size=2,
)
grpc_tensors = st.fixed_dictionaries(
    {},
    optional={
        "name": names | unicode_text,
        "datatype": st.sampled_from(DATATYPES) | unicode_text,
        "shape": st.lists(st.integers(-2, 3) | st.integers(-(2**63), 2**63 - 1), max_size=3),
        "contents": contents,
        "parameters": grpc_parameters,
    },
)


@settings(deadline=None, max_examples=500)
@given(
    fields=st.fixed_dictionaries(
        {},
        optional={
            "id": unicode_text,
            "inputs": st.lists(grpc_tensors, max_size=3),
            "raw_input_contents": st.lists(st.binary(max_size=16), max_size=3),
            "parameters": grpc_parameters,
            "outputs": st.lists(st.fixed_dictionaries({"name": unicode_text}), max_size=2),
        },
    )
)
def test_any_grpc_message(predictor, fields):
    pb = pytest.importorskip("kserve.protocol.grpc.grpc_predict_v2_pb2")
    with suppress(RequestError):
        body, header = request_body(pb.ModelInferRequest(**fields))
        reply = answer(predictor, body, header, V2_REST)
        if reply.status == 200:
            for raw in (True, False):
                pb.ModelInferResponse(**response_fields(reply, raw=raw))


def test_every_datatype_has_its_contents_field():
    assert set(CONTENTS) == set(DATATYPES) - {"FP16"}


# ---- files ----------------------------------------------------------------------------------

files = st.one_of(st.binary(max_size=50), values.map(lambda value: json.dumps(value).encode(errors="replace")))
label_maps = st.one_of(
    files,
    st.dictionaries(st.sampled_from(["0", "1", "2", "x", "label_list"]), values, max_size=4).map(
        lambda value: json.dumps(value).encode(errors="replace")
    ),
)


@FILES
@given(content=label_maps)
def test_any_label_map(tmp_path, content):
    (tmp_path / INDEX_TO_NAME).write_bytes(content)
    try:
        labels = Labels.load(tmp_path, None, 2)
    except ConfigError as exc:
        assert INDEX_TO_NAME in str(exc)  # noqa: PT017
    else:
        assert len(labels) == 2


SETTING = st.dictionaries(st.sampled_from([item.name for item in SETTINGS]) | st.text(max_size=8), values, max_size=3)


@FILES
@given(content=files | SETTING.map(lambda value: json.dumps(value).encode(errors="replace")))
def test_any_setup_config(tmp_path, content):
    (tmp_path / "setup_config.json").write_bytes(content)
    with suppress(ConfigError):
        HandlerConfig.parse({"mode": "fill_mask", **read_settings(tmp_path, None, {})})


@FILES
@given(content=files | st.text(max_size=40).map(lambda text: f"handler:\n  {text}".encode(errors="replace")))
def test_any_model_config_yaml(tmp_path, content):
    (tmp_path / "model-config.yaml").write_bytes(content)
    with suppress(ConfigError):
        read_settings(tmp_path, None, {})


@FILES
@pytest.mark.parametrize("task", TASKS.values(), ids=str)
@given(data=st.data())
def test_any_value_of_any_setting(task, data):
    parameter = data.draw(st.sampled_from([*SETTINGS, *task.parameters]))
    value = data.draw(values | st.integers() | st.floats() | st.text(max_size=30))
    with suppress(ConfigError):
        HandlerConfig.parse({"mode": task.name, parameter.name: value}, task.parameters)


SPEC = st.fixed_dictionaries(
    {"input_names": values, "max_length": values, "pad_id": values},
    optional={"padding_side": values, "special_ids": values, "mask_id": values, "mask_token": values, "x": values},
)


@FILES
@given(content=files | SPEC.map(lambda value: json.dumps(value).encode(errors="replace")))
def test_any_tokenizer_spec(tmp_path, content):
    path = tmp_path / TOKENIZER_SPEC
    path.write_bytes(content)
    try:
        spec = TokenizerSpec.read(path)
    except ConfigError as exc:
        assert TOKENIZER_SPEC in str(exc)  # noqa: PT017
    else:
        assert all(isinstance(name, str) for name in spec.input_names)
        assert spec.max_length is None or spec.max_length > 0
        assert isinstance(spec.pad_id, int)


@given(st.text())
def test_any_properties(text):
    assert all(isinstance(key, str) for key in parse_properties(text))


def test_errors_have_one_root():
    assert issubclass(ConfigError, BertHandlerError)
    assert issubclass(ArchiveError, BertHandlerError)
