"""transformers.pipeline in a plain kserve.Model: arguments are directory, port."""

from __future__ import annotations

import sys
from typing import Any

import kserve
from transformers import pipeline


class PipelineModel(kserve.Model):
    """One pipeline call a request, on the event loop, as the usual example has it."""

    def __init__(self, directory: str) -> None:
        super().__init__("bert")
        self.pipeline = pipeline("text-classification", model=directory, device="cpu")
        self.ready = True

    def predict(self, payload: Any, headers: Any = None, response_headers: Any = None) -> Any:
        text = payload.inputs[0].data[0]
        text = text.decode() if isinstance(text, bytes) else text
        label = self.pipeline(text)[0]["label"]
        output = kserve.InferOutput("predict", [1], "BYTES", data=[label])
        return kserve.InferResponse(payload.id or "1", "bert", [output])


if __name__ == "__main__":
    model = PipelineModel(sys.argv[1])
    kserve.ModelServer(http_port=int(sys.argv[2]), enable_grpc=False).start([model])
