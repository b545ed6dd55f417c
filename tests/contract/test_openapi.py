"""The KServe host against two OpenAPI files: the protocol's, and the one that it serves of itself."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from bert_handler.server import openapi
from bert_handler.server.playground import playground_routes
from bert_handler.server.repository import Repository
from bert_handler.server.routes import Routes
from tests.servers import kserve_server

HERE = Path(__file__).parent
PROTOCOL = HERE / "open_inference.yaml"
CONFIG = HERE / "schemathesis.toml"
EXAMPLES = 50
# It finds out what the model is called, and would unload it.
STAYING = ["--exclude-path-regex", "unload$"]
# Clients write optional fields as null, which the protocol does not have and the server's own file has.
LENIENT = ["--exclude-checks", "negative_data_rejection"]


@pytest.fixture(scope="module")
def server(zoo, tmp_path_factory):
    store = tmp_path_factory.mktemp("empty_store")
    model = zoo("bert", "sequence_classification")
    with kserve_server(model, "--enable-repository", str(store), name="bert") as running:
        yield running
        assert "Traceback" not in running.log


def paths_of(routes):
    return {route.path for route in routes}


def test_every_route_is_described_and_nothing_else():
    served = paths_of([*Routes(dict).routes(), *Repository({}, Path(), None).routes()]) | {"/metrics"}
    pages = paths_of(playground_routes())
    described = set(openapi.description(served | pages, [])["paths"])
    assert described == {re.sub(r":\w+}", "}", path) for path in served}


def test_what_a_server_does_not_have_is_left_out():
    document = openapi.description(["/v2", "/v1/models/{name:model}"], ["b", "a"])
    assert set(document["paths"]) == {"/v2", "/v1/models/{name}"}
    assert document["components"]["parameters"]["name"]["schema"]["enum"] == ["a", "b"]
    assert "enum" not in openapi.description([], [])["components"]["parameters"]["name"]["schema"]


def test_both_files_are_openapi():
    validate = pytest.importorskip("openapi_spec_validator").validate
    import yaml

    for path in (Path(openapi.__file__).with_name(openapi.FILE), PROTOCOL):
        validate(yaml.safe_load(path.read_text(encoding="utf-8")))


@pytest.mark.kserve
@pytest.mark.parametrize("of", ["protocol", "server"])
def test_answers_are_what_is_described(server, tmp_path, of):
    """No 5xx but 503 and 504, described statuses, content types and schemas only, and nothing takes long."""
    pytest.importorskip("schemathesis")
    own = [f"{server.url}/openapi.json", *STAYING]
    location = own if of == "server" else [str(PROTOCOL), "--url", server.url, *LENIENT]
    options = ["--phases", "examples,coverage,fuzzing", "--max-examples", str(EXAMPLES), "--continue-on-failure"]
    limits = ["--request-timeout", "20", "--max-response-time", "10"]
    command = [sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()"]
    words = [*command, "--config-file", str(CONFIG), "run", *location, *options, *limits]
    # Its own state lies in the working directory.
    result = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stdout[-8000:] + result.stderr
    counted = re.search(r"(\d+) generated, \1 passed", result.stdout)
    assert counted and int(counted[1]) > 300, result.stdout[-3000:]
    print(counted[0])
    assert server.get("/v2/health/ready").status_code == 200


@pytest.mark.kserve
@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("GET", "/nowhere", 404, None),
        ("POST", "/v2/models", 405, "GET, HEAD"),
        ("GET", "/v2/models/bert/infer", 405, "POST"),
        ("HEAD", "/v2/models/bert/infer", 405, "POST"),
        ("GET", "/v1/models/bert:predict", 405, "POST"),
        ("DELETE", "/v1/models/bert", 405, "GET, HEAD"),
        ("PUT", "/metrics", 405, "GET, HEAD"),
        ("TRACE", "/v2", 405, "GET, HEAD"),
        ("GET", "/ui/nothing", 404, None),
        ("OPTIONS", "/nowhere", 404, None),
        ("OPTIONS", "/v2/models/bert/infer", 204, "POST"),
        ("OPTIONS", "/v2/health/ready", 204, "GET, HEAD"),
        ("HEAD", "/v2/health/ready", 200, None),
        ("HEAD", "/", 200, None),
        ("HEAD", "/metrics", 200, None),
    ],
)
def test_what_no_route_takes(server, method, path, status, allow):
    response = server.client.request(method, server.url + path)
    assert (response.status_code, response.headers.get("allow")) == (status, allow)
    if status == 204 or method == "HEAD":
        assert response.text == ""
    elif status >= 400:
        assert response.headers["content-type"] == "application/json"
        assert set(response.json()) == {"error"}
