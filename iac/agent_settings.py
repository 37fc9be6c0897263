"""What an agent reads from its environment: the seed's names (7.2), and a few more. Every problem is reported together."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import get_args
from urllib.parse import urlsplit

from iac.settings import (
    MIB,
    Environment,
    LogFormat,
    LogLevel,
    ShutdownMode,
    TerraformSettings,
    log_size,
    one_of,
    positive,
    switch,
    terraform_settings,
)

LONGEST_NAME = 100
TOKEN_NAMES = ("IAC_AGENT_TOKEN", "IAC_AGENT_TOKEN_FILE")


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """All that `python -m iac.agent` reads from its environment. Durations are seconds."""

    endpoint: str
    token: str = field(repr=False)
    name: str
    pool_id: str | None = None
    plan_limit: int = 3
    data_dir: Path = Path("iac-agent-data")
    ca_file: Path | None = None
    client_cert: Path | None = None
    client_key: Path | None = None
    drain_seconds: int = 300
    shutdown_mode: ShutdownMode = "drain"
    spool_max: int = 2 * 1024 * MIB
    log_level: LogLevel = "info"
    log_format: LogFormat = "console"
    log_file: Path | None = None
    terraform: TerraformSettings = field(default_factory=TerraformSettings)

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> AgentSettings:
        """Raises BadSettings with every problem at once."""
        read = Environment(env)
        settings = cls(
            endpoint=_required(read, "IAC_API_ENDPOINT", "the server's URL, for example https://iac.example.com"),
            token=_required(read, "IAC_AGENT_TOKEN", "a token of the pool that this agent is to join"),
            name=_required(read, "IAC_AGENT_NAME", "a name for this agent, for example agent-01"),
            pool_id=read.text("IAC_POOL_ID"),
            plan_limit=read.parsed("IAC_MAX_PLAN_CONCURRENCY", 3, positive),
            data_dir=read.parsed("IAC_DATA_DIR", Path("iac-agent-data"), Path),
            ca_file=read.parsed("IAC_CA_FILE", None, Path),
            client_cert=read.parsed("IAC_CLIENT_CERT", None, Path),
            client_key=read.parsed("IAC_CLIENT_KEY", None, Path),
            drain_seconds=read.parsed("IAC_DRAIN_SECONDS", 300, positive),
            shutdown_mode=read.parsed("IAC_SHUTDOWN_MODE", "drain", one_of(get_args(ShutdownMode))),
            spool_max=read.parsed("IAC_SPOOL_MAX", 2 * 1024 * MIB, log_size),
            log_level=read.parsed("IAC_LOG_LEVEL", "info", one_of(get_args(LogLevel))),
            log_format=read.parsed("IAC_LOG_FORMAT", "console", one_of(get_args(LogFormat))),
            log_file=read.parsed("IAC_LOG_FILE", None, Path),
            terraform=terraform_settings(read),
        )
        _check_endpoint(read, settings.endpoint, allow_http=read.parsed("IAC_ALLOW_HTTP", False, switch))
        settings._check(read)
        read.done()
        return settings

    def _check(self, read: Environment) -> None:
        if len(self.name) > LONGEST_NAME or not self.name.isprintable():
            read.problems.append(f"IAC_AGENT_NAME: give at most {LONGEST_NAME} printable characters")
        if any(c.isspace() or not c.isascii() for c in self.token):
            # The value itself must not come back in the message.
            read.problems.append("IAC_AGENT_TOKEN: a token has neither blanks nor special characters; copy it again")
        if self.client_key is not None and self.client_cert is None:
            read.problems.append("IAC_CLIENT_CERT: give the certificate that belongs to IAC_CLIENT_KEY")
        self._check_certificates(read)
        if self.log_file is not None and not self.log_file.parent.is_dir():
            read.problems.append(f"IAC_LOG_FILE: there is no directory {self.log_file.parent}")

    def _check_certificates(self, read: Environment) -> None:
        for name, load in (("IAC_CA_FILE", self._load_ca), ("IAC_CLIENT_CERT, IAC_CLIENT_KEY", self._load_client)):
            try:
                load(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
            except OSError as error:  # an SSLError is one too
                reason = error.strerror or str(error)
                read.problems.append(f"{name}: cannot be used ({reason}); point at PEM files that this user may read")

    def tls(self) -> ssl.SSLContext:
        """How servers are verified: the system's authorities and IAC_CA_FILE's, TLS 1.2 or newer, no exceptions."""
        context = ssl.create_default_context()
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._load_ca(context)
        self._load_client(context)
        return context

    def _load_ca(self, context: ssl.SSLContext) -> None:
        if self.ca_file is not None:
            context.load_verify_locations(self.ca_file)

    def _load_client(self, context: ssl.SSLContext) -> None:
        if self.client_cert is not None:
            # A key with a passphrase must fail, not ask on a terminal that nobody looks at.
            context.load_cert_chain(self.client_cert, self.client_key, password="")


def _required(read: Environment, name: str, what: str) -> str:
    told = len(read.problems)
    value = (read.text(name) or "").strip()
    if not value and len(read.problems) == told:
        read.problems.append(f"{name}: is not set; give {what}")
    return value


def _check_endpoint(read: Environment, url: str, *, allow_http: bool) -> None:
    if not url:
        return
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host, parts = None, urlsplit("")
    if parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment or parts.username:
        read.problems.append(f"IAC_API_ENDPOINT: {url!r} is not a URL like https://iac.example.com")
    elif parts.path.rstrip("/").endswith("/api/v1"):
        read.problems.append("IAC_API_ENDPOINT: give the server's own URL, without /api/v1")
    elif parts.scheme == "http" and not (allow_http or _is_loopback(host)):
        read.problems.append(
            "IAC_API_ENDPOINT: over http:// everybody on the way reads tokens and secrets; use https://, or set "
            "IAC_ALLOW_HTTP=1 if the network is yours"
        )


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
