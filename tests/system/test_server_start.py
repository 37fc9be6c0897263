"""`python -m iac.server`: what it says and returns when it cannot start, and that it starts when it can."""

from __future__ import annotations

import signal
import socket
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from iac.store import keys, variables
from iac.store.database import open_database
from iac.store.sealing import Keyring
from tests.harness.postgres import execute, fresh_database
from tests.harness.started import failed_start, running_program
from tests.store import given

SECRET = "hunter2-hunter2-hunter2"


def usual(tmp_path: Path, url: str, **more: str) -> dict[str, str]:
    return {"IAC_DATA_DIR": str(tmp_path / "data"), "IAC_DATABASE_URL": url, "IAC_SECRET_KEY": f"key-{SECRET}", **more}


async def test_all_wrong_settings_are_told_together_one_line_each_and_without_secrets(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(f"{SECRET}\n")
    ended = await failed_start(
        {
            "IAC_BIND": "nowhere",
            "IAC_DATABASE_URL": f"postgresql://u:{SECRET}/x@h/db",
            "IAC_SECRET_KEY": "hunter2",
            "IAC_ADMIN_TOKEN": SECRET,
            "IAC_ADMIN_TOKEN_FILE": str(tmp_path / "token"),
            "IAC_TLS_KEY": str(tmp_path / "missing"),
            "IAC_LOCAL_EXECUTOR_FILE": str(tmp_path),
            "IAC_LOG_FORMAT": "xml",
        }
    )
    assert ended.code == 78
    assert ended.out == ""
    assert [line.partition(":")[0] for line in ended.err.splitlines()] == [
        "IAC_BIND",
        "IAC_DATABASE_URL",
        "IAC_SECRET_KEY",
        "IAC_ADMIN_TOKEN",
        "IAC_LOCAL_EXECUTOR_FILE",
        "IAC_LOG_FORMAT",
        "IAC_TLS_CERT, IAC_TLS_KEY",
        "IAC_TLS_KEY",
    ]
    assert "hunter2" not in ended.err


async def test_values_may_come_from_files(tmp_path: Path, database_url: str) -> None:
    values = {**usual(tmp_path, database_url), "IAC_ADMIN_TOKEN": SECRET}
    for name, value in values.items():
        (tmp_path / name).write_text(f"{value}\n")
    files = {f"{name}_FILE": str(tmp_path / name) for name in values}
    async with running_program(files) as program, httpx.AsyncClient(base_url=program.url) as client:
        answer = await client.get("/api/v1/me", headers={"Authorization": f"Bearer {SECRET}"})
        assert (answer.status_code, answer.json()["role"]) == (200, "admin")
    assert program.process.returncode == 0
    assert "hunter2" not in program.output
    assert (tmp_path / "data" / "server.lock").exists()


@pytest.mark.parametrize(
    ("url", "code", "says"),
    [
        (f"postgresql://u:{SECRET}@127.0.0.1:1/iac", 69, "cannot use the database at u@127.0.0.1:1/iac: "),
        (f"postgresql://u:{SECRET}@127.0.0.1:1/iac?target_session_attrs=sideways", 69, "cannot use the database"),
    ],
)
async def test_a_database_that_cannot_be_reached_is_named_without_its_password(
    tmp_path: Path, url: str, code: int, says: str
) -> None:
    ended = await failed_start(usual(tmp_path, url))
    assert (ended.code, ended.last_line.startswith(f"IAC_DATABASE_URL: {says}")) == (code, True), ended.err
    assert "Traceback" not in ended.err
    assert "hunter2" not in ended.err


async def test_a_schema_of_a_newer_program_stops_the_start(tmp_path: Path, database_url: str) -> None:
    newer = "INSERT INTO schema_migration (number, name, digest) VALUES (9999, '9999_later.sql', 'x')"
    await trio.to_thread.run_sync(execute, database_url, newer)
    ended = await failed_start(usual(tmp_path, database_url))
    assert ended.code == 78
    assert ended.last_line.startswith(
        "The database was migrated by a newer IAC (9999_later.sql); this program knows up"
    )


async def test_a_missing_secret_key_stops_the_start_and_is_named(tmp_path: Path, database_url: str) -> None:
    old = Keyring("the-key-of-yesterday")
    async with open_database(database_url) as database:
        workspace = await given.a_workspace(database)
        await database.tx(keys.check, old)
        facts = {"category": "terraform", "hcl": False, "sensitive": True, "description": "", "by": "ann"}
        await database.tx(variables.create, old, workspace.id, key="k", value="v", **facts)  # type: ignore[arg-type]
    ended = await failed_start(usual(tmp_path, database_url))
    assert ended.code == 78
    assert ended.last_line.startswith(f"IAC_SECRET_KEY: stored data (variable) is sealed with key {old.current}, ")
    assert "hunter2" not in ended.err
    both = usual(tmp_path, database_url, IAC_SECRET_KEY=f"key-{SECRET},the-key-of-yesterday")
    async with running_program(both):
        pass


async def test_a_data_directory_that_cannot_be_made_is_named(tmp_path: Path, database_url: str) -> None:
    (tmp_path / "file").touch()
    ended = await failed_start(usual(tmp_path, database_url, IAC_DATA_DIR=str(tmp_path / "file" / "data")))
    assert ended.code == 78
    assert ended.last_line.startswith(f"IAC_DATA_DIR: cannot use {tmp_path}/file/data (Not a directory); ")


async def test_a_data_directory_and_a_port_are_used_by_one_server(tmp_path: Path, database_url: str) -> None:
    async with running_program(usual(tmp_path, database_url)) as program:
        second = await failed_start(usual(tmp_path, database_url))
        assert second.code == 75
        assert second.last_line.startswith(f"IAC_DATA_DIR: another server uses {tmp_path}/data; ")
        bind = program.url.removeprefix("http://")
        third = await failed_start(usual(tmp_path / "other", database_url, IAC_BIND=bind))
        assert third.code == 69
        assert third.last_line.startswith(f"IAC_BIND: cannot listen on {bind}: ")
        assert "in use" in third.last_line
        assert "Traceback" not in third.err


def a_certificate(directory: Path, name: str) -> tuple[str, str]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - timedelta(hours=1))
    builder = builder.not_valid_after(now + timedelta(hours=1))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
    certificate = builder.sign(key, hashes.SHA256())
    cert_file, key_file = directory / f"{name}.pem", directory / f"{name}.key"
    cert_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return str(cert_file), str(key_file)


async def test_tls_is_served_with_a_key_that_fits_and_refused_with_another(tmp_path: Path, database_url: str) -> None:
    cert, key = a_certificate(tmp_path, "one")
    other = a_certificate(tmp_path, "other")[1]
    async with running_program(usual(tmp_path, database_url, IAC_TLS_CERT=cert, IAC_TLS_KEY=key)) as program:
        assert program.url.startswith("https://")
        trust = ssl.create_default_context(cafile=cert)
        port = program.url.rpartition(":")[2]
        async with httpx.AsyncClient(verify=trust, base_url=f"https://localhost:{port}") as client:
            assert (await client.get("/healthz")).status_code == 200
    ended = await failed_start(usual(tmp_path, database_url, IAC_TLS_CERT=cert, IAC_TLS_KEY=other))
    assert ended.code == 78
    assert ended.last_line.startswith("IAC_TLS_CERT, IAC_TLS_KEY: cannot use the TLS certificate or its key: ")
    assert "Traceback" not in ended.err


async def test_the_first_start_shows_an_admin_token_and_the_second_does_not(tmp_path: Path, postgres: str) -> None:
    """From nothing: the schema and the secret key are made as well."""
    url = await trio.to_thread.run_sync(lambda: fresh_database(postgres, empty=True))
    settings = usual(tmp_path, url)
    del settings["IAC_SECRET_KEY"]
    async with running_program(settings) as program:
        pass
    token = program.out.decode().split("--token ")[1].split()[0]
    assert program.out.decode().count(token) == 2
    assert token not in program.log.decode(), "shown to the one at the terminal, not kept in a log"
    assert [record["message"] for record in program.records()].count("migrated") >= 1
    async with running_program(settings) as again:
        async with httpx.AsyncClient(base_url=again.url, headers={"Authorization": f"Bearer {token}"}) as client:
            assert (await client.get("/api/v1/me")).json()["role"] == "admin"
    assert again.out == b""
    assert "migrated" not in [record["message"] for record in again.records()]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_cleanly(tmp_path: Path, database_url: str, number: signal.Signals) -> None:
    async with running_program(usual(tmp_path, database_url)) as program:
        program.process.send_signal(number)
        assert await program.ended() == 0
    assert program.records()[-1]["message"] == "stopped"
    assert "Traceback" not in program.output
    port = int(program.url.rpartition(":")[2])
    with socket.socket() as client:
        assert client.connect_ex(("127.0.0.1", port)) != 0
