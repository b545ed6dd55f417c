#!/usr/bin/env python3
"""A kubectl for the tests: a folder for the volume, a file for the cluster, failures on demand.

$KUBECTL_STANDIN is its folder: `volume/` is the pod's /pv, `objects.json` the cluster, `log` every
command line. $KUBECTL_STANDIN_FAIL=N:MODE fails the Nth command: `before` it did anything, `after`
it did everything, `half` with a cut file where it copies.
"""

import hashlib
import json
import os
import pathlib
import sys

VOLUME = OBJECTS = LOG = pathlib.Path()
MOUNT = "/pv"
POD = "model-store-pod"


def main(words):
    """Run one command line; SystemExit with its status."""
    global VOLUME, OBJECTS, LOG
    home = pathlib.Path(os.environ["KUBECTL_STANDIN"])
    VOLUME, OBJECTS, LOG = home / "volume", home / "objects.json", home / "log"
    with LOG.open("a") as log:
        log.write(json.dumps(words) + "\n")
    number = len(LOG.read_text().splitlines())
    at, _, mode = os.environ.get("KUBECTL_STANDIN_FAIL", "").partition(":")
    mode = mode if at == str(number) else ""
    if mode == "before":
        sys.exit("error: connection lost before")
    status = COMMANDS[words[0]](words[1:], mode)
    if mode == "after":
        sys.exit("error: connection lost after")
    sys.exit(status)


def options(words):
    """Positional words and options of a command line."""
    values, rest = {}, []
    words = iter(words)
    for word in words:
        if word in ("-n", "-c", "-f", "-l", "-o", "--context"):
            values[word] = next(words)
        elif word.startswith("-"):
            values[word] = True
        else:
            rest.append(word)
    assert values["-n"] == "models", "every command names the namespace"
    return rest, values


def execute(words, mode):
    cut = words.index("--")
    (pod,), _ = options(words[:cut])
    assert pod == POD
    program, *rest = [local(word) for word in words[cut + 1 :]]
    paths = [pathlib.Path(word) for word in rest if not word.startswith("-")]
    try:
        PROGRAMS[program](paths, [word for word in rest if word.startswith("-")])
    except OSError as exc:
        sys.stderr.write(f"{program}: {exc.strerror}\n")
        return 1
    return 0


def find(paths, flags):
    folder, *left_out = paths
    assert flags in ([], ["-name", "-prune", "-o", "-print"])
    for path in [folder, *sorted(folder.rglob("*"))]:
        if path.name not in map(str, left_out):
            sys.stdout.write(str(path).replace(str(VOLUME), MOUNT) + "\n")
            if path.name == "lost+found":
                raise PermissionError(13, "Permission denied")


def mkdir(paths, flags):
    for path in paths:
        path.mkdir(parents=flags == ["-p"], exist_ok=flags == ["-p"])


def sha256sum(paths, flags):
    sys.stdout.write(hashlib.sha256(paths[0].read_bytes()).hexdigest() + "  name\n")


def mv(paths, flags):
    if not (flags == ["-n"] and paths[1].exists()):
        paths[0].replace(paths[1])


def rm(paths, flags):
    for path in paths:
        path.unlink(missing_ok=flags == ["-f"])


def rmdir(paths, flags):
    paths[0].rmdir()


def cat(paths, flags):
    sys.stdout.write(paths[0].read_text())


PROGRAMS = {"find": find, "mkdir": mkdir, "sha256sum": sha256sum, "mv": mv, "rm": rm, "rmdir": rmdir, "cat": cat}


def copy(words, mode):
    (source, target), _ = options(words)
    pod, _, path = target.partition(":")
    assert pod == POD
    content = pathlib.Path(source).read_bytes()
    if mode == "half":
        pathlib.Path(local(path)).write_bytes(content[: len(content) // 2])
        sys.exit("error: connection lost in the middle")
    pathlib.Path(local(path)).write_bytes(content)
    return 0


def apply(words, mode):
    import yaml

    _, values = options(words)
    objects = load()
    for item in yaml.safe_load_all(pathlib.Path(values["-f"]).read_text()):
        name = f"{item['kind'].lower()}/{item['metadata']['name']}"
        known = objects.setdefault(name, {"polls": 0, "applied": 0, "spec": None})
        if known["spec"] != item["spec"]:
            known.update(spec=item["spec"], applied=known["applied"] + 1, polls=0)
    OBJECTS.write_text(json.dumps(objects))
    return 0


def get(words, mode):
    rest, values = options(words)
    objects = load()
    if rest == ["inferenceservice"]:
        sys.stdout.write("NAME   URL   READY\n" + "".join(f"{name}   True\n" for name in sorted(objects)))
        return 0
    if rest == ["pods"]:
        sys.stdout.write(json.dumps({"items": pods(objects, values["-l"])}))
        return 0
    name = "/".join(rest)
    if name not in objects:
        return 0 if "--ignore-not-found" in values else 1
    if values.get("-o") == "name":
        sys.stdout.write(name + "\n")
        return 0
    known = objects[name]
    known["polls"] += 1
    if known["polls"] > 1 and not os.environ.get("KUBECTL_STANDIN_NEVER_READY"):
        known["serves"] = annotations(known)
    OBJECTS.write_text(json.dumps(objects))
    # Until the new pods are ready, the old ones keep it Ready.
    ready = "serves" in known
    condition = {"type": "Ready", "status": str(ready), "reason": "" if ready else "RevisionMissing"}
    sys.stdout.write(json.dumps({"status": {"conditions": [condition]}}))
    return 0


def pods(objects, selector):
    labels = dict(label.split("=") for label in selector.split(","))
    assert labels["component"] == "predictor"
    known = objects[f"inferenceservice/{labels['serving.kserve.io/inferenceservice']}"]
    if known["spec"]["predictor"].get("minReplicas") == 0:
        return []
    found = [pod(annotations(known), "False")]
    return [*found, pod(known["serves"], "True")] if "serves" in known else found


def pod(annotations, ready):
    return {"metadata": {"annotations": annotations}, "status": {"conditions": [{"type": "Ready", "status": ready}]}}


def annotations(known):
    return known["spec"]["predictor"]["annotations"]


def delete(words, mode):
    (name,), _ = options(words)
    objects = load()
    objects.pop(name, None)
    OBJECTS.write_text(json.dumps(objects))
    return 0


def load():
    return json.loads(OBJECTS.read_text()) if OBJECTS.exists() else {}


def local(word):
    return str(VOLUME) + word[len(MOUNT) :] if word == MOUNT or word.startswith(MOUNT + "/") else word


COMMANDS = {"exec": execute, "cp": copy, "apply": apply, "get": get, "delete": delete}

if __name__ == "__main__":
    main(sys.argv[1:])
