"""What commands refuse before their work begins."""

from __future__ import annotations

from pathlib import Path


def check_output(path: Path) -> None:
    """Raise now the OSError that writing the file would raise after the work; its directories are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    is_new = not path.exists()
    with path.open("ab"):
        pass
    if is_new:
        path.unlink()
