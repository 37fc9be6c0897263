"""Envelope encryption of what must not be readable in a dump of the database: variables, bundles, plans, states.

Each value has a data key of its own, wrapped by a master key that the environment gives; both layers are AES-256-GCM. The
sealed form begins with the master's key id, so that several masters can live side by side while one replaces another:

    IAC1 | key id (8) | nonce (12) | wrapped data key (48) | nonce (12) | ciphertext + tag

The purpose (such as `variable:var-…`) is authenticated, so a value cannot be moved to another row.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from iac.errors import StartFailed

MAGIC = b"IAC1"
_ID, _NONCE, _WRAPPED, _TAG = 8, 12, 48, 16
_HEAD = len(MAGIC) + _ID + _NONCE + _WRAPPED


class CannotUnseal(Exception):
    """The value was changed, moved, or sealed with a key that is not here."""


class Keyring:
    """The master keys. The first seals; every one unseals. Its repr shows key ids only."""

    def __init__(self, *secrets_: str) -> None:
        """Each secret is text of at least 16 characters; the key is its SHA-256, salted by purpose."""
        keys = [hashlib.sha256(b"iac-master-key:" + secret.encode()).digest() for secret in secrets_]
        self._masters = {key_id_of(key): AESGCM(key) for key in keys}
        self.current = key_id_of(keys[0])

    def __repr__(self) -> str:
        return f"Keyring({', '.join(self.ids)})"

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(self._masters)

    def seal(self, plain: bytes, purpose: str) -> bytes:
        key, nonce, wrap_nonce = AESGCM.generate_key(256), os.urandom(_NONCE), os.urandom(_NONCE)
        context = purpose.encode()
        wrapped = self._masters[self.current].encrypt(wrap_nonce, key, context)
        head = MAGIC + bytes.fromhex(self.current) + wrap_nonce + wrapped
        return head + nonce + AESGCM(key).encrypt(nonce, plain, context)

    def unseal(self, sealed: bytes, purpose: str) -> bytes:
        """Raises CannotUnseal; its message names the key id, never a value."""
        master = self._masters.get(key_id(sealed))
        if master is None:
            raise CannotUnseal(f"{purpose} needs key {key_id(sealed)}, which IAC_SECRET_KEY does not hold")
        start = len(MAGIC) + _ID
        nonce, body = sealed[_HEAD : _HEAD + _NONCE], sealed[_HEAD + _NONCE :]
        context = purpose.encode()
        try:
            key = master.decrypt(sealed[start : start + _NONCE], sealed[start + _NONCE : _HEAD], context)
            return AESGCM(key).decrypt(nonce, body, context)
        except InvalidTag:
            raise CannotUnseal(f"{purpose} does not open: it was changed or belongs elsewhere") from None


def key_id_of(key: bytes) -> str:
    return hashlib.sha256(b"iac-key-id:" + key).digest()[:_ID].hex()


def key_id(sealed: bytes) -> str:
    """The id of the master key that a sealed value needs."""
    if sealed[: len(MAGIC)] != MAGIC or len(sealed) < _HEAD + _NONCE + _TAG:
        raise CannotUnseal("not a sealed value")
    return sealed[len(MAGIC) : len(MAGIC) + _ID].hex()


def open_keyring(secret_key: str | None, data_dir: Path) -> Keyring:
    """The keyring from IAC_SECRET_KEY (several keys separated by commas; the first seals), or from `secret.key` in the
    data directory, which is created at the first start. Raises StartFailed when that file cannot be used.
    """
    if secret_key is not None:
        return Keyring(*(part for part in secret_key.split(",") if part))
    path = data_dir / "secret.key"
    try:
        if not path.exists():
            _write_new(path, secrets.token_urlsafe(32))
        text = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise StartFailed(f"IAC_SECRET_KEY: not set, and {path} cannot be used ({error})", exit_code=78) from None
    if not text:
        raise StartFailed(f"IAC_SECRET_KEY: not set, and {path} is empty; restore it or set the key", exit_code=78)
    return Keyring(*text.split(","))


def _write_new(path: Path, text: str) -> None:
    # Linked into place only when it is whole: a crash must not leave an empty key behind.
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    # Not O_EXCL: an earlier life that was cut off here may have had the same pid, and the directory is ours alone.
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(fd, "w", encoding="ascii") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
