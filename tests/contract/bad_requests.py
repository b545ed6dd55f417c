"""Requests that must be refused: what is sent, the exact status, the exact message.

Every table is data: a JSON body, or what its comment says, then status and message. Picked by hand over
every protocol and every field; the messages are the contract, so a change of one is a change here.
"""

# ruff: noqa: E501

from __future__ import annotations

V2_DOCUMENTS = [
    ("{", 400, "the body is not JSON: line 1, column 2"),
    ("}", 400, "the body is not JSON: line 1, column 1"),
    ("nul", 400, "the body is not JSON: line 1, column 4"),
    ('"text"', 400, "the body must be a JSON object, not a string"),
    ("5", 400, "the body must be a JSON object, not an integer"),
    ("null", 400, "the body must be a JSON object, not null"),
    ("true", 400, "the body must be a JSON object, not a boolean"),
    ("[]", 400, "the body must be a JSON object, not a list"),
    ("[1]", 400, "the body must be a JSON object, not a list"),
    ("{}", 400, "inputs is missing; send at least one tensor"),
    ('{"inputs"}', 400, "the body is not JSON: line 1, column 10"),
    ('{"inputs":}', 400, "the body is not JSON: line 1, column 11"),
    ('{"inputs":[1,]}', 400, "the body is not JSON: line 1, column 13"),
    ("{'inputs':[]}", 400, "the body is not JSON: line 1, column 2"),
    ('{"inputs":NaN}', 400, "the body is not JSON: line 1, column 11"),
    ('\ufeff{"inputs":[]}', 400, "the body is not JSON: line 1, column 1"),
    ('{"inputs":[]} trailing', 400, "the body is not JSON: line 1, column 15"),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","data":["\\ud800"]}]}',
        400,
        "the body is not JSON: line 1, column 64",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","data":["a\nb"]}]}',
        400,
        "the body is not JSON: line 1, column 65",
    ),
    ('{"inputs":1e999}', 400, "the body is not JSON: line 1, column 11"),
    ('{"inputs":null}', 400, "inputs is missing; send at least one tensor"),
    ('{"inputs":5}', 400, "inputs must be a list of at least one tensor"),
    ('{"inputs":"a"}', 400, "inputs must be a list of at least one tensor"),
    ('{"inputs":{}}', 400, "inputs must be a list of at least one tensor"),
    ('{"inputs":[]}', 400, "inputs must be a list of at least one tensor"),
    ('{"inputs":[5]}', 400, "inputs[0] must be an object, not an integer"),
    ('{"inputs":[null]}', 400, "inputs[0] must be an object, not null"),
    ('{"inputs":["a"]}', 400, "inputs[0] must be an object, not a string"),
    ('{"inputs":[[]]}', 400, "inputs[0] must be an object, not a list"),
    ('{"inputs":[true]}', 400, "inputs[0] must be an object, not a boolean"),
    ('{"inputs":[{}]}', 400, "inputs[0].name must be a non-empty string"),
    ('{"inputs":[1.5]}', 400, "inputs[0] must be an object, not a number"),
    (
        '{"input":[{"name":"t","shape":[1],"datatype":"BYTES","data":["a"]}]}',
        400,
        "unknown key 'input'; did you mean 'inputs'?",
    ),
    ('{"instances":["a"]}', 400, "unknown key 'instances'; known: id, inputs, outputs, parameters"),
    (
        '{"inputs":[{"name":"text","shape":[1],"datatype":"BYTES","data":["a"],"parameters":{"top_k":1}},'
        '{"name":"text_pair","shape":[1],"datatype":"BYTES","data":["a"],"parameters":{"top_k":2}}]}',
        400,
        "inputs[1].parameters.top_k has another value than in a tensor before it",
    ),
    ('{"text":"a"}', 400, "unknown key 'text'; known: id, inputs, outputs, parameters"),
    (
        '{"Inputs":[{"name":"t","shape":[1],"datatype":"BYTES","data":["a"]}]}',
        400,
        "unknown key 'Inputs'; did you mean 'inputs'?",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","data":["a"]}],"extra":1}',
        400,
        "unknown key 'extra'; known: id, inputs, outputs, parameters",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","data":["a"]}],"parameter":{}}',
        400,
        "unknown key 'parameter'; did you mean 'parameters'?",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","data":["a"]}],"output":[]}',
        400,
        "unknown key 'output'; did you mean 'outputs'?",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","data":["a"]}],"model_name":"bert"}',
        400,
        "unknown key 'model_name'; known: id, inputs, outputs, parameters",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","data":["a"]}],"":1}',
        400,
        "unknown key ''; known: id, inputs, outputs, parameters",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","data":["a"]}],"kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk":1}',
        400,
        "unknown key (41 characters); known: id, inputs, outputs, parameters",
    ),
    (
        '{"id":5,"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","data":["a"]}]}',
        400,
        "id must be a string, not an integer",
    ),
    (
        '{"id":true,"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","data":["a"]}]}',
        400,
        "id must be a string, not a boolean",
    ),
    (
        '{"id":[],"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","data":["a"]}]}',
        400,
        "id must be a string, not a list",
    ),
    (
        '{"id":{},"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","data":["a"]}]}',
        400,
        "id must be a string, not an object",
    ),
    (
        '{"id":1.5,"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","data":["a"]}]}',
        400,
        "id must be a string, not a number",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","data":["a"]}],"parameters":5}',
        400,
        "parameters must be an object, not an integer",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","data":["a"]}],"parameters":"a"}',
        400,
        "parameters must be an object, not a string",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","data":["a"]}],"parameters":[]}',
        400,
        "parameters must be an object, not a list",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","data":["a"]}],"parameters":true}',
        400,
        "parameters must be an object, not a boolean",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","data":["a"]}],"parameters":{"binary_data_output":1}}',
        400,
        "parameters.binary_data_output must be true or false, not an integer",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","data":["a"]}],"parameters":{"binary_data_output":"true"}}',
        400,
        "parameters.binary_data_output must be true or false, not a string",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","data":["a"]}],"parameters":{"binary_data_output":null}}',
        400,
        "parameters.binary_data_output must be true or false, not null",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","data":["a"]}],"parameters":{"nope":1}}',
        400,
        "unknown parameter 'nope'; known: function_to_apply, stride, threshold, top_k, truncation",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","data":["a"]}],"parameters":{"top_kk":1}}',
        400,
        "unknown parameter 'top_kk'; did you mean 'top_k'?",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","data":["a"]}],"parameters":{"":1}}',
        400,
        "unknown parameter ''; known: function_to_apply, stride, threshold, top_k, truncation",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","data":["a"]}],"outputs":5}',
        400,
        "outputs must be a list of objects with a name, not an integer",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","data":["a"]}],"outputs":"predict"}',
        400,
        "outputs must be a list of objects with a name, not a string",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","data":["a"]}],"outputs":{}}',
        400,
        "outputs must be a list of objects with a name, not an object",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","data":["a"]}],"outputs":["predict"]}',
        400,
        "outputs[0] must be an object with a name, not a string",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","data":["a"]}],"outputs":[5]}',
        400,
        "outputs[0] must be an object with a name, not an integer",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","data":["a"]}],"outputs":[null]}',
        400,
        "outputs[0] must be an object with a name, not null",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","data":["a"]}],"outputs":[{}]}',
        400,
        "outputs[0].name must be a non-empty string",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","data":["a"]}],"outputs":[{"name":5}]}',
        400,
        "outputs[0].name must be a non-empty string",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","data":["a"]}],"outputs":[{"name":""}]}',
        400,
        "outputs[0].name must be a non-empty string",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","data":["a"]}],"outputs":[{"name":"nope"}]}',
        400,
        "unknown output 'nope'; known: logits, predict, probabilities, score",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","data":["a"]}],"outputs":[{"name":"predct"}]}',
        400,
        "unknown output 'predct'; did you mean 'predict'?",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","data":["a"]}],"outputs":[{"name":"Predict"}]}',
        400,
        "unknown output 'Predict'; did you mean 'predict'?",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","data":["a"]}],"outputs":[{"name":"predict"},{"name":"predict"}]}',
        400,
        "outputs[1].name: 'predict' is asked for twice",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","data":["a"]}],"outputs":['
        + ",".join(['{"name":"predict"}'] * 65)
        + "]}",
        400,
        "outputs has 65 entries; at most 64 are taken",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","data":["a"]}],"outputs":[{"name":"predict","datatype":"BYTES"}]}',
        400,
        "outputs[0]: unknown key 'datatype'; known: name, parameters",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","data":["a"]}],"outputs":[{"name":"predict","parameters":5}]}',
        400,
        "outputs[0].parameters must be an object, not an integer",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","data":["a"]}],"outputs":[{"name":"predict","parameters":{"binary_data":1}}]}',
        400,
        "outputs[0].parameters.binary_data must be true or false, not an integer",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","data":["a"]}],"outputs":[{"name":"predict","parameters":{"binary":true}}]}',
        400,
        "outputs[0].parameters: unknown parameter 'binary'; did you mean 'binary_data'?",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","data":["a"]}],"outputs":[{"name":"predict","parameters":{"classification":2}}]}',
        400,
        "outputs[0].parameters: unknown parameter 'classification'; known: binary_data",
    ),
]
"""classify, V2: the JSON document."""

V2_TENSORS = [
    ('{"inputs":[{"shape":[1],"datatype":"BYTES","data":["a"]}]}', 400, "inputs[0].name must be a non-empty string"),
    (
        '{"inputs":[{"name":5,"shape":[1],"datatype":"BYTES","data":["a"]}]}',
        400,
        "inputs[0].name must be a non-empty string",
    ),
    (
        '{"inputs":[{"name":null,"shape":[1],"datatype":"BYTES","data":["a"]}]}',
        400,
        "inputs[0].name must be a non-empty string",
    ),
    (
        '{"inputs":[{"name":"","shape":[1],"datatype":"BYTES","data":["a"]}]}',
        400,
        "inputs[0].name must be a non-empty string",
    ),
    (
        '{"inputs":[{"name":["t"],"shape":[1],"datatype":"BYTES","data":["a"]}]}',
        400,
        "inputs[0].name must be a non-empty string",
    ),
    (
        '{"inputs":[{"name":{},"shape":[1],"datatype":"BYTES","data":["a"]}]}',
        400,
        "inputs[0].name must be a non-empty string",
    ),
    ('{"inputs":[{"name":"t","shape":[1],"data":["a"]}]}', 400, "inputs[0].datatype is missing"),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":5,"data":["a"]}]}',
        400,
        "inputs[0].datatype must be one of BOOL, UINT8, UINT16, UINT32, UINT64, INT8, INT16, INT32, INT64, FP16, FP32, FP64, BYTES",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":null,"data":["a"]}]}',
        400,
        "inputs[0].datatype must be one of BOOL, UINT8, UINT16, UINT32, UINT64, INT8, INT16, INT32, INT64, FP16, FP32, FP64, BYTES",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"STRING","data":["a"]}]}',
        400,
        "inputs[0].datatype: unknown datatype 'STRING'; known: BOOL, BYTES, FP16, FP32, FP64, INT16, INT32, INT64, INT8, UINT16, UINT32, UINT64, UINT8",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"bytes","data":["a"]}]}',
        400,
        "inputs[0].datatype: unknown datatype 'bytes'; known: BOOL, BYTES, FP16, FP32, FP64, INT16, INT32, INT64, INT8, UINT16, UINT32, UINT64, UINT8",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"INT","data":["a"]}]}',
        400,
        "inputs[0].datatype: unknown datatype 'INT'; did you mean 'INT8'?",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"FLOAT32","data":["a"]}]}',
        400,
        "inputs[0].datatype: unknown datatype 'FLOAT32'; known: BOOL, BYTES, FP16, FP32, FP64, INT16, INT32, INT64, INT8, UINT16, UINT32, UINT64, UINT8",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTE","data":["a"]}]}',
        400,
        "inputs[0].datatype: unknown datatype 'BYTE'; did you mean 'BYTES'?",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"","data":["a"]}]}',
        400,
        "inputs[0].datatype: unknown datatype ''; known: BOOL, BYTES, FP16, FP32, FP64, INT16, INT32, INT64, INT8, UINT16, UINT32, UINT64, UINT8",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":["BYTES"],"data":["a"]}]}',
        400,
        "inputs[0].datatype must be one of BOOL, UINT8, UINT16, UINT32, UINT64, INT8, INT16, INT32, INT64, FP16, FP32, FP64, BYTES",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"INT128","data":["a"]}]}',
        400,
        "inputs[0].datatype: unknown datatype 'INT128'; did you mean 'INT8'?",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx","data":["a"]}]}',
        400,
        "inputs[0].datatype: unknown datatype (50 characters); known: BOOL, BYTES, FP16, FP32, FP64, INT16, INT32, INT64, INT8, UINT16, UINT32, UINT64, UINT8",
    ),
    (
        '{"inputs":[{"name":"t","datatype":"BYTES","data":["a"]}]}',
        400,
        "inputs[0].shape is missing; send [n], or -1 to leave it open",
    ),
    (
        '{"inputs":[{"name":"t","shape":"1","datatype":"BYTES","data":["a"]}]}',
        400,
        "inputs[0].shape must be a list of integers, not a string",
    ),
    (
        '{"inputs":[{"name":"t","shape":{},"datatype":"BYTES","data":["a"]}]}',
        400,
        "inputs[0].shape must be a list of integers, not an object",
    ),
    (
        '{"inputs":[{"name":"t","shape":1.5,"datatype":"BYTES","data":["a"]}]}',
        400,
        "inputs[0].shape must be a list of integers, not a number",
    ),
    (
        '{"inputs":[{"name":"t","shape":true,"datatype":"BYTES","data":["a"]}]}',
        400,
        "inputs[0].shape must be a list of integers, not a boolean",
    ),
    (
        '{"inputs":[{"name":"t","shape":["1"],"datatype":"BYTES","data":["a"]}]}',
        400,
        "inputs[0].shape must hold integers, not a string",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1.0],"datatype":"BYTES","data":["a"]}]}',
        400,
        "inputs[0].shape must hold integers, not a number",
    ),
    (
        '{"inputs":[{"name":"t","shape":[null],"datatype":"BYTES","data":["a"]}]}',
        400,
        "inputs[0].shape must hold integers, not null",
    ),
    (
        '{"inputs":[{"name":"t","shape":[true],"datatype":"BYTES","data":["a"]}]}',
        400,
        "inputs[0].shape must hold integers, not a boolean",
    ),
    (
        '{"inputs":[{"name":"t","shape":[[1]],"datatype":"BYTES","data":["a"]}]}',
        400,
        "inputs[0].shape must hold integers, not a list",
    ),
    (
        '{"inputs":[{"name":"t","shape":[-2],"datatype":"BYTES","data":["a"]}]}',
        400,
        "inputs[0].shape [-2] must hold sizes from 0, and -1 at most once",
    ),
    (
        '{"inputs":[{"name":"t","shape":-2,"datatype":"BYTES","data":["a"]}]}',
        400,
        "inputs[0].shape [-2] must hold sizes from 0, and -1 at most once",
    ),
    (
        '{"inputs":[{"name":"t","shape":[-1,-1],"datatype":"BYTES","data":["a"]}]}',
        400,
        "inputs[0].shape [-1, -1] must hold sizes from 0, and -1 at most once",
    ),
    (
        '{"inputs":[{"name":"t","shape":0,"datatype":"BYTES","data":["a"]}]}',
        400,
        "inputs[0].shape [0] does not fit its data of 1 elements",
    ),
    (
        '{"inputs":[{"name":"t","shape":[0],"datatype":"BYTES","data":["a"]}]}',
        400,
        "inputs[0].shape [0] does not fit its data of 1 elements",
    ),
    (
        '{"inputs":[{"name":"t","shape":2,"datatype":"BYTES","data":["a"]}]}',
        400,
        "inputs[0].shape [2] does not fit its data of 1 elements",
    ),
    (
        '{"inputs":[{"name":"t","shape":[2],"datatype":"BYTES","data":["a"]}]}',
        400,
        "inputs[0].shape [2] does not fit its data of 1 elements",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1,2],"datatype":"BYTES","data":["a"]}]}',
        400,
        "inputs[0].shape [1, 2] does not fit its data of 1 elements",
    ),
    (
        '{"inputs":[{"name":"t","shape":[0,-1],"datatype":"BYTES","data":["a"]}]}',
        400,
        "inputs[0].shape [0, -1] does not fit its data of 1 elements",
    ),
    (
        '{"inputs":[{"name":"t","shape":[-1,2],"datatype":"BYTES","data":["a"]}]}',
        400,
        "inputs[0].shape [-1, 2] does not fit its data of 1 elements",
    ),
    (
        '{"inputs":[{"name":"t","shape":[3,-1],"datatype":"BYTES","data":["a"]}]}',
        400,
        "inputs[0].shape [3, -1] does not fit its data of 1 elements",
    ),
    (
        '{"inputs":[{"name":"t","shape":[9223372036854775808],"datatype":"BYTES","data":["a"]}]}',
        400,
        "inputs[0].shape [9223372036854775808] does not fit its data of 1 elements",
    ),
    (
        '{"inputs":[{"name":"t","shape":[18446744073709551616],"datatype":"BYTES","data":["a"]}]}',
        400,
        "inputs[0].shape must hold integers, not a number",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1],"datatype":"BYTES","data":["a"]}]}',
        400,
        "inputs[0].shape has 33 dimensions; at most 32 are taken",
    ),
    (
        '{"inputs":[{"name":"t","shape":[],"datatype":"BYTES","data":["a","b"]}]}',
        400,
        "inputs[0].shape [] does not fit its data of 2 elements",
    ),
    (
        '{"inputs":[{"name":"t","shape":[],"datatype":"BYTES","data":[]}]}',
        400,
        "inputs[0].shape [] does not fit its data of 0 elements",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","data":[]}]}',
        400,
        "inputs[0].shape [1] does not fit its data of 0 elements",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","data":["a","b"]}]}',
        400,
        "inputs[0].shape [1] does not fit its data of 2 elements",
    ),
    (
        '{"inputs":[{"name":"t","shape":[2,2],"datatype":"BYTES","data":["a","b","c"]}]}',
        400,
        "inputs[0].shape [2, 2] does not fit its data of 3 elements",
    ),
    (
        '{"inputs":[{"name":"t","shape":[-1,2],"datatype":"BYTES","data":["a","b","c"]}]}',
        400,
        "inputs[0].shape [-1, 2] does not fit its data of 3 elements",
    ),
    (
        '{"inputs":[{"name":"t","shape":[2],"datatype":"BYTES","data":"a"}]}',
        400,
        "inputs[0].shape [2] does not fit its data of 1 elements",
    ),
    ('{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES"}]}', 400, "inputs[0].data is missing"),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","data":null}]}',
        400,
        "inputs[0].data must be a list of strings, not null",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","data":5}]}',
        400,
        "inputs[0].data must be a list of strings, not an integer",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","data":1.5}]}',
        400,
        "inputs[0].data must be a list of strings, not a number",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","data":true}]}',
        400,
        "inputs[0].data must be a list of strings, not a boolean",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","data":{}}]}',
        400,
        "inputs[0].data must be a list of strings, not an object",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","data":{"text":"a"}}]}',
        400,
        "inputs[0].data must be a list of strings, not an object",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","data":[5]}]}',
        400,
        "inputs[0].data must hold strings, not an integer",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","data":[null]}]}',
        400,
        "inputs[0].data must hold strings, not null",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","data":[1.5]}]}',
        400,
        "inputs[0].data must hold strings, not a number",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","data":[true]}]}',
        400,
        "inputs[0].data must hold strings, not a boolean",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","data":[{}]}]}',
        400,
        "inputs[0].data must hold strings, not an object",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","data":[{"text":"a"}]}]}',
        400,
        "inputs[0].data must hold strings, not an object",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","data":["a",5]}]}',
        400,
        "inputs[0].data must hold strings, not an integer",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","data":["a",["b"]]}]}',
        400,
        "inputs[0].data is nested unevenly",
    ),
    (
        '{"inputs":[{"name":"t","shape":[3],"datatype":"BYTES","data":[["a"],["b","c"]]}]}',
        400,
        "inputs[0].data is nested unevenly",
    ),
    (
        '{"inputs":[{"name":"t","shape":[2],"datatype":"BYTES","data":[["a"],"b"]}]}',
        400,
        "inputs[0].data is nested unevenly",
    ),
    (
        '{"inputs":[{"name":"t","shape":[2],"datatype":"BYTES","data":[[["a"]],["b"]]}]}',
        400,
        "inputs[0].data is nested unevenly",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","data":[[5]]}]}',
        400,
        "inputs[0].data must hold strings, not an integer",
    ),
    (
        '{"inputs":[{"name":"t","shape":[2],"datatype":"BYTES","data":["a",null]}]}',
        400,
        "inputs[0].data must hold strings, not null",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","data":["a"],"extra":1}]}',
        400,
        "inputs[0]: unknown key 'extra'; known: data, datatype, name, parameters, shape",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","data":["a"],"Data":["a"]}]}',
        400,
        "inputs[0]: unknown key 'Data'; did you mean 'data'?",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","data":["a"],"shapes":[1]}]}',
        400,
        "inputs[0]: unknown key 'shapes'; did you mean 'shape'?",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","data":["a"],"dtype":"BYTES"}]}',
        400,
        "inputs[0]: unknown key 'dtype'; did you mean 'datatype'?",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","data":["a"],"parameters":5}]}',
        400,
        "inputs[0].parameters must be an object, not an integer",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","data":["a"],"parameters":[]}]}',
        400,
        "inputs[0].parameters must be an object, not a list",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","data":["a"],"parameters":"a"}]}',
        400,
        "inputs[0].parameters must be an object, not a string",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","data":["a"],"parameters":{"binary_data_size":5}}]}',
        400,
        "inputs[0].binary_data_size needs the header Inference-Header-Content-Length",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","parameters":{"binary_data_size":"5"}}]}',
        400,
        "inputs[0].binary_data_size needs the header Inference-Header-Content-Length",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","parameters":{"binary_data_size":0}}]}',
        400,
        "inputs[0].binary_data_size needs the header Inference-Header-Content-Length",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","data":["a"],"parameters":{"nope":5}}]}',
        400,
        "unknown parameter 'nope'; known: function_to_apply, stride, threshold, top_k, truncation",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","data":["a"],"parameters":{"top_k":0}}]}',
        400,
        "parameter top_k=0; it must be at least 1",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","data":["{"]}]}',
        400,
        'the element begins with "{" but is not JSON (line 1, column 2); send such a text as {"text": ...}',
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","data":["{\\"text\\":"]}]}',
        400,
        'the element begins with "{" but is not JSON (line 1, column 9); send such a text as {"text": ...}',
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","data":["{}"]}]}',
        400,
        'text is missing; send {"text": ...}',
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","data":["{\\"text\\":5}"]}]}',
        400,
        "text must be a string, not an integer",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","data":["{\\"text\\":null}"]}]}',
        400,
        "text must be a string, not null",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","data":["{\\"text\\":[\\"a\\"]}"]}]}',
        400,
        "text must be a string, not a list",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","data":["{\\"text_pair\\":\\"a\\"}"]}]}',
        400,
        'text is missing; send {"text": ...}',
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","data":["{\\"text\\":\\"a\\",\\"text_pair\\":5}"]}]}',
        400,
        "text_pair must be a string, not an integer",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","data":["{\\"text\\":\\"a\\",\\"nope\\":5}"]}]}',
        400,
        "unknown field 'nope'; known: function_to_apply, stride, text, text_pair, threshold, top_k, truncation",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","data":["{\\"text\\":\\"a\\",\\"txt_pair\\":\\"b\\"}"]}]}',
        400,
        "unknown field 'txt_pair'; did you mean 'text_pair'?",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","data":["{\\"text\\":\\"a\\",\\"top_k\\":\\"x\\"}"]}]}',
        400,
        "parameter top_k must be an integer, not a string",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","data":["{\\"text\\":\\"a\\"} x"]}]}',
        400,
        'the element begins with "{" but is not JSON (line 1, column 14); send such a text as {"text": ...}',
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","data":["{\\"question\\":\\"a\\",\\"context\\":\\"b\\"}"]}]}',
        400,
        "unknown field 'question'; known: function_to_apply, stride, text, text_pair, threshold, top_k, truncation",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","data":[" {\\"text\\":\\"\\\\ud800\\"}"]}]}',
        400,
        'the element begins with "{" but is not JSON (line 1, column 11); send such a text as {"text": ...}',
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","data":["{\\"text\\":\\"a\\",\\"truncation\\":\\"error\\",\\"text\\":"]}]}',
        400,
        'the element begins with "{" but is not JSON (line 1, column 41); send such a text as {"text": ...}',
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","data":["a"]},{"name":"n","shape":[1],"datatype":"INT64","data":[1]}]}',
        400,
        "inputs mixes BYTES with numbers; send texts or token tensors, not both",
    ),
    (
        '{"inputs":[{"name":"text","shape":[1],"datatype":"BYTES","data":["a"]},{"name":"t","shape":[1],"datatype":"BYTES","data":["a"]}]}',
        400,
        "inputs: tensor 't' stands beside field 'text'; known fields: text, text_pair, question, context, query, documents, candidate_labels",
    ),
    (
        '{"inputs":[{"name":"text","shape":[1],"datatype":"BYTES","data":["a"]},{"name":"text","shape":[1],"datatype":"BYTES","data":["a"]}]}',
        400,
        "inputs names a field twice: text, text",
    ),
    (
        '{"inputs":[{"name":"text","shape":[2],"datatype":"BYTES","data":["a","b"]},{"name":"text_pair","shape":[1],"datatype":"BYTES","data":["a"]}]}',
        400,
        "inputs: the fields must have as many elements as each other (text 2, text_pair 1)",
    ),
    (
        '{"inputs":[{"name":"text","shape":[1],"datatype":"BYTES","data":["a"]},{"name":"context","shape":[1],"datatype":"BYTES","data":["a"]}]}',
        400,
        "unknown field 'context'; did you mean 'text'?",
    ),
    (
        '{"inputs":[{"name":"text_pair","shape":[1],"datatype":"BYTES","data":["a"]},{"name":"context","shape":[1],"datatype":"BYTES","data":["a"]}]}',
        400,
        "unknown field 'context'; did you mean 'text'?",
    ),
]
"""classify, V2: the fields of a tensor and its elements."""

V2_TOKENS = [
    (
        '{"inputs":[{"name":"ids","shape":[1,3],"datatype":"INT64","data":[2,3,4]}]}',
        400,
        "inputs: unknown tensor 'ids'; known: attention_mask, attention_masks, input_ids, token_type_ids (or a BYTES tensor)",
    ),
    (
        '{"inputs":[{"name":"input_id","shape":[1,3],"datatype":"INT64","data":[2,3,4]}]}',
        400,
        "inputs: unknown tensor 'input_id'; did you mean 'input_ids'? (or a BYTES tensor)",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1,3],"datatype":"INT64","data":[2,3,4]}]}',
        400,
        "inputs: unknown tensor 't'; known: attention_mask, attention_masks, input_ids, token_type_ids (or a BYTES tensor)",
    ),
    (
        '{"inputs":[{"name":"attention_mask","shape":[1,3],"datatype":"INT64","data":[2,3,4]}]}',
        400,
        "inputs: input_ids is missing",
    ),
    (
        '{"inputs":[{"name":"token_type_ids","shape":[1,3],"datatype":"INT64","data":[2,3,4]}]}',
        400,
        "inputs: input_ids is missing",
    ),
    (
        '{"inputs":[{"name":"input_ids","shape":[1,3],"datatype":"FP32","data":[2,3,4]}]}',
        400,
        "inputs: input_ids must have an integer datatype, not FP32",
    ),
    (
        '{"inputs":[{"name":"input_ids","shape":[1,3],"datatype":"FP16","data":[2,3,4]}]}',
        400,
        "inputs: input_ids must have an integer datatype, not FP16",
    ),
    (
        '{"inputs":[{"name":"input_ids","shape":[1,3],"datatype":"FP64","data":[2,3,4]}]}',
        400,
        "inputs: input_ids must have an integer datatype, not FP64",
    ),
    (
        '{"inputs":[{"name":"input_ids","shape":[1,3],"datatype":"BOOL","data":[2,3,4]}]}',
        400,
        "inputs[0].data must hold BOOL values, not an integer",
    ),
    (
        '{"inputs":[{"name":"input_ids","shape":[1,3],"datatype":"BOOL","data":[true,false,true]}]}',
        400,
        "inputs: input_ids must have an integer datatype, not BOOL",
    ),
    (
        '{"inputs":[{"name":"input_ids","shape":[1,3],"datatype":"FP32","data":[2.5,3,4]}]}',
        400,
        "inputs: input_ids must have an integer datatype, not FP32",
    ),
    (
        '{"inputs":[{"name":"input_ids","shape":[1,3],"datatype":"INT64","data":"a"}]}',
        400,
        "inputs[0].data must be a list, not a string",
    ),
    (
        '{"inputs":[{"name":"input_ids","shape":[1,3],"datatype":"INT64","data":5}]}',
        400,
        "inputs[0].data must be a list, not an integer",
    ),
    (
        '{"inputs":[{"name":"input_ids","shape":[1,3],"datatype":"INT64","data":null}]}',
        400,
        "inputs[0].data must be a list, not null",
    ),
    ('{"inputs":[{"name":"input_ids","shape":[1,3],"datatype":"INT64"}]}', 400, "inputs[0].data is missing"),
    (
        '{"inputs":[{"name":"input_ids","shape":[1,3],"datatype":"INT64","data":{}}]}',
        400,
        "inputs[0].data must be a list, not an object",
    ),
    (
        '{"inputs":[{"name":"input_ids","shape":[1,3],"datatype":"INT64","data":["2","3","4"]}]}',
        400,
        "inputs[0].data must hold INT64 values, not a string",
    ),
    (
        '{"inputs":[{"name":"input_ids","shape":[1,3],"datatype":"INT64","data":[2.0,3.0,4.0]}]}',
        400,
        "inputs[0].data must hold INT64 values, not a number",
    ),
    (
        '{"inputs":[{"name":"input_ids","shape":[1,3],"datatype":"INT64","data":[true,true,true]}]}',
        400,
        "inputs[0].data must hold INT64 values, not a boolean",
    ),
    (
        '{"inputs":[{"name":"input_ids","shape":[1,3],"datatype":"INT64","data":[2,3,true]}]}',
        400,
        "inputs[0].data must hold INT64 values, not a boolean",
    ),
    (
        '{"inputs":[{"name":"input_ids","shape":[1,3],"datatype":"INT64","data":[2,3,null]}]}',
        400,
        "inputs[0].data must hold INT64 values, not null",
    ),
    (
        '{"inputs":[{"name":"input_ids","shape":[1,3],"datatype":"INT64","data":[2,3,{}]}]}',
        400,
        "inputs[0].data must hold INT64 values, not an object",
    ),
    (
        '{"inputs":[{"name":"input_ids","shape":[1,3],"datatype":"INT64","data":[2,3]}]}',
        400,
        "inputs[0].shape [1, 3] does not fit its data of 2 elements",
    ),
    (
        '{"inputs":[{"name":"input_ids","shape":[1,3],"datatype":"INT64","data":[2,3,4,5]}]}',
        400,
        "inputs[0].shape [1, 3] does not fit its data of 4 elements",
    ),
    (
        '{"inputs":[{"name":"input_ids","shape":[3,2],"datatype":"INT64","data":[[2,3,4],[2,5,4]]}]}',
        400,
        "inputs[0].shape [3, 2] does not fit its data, nested as [2, 3]",
    ),
    (
        '{"inputs":[{"name":"input_ids","shape":[1,3],"datatype":"INT64","data":[[2,3,4],[2,3]]}]}',
        400,
        "inputs[0].data is nested unevenly",
    ),
    (
        '{"inputs":[{"name":"input_ids","shape":[1,3],"datatype":"INT64","data":[[2,3],4]}]}',
        400,
        "inputs[0].data is nested unevenly",
    ),
    (
        '{"inputs":[{"name":"input_ids","shape":[1,3],"datatype":"INT64","data":[2,[3,4]]}]}',
        400,
        "inputs[0].data is nested unevenly",
    ),
    (
        '{"inputs":[{"name":"input_ids","shape":[1,1,3],"datatype":"INT64","data":[[[2,3,4]]]}]}',
        400,
        "inputs: input_ids must be [rows, tokens], not [1, 1, 3]",
    ),
    (
        '{"inputs":[{"name":"input_ids","shape":[1,0],"datatype":"INT64","data":[]}]}',
        400,
        "input_ids has no token that attention_mask keeps",
    ),
    (
        '{"inputs":[{"name":"input_ids","shape":[0],"datatype":"INT64","data":[]}]}',
        400,
        "input_ids has no token that attention_mask keeps",
    ),
    (
        '{"inputs":[{"name":"input_ids","shape":[1,0],"datatype":"INT64","data":[[]]}]}',
        400,
        "input_ids has no token that attention_mask keeps",
    ),
    (
        '{"inputs":[{"name":"input_ids","shape":[1,3],"datatype":"INT64","data":[9223372036854775808,3,4]}]}',
        400,
        "inputs[0].data has a value that is no INT64",
    ),
    (
        '{"inputs":[{"name":"input_ids","shape":[1,3],"datatype":"INT64","data":[-9223372036854775809,3,4]}]}',
        400,
        "inputs[0].data must hold INT64 values, not a number",
    ),
    (
        '{"inputs":[{"name":"input_ids","shape":[1,3],"datatype":"INT64","data":[18446744073709551616,3,4]}]}',
        400,
        "inputs[0].data must hold INT64 values, not a number",
    ),
    (
        '{"inputs":[{"name":"input_ids","shape":[1,3],"datatype":"UINT8","data":[300,3,4]}]}',
        400,
        "inputs[0].data has a value that is no UINT8",
    ),
    (
        '{"inputs":[{"name":"input_ids","shape":[1,3],"datatype":"UINT64","data":[-1,3,4]}]}',
        400,
        "inputs[0].data has a value that is no UINT64",
    ),
    (
        '{"inputs":[{"name":"input_ids","shape":[1,3],"datatype":"INT8","data":[128,3,4]}]}',
        400,
        "inputs[0].data has a value that is no INT8",
    ),
    (
        '{"inputs":[{"name":"input_ids","shape":[1,3],"datatype":"INT32","data":[2147483648,3,4]}]}',
        400,
        "inputs[0].data has a value that is no INT32",
    ),
    (
        '{"inputs":[{"name":"input_ids","shape":[1,3],"datatype":"UINT16","data":[70000,3,4]}]}',
        400,
        "inputs[0].data has a value that is no UINT16",
    ),
    (
        '{"inputs":[{"name":"input_ids","shape":[1,3],"datatype":"INT64","data":[-1,3,4]}]}',
        400,
        "input_ids must be between 0 and 904",
    ),
    (
        '{"inputs":[{"name":"input_ids","shape":[1,3],"datatype":"INT64","data":[1000000,3,4]}]}',
        400,
        "input_ids must be between 0 and 904",
    ),
    (
        '{"inputs":[{"name":"input_ids","shape":[1,3],"datatype":"UINT64","data":[18446744073709551615,3,4]}]}',
        400,
        "input_ids must be between 0 and 904",
    ),
    (
        '{"inputs":[{"name":"input_ids","shape":[1,3],"datatype":"INT64","data":[2,3,4]},{"name":"attention_mask","shape":[1,2],"datatype":"INT64","data":[1,1]}]}',
        400,
        "inputs: the token tensors must have the same shape (input_ids [1, 3], attention_mask [1, 2])",
    ),
    (
        '{"inputs":[{"name":"input_ids","shape":[1,3],"datatype":"INT64","data":[2,3,4]},{"name":"attention_mask","shape":[3,1],"datatype":"INT64","data":[1,1,1]}]}',
        400,
        "inputs: the token tensors must have the same shape (input_ids [1, 3], attention_mask [3, 1])",
    ),
    (
        '{"inputs":[{"name":"input_ids","shape":[1,3],"datatype":"INT64","data":[2,3,4]},{"name":"attention_mask","shape":[1,3],"datatype":"INT64","data":[0,0,0]}]}',
        400,
        "input_ids has no token that attention_mask keeps",
    ),
    (
        '{"inputs":[{"name":"input_ids","shape":[1,3],"datatype":"INT64","data":[2,3,4]},{"name":"attention_mask","shape":[1,3],"datatype":"INT64","data":[1,2,1]}]}',
        400,
        "attention_mask must hold 0 and 1 only",
    ),
    (
        '{"inputs":[{"name":"input_ids","shape":[1,3],"datatype":"INT64","data":[2,3,4]},{"name":"attention_mask","shape":[1,3],"datatype":"INT64","data":[1,-1,1]}]}',
        400,
        "attention_mask must hold 0 and 1 only",
    ),
    (
        '{"inputs":[{"name":"input_ids","shape":[1,3],"datatype":"INT64","data":[2,3,4]},{"name":"attention_mask","shape":[1,3],"datatype":"FP32","data":[1,1,1]}]}',
        400,
        "inputs: attention_mask must have an integer datatype, not FP32",
    ),
    (
        '{"inputs":[{"name":"input_ids","shape":[1,3],"datatype":"INT64","data":[2,3,4]},{"name":"attention_mask","shape":[1,3],"datatype":"BOOL","data":[true,true,true]}]}',
        400,
        "inputs: attention_mask must have an integer datatype, not BOOL",
    ),
    (
        '{"inputs":[{"name":"input_ids","shape":[1,3],"datatype":"INT64","data":[2,3,4]},{"name":"attention_mask","shape":[1,3],"datatype":"INT64","data":[1,1,1]},{"name":"attention_masks","shape":[1,3],"datatype":"INT64","data":[1,1,1]}]}',
        400,
        "inputs names attention_mask twice",
    ),
    (
        '{"inputs":[{"name":"input_ids","shape":[1,3],"datatype":"INT64","data":[2,3,4]},{"name":"input_ids","shape":[1,3],"datatype":"INT64","data":[2,3,4]}]}',
        400,
        "inputs names input_ids twice",
    ),
    (
        '{"inputs":[{"name":"input_ids","shape":[1,3],"datatype":"INT64","data":[2,3,4]},{"name":"token_type_ids","shape":[1,3],"datatype":"INT64","data":[0,0,2]}]}',
        400,
        "token_type_ids must hold 0 and 1 only",
    ),
    (
        '{"inputs":[{"name":"input_ids","shape":[1,3],"datatype":"INT64","data":[2,3,4]},{"name":"token_type_ids","shape":[1,2],"datatype":"INT64","data":[0,0]}]}',
        400,
        "inputs: the token tensors must have the same shape (input_ids [1, 3], token_type_ids [1, 2])",
    ),
    (
        '{"inputs":[{"name":"input_ids","shape":[1,3],"datatype":"INT64","data":[2,3,4]},{"name":"position_ids","shape":[1,3],"datatype":"INT64","data":[0,1,2]}]}',
        400,
        "inputs: unknown tensor 'position_ids'; known: attention_mask, attention_masks, input_ids, token_type_ids (or a BYTES tensor)",
    ),
    (
        '{"inputs":[{"name":"input_ids","shape":[1,3],"datatype":"INT64","data":[2,3,4]},{"name":"inputs_embeds","shape":[1,3],"datatype":"FP32","data":[0.5,1,2]}]}',
        400,
        "inputs: unknown tensor 'inputs_embeds'; did you mean 'input_ids'? (or a BYTES tensor)",
    ),
    (
        '{"inputs":[{"name":"input_ids","shape":[1,60],"datatype":"INT64","data":[' + "5," * 59 + "5]}]}",
        413,
        "input_ids has 60 tokens; this model takes at most 48",
    ),
    (
        '{"inputs":[{"name":"input_ids","shape":[60],"datatype":"INT64","data":[[' + "5," * 59 + "5]]}]}",
        413,
        "input_ids has 60 tokens; this model takes at most 48",
    ),
]
"""classify, V2: inputs that the client tokenized itself."""

V1_DOCUMENTS = [
    ('{"instances":5}', 400, "instances must be a list of texts or objects, not an integer"),
    ('{"instances":null}', 400, "instances must be a list of texts or objects, not null"),
    ('{"instances":"a"}', 400, "instances must be a list of texts or objects, not a string"),
    ('{"instances":{}}', 400, "instances must be a list of texts or objects, not an object"),
    ('{"instances":true}', 400, "instances must be a list of texts or objects, not a boolean"),
    ('{"instances":[5]}', 400, "the instance must be a text or an object, not an integer"),
    ('{"instances":[null]}', 400, "the instance must be a text or an object, not null"),
    ('{"instances":[true]}', 400, "the instance must be a text or an object, not a boolean"),
    ('{"instances":[["a"]]}', 400, "the instance must be a text or an object, not a list"),
    ('{"instances":[["a","b"]]}', 400, "the instance must be a text or an object, not a list"),
    ('{"instances":[1.5]}', 400, "the instance must be a text or an object, not a number"),
    ('{"instances":[{}]}', 400, 'text is missing; send {"text": ...}'),
    ('{"instances":[{"txt":"a"}]}', 400, "unknown field 'txt'; did you mean 'text'?"),
    ('{"instances":[{"text":5}]}', 400, "text must be a string, not an integer"),
    ('{"instances":[{"text":null}]}', 400, "text must be a string, not null"),
    ('{"instances":[{"text":["a"]}]}', 400, "text must be a string, not a list"),
    ('{"instances":[{"text":{}}]}', 400, "text must be a string, not an object"),
    ('{"instances":[{"text":true}]}', 400, "text must be a string, not a boolean"),
    ('{"instances":[{"text":"a","text_pair":null}]}', 400, "text_pair must be a string, not null"),
    ('{"instances":[{"text":"a","text_pair":["b"]}]}', 400, "text_pair must be a string, not a list"),
    ('{"instances":[{"text":"a","extra":1}]}', 400, "unknown field 'extra'; did you mean 'text'?"),
    ('{"instances":[{"text":"a","Text":"b"}]}', 400, "unknown field 'Text'; did you mean 'text'?"),
    (
        '{"instances":[{"text":"a","data":"b"}]}',
        400,
        "unknown field 'data'; known: function_to_apply, stride, text, text_pair, threshold, top_k, truncation",
    ),
    ('{"instances":[{"data":5}]}', 400, "text must be a string, not an integer"),
    (
        '{"instances":[{"data":"{"}]}',
        400,
        'the element begins with "{" but is not JSON (line 1, column 2); send such a text as {"text": ...}',
    ),
    (
        '{"instances":[{"inputs":"a"}]}',
        400,
        "unknown field 'inputs'; known: function_to_apply, stride, text, text_pair, threshold, top_k, truncation",
    ),
    (
        '{"instances":[{"question":"a","context":"b"}]}',
        400,
        "unknown field 'question'; known: function_to_apply, stride, text, text_pair, threshold, top_k, truncation",
    ),
    ('{"instances":["a"],"nope":1}', 400, "unknown key 'nope'; known: instances, outputs, parameters, signature_name"),
    ('{"instances":["a"],"output":1}', 400, "unknown key 'output'; did you mean 'outputs'?"),
    ('{"instances":["a"],"id":"1"}', 400, "unknown key 'id'; known: instances, outputs, parameters, signature_name"),
    ('{"instances":["a"],"parameters":5}', 400, "parameters must be an object, not an integer"),
    ('{"instances":["a"],"parameters":[]}', 400, "parameters must be an object, not a list"),
    ('{"instances":["a"],"parameters":"x"}', 400, "parameters must be an object, not a string"),
    ('{"instances":["a"],"parameters":false}', 400, "parameters must be an object, not a boolean"),
    (
        '{"instances":["a"],"parameters":{"nope":1}}',
        400,
        "unknown parameter 'nope'; known: function_to_apply, stride, threshold, top_k, truncation",
    ),
    ('{"instances":["a"],"parameters":{"topk":1}}', 400, "unknown parameter 'topk'; did you mean 'top_k'?"),
    ('{"instances":["a"],"outputs":5}', 400, "outputs must be a list of output names"),
    ('{"instances":["a"],"outputs":"predict"}', 400, "outputs must be a list of output names"),
    ('{"instances":["a"],"outputs":[]}', 400, "outputs must be a list of output names"),
    ('{"instances":["a"],"outputs":[5]}', 400, "outputs must be a list of output names"),
    (
        '{"instances":["a"],"outputs":["nope"]}',
        400,
        "unknown output 'nope'; known: logits, predict, probabilities, score",
    ),
    ('{"instances":["a"],"outputs":["scor"]}', 400, "unknown output 'scor'; did you mean 'score'?"),
    ('{"instances":["a"],"outputs":["predict","predict"]}', 400, "outputs names an output twice"),
    ('{"instances":["a"],"outputs":{"predict":1}}', 400, "outputs must be a list of output names"),
    ('{"instances":[],"outputs":["nope"]}', 400, "unknown output 'nope'; known: logits, predict, probabilities, score"),
    (
        '{"instances":[],"parameters":{"nope":1}}',
        400,
        "unknown parameter 'nope'; known: function_to_apply, stride, threshold, top_k, truncation",
    ),
    ('{"instances":["a",]}', 400, "the body is not JSON: line 1, column 18"),
    ('{"instances":["a"]', 400, "the body is not JSON: line 1, column 19"),
    ('{"instances":[5,null]}', 400, "instance 0: the instance must be a text or an object, not an integer"),
    ('{"instances":[5,6]}', 400, "the instance must be a text or an object, not an integer"),
    (
        '{"instances":["a"],"parameters":{"max_length":5}}',
        400,
        "unknown parameter 'max_length'; known: function_to_apply, stride, threshold, top_k, truncation",
    ),
    ('{"instances":["a"],"parameters":{"threads":5}}', 400, "unknown parameter 'threads'; did you mean 'threshold'?"),
    ('{"instance":["a"]}', 400, "unknown key 'instance'; did you mean 'instances'?"),
    (
        '{"predictions":["a"]}',
        400,
        "unknown key 'predictions'; known: candidate_labels, context, documents, inputs, instances, query, question, text, text_pair",
    ),
]
"""classify, V1."""

PARAMETERS = [
    ('{"instances":["a"],"parameters":{"top_k":0}}', 400, "parameter top_k=0; it must be at least 1"),
    ('{"instances":["a"],"parameters":{"top_k":-1}}', 400, "parameter top_k=-1; it must be at least 1"),
    ('{"instances":["a"],"parameters":{"top_k":"2"}}', 400, "parameter top_k must be an integer, not a string"),
    ('{"instances":["a"],"parameters":{"top_k":1.5}}', 400, "parameter top_k must be an integer, not a number"),
    ('{"instances":["a"],"parameters":{"top_k":true}}', 400, "parameter top_k must be an integer, not a boolean"),
    ('{"instances":["a"],"parameters":{"top_k":[1]}}', 400, "parameter top_k must be an integer, not a list"),
    ('{"instances":["a"],"parameters":{"top_k":{}}}', 400, "parameter top_k must be an integer, not an object"),
    (
        '{"instances":["a"],"parameters":{"top_k":-1e+300}}',
        400,
        "parameter top_k=(a number of 302 digits); it must be at least 1",
    ),
    (
        '{"instances":["a"],"parameters":{"threshold":-0.1}}',
        400,
        "parameter threshold=-0.1; it must be between 0 and 1",
    ),
    ('{"instances":["a"],"parameters":{"threshold":1.1}}', 400, "parameter threshold=1.1; it must be between 0 and 1"),
    ('{"instances":["a"],"parameters":{"threshold":"0.5"}}', 400, "parameter threshold must be a number, not a string"),
    ('{"instances":["a"],"parameters":{"threshold":true}}', 400, "parameter threshold must be a number, not a boolean"),
    ('{"instances":["a"],"parameters":{"threshold":[]}}', 400, "parameter threshold must be a number, not a list"),
    (
        '{"instances":["a"],"parameters":{"function_to_apply":"tanh"}}',
        400,
        "parameter function_to_apply='tanh' is unknown; choose from default, softmax, sigmoid, none",
    ),
    (
        '{"instances":["a"],"parameters":{"function_to_apply":"Softmax"}}',
        400,
        "parameter function_to_apply='Softmax' is unknown; choose from default, softmax, sigmoid, none",
    ),
    (
        '{"instances":["a"],"parameters":{"function_to_apply":5}}',
        400,
        "parameter function_to_apply must be a string, not an integer",
    ),
    (
        '{"instances":["a"],"parameters":{"function_to_apply":null}}',
        400,
        "parameter function_to_apply must be a string, not null",
    ),
    (
        '{"instances":["a"],"parameters":{"function_to_apply":""}}',
        400,
        "parameter function_to_apply='' is unknown; choose from default, softmax, sigmoid, none",
    ),
    (
        '{"instances":["a"],"parameters":{"function_to_apply":"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"}}',
        400,
        "parameter function_to_apply=(50 characters) is unknown; choose from default, softmax, sigmoid, none",
    ),
    (
        '{"instances":["a"],"parameters":{"truncation":"longest_first"}}',
        400,
        "parameter truncation='longest_first' is unknown; choose from error, truncate, stride",
    ),
    (
        '{"instances":["a"],"parameters":{"truncation":true}}',
        400,
        "parameter truncation must be a string, not a boolean",
    ),
    ('{"instances":["a"],"parameters":{"truncation":null}}', 400, "parameter truncation must be a string, not null"),
    ('{"instances":["a"],"parameters":{"truncation":5}}', 400, "parameter truncation must be a string, not an integer"),
    (
        '{"instances":["a"],"parameters":{"truncation":"Error"}}',
        400,
        "parameter truncation='Error' is unknown; choose from error, truncate, stride",
    ),
    ('{"instances":["a"],"parameters":{"stride":-1}}', 400, "parameter stride=-1; it must be at least 0"),
    ('{"instances":["a"],"parameters":{"stride":"64"}}', 400, "parameter stride must be an integer, not a string"),
    ('{"instances":["a"],"parameters":{"stride":null}}', 400, "parameter stride must be an integer, not null"),
    ('{"instances":["a"],"parameters":{"stride":0.5}}', 400, "parameter stride must be an integer, not a number"),
    ('{"instances":["a"],"parameters":{"stride":[]}}', 400, "parameter stride must be an integer, not a list"),
    (
        '{"instances":["a"],"parameters":{"stride":-10000000000000000000000000000000000000000}}',
        400,
        "parameter stride=(a number of 42 digits); it must be at least 0",
    ),
    (
        '{"instances":["a"],"parameters":{"max_new_tokens":5}}',
        400,
        "unknown parameter 'max_new_tokens'; known: function_to_apply, stride, threshold, top_k, truncation",
    ),
    (
        '{"instances":["a"],"parameters":{"candidate_labels":["a"]}}',
        400,
        "unknown parameter 'candidate_labels'; known: function_to_apply, stride, threshold, top_k, truncation",
    ),
    (
        '{"instances":["a"],"parameters":{"threshold":-1e+300}}',
        400,
        "parameter threshold=-1e+300; it must be between 0 and 1",
    ),
]
"""classify, V1: parameters."""

GENERATION = [
    ('{"instances":[{"text":"a","max_new_tokens":0}]}', 400, "parameter max_new_tokens=0; it must be at least 1"),
    ('{"instances":[{"text":"a","max_new_tokens":-1}]}', 400, "parameter max_new_tokens=-1; it must be at least 1"),
    (
        '{"instances":[{"text":"a","max_new_tokens":"5"}]}',
        400,
        "parameter max_new_tokens must be an integer, not a string",
    ),
    (
        '{"instances":[{"text":"a","max_new_tokens":1.5}]}',
        400,
        "parameter max_new_tokens must be an integer, not a number",
    ),
    (
        '{"instances":[{"text":"a","max_new_tokens":true}]}',
        400,
        "parameter max_new_tokens must be an integer, not a boolean",
    ),
    (
        '{"instances":[{"text":"a","max_new_tokens":1025}]}',
        400,
        "parameter max_new_tokens=1025; max_new_tokens_limit is 1024",
    ),
    (
        '{"instances":[{"text":"a","max_new_tokens":128}]}',
        400,
        "parameter max_new_tokens=128 leaves no room: the model has 128 positions",
    ),
    (
        '{"instances":[{"text":"a","max_new_tokens":1000000000}]}',
        400,
        "parameter max_new_tokens=1000000000; max_new_tokens_limit is 1024",
    ),
    (
        '{"instances":[{"text":"a","max_new_tokens_limit":1000000}]}',
        400,
        "parameter max_new_tokens_limit is a setting of the model; a request cannot change it",
    ),
    ('{"instances":[{"text":"a","do_sample":"yes"}]}', 400, "parameter do_sample must be true or false, not a string"),
    ('{"instances":[{"text":"a","do_sample":1}]}', 400, "parameter do_sample must be true or false, not an integer"),
    (
        '{"instances":[{"text":"a","temperature":0.5}]}',
        400,
        "parameter temperature has no effect without do_sample: true",
    ),
    (
        '{"instances":[{"text":"a","do_sample":true,"temperature":0}]}',
        400,
        "parameter temperature=0.0; it must be between 0.01 and 100",
    ),
    (
        '{"instances":[{"text":"a","do_sample":true,"temperature":-1}]}',
        400,
        "parameter temperature=-1.0; it must be between 0.01 and 100",
    ),
    (
        '{"instances":[{"text":"a","do_sample":true,"temperature":101}]}',
        400,
        "parameter temperature=101.0; it must be between 0.01 and 100",
    ),
    (
        '{"instances":[{"text":"a","do_sample":true,"temperature":"hot"}]}',
        400,
        "parameter temperature must be a number, not a string",
    ),
    ('{"instances":[{"text":"a","top_p":0.5}]}', 400, "parameter top_p has no effect without do_sample: true"),
    (
        '{"instances":[{"text":"a","do_sample":true,"top_p":1.1}]}',
        400,
        "parameter top_p=1.1; it must be between 0 and 1",
    ),
    (
        '{"instances":[{"text":"a","do_sample":true,"top_p":-0.1}]}',
        400,
        "parameter top_p=-0.1; it must be between 0 and 1",
    ),
    ('{"instances":[{"text":"a","top_k":5}]}', 400, "parameter top_k has no effect without do_sample: true"),
    (
        '{"instances":[{"text":"a","do_sample":true,"top_k":-1}]}',
        400,
        "parameter top_k=-1; it must be between 0 and 1000000",
    ),
    (
        '{"instances":[{"text":"a","do_sample":true,"top_k":10000000}]}',
        400,
        "parameter top_k=10000000; it must be between 0 and 1000000",
    ),
    ('{"instances":[{"text":"a","seed":1}]}', 400, "parameter seed has no effect without do_sample: true"),
    (
        '{"instances":[{"text":"a","do_sample":true,"seed":-1}]}',
        400,
        "parameter seed=-1; it must be between 0 and 9223372036854775807",
    ),
    (
        '{"instances":[{"text":"a","do_sample":true,"seed":9223372036854775808}]}',
        400,
        "parameter seed=9223372036854775808; it must be between 0 and 9223372036854775807",
    ),
    (
        '{"instances":[{"text":"a","do_sample":true,"seed":1.5}]}',
        400,
        "parameter seed must be an integer, not a number",
    ),
    ('{"instances":[{"text":"a","num_beams":0}]}', 400, "parameter num_beams=0; it must be between 1 and 16"),
    ('{"instances":[{"text":"a","num_beams":17}]}', 400, "parameter num_beams=17; it must be between 1 and 16"),
    (
        '{"instances":[{"text":"a","num_beams":2,"do_sample":true}]}',
        400,
        "parameter num_beams must be 1 with do_sample: true",
    ),
    ('{"instances":[{"text":"a","num_beams":"2"}]}', 400, "parameter num_beams must be an integer, not a string"),
    (
        '{"instances":[{"text":"a","repetition_penalty":0}]}',
        400,
        "parameter repetition_penalty=0.0; it must be between 0.01 and 10",
    ),
    (
        '{"instances":[{"text":"a","repetition_penalty":11}]}',
        400,
        "parameter repetition_penalty=11.0; it must be between 0.01 and 10",
    ),
    (
        '{"instances":[{"text":"a","repetition_penalty":null,"num_beams":[]}]}',
        400,
        "parameter num_beams must be an integer, not a list",
    ),
    ('{"instances":[{"text":"a","stop":5}]}', 400, "parameter stop must be a list of strings, not an integer"),
    ('{"instances":[{"text":"a","stop":[]}]}', 400, "parameter stop has 0 entries; it must be between 1 and 16"),
    ('{"instances":[{"text":"a","stop":[""]}]}', 400, "parameter stop: each string must have 1 to 200 characters"),
    ('{"instances":[{"text":"a","stop":[5]}]}', 400, "parameter stop must be a list of strings; entry 0 is an integer"),
    (
        '{"instances":[{"text":"a","stop":["a","a","a","a","a","a","a","a","a","a","a","a","a","a","a","a","a"]}]}',
        400,
        "parameter stop has 17 entries; it must be between 1 and 16",
    ),
    (
        '{"instances":[{"text":"a","stop":["aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"]}]}',
        400,
        "parameter stop: each string must have 1 to 200 characters",
    ),
    ('{"instances":[{"text":"a","stop":{"a":1}}]}', 400, "parameter stop must be a list of strings, not an object"),
    (
        '{"instances":[{"text":"a","return_full_text":"true"}]}',
        400,
        "parameter return_full_text must be true or false, not a string",
    ),
    (
        '{"instances":[{"text":"a","return_full_text":1}]}',
        400,
        "parameter return_full_text must be true or false, not an integer",
    ),
    (
        '{"instances":[{"text":"a","truncation":"stride"}]}',
        400,
        "parameter truncation='stride' is unknown; choose from error, truncate",
    ),
    (
        '{"instances":[{"text":"a","stride":5}]}',
        400,
        "unknown field 'stride'; known: do_sample, max_new_tokens, num_beams, repetition_penalty, return_full_text, seed, stop, temperature, text, top_k, top_p, truncation",
    ),
    (
        '{"instances":[{"text":"' + "a b c " * 60 + '","truncation":"error"}]}',
        413,
        "text has 181 tokens; this model takes at most 64 (set the parameter truncation to have it cut)",
    ),
    ('{"instances":[{"text":5}]}', 400, "text must be a string, not an integer"),
    ('{"instances":[{}]}', 400, 'text is missing; send {"text": ...}'),
    (
        '{"instances":[{"prompt":"a"}]}',
        400,
        "unknown field 'prompt'; known: do_sample, max_new_tokens, num_beams, repetition_penalty, return_full_text, seed, stop, temperature, text, top_k, top_p, truncation",
    ),
    ('{"instances":[{"text":"a","text_pair":"b"}]}', 400, "unknown field 'text_pair'; did you mean 'text'?"),
    ('{"instances":[{"text":"a","stop":""}]}', 400, "parameter stop: each string must have 1 to 200 characters"),
]
"""generate, V1."""

QUESTIONS = [
    ('{"instances":["a"]}', 400, 'context is missing; send {"question": ..., "context": ...}'),
    ('{"instances":[{"question":"a"}]}', 400, 'context is missing; send {"question": ..., "context": ...}'),
    ('{"instances":[{"context":"a"}]}', 400, 'question is missing; send {"question": ..., "context": ...}'),
    ('{"instances":[{"question":5,"context":"a"}]}', 400, "question must be a string, not an integer"),
    ('{"instances":[{"question":"a","context":null}]}', 400, "context must be a string, not null"),
    ('{"instances":[{"question":"a","context":["b"]}]}', 400, "context must be a string, not a list"),
    ('{"instances":[{"question":"","context":"b"}]}', 400, 'question is empty; send {"question": ..., "context": ...}'),
    ('{"instances":[{"question":"a","context":""}]}', 400, 'context is empty; send {"question": ..., "context": ...}'),
    (
        '{"instances":[{"question":" ","context":"b"}]}',
        400,
        'question is empty; send {"question": ..., "context": ...}',
    ),
    ('{"instances":[{"question":"a","context":"b","text":"c"}]}', 400, "unknown field 'text'; did you mean 'context'?"),
    (
        '{"instances":[{"question":"a","context":"b","contxt":"c"}]}',
        400,
        "unknown field 'contxt'; did you mean 'context'?",
    ),
    (
        '{"instances":[{"question":"a","context":"b","top_k":0}]}',
        400,
        "parameter top_k=0; it must be between 1 and 100",
    ),
    (
        '{"instances":[{"question":"a","context":"b","top_k":101}]}',
        400,
        "parameter top_k=101; it must be between 1 and 100",
    ),
    (
        '{"instances":[{"question":"a","context":"b","max_answer_tokens":0}]}',
        400,
        "parameter max_answer_tokens=0; it must be between 1 and 512",
    ),
    (
        '{"instances":[{"question":"a","context":"b","max_answer_tokens":513}]}',
        400,
        "parameter max_answer_tokens=513; it must be between 1 and 512",
    ),
    (
        '{"instances":[{"question":"a","context":"b","handle_impossible_answer":"no"}]}',
        400,
        "parameter handle_impossible_answer must be true or false, not a string",
    ),
    ('{"instances":[{"question":"a","context":"b","stride":-5}]}', 400, "parameter stride=-5; it must be at least 0"),
    (
        '{"instances":[{"question":"a","context":"b","truncation":"left"}]}',
        400,
        "parameter truncation='left' is unknown; choose from error, truncate, stride",
    ),
    (
        '{"instances":[{"question":"' + "the old bridge " * 40 + '","context":"b"}]}',
        413,
        "no token of context fits beside question in 48 tokens",
    ),
    (
        '{"inputs":[{"name":"input_ids","shape":[1,3],"datatype":"INT64","data":[2,3,4]}]}',
        422,
        "question_answering needs text, not input_ids",
    ),
    (
        '{"inputs":[{"name":"question","shape":[1],"datatype":"BYTES","data":["a"]}]}',
        400,
        'context is missing; send {"question": ..., "context": ...}',
    ),
    (
        '{"inputs":[{"name":"question","shape":[1],"datatype":"BYTES","data":["a"]},{"name":"context","shape":[2],"datatype":"BYTES","data":["a","b"]}]}',
        400,
        "inputs: the fields must have as many elements as each other (question 1, context 2)",
    ),
    (
        '{"instances":[{"question":"a","context":"' + "the river " * 60 + '","truncation":"error"}]}',
        413,
        "question and context have 124 tokens; this model takes at most 48 (set the parameter truncation to have it cut)",
    ),
]
"""answer, V1 and V2."""

RANKING = [
    ('{"instances":["a"]}', 400, 'documents is missing; send {"query": ..., "documents": ...}'),
    ('{"instances":[{"query":"a"}]}', 400, 'documents is missing; send {"query": ..., "documents": ...}'),
    ('{"instances":[{"documents":["a"]}]}', 400, 'query is missing; send {"query": ..., "documents": ...}'),
    ('{"instances":[{"query":"a","documents":[]}]}', 400, "documents has 0 entries; it must be 1 to 1024"),
    ('{"instances":[{"query":"a","documents":"b"}]}', 400, "documents must be a list of strings, not a string"),
    ('{"instances":[{"query":"a","documents":5}]}', 400, "documents must be a list of strings, not an integer"),
    ('{"instances":[{"query":"a","documents":{}}]}', 400, "documents must be a list of strings, not an object"),
    ('{"instances":[{"query":"a","documents":[5]}]}', 400, "documents[0] must be a string, not an integer"),
    ('{"instances":[{"query":"a","documents":["b",null]}]}', 400, "documents[1] must be a string, not null"),
    ('{"instances":[{"query":"a","documents":[["b"]]}]}', 400, "documents[0] must be a string, not a list"),
    ('{"instances":[{"query":5,"documents":["b"]}]}', 400, "query must be a string, not an integer"),
    ('{"instances":[{"query":["a"],"documents":["b"]}]}', 400, "query must be a string, not a list"),
    ('{"instances":[{"query":"a","documents":["b"],"top_k":0}]}', 400, "parameter top_k=0; it must be at least 1"),
    (
        '{"instances":[{"query":"a","documents":["b"],"function_to_apply":"softmax"}]}',
        400,
        "parameter function_to_apply='softmax' is unknown; choose from default, sigmoid, none",
    ),
    ('{"instances":[{"query":"a","documents":"[]"}]}', 400, "documents has 0 entries; it must be 1 to 1024"),
    ('{"instances":[{"query":"a","documents":"[1]"}]}', 400, "documents[0] must be a string, not an integer"),
    ('{"instances":[{"query":"a","documents":"[[["}]}', 400, "documents must be a list of strings, not a string"),
    (
        '{"instances":[{"query":"a","documents":[' + ",".join(['"b"'] * 5000) + "]}]}",
        400,
        "documents has 5000 entries; it must be 1 to 1024",
    ),
    ('{"instances":[{"query":"a","docs":["b"]}]}', 400, "unknown field 'docs'; did you mean 'documents'?"),
    (
        '{"inputs":[{"name":"input_ids","shape":[1,3],"datatype":"INT64","data":[2,3,4]}]}',
        422,
        "text_ranking needs text, not input_ids",
    ),
]
"""rank, V1 and V2."""

ZERO_SHOT = [
    ('{"instances":["a"]}', 400, 'candidate_labels is missing; send {"text": ..., "candidate_labels": [...]}'),
    ('{"instances":[{"text":"a"}]}', 400, 'candidate_labels is missing; send {"text": ..., "candidate_labels": [...]}'),
    (
        '{"instances":[{"text":"a","candidate_labels":[]}]}',
        400,
        "parameter candidate_labels has 0 entries; it must be between 1 and 256",
    ),
    (
        '{"instances":[{"text":"a","candidate_labels":""}]}',
        400,
        "parameter candidate_labels has 0 entries; it must be between 1 and 256",
    ),
    (
        '{"instances":[{"text":"a","candidate_labels":5}]}',
        400,
        "parameter candidate_labels must be a list of strings, not an integer",
    ),
    (
        '{"instances":[{"text":"a","candidate_labels":[5]}]}',
        400,
        "parameter candidate_labels must be a list of strings; entry 0 is an integer",
    ),
    ('{"instances":[{"text":"a","candidate_labels":[""]}]}', 400, "parameter candidate_labels has an empty label"),
    (
        '{"instances":[{"text":"a","candidate_labels":[' + '"x",' * 256 + '"x"]}]}',
        400,
        "parameter candidate_labels has 257 entries; it must be between 1 and 256",
    ),
    (
        '{"instances":[{"text":"a","candidate_labels":{"x":1}}]}',
        400,
        "parameter candidate_labels must be a list of strings, not an object",
    ),
    (
        '{"instances":[{"text":"a","candidate_labels":["x"],"hypothesis_template":"about"}]}',
        400,
        "parameter hypothesis_template must have {} where the label goes",
    ),
    (
        '{"instances":[{"text":"a","candidate_labels":["x"],"hypothesis_template":5}]}',
        400,
        "parameter hypothesis_template must be a string, not an integer",
    ),
    (
        '{"instances":[{"text":"a","candidate_labels":["x"],"multi_label":"yes"}]}',
        400,
        "parameter multi_label must be true or false, not a string",
    ),
    (
        '{"instances":[{"text":"a","candidate_labels":["x"],"multi_label":null}]}',
        400,
        "parameter multi_label must be true or false, not null",
    ),
    (
        '{"instances":[{"text":"a","labels":["x"]}]}',
        400,
        "unknown field 'labels'; known: candidate_labels, hypothesis_template, multi_label, stride, text, truncation",
    ),
    (
        '{"instances":[{"text":"","candidate_labels":null}]}',
        400,
        'candidate_labels is missing; send {"text": ..., "candidate_labels": [...]}',
    ),
    (
        '{"inputs":[{"name":"input_ids","shape":[1,3],"datatype":"INT64","data":[2,3,4]}]}',
        422,
        "zero_shot_classification needs text, not input_ids",
    ),
]
"""zero-shot, V1 and V2."""

MASKS = [
    ('{"instances":["no mask here"]}', 400, "text has no mask; write [MASK] where a token is wanted"),
    ('{"instances":[{"text":""}]}', 400, "text has no mask; write [MASK] where a token is wanted"),
    ('{"instances":[{"text":5}]}', 400, "text must be a string, not an integer"),
    ('{"instances":[{"text":"a","top_k":0}]}', 400, "parameter top_k=0; it must be between 1 and 100"),
    ('{"instances":[""]}', 400, "text has no mask; write [MASK] where a token is wanted"),
]
"""fill, V1."""

RAW = [
    (b"", "", 400, "the body is empty; send a text, or JSON with inputs (V2) or instances (V1)"),
    (b"", "text/plain", 400, "the body is empty; send a text, or JSON with inputs (V2) or instances (V1)"),
    (b"", "application/json", 400, "the body is empty; send a text, or JSON with inputs (V2) or instances (V1)"),
    (b"\xff", "text/plain", 400, "the body is not UTF-8 (byte 0)"),
    (b"a\xe9", "text/plain; charset=latin-1", 400, "the body is not UTF-8 (byte 1)"),
    (b"\x80abc", "", 400, "the body is not UTF-8 (byte 0)"),
    (b"\xed\xa0\x80", "text/plain", 400, "the body is not UTF-8 (byte 0)"),
    (b"{", "", 400, "the body is not JSON: line 1, column 2"),
    (b'{"text":', "", 400, "the body is not JSON: line 1, column 9"),
    (b"\n" * 100 + b'{"text":', "", 400, "the body is not JSON: line 101, column 9"),
    (b'\xef\xbb\xbf{"text":"a"}', "", 400, "the body is JSON behind a byte order mark; send it without the mark"),
    (b'\xef\xbb\xbf ["a"]', "", 400, "the body is JSON behind a byte order mark; send it without the mark"),
    (
        b'\xef\xbb\xbf{"text":"a"}',
        "application/json",
        400,
        "the body is JSON behind a byte order mark; send it without the mark",
    ),
    (b'{"text":5}', "", 400, "text must be a string, not an integer"),
    (b'{"text":null}', "", 400, "text must be a string, not null"),
    (b'{"txt":"a"}', "", 400, "unknown key 'txt'; did you mean 'text'?"),
    (
        b'{"a":1}',
        "",
        400,
        "unknown key 'a'; known: candidate_labels, context, documents, inputs, instances, query, question, text, text_pair",
    ),
    (b"{}", "", 400, "inputs is missing; send at least one tensor"),
    (b"5", "application/json", 400, "the body must be a text or a JSON object, not an integer"),
    (b"null", "application/json", 400, "the body must be a text or a JSON object, not null"),
    (b"true", "application/json", 400, "the body must be a text or a JSON object, not a boolean"),
    (b"1.5", "application/json", 400, "the body must be a text or a JSON object, not a number"),
    (b"text", "application/json", 400, "the body is not JSON: line 1, column 1"),
    (b"\xff", "application/json", 400, "the body is not JSON: line 1, column 1"),
    (b"\xff\xfe{", "application/json", 400, "the body is not JSON: line 1, column 1"),
    (b"[5]", "application/json", 400, "the instance must be a text or an object, not an integer"),
    (b"[[]]", "application/json", 400, "the instance must be a text or an object, not a list"),
    (b"[null]", "application/json", 400, "the instance must be a text or an object, not null"),
    (b'[["a","b"]]', "", 400, "the instance must be a text or an object, not a list"),
    (b'{"text":"a","outputs":5}', "", 400, "outputs must be a list of output names"),
    (b'{"text":"a","outputs":[]}', "", 400, "outputs must be a list of output names"),
    (
        b'{"text":"a","outputs":["nope"]}',
        "",
        400,
        "unknown output 'nope'; known: logits, predict, probabilities, score",
    ),
    (b'{"text":"a","top_k":0}', "", 400, "parameter top_k=0; it must be at least 1"),
    (
        b'{"text":"a","nope":1}',
        "",
        400,
        "unknown field 'nope'; known: function_to_apply, stride, text, text_pair, threshold, top_k, truncation",
    ),
    (b'{"text":"\xff"}', "", 400, "the body is not JSON: line 1, column 1"),
    (b'{"text":"a"}x', "", 400, "the body is not JSON: line 1, column 13"),
    (b"NaN", "application/json", 400, "the body is not JSON: line 1, column 1"),
    (b'"\\ud800"', "application/json", 400, "the body is not JSON: line 1, column 2"),
    (
        b'{"question":"a","context":"b"}',
        "",
        400,
        "unknown field 'question'; known: function_to_apply, stride, text, text_pair, threshold, top_k, truncation",
    ),
    (b'{"text_pair":"a"}', "", 400, 'text is missing; send {"text": ...}'),
    (
        b"[" * 101 + b"]" * 101,
        "application/json",
        400,
        "the body is not JSON: more than 100 lists or objects are within each other",
    ),
    (
        b'{"a":' * 101 + b"1" + b"}" * 101,
        "",
        400,
        "the body is not JSON: more than 100 lists or objects are within each other",
    ),
    (b"[" * 2000, "application/json", 400, "the body is not JSON: line 1, column 1026"),
    (b"\x1f\x8b\x08\x00\x00", "application/gzip", 400, "the body is not UTF-8 (byte 1)"),
    (b"\x00\x01\xff", "application/octet-stream", 400, "the body is not UTF-8 (byte 2)"),
]
"""classify: body, Content-Type."""

HEADERS = [
    (b"a", {"content-encoding": "gzip"}, 400, "Content-Encoding 'gzip' is not taken; send the body uncompressed"),
    (b"a", {"content-encoding": "br"}, 400, "Content-Encoding 'br' is not taken; send the body uncompressed"),
    (
        b"a",
        {"content-encoding": "x" * 50},
        400,
        "Content-Encoding (50 characters) is not taken; send the body uncompressed",
    ),
    (b"a", {"inference-header-content-length": "1"}, 400, "the body is not JSON: line 1, column 1"),
    (b"a", {"x-inference-protocol": "v2"}, 400, "the body is not JSON: line 1, column 1"),
    (b"a", {"x-inference-protocol": "v1"}, 400, "the body is not JSON: line 1, column 1"),
    (b"[5]", {"x-inference-protocol": "v1"}, 400, "the body must be a JSON object, not a list"),
    (b'{"inputs":[]}', {"x-inference-protocol": "v1"}, 400, "unknown key 'inputs'; did you mean 'outputs'?"),
]
"""classify: body, headers."""

BINARY = [
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","parameters":{"binary_data_size":5}}]}',
        b"\x01\x00\x00\x00a",
        "",
        400,
        "Inference-Header-Content-Length must be a number up to the body's 97 bytes",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","parameters":{"binary_data_size":5}}]}',
        b"\x01\x00\x00\x00a",
        "-1",
        400,
        "Inference-Header-Content-Length must be a number up to the body's 97 bytes",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","parameters":{"binary_data_size":5}}]}',
        b"\x01\x00\x00\x00a",
        "a",
        400,
        "Inference-Header-Content-Length must be a number up to the body's 97 bytes",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","parameters":{"binary_data_size":5}}]}',
        b"\x01\x00\x00\x00a",
        "1.5",
        400,
        "Inference-Header-Content-Length must be a number up to the body's 97 bytes",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","parameters":{"binary_data_size":5}}]}',
        b"\x01\x00\x00\x00a",
        "0",
        400,
        "the body is not JSON: line 1, column 1",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","parameters":{"binary_data_size":5}}]}',
        b"\x01\x00\x00\x00a",
        "10",
        400,
        "the body is not JSON: line 1, column 11",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","parameters":{"binary_data_size":5}}]}',
        b"\x01\x00\x00\x00a",
        "9999",
        400,
        "Inference-Header-Content-Length must be a number up to the body's 97 bytes",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","parameters":{"binary_data_size":5}}]}',
        b"\x01\x00\x00\x00a",
        "999999999999999999999999999999",
        400,
        "Inference-Header-Content-Length must be a number up to the body's 97 bytes",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","parameters":{"binary_data_size":5}}]}',
        b"\x01\x00\x00\x00a",
        "9" * 5000,
        400,
        "Inference-Header-Content-Length must be a number up to the body's 97 bytes",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","parameters":{"binary_data_size":5}}]}',
        b"\x01\x00\x00\x00a",
        "0x5",
        400,
        "Inference-Header-Content-Length must be a number up to the body's 97 bytes",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","parameters":{"binary_data_size":5}}]}',
        b"\x01\x00\x00\x00a",
        "²",
        400,
        "Inference-Header-Content-Length must be a number up to the body's 97 bytes",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","parameters":{"binary_data_size":5}}]}',
        b"\x01\x00\x00\x00a",
        " 5",
        400,
        "Inference-Header-Content-Length must be a number up to the body's 97 bytes",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","parameters":{"binary_data_size":5}}]}',
        b"\x01\x00\x00\x00a",
        "+5",
        400,
        "Inference-Header-Content-Length must be a number up to the body's 97 bytes",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","parameters":{"binary_data_size":4}}]}',
        b"\x01\x00\x00\x00a",
        None,
        400,
        "inputs[0] ends inside element 0",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","parameters":{"binary_data_size":6}}]}',
        b"\x01\x00\x00\x00a",
        None,
        400,
        "inputs[0].binary_data_size is 6, but 5 bytes are left",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","parameters":{"binary_data_size":0}}]}',
        b"\x01\x00\x00\x00a",
        None,
        400,
        "inputs[0].shape [1] does not fit its data of 0 elements",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","parameters":{"binary_data_size":-1}}]}',
        b"\x01\x00\x00\x00a",
        None,
        400,
        "inputs[0].binary_data_size must be a number of bytes",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","parameters":{"binary_data_size":"5"}}]}',
        b"\x01\x00\x00\x00a",
        None,
        400,
        "inputs[0].binary_data_size must be a number of bytes",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","parameters":{"binary_data_size":5.0}}]}',
        b"\x01\x00\x00\x00a",
        None,
        400,
        "inputs[0].binary_data_size must be a number of bytes",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","parameters":{"binary_data_size":true}}]}',
        b"\x01\x00\x00\x00a",
        None,
        400,
        "inputs[0].binary_data_size must be a number of bytes",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","parameters":{"binary_data_size":[5]}}]}',
        b"\x01\x00\x00\x00a",
        None,
        400,
        "inputs[0].binary_data_size must be a number of bytes",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","parameters":{"binary_data_size":4611686018427387904}}]}',
        b"\x01\x00\x00\x00a",
        None,
        400,
        "inputs[0].binary_data_size is 4611686018427387904, but 5 bytes are left",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","parameters":{"binary_data_size":5}}]}',
        b"\x01\x00\x00\x00ax",
        None,
        400,
        "1 bytes follow the binary tensors that inputs declares",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","parameters":{"binary_data_size":5}}]}',
        b"",
        None,
        400,
        "inputs[0].binary_data_size is 5, but 0 bytes are left",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","parameters":{"binary_data_size":5}}]}',
        b"\x01\x00\x00",
        None,
        400,
        "inputs[0].binary_data_size is 5, but 3 bytes are left",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","parameters":{"binary_data_size":3}}]}',
        b"\x01\x00\x00",
        None,
        400,
        "inputs[0] ends inside the length of element 0",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","parameters":{"binary_data_size":4}}]}',
        b"\x01\x00\x00\x00",
        None,
        400,
        "inputs[0] ends inside element 0",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","parameters":{"binary_data_size":5}}]}',
        b"\xff\xff\xff\xffa",
        None,
        400,
        "inputs[0] ends inside element 0",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","parameters":{"binary_data_size":5}}]}',
        b"\x02\x00\x00\x00a",
        None,
        400,
        "inputs[0] ends inside element 0",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","parameters":{"binary_data_size":8}}]}',
        b"\x00\x00\x00\x00\x00\x00\x00\x00",
        None,
        400,
        "inputs[0].shape [1] does not fit its data of 2 elements",
    ),
    (
        '{"inputs":[{"name":"t","shape":[2],"datatype":"BYTES","parameters":{"binary_data_size":5}}]}',
        b"\x01\x00\x00\x00a",
        None,
        400,
        "inputs[0].shape [2] does not fit its data of 1 elements",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","parameters":{"binary_data_size":5},"data":["a"]}]}',
        b"\x01\x00\x00\x00a",
        None,
        400,
        "inputs[0] has both data and binary_data_size",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"INT64","parameters":{"binary_data_size":5}}]}',
        b"\x01\x00\x00\x00a",
        None,
        400,
        "inputs[0] has 5 bytes, not a multiple of 8 (INT64)",
    ),
    (
        '{"inputs":[{"name":"input_ids","shape":[1],"datatype":"INT64","parameters":{"binary_data_size":5}}]}',
        b"\x01\x00\x00\x00a",
        None,
        400,
        "inputs[0] has 5 bytes, not a multiple of 8 (INT64)",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"INT64","parameters":{"binary_data_size":8}}]}',
        b"\x00\x00\x00\x00\x00\x00\x00\x00",
        None,
        400,
        "inputs: unknown tensor 't'; known: attention_mask, attention_masks, input_ids, token_type_ids (or a BYTES tensor)",
    ),
    (
        '{"inputs":[{"name":"input_ids","shape":[2],"datatype":"INT64","parameters":{"binary_data_size":8}}]}',
        b"\x00\x00\x00\x00\x00\x00\x00\x00",
        None,
        400,
        "inputs[0].shape [2] does not fit its data of 1 elements",
    ),
    (
        '{"inputs":[{"name":"input_ids","shape":[1],"datatype":"INT16","parameters":{"binary_data_size":3}}]}',
        b"\x00\x00\x00",
        None,
        400,
        "inputs[0] has 3 bytes, not a multiple of 2 (INT16)",
    ),
    (
        '{"inputs":[{"name":"input_ids","shape":[1],"datatype":"FP32","parameters":{"binary_data_size":4}}]}',
        b"\x00\x00\x00\x00",
        None,
        400,
        "inputs: input_ids must have an integer datatype, not FP32",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTEZ","parameters":{"binary_data_size":5}}]}',
        b"\x01\x00\x00\x00a",
        None,
        400,
        "inputs[0].datatype: unknown datatype 'BYTEZ'; did you mean 'BYTES'?",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","parameters":{"binary_data_size":5}}]}',
        b"\x01\x00\x00\x00\xff",
        None,
        400,
        "the element is not UTF-8 (byte 0)",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","parameters":{"binary_data_size":5}}]}',
        b"\x01\x00\x00\x00{",
        None,
        400,
        'the element begins with "{" but is not JSON (line 1, column 2); send such a text as {"text": ...}',
    ),
    (
        '{"inputs":[{"name":"input_ids","shape":[1],"datatype":"INT64","parameters":{"binary_data_size":8}}]}',
        b"\xff\xff\xff\xff\xff\xff\xff\xff",
        None,
        400,
        "input_ids must be between 0 and 904",
    ),
    (
        '{"inputs":[{"name":"input_ids","shape":[1],"datatype":"UINT64","parameters":{"binary_data_size":8}}]}',
        b"\xff\xff\xff\xff\xff\xff\xff\xff",
        None,
        400,
        "input_ids must be between 0 and 904",
    ),
    ('{"inputs":[]}', b"", None, 400, "inputs must be a list of at least one tensor"),
    ('{"inputs":[]}', b"x", None, 400, "inputs must be a list of at least one tensor"),
    ("", b"x", None, 400, "the body is not JSON: line 1, column 1"),
    ("{", b"x", None, 400, "the body is not JSON: line 1, column 2"),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","data":["a"]}]}',
        b"\x01\x00\x00\x00a",
        None,
        400,
        "5 bytes follow the binary tensors that inputs declares",
    ),
    (
        '{"inputs":[{"name":"t","shape":[1],"datatype":"BYTES","parameters":{"binary_data_size":null}}]}',
        b"\x01\x00\x00\x00a",
        None,
        400,
        "inputs[0].data is missing",
    ),
]
"""classify, V2: JSON, the bytes behind it, Inference-Header-Content-Length (None: the right one)."""

GRPC = [
    ({}, 400, "inputs must be a list of at least one tensor"),
    (
        {"inputs": [{}]},
        400,
        "inputs[0].datatype: unknown datatype ''; known: BOOL, BYTES, FP16, FP32, FP64, INT16, INT32, INT64, INT8, UINT16, UINT32, UINT64, UINT8",
    ),
    (
        {"inputs": [{"name": "", "datatype": "BYTES", "shape": [1], "contents": {"bytes_contents": [b"a"]}}]},
        400,
        "inputs[0].name must be a non-empty string",
    ),
    (
        {"inputs": [{"name": "t", "datatype": "", "shape": [1], "contents": {"bytes_contents": [b"a"]}}]},
        400,
        "inputs[0].datatype: unknown datatype ''; known: BOOL, BYTES, FP16, FP32, FP64, INT16, INT32, INT64, INT8, UINT16, UINT32, UINT64, UINT8",
    ),
    (
        {"inputs": [{"name": "t", "datatype": "STRING", "shape": [1], "contents": {"bytes_contents": [b"a"]}}]},
        400,
        "inputs[0].datatype: unknown datatype 'STRING'; known: BOOL, BYTES, FP16, FP32, FP64, INT16, INT32, INT64, INT8, UINT16, UINT32, UINT64, UINT8",
    ),
    (
        {"inputs": [{"name": "t", "datatype": "bytes", "shape": [1], "contents": {"bytes_contents": [b"a"]}}]},
        400,
        "inputs[0].datatype: unknown datatype 'bytes'; known: BOOL, BYTES, FP16, FP32, FP64, INT16, INT32, INT64, INT8, UINT16, UINT32, UINT64, UINT8",
    ),
    (
        {"inputs": [{"name": "t", "datatype": "BYTES", "shape": [2], "contents": {"bytes_contents": [b"a"]}}]},
        400,
        "inputs[0].shape [2] does not fit its data of 1 elements",
    ),
    (
        {"inputs": [{"name": "t", "datatype": "BYTES", "shape": [0], "contents": {"bytes_contents": [b"a"]}}]},
        400,
        "inputs[0].shape [0] does not fit its data of 1 elements",
    ),
    (
        {"inputs": [{"name": "t", "datatype": "BYTES", "shape": [-2], "contents": {"bytes_contents": [b"a"]}}]},
        400,
        "inputs[0].shape [-2] must hold sizes from 0, and -1 at most once",
    ),
    (
        {"inputs": [{"name": "t", "datatype": "BYTES", "shape": [-1, -1], "contents": {"bytes_contents": [b"a"]}}]},
        400,
        "inputs[0].shape [-1, -1] must hold sizes from 0, and -1 at most once",
    ),
    (
        {
            "inputs": [
                {
                    "name": "t",
                    "datatype": "BYTES",
                    "shape": [
                        1,
                        1,
                        1,
                        1,
                        1,
                        1,
                        1,
                        1,
                        1,
                        1,
                        1,
                        1,
                        1,
                        1,
                        1,
                        1,
                        1,
                        1,
                        1,
                        1,
                        1,
                        1,
                        1,
                        1,
                        1,
                        1,
                        1,
                        1,
                        1,
                        1,
                        1,
                        1,
                        1,
                        1,
                        1,
                        1,
                        1,
                        1,
                        1,
                        1,
                    ],
                    "contents": {"bytes_contents": [b"a"]},
                }
            ]
        },
        400,
        "inputs[0].shape has 40 dimensions; at most 32 are taken",
    ),
    (
        {"inputs": [{"name": "t", "datatype": "BYTES", "shape": [1], "contents": {}}]},
        400,
        "inputs[0].shape [1] does not fit its data of 0 elements",
    ),
    (
        {"inputs": [{"name": "t", "datatype": "BYTES", "shape": [1], "contents": {"int64_contents": [1]}}]},
        400,
        "inputs[0].contents must use bytes_contents for BYTES",
    ),
    (
        {
            "inputs": [
                {
                    "name": "t",
                    "datatype": "BYTES",
                    "shape": [1],
                    "contents": {"bytes_contents": [b"a"], "int64_contents": [1]},
                }
            ]
        },
        400,
        "inputs[0].contents must use bytes_contents for BYTES",
    ),
    (
        {"inputs": [{"name": "t", "datatype": "BYTES", "shape": [1], "contents": {"bytes_contents": [b"\xff"]}}]},
        400,
        "the element is not UTF-8 (byte 0)",
    ),
    (
        {"inputs": [{"name": "t", "datatype": "BYTES", "shape": [1], "contents": {"bytes_contents": [b"{"]}}]},
        400,
        'the element begins with "{" but is not JSON (line 1, column 2); send such a text as {"text": ...}',
    ),
    (
        {"inputs": [{"name": "t", "datatype": "BYTES", "shape": [1], "contents": {"bytes_contents": [b"{}"]}}]},
        400,
        'text is missing; send {"text": ...}',
    ),
    (
        {"inputs": [{"name": "t", "datatype": "BYTES", "shape": [1], "contents": {"bytes_contents": [b"a", b"b"]}}]},
        400,
        "inputs[0].shape [1] does not fit its data of 2 elements",
    ),
    (
        {"inputs": [{"name": "t", "datatype": "FP16", "shape": [1], "contents": {"bytes_contents": [b"a"]}}]},
        400,
        "inputs[0]: FP16 travels in raw_input_contents only",
    ),
    (
        {"inputs": [{"name": "t", "datatype": "INT64", "shape": [1], "contents": {"bytes_contents": [b"a"]}}]},
        400,
        "inputs[0].contents must use int64_contents for INT64",
    ),
    (
        {"inputs": [{"name": "t", "datatype": "INT64", "shape": [1], "contents": {"int64_contents": [1]}}]},
        400,
        "inputs: unknown tensor 't'; known: attention_mask, attention_masks, input_ids, token_type_ids (or a BYTES tensor)",
    ),
    (
        {"inputs": [{"name": "input_ids", "datatype": "INT8", "shape": [1], "contents": {"int_contents": [300]}}]},
        400,
        "inputs[0].contents has a value that is no INT8",
    ),
    (
        {"inputs": [{"name": "input_ids", "datatype": "UINT8", "shape": [1], "contents": {"uint_contents": [256]}}]},
        400,
        "inputs[0].contents has a value that is no UINT8",
    ),
    (
        {"inputs": [{"name": "input_ids", "datatype": "FP32", "shape": [1], "contents": {"fp32_contents": [1.5]}}]},
        400,
        "inputs: input_ids must have an integer datatype, not FP32",
    ),
    (
        {
            "inputs": [
                {"name": "input_ids", "datatype": "FP32", "shape": [1], "contents": {"fp32_contents": [float("nan")]}}
            ]
        },
        400,
        "inputs: input_ids must have an integer datatype, not FP32",
    ),
    (
        {"inputs": [{"name": "input_ids", "datatype": "BOOL", "shape": [1], "contents": {"bool_contents": [True]}}]},
        400,
        "inputs: input_ids must have an integer datatype, not BOOL",
    ),
    (
        {"inputs": [{"name": "input_ids", "datatype": "INT64", "shape": [1, 1], "contents": {"int64_contents": [-1]}}]},
        400,
        "input_ids must be between 0 and 904",
    ),
    (
        {
            "inputs": [
                {"name": "input_ids", "datatype": "INT64", "shape": [1, 1, 1], "contents": {"int64_contents": [1]}}
            ]
        },
        400,
        "inputs: input_ids must be [rows, tokens], not [1, 1, 1]",
    ),
    (
        {
            "inputs": [
                {
                    "name": "input_ids",
                    "datatype": "UINT64",
                    "shape": [1],
                    "contents": {"uint64_contents": [18446744073709551615]},
                }
            ]
        },
        400,
        "input_ids must be between 0 and 904",
    ),
    (
        {
            "inputs": [{"name": "t", "datatype": "BYTES", "shape": [1], "contents": {"bytes_contents": [b"a"]}}],
            "raw_input_contents": [b"\x01\x00\x00\x00a"],
        },
        400,
        "inputs[0] has contents beside raw_input_contents; send one of them",
    ),
    (
        {"inputs": [{"name": "t", "datatype": "BYTES", "shape": [1], "contents": None}], "raw_input_contents": [b""]},
        400,
        "inputs[0].shape [1] does not fit its data of 0 elements",
    ),
    (
        {
            "inputs": [{"name": "t", "datatype": "BYTES", "shape": [1], "contents": None}],
            "raw_input_contents": [b"\x01\x00\x00\x00a", b"\x01\x00\x00\x00a"],
        },
        400,
        "raw_input_contents has 2 entries for 1 inputs",
    ),
    (
        {
            "inputs": [{"name": "t", "datatype": "BYTES", "shape": [1], "contents": None}],
            "raw_input_contents": [b"\t\x00\x00\x00a"],
        },
        400,
        "inputs[0] ends inside element 0",
    ),
    (
        {
            "inputs": [{"name": "t", "datatype": "BYTES", "shape": [1], "contents": None}],
            "raw_input_contents": [b"\x01\x00"],
        },
        400,
        "inputs[0] ends inside the length of element 0",
    ),
    (
        {
            "inputs": [{"name": "t", "datatype": "BYTES", "shape": [1], "contents": None}],
            "raw_input_contents": [b"\x01\x00\x00\x00\xff"],
        },
        400,
        "the element is not UTF-8 (byte 0)",
    ),
    (
        {
            "inputs": [{"name": "input_ids", "datatype": "FP16", "shape": [1], "contents": None}],
            "raw_input_contents": [b"\x00\x00"],
        },
        400,
        "inputs: input_ids must have an integer datatype, not FP16",
    ),
    (
        {
            "inputs": [{"name": "input_ids", "datatype": "INT64", "shape": [1], "contents": None}],
            "raw_input_contents": [b"\x00\x00"],
        },
        400,
        "inputs[0] has 2 bytes, not a multiple of 8 (INT64)",
    ),
    ({"raw_input_contents": [b"\x01\x00\x00\x00a"]}, 400, "raw_input_contents has 1 entries for 0 inputs"),
    (
        {
            "inputs": [{"name": "t", "datatype": "BYTES", "shape": [1], "contents": {"bytes_contents": [b"a"]}}],
            "outputs": [{"name": "nope"}],
        },
        400,
        "unknown output 'nope'; known: logits, predict, probabilities, score",
    ),
    (
        {
            "inputs": [{"name": "t", "datatype": "BYTES", "shape": [1], "contents": {"bytes_contents": [b"a"]}}],
            "outputs": [{"name": ""}],
        },
        400,
        "outputs[0].name must be a non-empty string",
    ),
    (
        {
            "inputs": [{"name": "t", "datatype": "BYTES", "shape": [1], "contents": {"bytes_contents": [b"a"]}}],
            "outputs": [{"name": "predict"}, {"name": "predict"}],
        },
        400,
        "outputs[1].name: 'predict' is asked for twice",
    ),
    (
        {
            "inputs": [{"name": "t", "datatype": "BYTES", "shape": [1], "contents": {"bytes_contents": [b"a"]}}],
            "parameters": {"nope": {"int64_param": 1}},
        },
        400,
        "unknown parameter 'nope'; known: function_to_apply, stride, threshold, top_k, truncation",
    ),
    (
        {
            "inputs": [{"name": "t", "datatype": "BYTES", "shape": [1], "contents": {"bytes_contents": [b"a"]}}],
            "parameters": {"top_k": {"int64_param": 0}},
        },
        400,
        "parameter top_k=0; it must be at least 1",
    ),
    (
        {
            "inputs": [{"name": "t", "datatype": "BYTES", "shape": [1], "contents": {"bytes_contents": [b"a"]}}],
            "parameters": {"top_k": {"string_param": "2"}},
        },
        400,
        "parameter top_k must be an integer, not a string",
    ),
    (
        {
            "inputs": [{"name": "t", "datatype": "BYTES", "shape": [1], "contents": {"bytes_contents": [b"a"]}}],
            "parameters": {"top_k": {}},
        },
        400,
        "parameter 'top_k' has no value",
    ),
    (
        {
            "inputs": [
                {
                    "name": "t",
                    "datatype": "BYTES",
                    "shape": [1],
                    "contents": {"bytes_contents": [b"a"]},
                    "parameters": {"nope": {"bool_param": True}},
                }
            ]
        },
        400,
        "unknown parameter 'nope'; known: function_to_apply, stride, threshold, top_k, truncation",
    ),
    (
        {
            "inputs": [
                {"name": "t", "datatype": "BYTES", "shape": [1], "contents": {"bytes_contents": [b"a"]}},
                {"name": "n", "datatype": "INT64", "shape": [1], "contents": {"int64_contents": [1]}},
            ]
        },
        400,
        "inputs mixes BYTES with numbers; send texts or token tensors, not both",
    ),
    (
        {
            "inputs": [
                {"name": "text", "datatype": "BYTES", "shape": [1], "contents": {"bytes_contents": [b"a"]}},
                {"name": "text", "datatype": "BYTES", "shape": [1], "contents": {"bytes_contents": [b"a"]}},
            ]
        },
        400,
        "inputs names a field twice: text, text",
    ),
    (
        {
            "inputs": [
                {"name": "text", "datatype": "BYTES", "shape": [1], "contents": {"bytes_contents": [b"a"]}},
                {"name": "other", "datatype": "BYTES", "shape": [1], "contents": {"bytes_contents": [b"a"]}},
            ]
        },
        400,
        "inputs: tensor 'other' stands beside field 'text'; known fields: text, text_pair, question, context, query, documents, candidate_labels",
    ),
]
"""classify: fields of a ModelInferRequest."""
