"""What the environment says: defaults, files, and every problem told at once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from iac.settings import BadSettings, LogSettings, ServerSettings

SECRET = "a-secret-of-sixteen-characters"


def problems(**env: str) -> list[str]:
    with pytest.raises(BadSettings) as refused:
        ServerSettings.from_env(env)
    assert refused.value.exit_code == 78
    assert str(refused.value).splitlines() == list(refused.value.problems), "one line for each"
    return list(refused.value.problems)


def test_nothing_needs_to_be_set() -> None:
    assert ServerSettings.from_env({}) == ServerSettings()
    assert ServerSettings().bind == "127.0.0.1:8080"
    assert ServerSettings().local_executor


def test_everything_that_is_set_is_read(tmp_path: Path) -> None:
    for name in ("cert", "key", "gpg", "rc"):
        (tmp_path / name).touch()
    read = ServerSettings.from_env(
        {
            "IAC_BIND": "0.0.0.0:9000",
            "IAC_DATA_DIR": "/srv/iac",
            "IAC_DATABASE_URL": "postgresql://u:p@h:5433/iac?sslmode=require",
            "IAC_SECRET_KEY": f"{SECRET},old-{SECRET}",
            "IAC_ADMIN_TOKEN": f"admin-{SECRET}",
            "IAC_TLS_CERT": str(tmp_path / "cert"),
            "IAC_TLS_KEY": str(tmp_path / "key"),
            "IAC_LOCAL_EXECUTOR": "off",
            "IAC_LOCAL_PLAN_CONCURRENCY": "5",
            "IAC_DRAIN_SECONDS": "60",
            "IAC_LOG_LEVEL": "DEBUG",
            "IAC_LOG_FORMAT": "json",
            "IAC_LOG_CACHE_HOURS": "48",
            "IAC_LOG_RETENTION_DAYS": "90",
            "IAC_LOG_MAX_BYTES": "1073741824",
            "IAC_TERRAFORM_DIR": str(tmp_path),
            "IAC_TERRAFORM_MIRROR": "https://mirror.example/terraform/",
            "IAC_TERRAFORM_KEY_FILE": str(tmp_path / "gpg"),
            "IAC_TERRAFORM_DOWNLOAD": "no",
            "IAC_TERRAFORM_CLI_CONFIG": str(tmp_path / "rc"),
            "IAC_TERRAFORM_ENV": "HTTPS_PROXY, SSL_CERT_FILE",
            "PATH": "/bin",
        }
    )
    assert (read.bind, read.data_dir, read.drain_seconds) == ("0.0.0.0:9000", Path("/srv/iac"), 60)
    assert read.secret_key == f"{SECRET},old-{SECRET}"
    assert (read.local_executor, read.local_plan_concurrency) == (False, 5)
    assert (read.log_level, read.log_format) == ("debug", "json")
    assert read.logs == LogSettings(cache_hours=48, retention_days=90, max_bytes=1 << 30)
    assert read.terraform.mirror == "https://mirror.example/terraform"
    assert read.terraform.environment == ("HTTPS_PROXY", "SSL_CERT_FILE")
    assert not read.terraform.download


def test_all_that_is_wrong_is_told_at_once_each_with_its_name(tmp_path: Path) -> None:
    found = problems(
        IAC_BIND="nowhere",
        IAC_DATABASE_URL="mysql://h/db",
        IAC_SECRET_KEY="short",
        IAC_LOCAL_EXECUTOR="perhaps",
        IAC_LOCAL_PLAN_CONCURRENCY="0",
        IAC_DRAIN_SECONDS="five",
        IAC_LOG_LEVEL="loud",
        IAC_LOG_CACHE_HOURS="0",
        IAC_LOG_RETENTION_DAYS="-1",
        IAC_LOG_MAX_BYTES="1000",
        IAC_TLS_CERT=str(tmp_path / "missing"),
        IAC_TERRAFORM_DIR=str(tmp_path / "missing"),
        IAC_TERRAFORM_MIRROR="ftp://mirror",
        IAC_TERRAFORM_ENV="IAC_SECRET_KEY",
        IAC_ADMIN_TOKEN_FILE=str(tmp_path / "missing"),
    )
    names = {line.partition(":")[0] for line in found}
    assert names == {
        "IAC_BIND",
        "IAC_DATABASE_URL",
        "IAC_SECRET_KEY",
        "IAC_LOCAL_EXECUTOR",
        "IAC_LOCAL_PLAN_CONCURRENCY",
        "IAC_DRAIN_SECONDS",
        "IAC_LOG_LEVEL",
        "IAC_LOG_CACHE_HOURS",
        "IAC_LOG_RETENTION_DAYS",
        "IAC_LOG_MAX_BYTES",
        "IAC_TLS_CERT",
        "IAC_TLS_CERT, IAC_TLS_KEY",
        "IAC_TERRAFORM_DIR",
        "IAC_TERRAFORM_MIRROR",
        "IAC_TERRAFORM_ENV",
        "IAC_ADMIN_TOKEN_FILE",
    }
    assert all("\n" not in line and len(line) < 250 for line in found)


def test_a_value_may_come_from_a_file_and_loses_its_last_newline(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(f"{SECRET}\r\n")
    assert ServerSettings.from_env({"IAC_ADMIN_TOKEN_FILE": str(path)}).admin_token == SECRET


@pytest.mark.parametrize("content", ["", "\n"])
def test_an_empty_value_or_file_is_the_same_as_none(tmp_path: Path, content: str) -> None:
    path = tmp_path / "empty"
    path.write_text(content)
    assert ServerSettings.from_env({"IAC_SECRET_KEY": "", "IAC_ADMIN_TOKEN_FILE": str(path)}) == ServerSettings()


def test_a_value_given_twice_is_refused_without_showing_it(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(SECRET)
    [line] = problems(IAC_ADMIN_TOKEN=SECRET, IAC_ADMIN_TOKEN_FILE=str(path))
    assert line == "IAC_ADMIN_TOKEN: set both directly and through IAC_ADMIN_TOKEN_FILE; keep one of them"


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_bytes(b"\xff" * 20)
    [line] = problems(IAC_ADMIN_TOKEN_FILE=str(path))
    assert "not UTF-8 text" in line


def test_a_directory_in_the_place_of_a_file_is_refused(tmp_path: Path) -> None:
    [line] = problems(IAC_SECRET_KEY_FILE=str(tmp_path))
    assert line.startswith("IAC_SECRET_KEY_FILE: cannot read")


@pytest.mark.parametrize("value", ["127.0.0.1:8080", "[::1]:8080", ":::80", "0.0.0.0:0", "my-host.example:1"])
def test_addresses_that_can_be_bound_to(value: str) -> None:
    assert ServerSettings.from_env({"IAC_BIND": value}).bind == value


@pytest.mark.parametrize("value", ["8080", ":8080", "host:", "host:x", "host:70000", "ho st:80", "http://h:80", "h:-1"])
def test_addresses_that_cannot(value: str) -> None:
    assert problems(IAC_BIND=value)[0].startswith("IAC_BIND: ")


@pytest.mark.parametrize(
    "value",
    [
        "mysql://h/db",
        "h/db",
        "sqlite:///x",
        "postgresql://h",
        "postgresql://h/",
        "postgresql://h:port/db",
        "postgresql://h:99999/db",
        f"postgresql://u:{SECRET}/x@h/db",
        f"postgresql://u:{SECRET}#x@h/db",
        f"postgresql://u:{SECRET}@[::1/db",
    ],
)
def test_database_urls_that_cannot_work_are_refused_without_their_password(value: str) -> None:
    [line] = problems(IAC_DATABASE_URL=value)
    assert line.startswith("IAC_DATABASE_URL: ")
    assert SECRET not in line


@pytest.mark.parametrize("value", [",", f"{SECRET},", f",{SECRET}", f"{SECRET},short", "with blanks in it all over"])
def test_every_one_of_several_secret_keys_is_long_enough(value: str) -> None:
    [line] = problems(IAC_SECRET_KEY=value)
    assert line.startswith("IAC_SECRET_KEY: needs at least 16 characters")
    assert value not in line


def test_secrets_are_never_shown() -> None:
    read = ServerSettings.from_env(
        {
            "IAC_SECRET_KEY": f"key-{SECRET}",
            "IAC_ADMIN_TOKEN": f"token-{SECRET}",
            "IAC_DATABASE_URL": f"postgresql://u:{SECRET}@h/db",
        }
    )
    assert SECRET not in repr(read)
    assert SECRET not in str(read)


def test_the_platforms_own_variables_are_never_handed_to_terraform() -> None:
    [line] = problems(IAC_TERRAFORM_ENV="HOME,IAC_SECRET_KEY")
    assert "never given to Terraform" in line
    [line] = problems(IAC_TERRAFORM_ENV="A=B")
    assert line.startswith("IAC_TERRAFORM_ENV: 'A=B'")


def test_only_the_mapping_that_was_given_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "IAC_BIND", "nowhere")
    assert ServerSettings.from_env({}) == ServerSettings()
