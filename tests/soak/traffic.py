"""The requests of the soak test, and how each is to be answered."""

from __future__ import annotations

import json
import random
import socket
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import grpc
import httpx
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb

from tests.contract.task_examples import EXAMPLES
from tests.soak.account import CANCELLED, Outcome
from tests.zoo import CORPUS

TOLERANCE = 1e-3
OUTPUTS = {example.task: example.outputs for example in EXAMPLES}
PARAMETERS = {example.task: example.parameters for example in EXAMPLES}
INSTANCES: dict[str, list[Any]] = {
    "question_answering": [{"question": "Where do I live?", "context": text} for text in CORPUS],
    "fill_mask": [f"[MASK] {text}" for text in CORPUS],
    "zero_shot_classification": [{"text": text, "candidate_labels": ["animals", "houses"]} for text in CORPUS],
    "text_ranking": [{"query": text, "documents": ["A dog ran.", "The cat sat.", text]} for text in CORPUS],
}
EVENTS = {"accept": "text/event-stream"}
CLASSIFY, GENERATE = "sequence_classification", "text_generation"


class Session(NamedTuple):
    """What one client asks with.  expected: the answer to each instance of each task, asked alone."""

    http: httpx.Client
    stub: Any
    rng: random.Random
    expected: dict[str, list[Any]]


def instances(task: str) -> list[Any]:
    return INSTANCES.get(task, list(CORPUS))


def body(task: str, indices: list[int], **parameters: Any) -> dict[str, Any]:
    own = {**PARAMETERS[task], **parameters}
    chosen = [instances(task)[index] for index in indices]
    return {"instances": chosen, "parameters": own, "outputs": list(OUTPUTS[task])}


def v2(*texts: str, **more: Any) -> dict[str, Any]:
    return {"inputs": [{"name": "t", "shape": [len(texts)], "datatype": "BYTES", "data": list(texts)}], **more}


def expected_answers(client: httpx.Client, url: str) -> dict[str, list[Any]]:
    """What each instance is answered when nothing else is asked."""
    found: dict[str, list[Any]] = {}
    for task in OUTPUTS:
        found[task] = []
        for index in range(len(CORPUS)):
            response = client.post(f"{url}/v1/models/{task}:predict", json=body(task, [index]))
            response.raise_for_status()
            found[task] += response.json()["predictions"]
    return found


def same(left: Any, right: Any) -> bool:
    """Equal, numbers up to what another batch changes."""
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, float) and isinstance(right, (float, int)):
        return abs(left - right) <= TOLERANCE
    return bool(left == right)


def told(response: httpx.Response, right: set[int]) -> Outcome:
    """The status, which must be a right one; a refusal must give its reason."""
    fits = response.status_code in right and (response.status_code == 200 or bool(response.json().get("error")))
    return Outcome(str(response.status_code), "" if fits else response.text)


# ---- each kind of request -------------------------------------------------------------------


def predict(task: str) -> Callable[[Session], Outcome]:
    def ask(session: Session) -> Outcome:
        indices = session.rng.choices(range(len(CORPUS)), k=session.rng.choice((1, 1, 1, 4, 16)))
        response = session.http.post(f"/v1/models/{task}:predict", json=body(task, indices))
        outcome = told(response, {200})
        if outcome.wrong:
            return outcome
        wanted = [session.expected[task][index] for index in indices]
        answers = response.json()["predictions"]
        return Outcome("200", "" if same(answers, wanted) else f"{answers} instead of {wanted}")

    return ask


def stream(session: Session) -> Outcome:
    index = session.rng.randrange(len(CORPUS))
    with session.http.stream(
        "POST", f"/v1/models/{GENERATE}:predict", json=body(GENERATE, [index]), headers=EVENTS
    ) as response:
        events = [json.loads(line[6:]) for line in response.iter_lines() if line.startswith("data: ")]
    pieces = "".join(event["text"] for event in events[:-1])
    wanted = session.expected[GENERATE][index]
    right = response.status_code == 200 and same(events[-1], wanted) and pieces == wanted["predict"]
    return Outcome(str(response.status_code), "" if right else f"{events} instead of {wanted}")


def cut_stream(session: Session) -> Outcome:
    wanted = body(GENERATE, [0], max_new_tokens=40)
    with session.http.stream("POST", f"/v1/models/{GENERATE}:predict", json=wanted, headers=EVENTS) as response:
        next(response.iter_lines(), None)
    return Outcome(CANCELLED if response.status_code == 200 else str(response.status_code))


def message(session: Session, count: int) -> tuple[pb.ModelInferRequest, list[str]]:
    indices = session.rng.choices(range(len(CORPUS)), k=count)
    tensor = {"name": "t", "datatype": "BYTES", "shape": [count]}
    tensor["contents"] = {"bytes_contents": [CORPUS[index].encode() for index in indices]}
    labels = [session.expected[CLASSIFY][index]["predict"] for index in indices]
    return pb.ModelInferRequest(model_name=CLASSIFY, inputs=[tensor]), labels


def rpc(session: Session) -> Outcome:
    request, labels = message(session, session.rng.choice((1, 4, 16)))
    answer = session.stub.ModelInfer(request, timeout=60)
    found = [item.decode() for item in answer.outputs[0].contents.bytes_contents]
    return Outcome("OK", "" if found == labels else f"{found} instead of {labels}")


def cancelled_rpc(session: Session) -> Outcome:
    call = session.stub.ModelInfer.future(message(session, 32)[0], timeout=60)
    time.sleep(session.rng.random() * 0.03)
    return Outcome(CANCELLED if call.cancel() else call.code().name)


def late_rpc(session: Session) -> Outcome:
    try:
        session.stub.ModelInfer(message(session, 32)[0], timeout=0.005)
    except grpc.RpcError as exc:
        code = exc.code().name
        return Outcome(code, "" if code == "DEADLINE_EXCEEDED" else exc.details())
    return Outcome("OK")


def bad_rpc(session: Session) -> Outcome:
    request, _ = message(session, 2)
    request.inputs[0].shape[0] = 3
    try:
        session.stub.ModelInfer(request, timeout=60)
    except grpc.RpcError as exc:
        code = exc.code().name
        return Outcome(code, "" if code == "INVALID_ARGUMENT" else exc.details())
    return Outcome("OK", "a shape that lies is answered")


def bad(session: Session) -> Outcome:
    wrong = ({"inputs": 5}, v2("{"), v2("a", parameters={"nope": 1}), {}, {"instances": [5]})
    return told(session.http.post(f"/v2/models/{CLASSIFY}/infer", json=session.rng.choice(wrong)), {400})


def mixed(session: Session) -> Outcome:
    index = session.rng.randrange(len(CORPUS))
    wanted = body(CLASSIFY, [index])
    wanted["instances"].append(5)
    response = session.http.post(f"/v1/models/{CLASSIFY}:predict", json=wanted)
    outcome = told(response, {200})
    if outcome.wrong:
        return outcome
    first, second = response.json()["predictions"]
    right = same(first, session.expected[CLASSIFY][index]) and second["status"] == 400
    return Outcome("200", "" if right else response.text)


def explain(session: Session) -> Outcome:
    request = v2(session.rng.choice(CORPUS), parameters={"n_steps": 4})
    return told(session.http.post(f"/v2/models/{CLASSIFY}/explain", json=request), {200, 429})


def long(session: Session) -> Outcome:
    request = v2(" ".join(CORPUS), parameters={"truncation": "stride"})
    return told(session.http.post(f"/v2/models/{CLASSIFY}/infer", json=request), {200})


def late(session: Session) -> Outcome:
    request = v2(*session.rng.choices(CORPUS, k=16), parameters={"timeout_ms": 1})
    return told(session.http.post(f"/v2/models/{CLASSIFY}/infer", json=request), {200, 504})


def slow(session: Session) -> Outcome:
    with _connected(session) as (sock, content):
        sock.sendall(content[:200])
        time.sleep(0.3)
        sock.sendall(content[200:])
        status = sock.recv(64).decode().partition(" ")[2][:3]
    return Outcome(status, "" if status == "200" else "a slow client is not answered")


def cut(session: Session) -> Outcome:
    with _connected(session) as (sock, content):
        sock.sendall(content[: session.rng.choice((200, len(content)))])
    return Outcome(CANCELLED)


class _connected:  # noqa: N801 - a context manager, used as a function
    """A raw connection, and the bytes of a request of 32 texts."""

    def __init__(self, session: Session) -> None:
        url = session.http.base_url
        document = json.dumps(v2(*session.rng.choices(CORPUS, k=32))).encode()
        lines = (f"POST /v2/models/{CLASSIFY}/infer HTTP/1.1", "Host: x", "Connection: close")
        self._content = "\r\n".join((*lines, f"Content-Length: {len(document)}", "", "")).encode() + document
        self._socket = socket.create_connection((url.host, url.port), timeout=60)

    def __enter__(self) -> tuple[socket.socket, bytes]:
        return self._socket, self._content

    def __exit__(self, *exc: object) -> None:
        self._socket.close()


KINDS: dict[str, tuple[int, Callable[[Session], Outcome]]] = {
    **{task: (8 if task == CLASSIFY else 2, predict(task)) for task in OUTPUTS},
    "stream": (2, stream),
    "stream, cut": (1, cut_stream),
    "grpc": (3, rpc),
    "grpc, cancelled": (1, cancelled_rpc),
    "grpc, late": (1, late_rpc),
    "grpc, bad": (1, bad_rpc),
    "bad": (2, bad),
    "mixed": (2, mixed),
    "explain": (2, explain),
    "long": (1, long),
    "late": (1, late),
    "slow": (1, slow),
    "cut": (1, cut),
}
"""How often each is sent, as a weight, and how."""


def next_request(rng: random.Random) -> tuple[str, Callable[[Session], Outcome]]:
    """A kind of request by weight."""
    kind = rng.choices(list(KINDS), [weight for weight, _ in KINDS.values()])[0]
    return kind, KINDS[kind][1]
