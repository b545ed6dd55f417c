"""What people have today: TorchServe, one row after the other, each padded to 150 tokens."""

from __future__ import annotations

import json
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from ts.torch_handler.base_handler import BaseHandler


class PaddedHandler(BaseHandler):
    """Loads the archive's model and answers each row on its own."""

    def initialize(self, context: Any) -> None:
        directory = context.system_properties["model_dir"]
        self.tokenizer = AutoTokenizer.from_pretrained(directory)
        self.model = AutoModelForSequenceClassification.from_pretrained(directory).eval()
        self.initialized = True

    def handle(self, data: Any, context: Any) -> list[str]:
        answers = []
        for row in data:
            body = row.get("body", row.get("data"))
            body = json.loads(body) if isinstance(body, (bytes, bytearray, str)) else body
            text = body["inputs"][0]["data"][0]
            inputs = self.tokenizer(text, padding="max_length", truncation=True, max_length=150, return_tensors="pt")
            with torch.inference_mode():
                label = int(self.model(**inputs).logits.argmax())
            answers.append(self.model.config.id2label[label])
        return answers
