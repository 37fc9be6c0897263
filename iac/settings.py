"""What the environment says, read once by a program and passed down; every problem is reported together.

Each `IAC_X` may also be given as `IAC_X_FILE`, the path of a file that holds the value (a trailing newline is dropped).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Literal, TypeVar, get_args
from urllib.parse import urlsplit

from iac.domain.limits import LONGEST_GRACE, LONGEST_TIMEOUT, Defaults, Limits
from iac.errors import StartFailed

EXIT_CONFIG = 78
LogFormat = Literal["console", "json"]
ShutdownMode = Literal["drain", "detach"]
LogLevel = Literal["debug", "info", "warning", "error"]
MIB = 1024 * 1024
T = TypeVar("T")


class BadSettings(StartFailed):
    """The environment does not configure this program: one line for each problem, each with its name and what to do."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems), exit_code=EXIT_CONFIG)
        self.problems = tuple(problems)


class Environment:
    """Reads values and collects what is wrong with them, so that all of it can be told at once."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = env
        self.problems: list[str] = []

    def text(self, name: str) -> str | None:
        """The value of `name` or of the file that `name_FILE` points to; None when neither is set."""
        value, path = self._env.get(name), self._env.get(f"{name}_FILE")
        if value and path:
            self.problems.append(f"{name}: set both directly and through {name}_FILE; keep one of them")
        if value:
            return value
        if not path:
            return None
        try:
            return Path(path).read_text(encoding="utf-8").rstrip("\r\n") or None
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not UTF-8 text"
            self.problems.append(f"{name}_FILE: cannot read {path} ({reason}); point it at a readable file")
            return None

    def parsed(self, name: str, default: T, parse: Callable[[str], T]) -> T:
        """The value through `parse`, which raises ValueError with what would be right."""
        value = self.text(name)
        if value is None:
            return default
        try:
            return parse(value.strip())
        except ValueError as error:
            self.problems.append(f"{name}: {error}")
            return default

    def done(self) -> None:
        if self.problems:
            raise BadSettings(self.problems)


def positive(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 1_000_000_000:
        raise ValueError(f"{text!r} is not a positive whole number; give for example 3")
    return int(text)


def seconds(most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isdecimal() or not 0 < int(text) <= most:
            raise ValueError(f"{text!r} is not a number of seconds from 1 to {most}; give for example 300")
        return int(text)

    return parse


def days(text: str) -> int:
    if not text.isdecimal() or int(text) > 100_000:
        raise ValueError(f"{text!r} is not a number of days; give for example 90, or 0 for ever")
    return int(text)


def log_size(text: str) -> int:
    if not text.isdecimal() or not MIB <= int(text) <= MIB * MIB:
        raise ValueError(f"{text!r} is not a number of bytes from {MIB} to {MIB * MIB}; give for example {64 * MIB}")
    return int(text)


def switch(text: str) -> bool:
    match text.lower():
        case "1" | "on" | "true" | "yes":
            return True
        case "0" | "off" | "false" | "no":
            return False
    raise ValueError(f"{text!r} is neither on nor off")


def address(text: str) -> str:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise ValueError(f"{text!r} is not HOST:PORT; give for example 127.0.0.1:8080 or [::1]:8080")
    bare = host.removeprefix("[").removesuffix("]")
    try:
        ip_address(bare)
    except ValueError:
        if not bare.replace("-", "").replace(".", "").isalnum():
            raise ValueError(f"{host!r} is neither an address nor a host name") from None
    return text


def database_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("postgres", "postgresql"):
        raise ValueError("not a postgresql:// URL; only PostgreSQL 14 or newer is supported")
    try:
        _ = parts.port
    except ValueError:
        # Said without the value: a password with an unescaped "/" or "#" ends up where the port is looked for.
        raise ValueError("its port is not a number; write special characters in a password as %XX") from None
    if not parts.path.strip("/"):
        raise ValueError("names no database; end it with one, as in postgresql://user@host/iac")
    return text


def one_of(choices: tuple[T, ...]) -> Callable[[str], T]:
    def parse(text: str) -> T:
        for choice in choices:
            if text.lower() == choice:
                return choice
        raise ValueError(f"{text!r} is not one of {', '.join(map(str, choices))}")

    return parse


def names(text: str) -> tuple[str, ...]:
    found = tuple(name.strip() for name in text.split(",") if name.strip())
    if bad := [name for name in found if not name.replace("_", "").isalnum()]:
        raise ValueError(f"{bad[0]!r} is not the name of an environment variable; give names separated by commas")
    return found


def secret(minimum: int) -> Callable[[str], str]:
    def parse(text: str) -> str:
        # The value itself must not come back in the message.
        if len(text) < minimum or any(c.isspace() for c in text):
            raise ValueError(f"needs at least {minimum} characters without blanks; try `openssl rand -base64 32`")
        return text

    return parse


def secret_keys(minimum: int) -> Callable[[str], str]:
    """Several secrets separated by commas, each as long as one alone must be."""
    one = secret(minimum)

    def parse(text: str) -> str:
        return ",".join(one(part.strip()) for part in text.split(","))

    return parse


@dataclass(frozen=True, slots=True)
class TerraformSettings:
    """Where Terraform comes from and what it may see of the machine."""

    directory: Path | None = None
    mirror: str | None = None
    key_file: Path | None = None
    download: bool = True
    cli_config: Path | None = None
    environment: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LogSettings:
    """How long log files stay beside their copy in the database, and logs at all (0: for ever); how much of each log."""

    cache_hours: int = 24
    retention_days: int = 0
    max_bytes: int = 256 * MIB


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """All that `python -m iac.server` reads from its environment. Durations are seconds."""

    bind: str = "127.0.0.1:8080"
    data_dir: Path = Path("iac-data")
    database_url: str | None = field(default=None, repr=False)
    secret_key: str | None = field(default=None, repr=False)
    admin_token: str | None = field(default=None, repr=False)
    tls_cert: Path | None = None
    tls_key: Path | None = None
    local_executor: bool = True
    local_plan_concurrency: int = 2
    drain_seconds: int = 300
    shutdown_mode: ShutdownMode = "drain"
    limits: Defaults = field(default_factory=Defaults)
    log_level: LogLevel = "info"
    log_format: LogFormat = "console"
    logs: LogSettings = LogSettings()
    terraform: TerraformSettings = TerraformSettings()

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> ServerSettings:
        """Raises BadSettings with every problem at once."""
        read, usual = Environment(env), cls()
        settings = cls(
            bind=read.parsed("IAC_BIND", usual.bind, address),
            data_dir=read.parsed("IAC_DATA_DIR", usual.data_dir, Path),
            database_url=read.parsed("IAC_DATABASE_URL", None, database_url),
            secret_key=read.parsed("IAC_SECRET_KEY", None, secret_keys(16)),
            admin_token=read.parsed("IAC_ADMIN_TOKEN", None, secret(16)),
            tls_cert=read.parsed("IAC_TLS_CERT", None, Path),
            tls_key=read.parsed("IAC_TLS_KEY", None, Path),
            local_executor=read.parsed("IAC_LOCAL_EXECUTOR", usual.local_executor, switch),
            local_plan_concurrency=read.parsed("IAC_LOCAL_PLAN_CONCURRENCY", usual.local_plan_concurrency, positive),
            drain_seconds=read.parsed("IAC_DRAIN_SECONDS", usual.drain_seconds, positive),
            shutdown_mode=read.parsed("IAC_SHUTDOWN_MODE", usual.shutdown_mode, one_of(get_args(ShutdownMode))),
            limits=limit_settings(read),
            log_level=read.parsed("IAC_LOG_LEVEL", usual.log_level, one_of(get_args(LogLevel))),
            log_format=read.parsed("IAC_LOG_FORMAT", usual.log_format, one_of(get_args(LogFormat))),
            logs=log_settings(read),
            terraform=terraform_settings(read),
        )
        settings._check_files(read)
        read.done()
        return settings

    def _check_files(self, read: Environment) -> None:
        if (self.tls_cert is None) != (self.tls_key is None):
            read.problems.append("IAC_TLS_CERT, IAC_TLS_KEY: give both to serve HTTPS, or neither")
        for name, file in (("IAC_TLS_CERT", self.tls_cert), ("IAC_TLS_KEY", self.tls_key)):
            if file is not None and not file.is_file():
                read.problems.append(f"{name}: there is no file {file}")


def limit_settings(read: Environment) -> Defaults:
    """The IAC_PLAN_* and IAC_APPLY_* names: how long a phase may take, and Terraform to stop."""

    def of(name: str, usual: Limits) -> Limits:
        return Limits(
            timeout_s=read.parsed(f"IAC_{name}_TIMEOUT", usual.timeout_s, seconds(LONGEST_TIMEOUT)),
            grace_s=read.parsed(f"IAC_{name}_GRACE", usual.grace_s, seconds(LONGEST_GRACE)),
        )

    return Defaults(plan=of("PLAN", Defaults().plan), apply=of("APPLY", Defaults().apply))


def log_settings(read: Environment) -> LogSettings:
    """The IAC_LOG_* names that say how long and how much."""
    usual = LogSettings()
    return LogSettings(
        cache_hours=read.parsed("IAC_LOG_CACHE_HOURS", usual.cache_hours, positive),
        retention_days=read.parsed("IAC_LOG_RETENTION_DAYS", usual.retention_days, days),
        max_bytes=read.parsed("IAC_LOG_MAX_BYTES", usual.max_bytes, log_size),
    )


def terraform_settings(read: Environment) -> TerraformSettings:
    """The IAC_TERRAFORM_* names, the same for a server and an agent."""
    found = TerraformSettings(
        directory=read.parsed("IAC_TERRAFORM_DIR", None, Path),
        mirror=read.parsed("IAC_TERRAFORM_MIRROR", None, _mirror),
        key_file=read.parsed("IAC_TERRAFORM_KEY_FILE", None, Path),
        download=read.parsed("IAC_TERRAFORM_DOWNLOAD", True, switch),
        cli_config=read.parsed("IAC_TERRAFORM_CLI_CONFIG", None, Path),
        environment=read.parsed("IAC_TERRAFORM_ENV", (), names),
    )
    if found.directory is not None and not found.directory.is_dir():
        read.problems.append(f"IAC_TERRAFORM_DIR: {found.directory} is not a directory")
    for name, file in (("IAC_TERRAFORM_KEY_FILE", found.key_file), ("IAC_TERRAFORM_CLI_CONFIG", found.cli_config)):
        if file is not None and not file.is_file():
            read.problems.append(f"{name}: there is no file {file}")
    if bad := [name for name in found.environment if name.startswith("IAC_")]:
        read.problems.append(f"IAC_TERRAFORM_ENV: {bad[0]} is this program's own and is never given to Terraform")
    return found


def _mirror(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ValueError(f"{text!r} is not an http(s) URL")
    return text.rstrip("/")
