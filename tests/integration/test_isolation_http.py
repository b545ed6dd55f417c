"""A poisonous instance in a batch of 64 over HTTP: what stays the same bit for bit, and when it does."""

from __future__ import annotations

import json
import threading

import httpx
import numpy as np
import pytest

from bert_handler.protocols.tensors import to_bytes
from tests.servers import kserve_server
from tests.unit.test_isolation import PLACES, POISONS, TEXTS

pytestmark = pytest.mark.kserve


def ask(client, url, elements):
    """The logits of a batch, (n, 2), as the bytes of the answer have them."""
    raw = to_bytes("BYTES", elements)
    tensor = {"name": "t", "shape": [len(elements)], "datatype": "BYTES", "parameters": {"binary_data_size": len(raw)}}
    outputs = [{"name": "logits", "parameters": {"binary_data": True}}]
    header = json.dumps({"inputs": [tensor], "outputs": outputs}).encode()
    headers = {"inference-header-content-length": str(len(header))}
    response = client.post(f"{url}/v2/models/m/infer", content=header + raw, headers=headers)
    assert response.status_code == 200, response.text
    length = int(response.headers["inference-header-content-length"])
    return np.frombuffer(response.content[length:], np.float32).reshape(len(elements), -1)


def with_poison(client, url, poison, place):
    """The logits of the other 63; the poison's own are not numbers."""
    logits = ask(client, url, [*TEXTS[:place], poison, *TEXTS[place:]])
    assert np.isnan(logits[place]).all()
    return np.delete(logits, place, axis=0)


def test_alone_on_one_core_the_others_are_the_same_bit_for_bit(zoo):
    with kserve_server(zoo("bert", "sequence_classification"), name="m", BERT_HANDLER_THREADS="1") as server:
        expected = ask(server.client, server.url, TEXTS).tobytes()
        for place in PLACES:
            for name, (poison, _) in POISONS.items():
                others = with_poison(server.client, server.url, poison, place)
                assert others.tobytes() == expected, (name, place)


def test_beside_other_traffic_they_are_the_same_but_for_the_last_digits(zoo):
    """Rows of other requests share their forwards then."""
    with kserve_server(zoo("bert", "sequence_classification"), name="m") as server:
        expected = ask(server.client, server.url, TEXTS)
        stopped = threading.Event()

        def other():
            with httpx.Client(timeout=60) as client:
                while not stopped.is_set():
                    ask(client, server.url, TEXTS[:17])

        threads = [threading.Thread(target=other) for _ in range(3)]
        for thread in threads:
            thread.start()
        try:
            for poison, _ in POISONS.values():
                others = with_poison(server.client, server.url, poison, 31)
                np.testing.assert_allclose(others, expected, atol=1e-5)
                assert (others.argmax(axis=1) == expected.argmax(axis=1)).all()
        finally:
            stopped.set()
            for thread in threads:
                thread.join()
