"""Ed25519 signatures of archives: over MAR-INF/SHA256SUMS, which names every file with its digest.

An archive whose checksums hold and whose signature fits is, byte for byte, what the key's owner built.
Needs `cryptography`, and only where an archive is signed or a signature is asked for.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from bert_handler.errors import ArchiveError, ConfigError, MissingExtraError
from bert_handler.unpacking import CHECKSUMS, SIGNATURE

_REMEDY = "make one with: bert-handler keygen PREFIX"


def generate_keys(prefix: Path) -> tuple[Path, Path]:
    """Write a new key pair as PREFIX.key (owner only) and PREFIX.pub, both PEM; existing files stay."""
    keys, ed25519 = _library()
    private = ed25519.Ed25519PrivateKey.generate()
    paths = prefix.with_name(prefix.name + ".key"), prefix.with_name(prefix.name + ".pub")
    contents = (
        private.private_bytes(keys.Encoding.PEM, keys.PrivateFormat.PKCS8, keys.NoEncryption()),
        private.public_key().public_bytes(keys.Encoding.PEM, keys.PublicFormat.SubjectPublicKeyInfo),
    )
    for path in paths:
        if path.exists():
            raise ConfigError(f"{path} exists already; a key is never overwritten")
    for path, content, mode in zip(paths, contents, (0o600, 0o644)):
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(content)
    return paths


def read_private_key(path: Path) -> Any:
    """An Ed25519 private key; ConfigError when the file is something else."""
    keys, ed25519 = _library()
    try:
        private = keys.load_pem_private_key(_content(path), password=None)
    except (OSError, ValueError, TypeError) as exc:
        raise ConfigError(f"{path} is not an unencrypted private key in PEM; {_REMEDY}") from exc
    if not isinstance(private, ed25519.Ed25519PrivateKey):
        raise ConfigError(f"{path} is not an Ed25519 key; {_REMEDY}")
    return private


def sign(directory: Path, private_key: Any) -> None:
    """Write the signature of an unpacked archive's checksums beside them."""
    (directory / SIGNATURE).write_bytes(private_key.sign((directory / CHECKSUMS).read_bytes()).hex().encode() + b"\n")


def read_public_key(path: Path) -> Any:
    """An Ed25519 public key; ConfigError when the file is something else."""
    keys, ed25519 = _library()
    try:
        public = keys.load_pem_public_key(_content(path))
    except (OSError, ValueError, TypeError) as exc:
        raise ConfigError(f"{path} is not a public key in PEM") from exc
    if not isinstance(public, ed25519.Ed25519PublicKey):
        raise ConfigError(f"{path} is not an Ed25519 public key")
    return public


def check_signature(directory: Path, public_key: Any) -> None:
    """Refuse an unpacked archive that the owner of `public_key` has not signed, with ArchiveError.

    The checksums are then trusted; that the files fit them is for `unpacking.verify` to say.
    """
    from cryptography.exceptions import InvalidSignature

    checksums, signature = directory / CHECKSUMS, directory / SIGNATURE
    if not checksums.is_file() or not signature.is_file():
        raise ArchiveError("the archive is not signed, and this server takes signed ones only")
    try:
        public_key.verify(bytes.fromhex(signature.read_text(encoding="ascii").strip()), checksums.read_bytes())
    except (InvalidSignature, ValueError) as exc:
        raise ArchiveError("the archive's signature is not of the required key, or the archive was changed") from exc


def _content(path: Path) -> bytes:
    if not path.exists():
        raise ConfigError(f"{path} does not exist; {_REMEDY}")
    return path.read_bytes()


def _library() -> tuple[Any, Any]:
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError as exc:
        raise MissingExtraError("cryptography", "sign") from exc
    return serialization, ed25519
