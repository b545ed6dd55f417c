"""The README's tables, made from the code and from real answers.

`python -m tests.readme` writes them anew; tests/contract/test_readme.py says when they are out of date.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bert_handler import Predictor, errors, jsonio
from bert_handler.config import SETTINGS
from bert_handler.explanations.options import MAX_STEPS, MAX_TARGETS, Options
from bert_handler.packaging.demo_model import assemble, encoder_directory
from bert_handler.parameters import Parameter
from bert_handler.tasks import TASKS
from bert_handler.tasks.explanation_parameters import EXPLANATION_PARAMETERS
from tests.contract.task_examples import EXAMPLES, Example
from tests.zoo import build

README = Path(__file__).resolve().parents[1] / "README.md"


def settings_table() -> str:
    """Every setting with its default and its choices; also those of a task that no request can change."""
    rows = ["| setting | default | meaning |", "| --- | --- | --- |"]
    rows += [_parameter(item) for item in SETTINGS]
    for name, task in TASKS.items():
        rows += [_parameter(item, f"{name}: ") for item in task.parameters if not item.request]
    return "\n".join(rows)


def parameters_table() -> str:
    """The request parameters of every task."""
    rows = [
        "| `mode` | request parameters, with their defaults; the settings may set others under the same names |",
        "| --- | --- |",
    ]
    for name, task in TASKS.items():
        own = [item for item in task.parameters if item.request]
        parameters = ", ".join(f"`{item.name}` ({_default(item.default) or 'none'})" for item in own)
        rows.append(f"| `{name}` | {parameters} |")
    return "\n".join(rows)


def explanation_table() -> str:
    """What a request for explanations can say."""
    rows = ["| parameter | default | meaning |", "| --- | --- | --- |"]
    rows.append(_row("target", None, f"label or index, or a list of up to {MAX_TARGETS}; default: the decision"))
    steps = f'steps of integrated gradients, to {MAX_STEPS}; `"auto"`: as many as `tolerance` needs'
    rows.append(_row("n_steps", Options.n_steps, steps))
    rows += [_parameter(item) for item in EXPLANATION_PARAMETERS]
    return "\n".join(rows)


def errors_table() -> str:
    """Every status of a refusal, and what its errors say of themselves."""
    meanings: dict[int, list[str]] = {}
    for kind in vars(errors).values():
        if isinstance(kind, type) and issubclass(kind, errors.RequestError) and kind is not errors.RequestError:
            meanings.setdefault(kind.status, []).append(str(kind.__doc__).rstrip("."))
    rows = ["| status | means |", "| --- | --- |"]
    rows += [f"| {status} | {'. '.join(meanings[status])} |" for status in sorted(meanings)]
    return "\n".join(rows)


def tasks_table(models: Callable[[Example], Path]) -> str:
    """One request a task, the outputs that it may ask for, and its real answer with some of them."""
    rows = [
        "| task | instance | parameters | outputs | answer, with the outputs that it names |",
        "| --- | --- | --- | --- | --- |",
    ]
    for example in EXAMPLES:
        settings = {} if example.real else {"mode": example.task}
        predictor = Predictor.load(models(example), environ={}, model_yaml={"handler": settings})
        answer = predictor.predict([example.instance], **example.parameters)[0]
        predictor.close()
        outputs = ", ".join(f"**`{it}`**" if it in predictor.default_outputs else f"`{it}`" for it in predictor.outputs)
        said = {name: shorten(jsonio.loads(jsonio.dumps(answer[name]))) for name in example.outputs}
        task = f"`{example.task}`" + ("" if example.real else " ¹")
        cells = (task, _code(example.instance), _code(example.parameters or None), outputs, _code(said))
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def model_of(example: Example, directory: Path) -> Path:
    """The model that the table shows: real weights where there are any, else the zoo's."""
    if example.real == "encoder":
        return encoder_directory()
    if example.real:
        return assemble(directory, example.real)
    return build(*example.model, directory, **example.config)


def shorten(value: Any) -> Any:
    """Floats to two digits, long vectors to their beginning: what a table has room for."""
    if isinstance(value, float):
        return round(value, 2)
    if isinstance(value, dict):
        return {key: shorten(item) for key, item in value.items()}
    if isinstance(value, list):
        numbers = len(value) > 8 and all(isinstance(item, float) for item in value)
        return (
            [shorten(item) for item in value[:3]] + [f"… {len(value)} numbers"]
            if numbers
            else list(map(shorten, value))
        )
    return value


def block(name: str, text: str) -> str:
    """The table of that name as it stands in a text."""
    found = re.search(rf"<!-- {name} -->\n(.*?)\n<!-- /{name} -->", text, re.DOTALL)
    if found is None:
        raise ValueError(f"README.md has no block {name}")
    return found.group(1)


def command_line(start: str) -> str:
    """The one command line that begins so, as the README shows it."""
    lines = re.findall(rf"^{re.escape(start)}(?:.*\\\n)*.*$", README.read_text(encoding="utf-8"), re.MULTILINE)
    if len(lines) != 1:
        raise ValueError(f"README.md shows {len(lines)} command lines that begin with {start!r}, not one")
    return str(lines[0])


def run_line(line: str, empty: Path, timeout_s: float) -> subprocess.CompletedProcess[str]:
    """Run a command line of the README in an empty folder, with `bert-handler` and a clone's scripts at hand."""
    shim = empty.parent / f"{empty.name}-bin" / "bert-handler"
    shim.parent.mkdir()
    shim.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m bert_handler "$@"\n')
    shim.chmod(0o755)
    empty.mkdir()
    root = README.parent
    return subprocess.run(
        ["bash", "-c", re.sub(r"^scripts/", f"{shlex.quote(str(root))}/scripts/", line)],
        cwd=empty,
        env={**os.environ, "PATH": f"{shim.parent}:{os.environ['PATH']}", "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def write(tables: dict[str, str]) -> None:
    """Put tables in their blocks."""
    text = README.read_text(encoding="utf-8")
    for name, table in tables.items():
        text = text.replace(block(name, text), table)
    README.write_text(text, encoding="utf-8")


def _parameter(item: Parameter, prefix: str = "") -> str:
    choices = ", ".join(f"`{choice}`" for choice in item.choices or ())
    return _row(item.name, item.default, prefix + (f"{choices}: {item.doc}" if choices else item.doc))


def _row(name: str, default: Any, doc: str) -> str:
    return f"| `{name}` | {_default(default)} | {_cell(doc)} |"


def _default(value: Any) -> str:
    return "" if value is None else f"`{json.dumps(value)}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _code(value: Any) -> str:
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = text if text.isprintable() and "\ufffd" not in text else json.dumps(value)
    return f"`{_cell(text)}`"


def main() -> int:
    """Write all tables."""
    with tempfile.TemporaryDirectory() as scratch:
        tables = {
            "settings": settings_table(),
            "parameters": parameters_table(),
            "explanation": explanation_table(),
            "errors": errors_table(),
            "tasks": tasks_table(lambda item: model_of(item, Path(scratch) / item.task)),
        }
    write(tables)
    return 0


if __name__ == "__main__":
    sys.exit(main())
