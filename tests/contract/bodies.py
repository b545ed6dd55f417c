"""Bodies that every host must answer alike: valid, lenient and wrong ones."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field
from typing import Any

SEED = {
    "id": "d3b15cad-50a2-4eaf-80ce-8b0a428bd298",
    "inputs": [
        {
            "name": "4b7c7d4a-51e4-43c8-af61-04639f6ef4bc",
            "shape": -1,
            "datatype": "BYTES",
            "data": '{"text":"Bloomberg has decided to publish a new report on the global economy.", "target":1}',
        }
    ],
}
GOOD, BAD = "A moving, beautifully acted triumph.", "A dull, lifeless mess of a film."


@dataclass(frozen=True)
class Body:
    """One request to `/infer` (`/predictions` on TorchServe) and what every host says to it.

    outputs: name -> (shape, data) of a 200.  error: what the message of a refusal must contain.
    """

    name: str
    content: Any
    status: int = 200
    outputs: dict[str, tuple[list[int], list[Any]]] = field(default_factory=dict)
    error: str = ""
    headers: dict[str, str] = field(default_factory=lambda: {"content-type": "application/json"})

    @property
    def raw(self) -> bytes:
        return self.content if isinstance(self.content, bytes) else json.dumps(self.content).encode()


def tensor(data: Any, shape: Any = -1, datatype: str = "BYTES", name: str = "text", **more: Any) -> dict[str, Any]:
    return {"name": name, "shape": shape, "datatype": datatype, "data": data, **more}


def v2(*inputs: Any, **more: Any) -> dict[str, Any]:
    return {"id": "7", "inputs": list(inputs), **more}


def said(shape: list[int], *labels: str) -> dict[str, tuple[list[int], list[Any]]]:
    return {"predict": (shape, list(labels))}


def binary(*elements: bytes, shape: Any = None, cut: int = 0) -> tuple[bytes, dict[str, str]]:
    block = b"".join(struct.pack("<I", len(item)) + item for item in elements)
    block = block[: len(block) - cut]
    header = json.dumps(
        v2(
            {
                "name": "text",
                "shape": [len(elements)] if shape is None else shape,
                "datatype": "BYTES",
                "parameters": {"binary_data_size": len(block)},
            }
        )
    ).encode()
    headers = {"content-type": "application/octet-stream", "inference-header-content-length": str(len(header))}
    return header + block, headers


def _binary_body(name: str, *elements: bytes, **options: Any) -> Body:
    more = {key: options.pop(key) for key in ("status", "outputs", "error") if key in options}
    content, headers = binary(*elements, **options)
    return Body(name, content, headers=headers, **more)


YES, NO = "Accepted", "Not Accepted"

ANSWERED = [
    Body("the seed's request", SEED, outputs=said([], NO)),
    Body("the seed's request without a content type", SEED, outputs=said([], NO), headers={}),
    Body("as octet-stream", SEED, outputs=said([], NO), headers={"content-type": "application/octet-stream"}),
    Body("a charset", SEED, outputs=said([], NO), headers={"content-type": "application/json; charset=utf-8"}),
    Body("a list of one", v2(tensor([GOOD], [1])), outputs=said([1], YES)),
    Body("a list of two", v2(tensor([GOOD, BAD], [2])), outputs=said([2], YES, NO)),
    Body("two, shape an integer", v2(tensor([GOOD, BAD], 2)), outputs=said([2], YES, NO)),
    Body("two, shape [-1]", v2(tensor([GOOD, BAD], [-1])), outputs=said([2], YES, NO)),
    Body("two, shape -1", v2(tensor([GOOD, BAD], -1)), outputs=said([2], YES, NO)),
    Body("a bare string, shape []", v2(tensor(BAD, [])), outputs=said([], NO)),
    Body("a bare string, shape [1]", v2(tensor(BAD, [1])), outputs=said([], NO)),
    Body("a list of one, shape []", v2(tensor([BAD], [])), outputs=said([], NO)),
    Body("JSON and text mixed", v2(tensor([json.dumps({"text": GOOD}), BAD], [2])), outputs=said([2], YES, NO)),
    Body("nested data", v2(tensor([[GOOD], [BAD]], [2, 1])), outputs=said([2], YES, NO)),
    Body("two tensors", v2(tensor([GOOD], [1], name="a"), tensor([BAD], [1], name="b")), outputs=said([2], YES, NO)),
    Body(
        "columns",
        v2(tensor([GOOD, BAD], [2], name="text"), tensor(["", ""], [2], name="text_pair")),
        outputs=said([2], YES, NO),
    ),
    Body(
        "tokens",
        v2(
            tensor(
                [101, 1037, 10634, 1010, 12532, 3238, 6752, 1997, 1037, 2143, 1012, 102], [1, 12], "INT64", "input_ids"
            ),
            tensor([1] * 12, [1, 12], "INT64", "attention_mask"),
        ),
        outputs=said([1], NO),
    ),
    Body(
        "one flat row of tokens, padded, stock names",
        v2(
            tensor([101, 10634, 12532, 3238, 6752, 102] + [0] * 144, 150, "INT32", "input_ids"),
            tensor([1] * 6 + [0] * 144, 150, "INT32", "attention_masks"),
        ),
        outputs=said([], NO),
    ),
    Body("predict asked for", v2(tensor([GOOD], [1]), outputs=[{"name": "predict"}]), outputs=said([1], YES)),
    Body("two labels", v2(tensor([GOOD], [1]), parameters={"top_k": 2}), outputs={"predict": ([1, 2], [YES, NO])}),
    Body("an empty text", v2(tensor(["", GOOD], [2]), outputs=[{"name": "predict"}])),
    Body("no instances", v2(tensor([], [0])), outputs=said([0])),
    _binary_body("binary", GOOD.encode(), BAD.encode(), outputs=said([2], YES, NO)),
    _binary_body("binary JSON", json.dumps({"text": BAD}).encode(), outputs=said([1], NO)),
]

REFUSED = [
    Body("broken JSON", b'{"inputs": [', 400, error="the body is not JSON"),
    Body("broken JSON without a content type", b'{"inputs": [', 400, error="the body is not JSON", headers={}),
    Body("no inputs", {"id": "7"}, 400, error="inputs is missing"),
    Body("an empty object", {}, 400, error="inputs is missing"),
    Body("empty inputs", {"inputs": []}, 400, error="inputs must be a list of at least one tensor"),
    Body("inputs no list", {"inputs": {"name": "text"}}, 400, error="inputs must be a list"),
    Body("a key with a typo", {"inputs": [tensor(GOOD)], "output": []}, 400, error="did you mean 'outputs'?"),
    Body("no name", v2({"shape": [1], "datatype": "BYTES", "data": [GOOD]}), 400, error="inputs[0].name"),
    Body("no datatype", v2({"name": "text", "shape": [1], "data": [GOOD]}), 400, error="inputs[0].datatype is missing"),
    Body(
        "no shape", v2({"name": "text", "datatype": "BYTES", "data": [GOOD]}), 400, error="inputs[0].shape is missing"
    ),
    Body("no data", v2({"name": "text", "shape": [1], "datatype": "BYTES"}), 400, error="inputs[0].data is missing"),
    Body("unknown datatype", v2(tensor([GOOD], [1], "STRING")), 400, error="inputs[0].datatype: unknown datatype"),
    Body("shape against data", v2(tensor([GOOD], [2])), 400, error="inputs[0].shape [2] does not fit"),
    Body("a shape that is text", v2(tensor([GOOD], "1")), 400, error="inputs[0].shape must be a list of integers"),
    Body("numbers as BYTES", v2(tensor([1], [1])), 400, error="inputs[0].data must hold strings"),
    Body("floats as tokens", v2(tensor([1.5], [1, 1], "INT64", "input_ids")), 400, error="must hold INT64 values"),
    Body("a wrong token tensor", v2(tensor([1], [1, 1], "INT64", "input_idz")), 400, error="did you mean 'input_ids'?"),
    Body(
        "a token beyond the vocabulary", v2(tensor([99999], [1, 1], "INT64", "input_ids")), 400, error="between 0 and"
    ),
    Body(
        "an unknown output", v2(tensor([GOOD], [1]), outputs=[{"name": "scores"}]), 400, error="did you mean 'score'?"
    ),
    Body("an unknown parameter", v2(tensor([GOOD], [1]), parameters={"topk": 2}), 400, error="did you mean 'top_k'?"),
    Body("a parameter out of range", v2(tensor([GOOD], [1]), parameters={"top_k": 0}), 400, error="at least 1"),
    Body("an unknown field", v2(tensor(['{"txt": "a"}'], [1])), 400, error="did you mean 'text'?"),
    Body("a field of a wrong type", v2(tensor(['{"text": 1}'], [1])), 400, error="text must be a string"),
    Body("an element of broken JSON", v2(tensor(['{"text": '], [1])), 400, error="is not JSON"),
    Body("an id that is no string", {"id": 7, "inputs": [tensor([GOOD], [1])]}, 400, error="id must be a string"),
    Body("too long", v2(tensor(["good " * 400], [1]), parameters={"truncation": "error"}), 413, error="tokens"),
    _binary_body("binary, not UTF-8", b"\xff\xfe", status=400, error="not UTF-8"),
    _binary_body("binary, cut short", GOOD.encode(), status=400, error="ends inside element 0", cut=3),
    _binary_body("binary, shape against data", GOOD.encode(), status=400, error="does not fit", shape=[4]),
]
