"""State dicts are pickles, which torch before 2.6 does not keep from running code (CVE-2025-32434)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from bert_handler import jsonio
from bert_handler.errors import ConfigError

SAFE_SINCE = (2, 6)
"""The torch whose `weights_only` holds."""
SAFETENSORS = ".safetensors"
INDEX = f"{SAFETENSORS}.index.json"
READ_FIRST = (f"model{SAFETENSORS}", f"model{INDEX}")
SUFFIXES = {".bin", ".pt", ".pth"}
ADAPTER = "adapter_model.bin"


def must_be_safetensors(directory: Path, torch_version: tuple[int, ...]) -> bool:
    """Whether weights must be loaded with `use_safetensors`, since that torch may read no state dict.

    Raises ConfigError where it would have to.
    """
    if torch_version >= SAFE_SINCE:
        return False
    for name in _state_dicts(directory):
        raise ConfigError(
            f"{name} is not safetensors, and torch before 2.6 can be made to run code that such weights bring; "
            "save them as safetensors, or install torch>=2.6"
        )
    return True


def _state_dicts(directory: Path) -> Iterator[str]:
    """Names of state dicts that transformers may read; it leaves those alone that lie beside READ_FIRST."""
    for index in sorted(directory.rglob(f"*{INDEX}")):
        # transformers tells the format of a shard by its name alone.
        yield from (name for name in _shards(index) if not name.endswith(SAFETENSORS))
    yield from (path.name for path in directory.rglob(ADAPTER))
    if not any((directory / name).is_file() for name in READ_FIRST):
        yield from sorted(path.name for path in directory.iterdir() if path.suffix in SUFFIXES)


def _shards(index: Path) -> list[str]:
    try:
        return sorted(map(str, jsonio.loads(index.read_bytes())["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise ConfigError(f"{index.name} does not say which files have the weights; save the model again") from exc
