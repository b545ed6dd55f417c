"""Run TorchServe in the foreground on generated settings."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from bert_handler.errors import ConfigError, MissingExtraError
from bert_handler.packaging.settings import CONFIG, TorchServeSettings, WrittenSettings


def run(settings: TorchServeSettings | WrittenSettings, work_dir: Path) -> int:
    """Run TorchServe until it ends or SIGTERM / SIGINT arrives; its exit code.

    work_dir: takes config.properties, the logs, and the key file where authorization is on.
    Raises MissingExtraError without torchserve, ConfigError without Java.
    """
    process = start(settings, work_dir)

    def stop(number: int, frame: Any) -> None:
        process.send_signal(signal.SIGTERM)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    return process.wait()


def start(settings: TorchServeSettings | WrittenSettings, work_dir: Path, **options: Any) -> subprocess.Popen[Any]:
    """Start the Java frontend itself, so that the returned process is the server."""
    java = find_java()
    if java is None:
        raise ConfigError("TorchServe needs Java 17: apt-get install openjdk-17-jre-headless")
    frontend = _frontend()
    config = work_dir / CONFIG
    config.write_text(settings.text(), encoding="utf-8")
    temporary = Path(tempfile.mkdtemp(prefix="tmp_", dir=work_dir))
    environ = {
        **os.environ,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        "TEMP": str(temporary),
        "TMPDIR": str(temporary),
        "LOG_LOCATION": str(work_dir / "logs"),
        "METRICS_LOCATION": str(work_dir / "logs"),
        "TS_CONFIG_FILE": str(config),
        # Bodies reach the handler as bytes: one JSON parser, not two.
        "TS_DECODE_INPUT_REQUEST": "false",
    }
    command = [
        java,
        f"-Dmodel_server_home={frontend.parent.parent}",
        "-XX:+UseSerialGC",
        f"-Djava.io.tmpdir={temporary}",
        "-cp",
        f".:{frontend}/*",
        "org.pytorch.serve.ModelServer",
        "--python",
        sys.executable,
        "-f",
        str(config),
        "-s",
        settings.model_store,
        "--disable-token-auth" if not settings.token_authorization else "",
        "-ncs",
    ]
    return subprocess.Popen([word for word in command if word], cwd=work_dir, env=environ, **options)


def find_java() -> str | None:
    """The Java that runs TorchServe: of JAVA_HOME, else the first on the PATH."""
    home = os.environ.get("JAVA_HOME")
    return shutil.which("java", path=f"{home}/bin" if home else None) or shutil.which("java")


def _frontend() -> Path:
    from importlib.util import find_spec

    spec = find_spec("ts")
    if spec is None or not spec.origin:
        raise MissingExtraError("torchserve", "torchserve")
    return Path(spec.origin).parent / "frontend"
