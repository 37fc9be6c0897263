"""Tokens by server, in a file that only its owner can read."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from iac.errors import Invalid


class Known(msgspec.Struct, frozen=True):
    """What is kept of a server."""

    token: str


class Stored(msgspec.Struct, frozen=True):
    """`default` is the server of the last login."""

    default: str | None = None
    servers: dict[str, Known] = {}


def path_of(env: Mapping[str, str]) -> Path:
    """`$XDG_CONFIG_HOME/iac/credentials.json`, else below ~/.config."""
    base = env.get("XDG_CONFIG_HOME", "")
    config = Path(base) if os.path.isabs(base) else Path(env.get("HOME") or Path.home()) / ".config"
    return config / "iac" / "credentials.json"


def load(path: Path) -> Stored:
    """Raises Invalid where the file is there and cannot be used."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return Stored()
    except OSError as error:
        raise Invalid(f"Cannot read {path}: {error.strerror}.") from None
    try:
        return msgspec.json.decode(data, type=Stored)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Invalid(f"{path} is damaged ({error}); delete it and run `iac login` again.") from None


def save(path: Path, stored: Stored) -> None:
    """Atomically, with mode 0600 from its first byte on."""
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh.unlink(missing_ok=True)
        with open(fresh, "xb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            file.write(msgspec.json.format(msgspec.json.encode(stored), indent=2) + b"\n")
        fresh.replace(path)
    except OSError as error:
        raise Invalid(f"Cannot write {path}: {error.strerror}.") from None


def with_login(stored: Stored, url: str, token: str) -> Stored:
    return Stored(default=url, servers={**stored.servers, url: Known(token)})


def without(stored: Stored, url: str) -> Stored:
    servers = {known: kept for known, kept in stored.servers.items() if known != url}
    return Stored(default=None if stored.default == url else stored.default, servers=servers)
