"""Manifests against KServe's CRD schemas, the SDK's models, and the rendered examples."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from functools import cache
from pathlib import Path

import jsonschema
import kserve
import kubernetes.client
import pytest
import yaml

import bert_handler
from bert_handler.cli import main
from bert_handler.packaging.manifest import documents
from bert_handler.packaging.objects import render_objects
from bert_handler.packaging.service import Service
from bert_handler.server import GRPC_PORT, HTTP_PORT

ROOT = Path(__file__).parents[3]
EXAMPLES = sorted((ROOT / "setup_config" / "kserve").glob("*.yaml"))
CRDS = ROOT.parent / "shared" / "data"
SEED = ["--name", "torchserve-bert-v2", "--storage-uri", "pvc://task-pv-claim"]

VARIANTS = {
    "seed cpu": [],
    "seed gpu": ["--device", "gpu"],
    "torchserve raw": ["--autoscaling", "hpa", "--scale-metric", "memory", "--image", "registry/torchserve:1"],
    "kserve": ["--host", "kserve"],
    "kserve gpu": ["--host", "kserve", "--device", "gpu", "--gpus", "2", "--engine", "torch", "--no-scrape"],
    "legacy": ["--legacy-modes"],
    "kserve hpa": ["--host", "kserve", "--autoscaling", "hpa"],
    "kserve keda": ["--host", "kserve", "--autoscaling", "keda", "--scale-target", "8"],
    "kserve canary": ["--host", "kserve", "--canary", "10", "--namespace", "models", "--scale-metric", "rps"],
    "everything": [
        *("--host", "kserve", "--protocol", "grpc-v2", "--explainer", "--logger-url", "http://logs"),
        *("--service-account", "reader", "--threads", "4", "--cpu", "4", "--timeout", "30"),
    ],
}


def manifest(capsys, *words):
    code = main(["manifest", *SEED, *words])
    said = capsys.readouterr()
    assert code == 0, said.err
    return said.out


def objects(capsys, *words):
    return {item["kind"]: item for item in yaml.safe_load_all(manifest(capsys, *words))}


@cache
def schema(kind):
    path = CRDS / f"crd_{kind.lower()}s.yaml"
    if not path.is_file():
        pytest.skip(f"KServe's CRD schemas are not at {CRDS}")
    definition = yaml.load(path.read_text(), yaml.CSafeLoader)
    return {v["name"]: strict(v["schema"]["openAPIV3Schema"]) for v in definition["spec"]["versions"]}


def strict(node):
    """The schema with unknown fields refused, which the API server would drop silently."""
    if isinstance(node, list):
        return [strict(item) for item in node]
    if not isinstance(node, dict):
        return node
    made = {key: strict(value) for key, value in node.items()}
    if isinstance(node.get("properties"), dict) and "x-kubernetes-preserve-unknown-fields" not in node:
        made.setdefault("additionalProperties", False)
    return made


def check(text):
    for item in yaml.safe_load_all(text):
        version = item["apiVersion"].rpartition("/")[2]
        own = {**schema(item["kind"])[version]}
        # The CRD leaves metadata open; the API server checks it by itself.
        own["properties"] = {**own["properties"], "metadata": {"type": "object"}}
        jsonschema.Draft7Validator(own).validate(item)


@pytest.mark.parametrize("words", VARIANTS.values(), ids=VARIANTS)
def test_manifest_fits_the_crd(capsys, words):
    text = manifest(capsys, *words)
    assert "&id" not in text
    check(text)


@pytest.mark.parametrize("words", VARIANTS.values(), ids=VARIANTS)
def test_manifest_fits_the_sdk(capsys, words):
    for item in yaml.safe_load_all(manifest(capsys, *words)):
        version = item["apiVersion"].rpartition("/")[2].capitalize()
        model = sdk_model(f"{version}{item['kind']}", item)
        assert without_defaults(kserve.ApiClient().sanitize_for_serialization(model)) == item


def without_defaults(value):
    """Without the empty names and resources that the SDK's models fill in."""
    if isinstance(value, list):
        return [without_defaults(item) for item in value]
    if not isinstance(value, dict):
        return value
    made = {key: without_defaults(item) for key, item in value.items() if item != ""}
    return {key: item for key, item in made.items() if item != {} or key == "emptyDir"}


def sdk_model(kind, value):
    """The SDK's object of a type as its models name it; KeyError on a field that they do not know."""
    container = re.fullmatch(r"(list|dict)[\[(](?:str, ?)?(.+)[\])]", kind)
    if container and container[1] == "list":
        return [sdk_model(container[2], item) for item in value]
    if container:
        return {key: sdk_model(container[2], item) for key, item in value.items()}
    known = getattr(kserve.models, kind, None) or getattr(kubernetes.client, kind, None)
    if known is None:
        return value
    names = {theirs: ours for ours, theirs in known.attribute_map.items()}
    return known(**{names[key]: sdk_model(known.openapi_types[names[key]], item) for key, item in value.items()})


def test_strict_schema_refuses_an_unknown_field(capsys):
    text = manifest(capsys).replace("containerConcurrency", "containerConcurency")
    with pytest.raises(jsonschema.ValidationError, match="containerConcurency"):
        check(text)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_rendered_examples_are_up_to_date(capsys, path):
    """The first line of an example is the command that writes the rest."""
    header, _, rest = path.read_text(encoding="utf-8").partition("\n")
    words = shlex.split(header.removeprefix("# "))
    assert words[:2] == ["bert-handler", "manifest"]
    assert main(words[1:]) == 0
    assert capsys.readouterr().out == rest
    check(rest)


def test_there_are_examples_of_the_seeds_two_variants():
    assert {"cpu.yaml", "gpu.yaml"} <= {path.name for path in EXAMPLES}


def test_seeds_predictor(capsys):
    service = objects(capsys, "--device", "gpu")["InferenceService"]
    assert service["metadata"]["name"] == "torchserve-bert-v2"
    pytorch = service["spec"]["predictor"]["pytorch"]
    assert (pytorch["protocolVersion"], pytorch["storageUri"]) == ("v2", "pvc://task-pv-claim")
    assert pytorch["resources"]["limits"] == {"cpu": "1", "memory": "4Gi", "nvidia.com/gpu": "1"}
    assert {"name": "OMP_NUM_THREADS", "value": "1"} in pytorch["env"]


def test_model_starts_within_a_budget_of_its_own(capsys):
    """Knative has no startup probe: readiness and liveness wait, and the revision's deadline is longer."""
    predictor = objects(capsys, "--startup", "400")["InferenceService"]["spec"]["predictor"]
    pytorch = predictor["pytorch"]
    assert predictor["annotations"] == {"serving.knative.dev/progress-deadline": "800s"}
    assert "startupProbe" not in pytorch
    assert pytorch["readinessProbe"]["failureThreshold"] * pytorch["readinessProbe"]["periodSeconds"] == 400
    assert pytorch["livenessProbe"]["initialDelaySeconds"] == 400
    raw = objects(capsys, "--startup", "400", "--autoscaling", "hpa")["InferenceService"]["spec"]["predictor"]
    startup = raw["pytorch"]["startupProbe"]
    assert startup["failureThreshold"] * startup["periodSeconds"] == 400
    assert "annotations" not in raw


@pytest.mark.parametrize("host", ["torchserve", "kserve"])
def test_pods_have_no_variables_of_other_services(capsys, host):
    explained = ["--explainer"] if host == "kserve" else []
    spec = objects(capsys, "--host", host, *explained)["InferenceService"]["spec"]
    assert [component["enableServiceLinks"] for component in spec.values()] == [False] * (1 + len(explained))


def test_kserve_host_runs_locked_down(capsys):
    container = objects(capsys, "--host", "kserve")["ServingRuntime"]["spec"]["containers"][0]
    security = container["securityContext"]
    assert (security["runAsNonRoot"], security["readOnlyRootFilesystem"]) == (True, True)
    # The image's own: OpenShift refuses any other than its namespace's.
    assert "runAsUser" not in security
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert container["image"] == f"bert-handler:{bert_handler.__version__}"
    assert [mount["mountPath"] for mount in container["volumeMounts"]] == ["/tmp"]


def test_scratch_volume_of_known_size_fits_the_crd():
    text = render_objects(documents(Service("bert", "pvc://c", host="kserve", explainer=True, stored_bytes=0)))
    assert text.count("sizeLimit: 256Mi") == 2
    check(text)


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_explainer_starts_with_what_kserve_appends(capsys, tmp_path, shell):
    """KServe's CustomExplainer.GetContainer adds options that `serve` would refuse."""
    spec = objects(capsys, "--host", "kserve", "--explainer")["InferenceService"]["spec"]
    container = spec["explainer"]["containers"][0]
    appended = ["--model_name", "bert", "--predictor_host", "bert-predictor", "--http_port", "8080", "--workers", "64"]
    program = tmp_path / "bert-handler"
    program.write_text('#!/bin/sh\necho "$@"\n')
    program.chmod(0o755)
    assert container["command"][0] == "sh"
    line = [shell, *container["command"][1:], *container.get("args", []), *appended]
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    found = subprocess.run(line, env={"PATH": path}, capture_output=True, text=True, check=True)
    assert found.stdout == "serve /mnt/models --host 0.0.0.0 --http-port 8080 --grpc-port 8081\n"


def test_replicas_follow_what_the_autoscaler_knows(capsys):
    def predictor(*words):
        return objects(capsys, "--host", "kserve", *words)["InferenceService"]["spec"]["predictor"]

    knative, hpa, keda = (predictor("--autoscaling", name) for name in ("knative", "hpa", "keda"))
    assert (knative["scaleMetric"], knative["scaleTarget"]) == ("concurrency", 16)
    assert (hpa["scaleMetric"], hpa["scaleTarget"]) == ("cpu", 70)
    assert "scaleMetric" not in keda
    assert predictor("--canary", "10")["canaryTrafficPercent"] == 10


@pytest.mark.parametrize(
    ("words", "mode", "legacy"),
    [
        ([], "Knative", "Serverless"),
        (["--autoscaling", "hpa"], "Standard", "RawDeployment"),
        (["--autoscaling", "keda"], "Standard", "RawDeployment"),
    ],
)
def test_mode_is_stated_by_the_name_that_the_cluster_knows(capsys, words, mode, legacy):
    for more, name in (([], mode), (["--legacy-modes"], legacy)):
        service = objects(capsys, "--host", "kserve", *words, *more)["InferenceService"]
        assert service["metadata"]["annotations"]["serving.kserve.io/deploymentMode"] == name


@pytest.mark.parametrize(
    ("words", "labels"),
    [
        ([], 'pod=~"torchserve-bert-v2-predictor-.*"'),
        (["--namespace", "models"], 'namespace="models",pod=~"torchserve-bert-v2-predictor-.*"'),
    ],
)
def test_keda_has_the_threshold_that_kserve_takes_and_the_rows_of_this_service_alone(capsys, words, labels):
    """validateScalingKedaCompExtension refuses External without target.value; getKedaMetrics reads nothing else."""
    service = objects(capsys, "--host", "kserve", "--autoscaling", "keda", "--scale-target", "8", *words)
    external = service["InferenceService"]["spec"]["predictor"]["autoScaling"]["metrics"][0]["external"]
    assert external["target"] == {"type": "Value", "value": "8"}
    assert external["metric"]["query"] == f"sum(bert_handler_queue_rows{{{labels}}})"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--device", "tpu"], "device 'tpu' is unknown; choose from cpu, gpu"),
        (["--host", "mlserver"], "choose from torchserve, kserve"),
        (["--autoscaling", "hpa", "--scale-metric", "rps"], "choose from cpu, memory"),
        (["--autoscaling", "hpa", "--scale-target", "101"], "scale-target=101: hpa's is a percentage"),
        (["--autoscaling", "hpa", "--scale-metric", "memory", "--scale-target", "512"], "is a percentage"),
        (["--autoscaling", "hpa", "--min-replicas", "0"], "from zero; use --autoscaling knative"),
        (["--host", "kserve", "--autoscaling", "keda", "--min-replicas", "0"], "from zero; use --autoscaling knative"),
        (["--autoscaling", "keda"], "use --host kserve, or --autoscaling hpa or knative"),
        (["--host", "kserve", "--autoscaling", "keda", "--explainer"], "use --autoscaling hpa or knative"),
        (["--host", "kserve", "--autoscaling", "keda", "--canary", "5"], "split by Knative"),
        (["--explainer"], "use --host kserve"),
        (["--min-replicas", "5"], "above max-replicas"),
        (["--memory", "2GB"], "no quantity"),
        (["--engine", "foo"], "engine 'foo' is unknown; choose from torch, onnx, openvino"),
        (["--name", "BERT_Seq"], "name 'BERT_Seq' must be lower-case letters and digits, dashes between"),
        (["--name", ""], "name '' must be"),
        (["--name", "bert-"], "name 'bert-' must be"),
        (["--name", "2bert"], "name '2bert' must begin with a letter"),
        (["--name", "b" * 54], "53 at most"),
        (["--namespace", "Models"], "namespace 'Models' must be"),
        (["--storage-uri", ""], "storage-uri '' is no URI"),
        (["--storage-uri", "pvc://"], "storage-uri 'pvc://' is no URI"),
        (["--model", "a/b"], "model 'a/b' must be letters"),
    ],
)
def test_what_does_not_go_together_is_refused(capsys, words, message):
    assert main(["manifest", *SEED, *words]) == 1
    said = capsys.readouterr()
    assert message in said.err
    assert said.out == ""


def test_names_may_be_as_long_as_kserve_leaves_room_for(capsys):
    long = {"--name": "b" * 53, "--namespace": "2" + "n" * 62}
    service = objects(capsys, *(word for option in long.items() for word in option))["InferenceService"]
    assert [service["metadata"]["name"], service["metadata"]["namespace"]] == list(long.values())


@pytest.mark.parametrize("memory", ["4e9", "4E9", "4.5e+9", "40000000000e-1"])
def test_quantity_with_an_exponent_stays_a_string(capsys, memory):
    assert f"memory: '{memory}'" in manifest(capsys, "--memory", memory)


def test_dockerfile_keeps_the_manifests_promises():
    lines = (ROOT / "scripts" / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    found: dict[str, list[str]] = {}
    for line in lines:
        if line.strip() and not line.startswith("#"):
            instruction, _, rest = line.partition(" ")
            found.setdefault(instruction, []).append(rest.strip())
    # What --explainer and archives of --engine onnx need is there by default.
    assert found["ARG"] == ["EXTRAS=torch,kserve,explain,onnx", "PIP_EXTRA_INDEX_URL="]
    assert found["USER"] == ["1000"]
    assert lines.index("USER 1000") > max(n for n, line in enumerate(lines) if line.startswith(("RUN", "COPY")))
    assert "HF_HUB_OFFLINE=1" in found["ENV"][0].split()
    assert found["ENTRYPOINT"] == ['["bert-handler"]']
    assert found["CMD"][0].startswith('["serve", "/mnt/models", "--host", "0.0.0.0"')
    assert "/v2/health/ready" in found["HEALTHCHECK"][0]
    assert found["EXPOSE"] == [f"{HTTP_PORT} {GRPC_PORT}"]
    for sources in found["COPY"]:
        for source in sources.split()[:-1]:
            assert (ROOT / source).exists()
    assert all("ADD" not in line.split(" ")[0] for line in lines)
