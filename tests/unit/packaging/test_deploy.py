"""deploy and undeploy against a stand-in kubectl that fails at every step in every way."""

from __future__ import annotations

import contextlib
import io
import json
import shlex
import subprocess
import sys
import zipfile

import pytest
import yaml

from bert_handler.cli import main
from bert_handler.packaging import deploy as steps
from bert_handler.packaging import kubectl, model_store
from tests import kubectl_standin

NAME = "torchserve-bert-v2"
WHERE = ["--name", NAME, "-n", "models", "--pod", "model-store-pod", "--container", "model-store"]
FILES = {"config/config.properties", "model-store/bert.mar", f".bert-handler/{NAME}.json"}
MODES = ("before", "after", "half")

OWN_MANIFEST = f"""\
# Ours.
apiVersion: serving.kserve.io/v1alpha1
kind: ServingRuntime
metadata: {{name: ours}}
spec: {{containers: []}}
---
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {{name: {NAME}}}
spec:
  predictor:
    annotations: {{sidecar.istio.io/inject: "false"}}
    pytorch: {{storageUri: pvc://c}}
"""


class Cluster:
    """The stand-in's state, and the two commands on it."""

    def __init__(self, home, monkeypatch):
        self.home, self.monkeypatch = home, monkeypatch
        self.volume = home / "volume"
        self.volume.mkdir(parents=True)
        self.archive = home / "bert.mar"
        self.write_archive("one")
        monkeypatch.setenv("KUBECTL_STANDIN", str(home))

    def write_archive(self, content):
        with zipfile.ZipFile(self.archive, "w") as mar:
            mar.writestr("MAR-INF/MANIFEST.json", '{"model": {"modelName": "m", "modelVersion": "1.0"}}')
            mar.writestr("model.safetensors", content)

    def deploy(self, *words, fail=""):
        place = [] if "--manifest" in words else ["--claim", "c"]
        return self._run("deploy", str(self.archive), *place, "--directory", str(self.home / "own"), *words, fail=fail)

    def undeploy(self, *words, fail=""):
        return self._run("undeploy", *words, fail=fail)

    def _run(self, *words, fail):
        (self.home / "log").unlink(missing_ok=True)
        self.monkeypatch.setenv("KUBECTL_STANDIN_FAIL", fail)
        return main([words[0], *WHERE, *words[1:]])

    def deploy_other(self, *words):
        """Another archive under another name, on the same volume."""
        (self.home / "other").mkdir(exist_ok=True)
        other = self.home / "other" / self.archive.name
        other.write_bytes(self.archive.read_bytes() + b"other")
        where = ["--name", "other", "--claim", "c", "--directory", str(self.home / "other")]
        return self._run("deploy", str(other), *where, *words, fail="")

    @property
    def log(self):
        path = self.home / "log"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    @property
    def objects(self):
        path = self.home / "objects.json"
        return json.loads(path.read_text()) if path.exists() else {}

    def tree(self):
        return {path.relative_to(self.volume).as_posix() for path in self.volume.rglob("*") if path.is_file()}

    def contents(self):
        return {name: (self.volume / name).read_bytes() for name in self.tree()}

    def folders(self):
        return {path.relative_to(self.volume).as_posix() for path in self.volume.rglob("*") if path.is_dir()}

    def check_deployed(self):
        assert self.tree() == FILES
        assert (self.volume / "model-store/bert.mar").read_bytes() == self.archive.read_bytes()
        assert {name: known["applied"] for name, known in self.objects.items()} == {f"inferenceservice/{NAME}": 1}


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """A cluster behind a stand-in that runs in this process: some tests run thousands of commands."""
    monkeypatch.setattr(kubectl.subprocess, "run", run_here)
    monkeypatch.setattr(steps, "POLL_S", 0.0)
    return Cluster(tmp_path / "cluster", monkeypatch)


@pytest.fixture
def program(tmp_path, monkeypatch):
    """A cluster behind a stand-in on the PATH."""
    programs = tmp_path / "bin"
    programs.mkdir()
    command = f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {shlex.quote(kubectl_standin.__file__)} "$@"\n'
    (programs / "kubectl").write_text(command)
    (programs / "kubectl").chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=":")
    monkeypatch.setattr(steps, "POLL_S", 0.0)
    return Cluster(tmp_path / "cluster", monkeypatch)


def run_here(line, **options):
    out, err, status = io.StringIO(), io.StringIO(), 0
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            kubectl_standin.main(line[1:])
    except SystemExit as exc:
        if isinstance(exc.code, str):
            err.write(exc.code)
        status = 1 if isinstance(exc.code, str) else exc.code or 0
    return subprocess.CompletedProcess(line, status, out.getvalue(), err.getvalue())


def test_one_command_deploys_and_one_takes_back(program, capsys):
    cluster = program
    assert cluster.deploy() == 0, capsys.readouterr().err
    cluster.check_deployed()
    said = capsys.readouterr()
    assert "READY" in said.out
    assert "/pv/model-store/bert.mar" in said.err
    assert cluster.undeploy() == 0
    assert (cluster.tree(), cluster.folders(), cluster.objects) == (set(), set(), {})


def test_folder_that_only_root_may_look_into_is_left_alone(cluster, capsys):
    (cluster.volume / "lost+found").mkdir(mode=0o700)
    assert cluster.deploy() == 0, capsys.readouterr().err
    cluster.check_deployed()
    assert "lost+found" not in capsys.readouterr().err
    assert cluster.undeploy() == 0
    assert (cluster.tree(), cluster.folders(), cluster.objects) == (set(), {"lost+found"}, {})


def test_find_itself_lists_all_but_that_folder(tmp_path, monkeypatch):
    for name in ("a/b", "lost+found/c"):
        (tmp_path / name).mkdir(parents=True)
    pod = kubectl.Kubectl("models", "pod")
    monkeypatch.setattr(pod, "inspect", lambda *words: subprocess.check_output(words, text=True))
    assert sorted(pod.files(str(tmp_path))) == [str(tmp_path), str(tmp_path / "a"), str(tmp_path / "a/b")]


def test_second_run_changes_nothing(cluster):
    cluster.deploy()
    assert cluster.deploy() == 0
    cluster.check_deployed()
    copied = [words for words in cluster.log if words[0] == "cp"]
    assert [words[2] for words in copied] == [f"model-store-pod:/pv/.bert-handler/{NAME}.json.part"]


def test_after_any_failure_the_next_run_finishes(cluster, capsys, tmp_path, monkeypatch):
    cluster.deploy()
    commands = cluster.log
    for number, words in enumerate(commands, 1):
        for mode in MODES:
            if mode == "half" and words[0] != "cp":
                continue
            fresh = Cluster(tmp_path / f"{number}{mode}", monkeypatch)
            capsys.readouterr()
            assert fresh.deploy(fail=f"{number}:{mode}") == 1
            said = capsys.readouterr().err
            assert "connection lost" in said
            if number < len(commands):
                assert "in place: " in said
                assert "run the same command again" in said
            assert fresh.deploy() == 0, capsys.readouterr().err
            fresh.check_deployed()
            assert fresh.undeploy() == 0
            assert (fresh.tree(), fresh.folders(), fresh.objects) == (set(), set(), {})


def test_after_any_failure_undeploy_finishes_too(cluster, tmp_path, monkeypatch):
    cluster.deploy()
    cluster.undeploy()
    for number in range(1, len(cluster.log) + 1):
        for mode in ("before", "after"):
            fresh = Cluster(tmp_path / f"{number}{mode}", monkeypatch)
            fresh.deploy()
            assert fresh.undeploy(fail=f"{number}:{mode}") == 1
            assert fresh.undeploy() == 0
            assert (fresh.tree(), fresh.folders(), fresh.objects) == (set(), set(), {})


def test_failed_deployment_can_be_taken_back(cluster, tmp_path, monkeypatch):
    cluster.deploy()
    for number in range(1, len(cluster.log) + 1):
        fresh = Cluster(tmp_path / f"back{number}", monkeypatch)
        fresh.deploy(fail=f"{number}:after")
        assert fresh.undeploy() == 0
        assert (fresh.tree(), fresh.objects) == (set(), {})


def test_new_archive_replaces_the_old_one_and_the_pods(cluster):
    cluster.deploy()
    cluster.write_archive("two")
    assert cluster.deploy() == 0
    assert cluster.tree() == FILES
    assert (cluster.volume / "model-store/bert.mar").read_bytes() == cluster.archive.read_bytes()
    assert cluster.objects[f"inferenceservice/{NAME}"]["applied"] == 2


def test_own_manifest_has_its_pods_replaced_too(cluster):
    own = cluster.home / "own.yaml"
    own.write_text(OWN_MANIFEST)
    for changed, applied in ((False, 1), (False, 1), (True, 2)):
        if changed:
            cluster.write_archive("two")
        assert cluster.deploy("--manifest", str(own)) == 0
        assert cluster.objects[f"inferenceservice/{NAME}"]["applied"] == applied
        assert cluster.objects["servingruntime/ours"]["applied"] == 1
    assert own.read_text() == OWN_MANIFEST
    annotations = cluster.objects[f"inferenceservice/{NAME}"]["spec"]["predictor"]["annotations"]
    assert annotations.pop("bert-handler/revision")
    assert annotations == {"sidecar.istio.io/inject": "false"}


@pytest.mark.parametrize(("host", "workers", "threads"), [("torchserve", 2, "4"), ("kserve", 1, "8")])
def test_workers_of_a_pod_share_its_cores(cluster, host, workers, threads):
    assert cluster.deploy("--host", host, "--cpu", "8", "--memory", "8Gi") == 0
    properties = (cluster.volume / "config" / "config.properties").read_text()
    assert f'"minWorkers":{workers}' in properties.replace(" ", "")
    assert threads_of(cluster) == (threads, threads)


HALVED = "env: [{name: OTHER, valueFrom: {}}, {name: BERT_HANDLER_DTYPE, value: float16}]"
WHOLE = HALVED.replace("float16", "float32")
BY_PREDICTOR = OWN_MANIFEST.replace("storageUri", f"{HALVED}, storageUri")
BY_RUNTIME = OWN_MANIFEST.replace("containers: []", f"containers: [{{{HALVED}}}]")
OTHER = "---\nkind: {}\nmetadata: {{name: other}}\nspec: {{predictor: {{containers: [{{{}}}]}}}}\n"


@pytest.mark.parametrize(
    ("content", "fits"),
    [
        (OWN_MANIFEST, False),
        (BY_PREDICTOR, True),
        (BY_RUNTIME, True),
        (BY_RUNTIME.replace("storageUri", f"{WHOLE}, storageUri"), False),
        (BY_PREDICTOR + OTHER.format("ServingRuntime", WHOLE), True),
        (BY_RUNTIME.replace("pytorch: {", "model: {runtime: ours, ") + OTHER.format("ServingRuntime", WHOLE), True),
        (BY_RUNTIME.replace("pytorch: {", "model: {runtime: elsewhere, "), False),
        (OWN_MANIFEST.replace("pytorch: {storageUri: pvc://c}", "model: [pvc://c]"), False),
        (f"{OWN_MANIFEST}  explainer: {{containers: [{{{HALVED}}}]}}\n", False),
        (OWN_MANIFEST + OTHER.format("InferenceService", HALVED), False),
    ],
)
def test_memory_is_planned_for_what_the_predictor_of_an_own_manifest_sets(cluster, capsys, content, fits):
    header = json.dumps({"weight": {"dtype": "F32", "shape": [750 * 2**20], "data_offsets": [0, 3000 * 2**20]}})
    cluster.write_archive(len(header).to_bytes(8, "little") + header.encode())
    own = cluster.home / "own.yaml"
    own.write_text(content)
    assert cluster.deploy("--manifest", str(own), "--memory", "4Gi") == (0 if fits else 1)
    assert ("give at least --memory 4924Mi" in capsys.readouterr().err) is not fits


def test_paths_are_printed_as_they_are(cluster, capsys):
    assert cluster.deploy("--manifest", ":cat:[red].yaml") == 1
    assert ":cat:[red].yaml is no manifest" in capsys.readouterr().err
    assert cluster.deploy("--directory", str(cluster.home / ":cat:[red]")) == 0
    assert ":cat:[red]" in capsys.readouterr().err


def threads_of(cluster):
    manifest = yaml.safe_load_all((cluster.home / "own" / f"{NAME}.yaml").read_text())
    specs = {item["kind"]: item["spec"] for item in manifest}
    if "ServingRuntime" in specs:
        container = specs["ServingRuntime"]["containers"][0]
    else:
        container = specs["InferenceService"]["predictor"]["pytorch"]
    variables = {item["name"]: item["value"] for item in container["env"]}
    return variables["BERT_HANDLER_THREADS"], variables["OMP_NUM_THREADS"]


@pytest.mark.parametrize(
    ("host", "models", "threads"),
    [
        ("torchserve", {"bert": {"1.0": {"minWorkers": 4}}}, "2"),
        ("torchserve", {"bert": {"1.0": {"minWorkers": 1}}, "b": {"1.0": {"minWorkers": 2}}}, "2"),
        ("torchserve", {"bert": {"1.0": {"minWorkers": 16}}}, "1"),
        ("torchserve", {"bert": {"1.0": {}}}, "8"),
        ("torchserve", {"bert": {"1.0": {"minWorkers": "many"}}}, "8"),
        ("torchserve", None, "8"),
        ("kserve", {"bert": {"1.0": {"minWorkers": 4}}}, "8"),
    ],
)
def test_workers_of_own_settings_share_the_cores_too(cluster, host, models, threads):
    config = cluster.home / "own.properties"
    stated = "" if models is None else f"model_snapshot={json.dumps({'models': models})}\n"
    config.write_text(f"model_store=x\n{stated}")
    assert cluster.deploy("--host", host, "--cpu", "8", "--config", str(config)) == 0
    assert (cluster.volume / "config" / "config.properties").read_bytes() == config.read_bytes()
    assert threads_of(cluster) == (threads, threads)


@pytest.mark.parametrize(
    ("words", "mode"),
    [
        ([], "Knative"),
        (["--legacy-modes"], "Serverless"),
        (["--autoscaling", "hpa"], "Standard"),
        (["--autoscaling", "hpa", "--legacy-modes"], "RawDeployment"),
    ],
)
def test_service_runs_with_knative_or_without(cluster, words, mode):
    assert cluster.deploy(*words) == 0
    service = yaml.safe_load((cluster.home / "own" / f"{NAME}.yaml").read_text())
    assert service["metadata"]["annotations"]["serving.kserve.io/deploymentMode"] == mode


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ([], 1),
        (["--route", "b"], 0),
        # Its probe asks for all models, and an own manifest has probes of its own.
        (["--host", "kserve"], 0),
        (["--manifest", "own.yaml"], 0),
    ],
)
def test_settings_without_the_route_that_is_probed_are_refused(cluster, capsys, monkeypatch, words, code):
    monkeypatch.chdir(cluster.home)
    (cluster.home / "own.yaml").write_text(OWN_MANIFEST)
    models = {"a": {"1.0": {}}, "b": {"1.0": {}}, "bert": {}}
    (cluster.home / "own.properties").write_text(f"model_snapshot={json.dumps({'models': models})}\n")
    assert cluster.deploy("--config", "own.properties", *words) == code
    refused = "--config serves a, b and not 'bert'; give --route one of them" in capsys.readouterr().err
    assert (refused, cluster.log == []) == (code == 1, code == 1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (OWN_MANIFEST.replace(NAME, "other"), f"has no InferenceService '{NAME}'; it has servingruntime/ours"),
        (OWN_MANIFEST.replace("predictor", "worker"), f"the InferenceService '{NAME}' has no spec.predictor"),
        ("kind: [", "is no manifest"),
        ("- a", "is no manifest"),
    ],
)
def test_manifest_without_the_service_is_refused(cluster, capsys, content, message):
    own = cluster.home / "own.yaml"
    own.write_text(content)
    assert cluster.deploy("--manifest", str(own)) == 1
    assert message in capsys.readouterr().err
    assert cluster.log == []


def test_foreign_file_is_kept(cluster, capsys):
    foreign = cluster.volume / "config" / "config.properties"
    foreign.parent.mkdir()
    foreign.write_text("other=1\n")
    assert cluster.deploy() == 1
    assert "/pv/config/config.properties is there already with other content" in capsys.readouterr().err
    assert cluster.tree() == {"config/config.properties"}

    for fail in [f"{number}:after" for number in range(1, 16)]:
        cluster.deploy("--replace", fail=fail)
        cluster.undeploy()
        assert (cluster.tree(), foreign.read_text()) == ({"config/config.properties"}, "other=1\n")

    assert cluster.deploy("--replace") == 0
    assert cluster.tree() == {*FILES, f"config/config.properties.before-{NAME}"}
    assert cluster.undeploy() == 0
    assert (cluster.tree(), foreign.read_text()) == ({"config/config.properties"}, "other=1\n")


@pytest.mark.parametrize("words", [[], ["--replace"]])
def test_files_of_another_deployment_are_not_replaced(cluster, capsys, words):
    cluster.deploy()
    before = cluster.contents()
    assert cluster.deploy_other(*words) == 1
    assert f"/pv/model-store/bert.mar is what {NAME} serves" in capsys.readouterr().err
    assert cluster.contents() == before

    cluster.archive = cluster.archive.rename(cluster.home / "second.mar")
    assert cluster.deploy_other(*words, "--route", "second") == 1
    assert f"/pv/config/config.properties is what {NAME} serves" in capsys.readouterr().err
    assert cluster.contents() == before


def test_two_deployments_share_a_volume_in_folders(cluster):
    cluster.deploy()
    first = cluster.contents()
    assert cluster.deploy_other("--folder", "two") == 0
    assert cluster.contents().items() >= first.items()
    assert {"two/config/config.properties", "two/model-store/bert.mar"} <= cluster.tree()
    assert cluster.objects["inferenceservice/other"]["spec"]["predictor"]["pytorch"]["storageUri"] == "pvc://c/two"
    cluster.write_archive("two")
    assert cluster.deploy() == 0
    assert cluster.undeploy() == 0
    assert cluster.folders() == {".bert-handler", "two", "two/config", "two/model-store"}
    assert cluster.undeploy("--name", "other") == 0
    assert (cluster.tree(), cluster.folders(), cluster.objects) == (set(), set(), {})


def test_two_deployments_of_the_same_files_share_them(cluster, capsys):
    cluster.deploy()
    assert cluster.deploy("--name", "other") == 0
    cluster.write_archive("two")
    assert cluster.deploy() == 1
    assert "/pv/model-store/bert.mar is what other serves" in capsys.readouterr().err


def test_file_that_lay_there_already_stays(cluster, capsys):
    placed = cluster.volume / "model-store" / "bert.mar"
    placed.parent.mkdir()
    placed.write_bytes(cluster.archive.read_bytes())
    assert cluster.deploy() == 0
    assert not any("bert.mar.part" in word for words in cluster.log for word in words)
    assert cluster.undeploy() == 0
    assert cluster.tree() == {"model-store/bert.mar"}
    assert "kept /pv/model-store/bert.mar: it was there before" in capsys.readouterr().out


def test_file_that_was_changed_since_stays(cluster, capsys):
    cluster.deploy()
    changed = cluster.volume / "config" / "config.properties"
    changed.write_text("edited=1\n")
    assert cluster.undeploy() == 0
    assert cluster.tree() == {"config/config.properties"}
    assert "its content is not what was deployed" in capsys.readouterr().out


def test_service_that_was_there_stays(cluster):
    cluster.home.joinpath("objects.json").write_text(
        json.dumps({f"inferenceservice/{NAME}": {"polls": 0, "applied": 0, "spec": {}}})
    )
    assert cluster.deploy() == 0
    assert cluster.undeploy() == 0
    assert list(cluster.objects) == [f"inferenceservice/{NAME}"]


def test_nothing_to_take_back(cluster, capsys):
    assert cluster.undeploy() == 0
    assert "nothing to take back" in capsys.readouterr().out


CHANGES = {"cp", "apply", "delete", "mkdir", "mv", "rm", "rmdir"}


def changes(commands):
    programs = [words[words.index("--") + 1] if words[0] == "exec" else words[0] for words in commands]
    return [words for words, program in zip(commands, programs) if program in CHANGES]


def replace_a_file(cluster):
    foreign = cluster.volume / "config" / "config.properties"
    foreign.parent.mkdir()
    foreign.write_text("other=1\\n")
    cluster.deploy("--replace")


@pytest.mark.parametrize("words", [["deploy"], ["deploy", "--replace"], ["undeploy"]], ids=" ".join)
@pytest.mark.parametrize(
    "before",
    [
        lambda cluster: None,
        lambda cluster: cluster.deploy(),
        lambda cluster: cluster.deploy(fail="10:before"),
        lambda cluster: cluster.deploy("--name", "other") or cluster.deploy(),
        replace_a_file,
    ],
    ids=["nothing", "deployed", "half deployed", "shared", "replaced"],
)
def test_dry_run_looks_and_prints_exactly_what_would_change_something(cluster, capsys, before, words):
    before(cluster)
    if words[0] == "deploy":
        cluster.write_archive("two")
    there = cluster.contents(), cluster.folders(), cluster.objects
    capsys.readouterr()
    command = getattr(cluster, words[0])
    code = command(*words[1:], "--dry-run")
    printed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("kubectl ")]
    assert changes(cluster.log) == []
    assert (cluster.contents(), cluster.folders(), cluster.objects) == there
    assert command(*words[1:]) == code
    assert [shlex.split(line)[1:] for line in printed] == changes(cluster.log)


def test_dry_run_of_undeploy_lists_services_files_and_folders(cluster, capsys):
    assert cluster.deploy("--host", "kserve", "--folder", "two") == 0
    capsys.readouterr()
    assert cluster.undeploy("--dry-run") == 0
    lines = [shlex.split(line)[1:] for line in capsys.readouterr().out.splitlines()]
    assert [words[words.index("--") + 1 :] if "--" in words else words[:2] for words in lines] == [
        ["delete", f"servingruntime/{NAME}-runtime"],
        ["delete", f"inferenceservice/{NAME}"],
        ["rm", "-f", "/pv/two/model-store/bert.mar"],
        ["rm", "-f", "/pv/two/config/config.properties"],
        ["rmdir", "/pv/two/model-store"],
        ["rmdir", "/pv/two/config"],
        ["rmdir", "/pv/two"],
        ["rm", "-f", f"/pv/.bert-handler/{NAME}.json"],
        ["rmdir", "/pv/.bert-handler"],
    ]


def test_service_that_does_not_become_ready_says_why(cluster, capsys, monkeypatch):
    monkeypatch.setenv("KUBECTL_STANDIN_NEVER_READY", "1")
    assert cluster.deploy("--timeout", "1") == 1
    said = capsys.readouterr().err
    assert f"{NAME} is not Ready after 1 s: Ready RevisionMissing" in said
    assert "apply" in said.split("in place: ")[1]


@pytest.mark.parametrize(("host", "code"), [("torchserve", 1), ("kserve", 0)])
def test_memory_is_checked_against_the_host_that_needs_it(cluster, capsys, host, code):
    assert cluster.deploy("--host", host, "--memory", "700Mi") == code
    assert ("do not fit a memory limit of 700Mi" in capsys.readouterr().err) is bool(code)
    if host == "kserve":
        models = model_store.models_of(cluster.volume)
        assert models == {"bert": cluster.volume / "model-store" / "bert.mar"}


def test_scratch_volume_has_room_for_the_archive_twice(cluster, capsys, tmp_path):
    cluster.write_archive("x" * (3 << 20))
    assert cluster.deploy("--host", "kserve") == 0
    assert scratch_of((cluster.home / "own" / f"{NAME}.yaml").read_text()) == [{"sizeLimit": "262Mi"}]
    own = tmp_path / "own.properties"
    own.write_text("model_store=x\n")
    assert cluster.deploy("--host", "kserve", "--config", str(own), "--replace") == 0
    assert scratch_of((cluster.home / "own" / f"{NAME}.yaml").read_text()) == [{}], "it may name more archives"
    service = ["--name", NAME, "--storage-uri", "pvc://c", "--host", "kserve", "--explainer"]
    capsys.readouterr()
    assert main(["manifest", *service, "--archive", str(cluster.archive)]) == 0
    assert scratch_of(capsys.readouterr().out) == [{}] * 2, "the volume may hold more archives"


def scratch_of(text):
    runtime, service = yaml.safe_load_all(text)
    specs = [runtime["spec"], *(part for part in service["spec"].values() if "volumes" in part)]
    return [volume["emptyDir"] for spec in specs for volume in spec["volumes"]]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--host", "kserve"], "does not fit a memory limit of 450Mi; give at least --memory 481Mi"),
        (["--config", "own.properties"], "does not fit a memory limit of 450Mi; give at least --memory 1025Mi"),
    ],
)
def test_memory_that_the_model_does_not_fit_is_refused(cluster, capsys, monkeypatch, words, message):
    monkeypatch.chdir(cluster.home)
    (cluster.home / "own.properties").write_text("model_store=x\n")
    assert cluster.deploy("--memory", "450Mi", *words) == 1
    assert message in capsys.readouterr().err
    assert cluster.log == []
    service = ["--name", NAME, "--storage-uri", "pvc://c", "--archive", "bert.mar", "--host", "kserve"]
    assert main(["manifest", *service, "--memory", "450Mi"]) == 1
    assert "give at least --memory 481Mi" in capsys.readouterr().err


@pytest.mark.parametrize("host", ["torchserve", "kserve"])
@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_memory_is_that_of_the_manifest_command(cluster, capsys, host, device):
    given = ["--host", host, "--device", device]
    assert cluster.deploy(*given) == 0
    capsys.readouterr()
    service = ["--name", NAME, "--storage-uri", "pvc://c", "--archive", str(cluster.archive)]
    assert main(["manifest", *service, *given]) == 0
    written = yaml.safe_load_all((cluster.home / "own" / f"{NAME}.yaml").read_text())
    assert memory_of(written) == memory_of(yaml.safe_load_all(capsys.readouterr().out))


def memory_of(objects):
    *_, service = objects
    predictor = service["spec"]["predictor"]
    return (predictor.get("pytorch") or predictor.get("model"))["resources"]["limits"]["memory"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--host", "foo"], "host 'foo' is unknown; choose from torchserve, kserve"),
        (["--device", "tpu"], "device 'tpu' is unknown"),
        (["--manifest", "own.yaml", "--host", "foo"], "host 'foo' is unknown"),
        (["--autoscaling", "keda"], "autoscaling 'keda' is unknown; choose from knative, hpa"),
        (["--cpu", "2GB"], "'2GB' is no quantity"),
        (["--memory", "2ki"], "'2ki' is no quantity"),
        (["--memory", "600Mi"], "do not fit a memory limit of 600Mi"),
        (["--route", "a/b"], "route 'a/b' must be letters"),
        (["--claim", ""], "claim '' must be"),
        (["--claim", "c/d"], "claim 'c/d' must be"),
        (["--config", "missing.properties"], "missing.properties does not exist"),
        (["--config", "."], ". is not a file"),
        (["--manifest", "missing.yaml"], "missing.yaml is no manifest"),
        (["--manifest", "missing.yaml", "--image", "own"], "--claim and --image are for a manifest that is made"),
        (["--folder", "../esc"], "folder '../esc' must be"),
        (["--name", "../esc"], "name '../esc' must be"),
        (["--name", "BERT"], "name 'BERT' must be"),
    ],
)
def test_what_cannot_hold_is_refused_before_anything_is_written(cluster, capsys, monkeypatch, words, message):
    monkeypatch.chdir(cluster.home)
    assert cluster.deploy(*words) == 1
    assert message in capsys.readouterr().err
    assert (cluster.log, sorted(path.name for path in cluster.home.parent.rglob("*"))) == (
        [],
        ["bert.mar", "cluster", "volume"],
    )


def test_undeploy_looks_at_no_file_of_another_folder(cluster, capsys):
    assert cluster.undeploy("--name", "../model-store/x") == 1
    assert "name '../model-store/x' must be" in capsys.readouterr().err
    assert cluster.log == []


def test_ready_of_the_pods_before_does_not_count(cluster, capsys, monkeypatch):
    assert cluster.deploy() == 0
    cluster.write_archive("two")
    monkeypatch.setenv("KUBECTL_STANDIN_NEVER_READY", "1")
    assert cluster.deploy("--timeout", "1") == 1
    assert "Ready with the pods before; 1 of 2 pods have the new files" in capsys.readouterr().err
    monkeypatch.delenv("KUBECTL_STANDIN_NEVER_READY")
    assert cluster.deploy() == 0


def test_service_that_is_scaled_to_zero_is_ready(cluster):
    own = cluster.home / "own.yaml"
    own.write_text(OWN_MANIFEST.replace("pytorch", "minReplicas: 0\n    pytorch"))
    assert cluster.deploy("--manifest", str(own)) == 0


def test_missing_kubectl_is_an_error(program, capsys, monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    assert program.deploy() == 1
    assert "kubectl cannot be run" in capsys.readouterr().err
