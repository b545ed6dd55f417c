"""`bert-handler keygen`: a key pair that archives are signed with."""

from __future__ import annotations

from pathlib import Path

import typer


def keygen(prefix: Path = typer.Argument(..., help="PREFIX.key and PREFIX.pub are written.")) -> None:
    """Make an Ed25519 key pair for `archive --sign` and `serve --require-signature`.

    Example: bert-handler keygen release
    """
    from bert_handler.signing import generate_keys

    private, public = generate_keys(prefix)
    typer.echo(f"private {private}  (keep it secret; sign with: archive ... --sign {private})")
    typer.echo(f"public  {public}  (serve ... --require-signature {public})")
