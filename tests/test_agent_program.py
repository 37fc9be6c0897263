"""`python -m iac.agent` as a process: what it says, how it exits, what it leaves behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from iac.agent import settings_of
from iac.agent_settings import AgentSettings
from iac.domain.messages import Goodbye, Heartbeat, Hello
from iac.settings import BadSettings
from tests.actors.agent_trees import exists
from tests.fakes.agent_api import serving
from tests.fakes.agent_platform import PATIENT, AgentApi, new_token
from tests.fakes.fake_terraform import install, ledger_of
from tests.web.hostile import make_certificate

REQUIRED = {"IAC_AGENT_TOKEN": new_token("pool"), "IAC_AGENT_NAME": "agent-01"}


class Program:
    """The agent's process. Its output goes to a file that may be read at any time."""

    def __init__(self, process: trio.Process, output: Path) -> None:
        self.process, self._output = process, output

    @property
    def said(self) -> str:
        return self._output.read_text()

    async def exit_code(self) -> int:
        with trio.fail_after(PATIENT):
            return await self.process.wait()

    async def says(self, text: str) -> None:
        with trio.fail_after(PATIENT):
            while text not in self.said:  # noqa: ASYNC110 - another process writes it
                await trio.sleep(0.02)


@asynccontextmanager
async def a_program(tmp_path: Path, env: Mapping[str, str]) -> AsyncIterator[Program]:
    """Killed at the end if it still runs."""
    output = tmp_path / "output"
    here = str(Path(__file__).parent.parent)
    base = {"PATH": os.environ["PATH"], "PYTHONPATH": here, "IAC_DATA_DIR": str(tmp_path / "data")}
    with output.open("wb") as file:
        process = await trio.lowlevel.open_process(
            [sys.executable, "-m", "iac.agent"],
            env={**base, **env},
            stdout=file,
            stderr=subprocess.STDOUT,
            cwd=tmp_path,
        )
    try:
        yield Program(process, output)
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()


async def ends(tmp_path: Path, env: Mapping[str, str]) -> tuple[int, str]:
    async with a_program(tmp_path, env) as program:
        return await program.exit_code(), program.said


async def test_every_problem_of_the_settings_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("x")
    (tmp_path / "ca.pem").write_text("not a certificate")
    code, said = await ends(
        tmp_path,
        {
            "IAC_API_ENDPOINT": "iac.example.com",
            "IAC_AGENT_TOKEN": "iacp_secretsecret",
            "IAC_AGENT_TOKEN_FILE": str(tmp_path / "token"),
            "IAC_MAX_PLAN_CONCURRENCY": "many",
            "IAC_CA_FILE": str(tmp_path / "ca.pem"),
            "IAC_CLIENT_KEY": "/nowhere",
            "IAC_LOG_LEVEL": "loud",
            "IAC_LOG_FILE": "/nowhere/agent.log",
            "IAC_DRAIN_SECONDS": "-1",
            "IAC_TERRAFORM_DIR": "/nowhere",
        },
    )
    assert code == 78
    names = [line.split(":")[0] for line in said.splitlines()]
    for name in (
        "IAC_API_ENDPOINT", "IAC_AGENT_TOKEN", "IAC_AGENT_NAME", "IAC_MAX_PLAN_CONCURRENCY", "IAC_CA_FILE",
        "IAC_CLIENT_CERT", "IAC_LOG_LEVEL", "IAC_LOG_FILE", "IAC_DRAIN_SECONDS", "IAC_TERRAFORM_DIR",
    ):  # fmt: skip
        assert names.count(name) == 1, (name, said)
    assert "secret" not in said


async def test_nothing_at_all_is_set(tmp_path: Path) -> None:
    code, said = await ends(tmp_path, {})
    assert code == 78
    assert [line.split(" ")[0] for line in said.splitlines()] == [
        "IAC_API_ENDPOINT:",
        "IAC_AGENT_TOKEN:",
        "IAC_AGENT_NAME:",
    ]


@pytest.mark.parametrize(
    ("endpoint", "allowed", "fine"),
    [
        ("http://iac.example.com", None, False),
        ("http://iac.example.com", "1", True),
        ("http://127.0.0.1:1", None, True),
        ("http://[::1]:1", None, True),
        ("https://user:pw@iac.example.com", None, False),
        ("ftp://iac.example.com", None, False),
        ("https://iac.example.com:port", None, False),
        ("https://iac.example.com/api/v1/", None, False),
        ("https://example.com/iac", None, True),
    ],
)
def test_plain_http_is_for_this_machine_or_for_those_who_insist(endpoint: str, allowed: str | None, fine: bool) -> None:
    env = {**REQUIRED, "IAC_API_ENDPOINT": endpoint, **({} if allowed is None else {"IAC_ALLOW_HTTP": allowed})}
    if fine:
        assert AgentSettings.from_env(env).endpoint == endpoint
    else:
        with pytest.raises(BadSettings, match="IAC_API_ENDPOINT"):
            AgentSettings.from_env(env)


def test_the_token_is_forgotten_once_it_was_read(monkeypatch: pytest.MonkeyPatch) -> None:
    env = {**REQUIRED, "IAC_API_ENDPOINT": "https://iac.example.com"}
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    settings = settings_of(env)
    assert settings.token == REQUIRED["IAC_AGENT_TOKEN"]
    assert settings.token not in repr(settings)
    assert "IAC_AGENT_TOKEN" not in env
    assert "IAC_AGENT_TOKEN" not in os.environ


async def test_a_token_that_the_server_refuses_ends_with_3(tmp_path: Path) -> None:
    async with serving() as api:
        code, said = await ends(tmp_path, {**REQUIRED, "IAC_API_ENDPOINT": api.url})
    assert code == 3
    assert "IAC_AGENT_TOKEN: the server refuses this pool token" in said
    assert REQUIRED["IAC_AGENT_TOKEN"] not in said
    assert "Traceback" not in said


async def test_a_mistyped_token_is_told_to_be_one(tmp_path: Path) -> None:
    async with serving() as api:
        env = {**REQUIRED, "IAC_AGENT_TOKEN": api.pool_token[:-1] + "_", "IAC_API_ENDPOINT": api.url}
        code, said = await ends(tmp_path, env)
    assert code == 3
    assert "mistyped" in said


async def test_a_certificate_that_is_not_trusted_names_the_setting_and_is_tried_again(tmp_path: Path) -> None:
    chain, key = make_certificate(tmp_path)
    async with serving(tls=(Path(chain), Path(key))) as api:
        env = {"IAC_API_ENDPOINT": api.url, "IAC_AGENT_NAME": "a", "IAC_AGENT_TOKEN": api.pool_token}
        async with a_program(tmp_path, env) as program:
            await program.says("IAC_CA_FILE")
            program.process.terminate()
            assert await program.exit_code() == 0
        async with a_program(tmp_path, {**env, "IAC_CA_FILE": chain}) as program:
            await api.until_heard(Hello)


async def test_http_and_https_mixed_up_is_told_as_that(tmp_path: Path) -> None:
    chain, key = make_certificate(tmp_path)
    async with serving() as plain, serving(tls=(Path(chain), Path(key))) as secure:
        for url, told in (
            (plain.url.replace("http:", "https:"), "has to begin with http://"),
            (secure.url.replace("https:", "http:"), "has to begin with https://"),
            (f"{plain.url}/elsewhere", "no agent API at IAC_API_ENDPOINT"),
        ):
            async with a_program(tmp_path, {**REQUIRED, "IAC_API_ENDPOINT": url}) as program:
                await program.says(told)


async def test_an_unreachable_server_is_waited_for(tmp_path: Path) -> None:
    async with serving() as api:
        port = int(api.url.rsplit(":", 1)[1])
    env = {"IAC_API_ENDPOINT": api.url, "IAC_AGENT_NAME": "a", "IAC_AGENT_TOKEN": api.pool_token}
    async with a_program(tmp_path, env) as program:
        await program.says("cannot be reached")
        async with serving(api, bind=f"127.0.0.1:{port}"):
            await api.until_heard(Hello)
        assert program.said.count("cannot register yet") == 1


async def test_the_token_is_in_no_environment_and_no_log(tmp_path: Path) -> None:
    dump = tmp_path / "env.json"
    terraform = install(tmp_path / "bin", {"every": {"dump_env": str(dump)}})
    async with serving() as api:
        token, log = tmp_path / "token", tmp_path / "agent.log"
        token.write_text(api.pool_token + "\n")
        env = {
            "PATH": f"{terraform.parent}{os.pathsep}{os.environ['PATH']}",
            "IAC_API_ENDPOINT": api.url,
            "IAC_AGENT_NAME": "a",
            "IAC_AGENT_TOKEN_FILE": str(token),
            "IAC_LOG_FILE": str(log),
            "IAC_LOG_LEVEL": "debug",
            "IAC_LOG_FORMAT": "json",
        }
        async with a_program(tmp_path, env) as program:
            await api.until(lambda: api.connected)
            made = api.offer()
            await api.until(lambda: made.result)
            program.process.terminate()
            assert await program.exit_code() == 0
        assert made.result is not None
        assert made.result.status == "planned"
        everything = dump.read_text() + log.read_text() + program.said
        for secret in (api.pool_token, made.order.task_token, *api.sessions):
            assert secret not in everything
        assert '"message":"registered"' in log.read_text().replace('": "', '":"')
        assert "IAC_" not in dump.read_text()


async def test_a_signal_drains_and_an_echo_of_it_does_not_hurry(tmp_path: Path) -> None:
    ready, ledger = tmp_path / "ready", tmp_path / "ledger"
    scenario = {"ledger": str(ledger), "commands": {"plan": {"sleep": 1.0, "ready_file": str(ready)}}}
    terraform = install(tmp_path / "bin", scenario)
    async with serving() as api, a_program(tmp_path, _connected(api, terraform)) as program:
        await api.until(lambda: api.connected)
        made = api.offer()
        await exists(ready)
        program.process.send_signal(signal.SIGTERM)
        await api.until_heard(Heartbeat, status="draining")
        program.process.send_signal(signal.SIGTERM)
        assert await program.exit_code() == 0
        assert made.result is not None
        assert made.result.status == "planned"
        assert api.of(Goodbye)[0].running == ()
    assert "sigterm" not in [entry["event"] for entry in ledger_of(ledger)]


async def test_sigquit_stops_what_runs_and_one_more_signal_ends_the_program_where_it_stands(tmp_path: Path) -> None:
    ready, ledger = tmp_path / "ready", tmp_path / "ledger"
    manners = {"sleep": "forever", "ready_file": str(ready), "ignore_sigterm": -1}
    terraform = install(tmp_path / "bin", {"ledger": str(ledger), "commands": {"plan": manners}})
    async with serving() as api, a_program(tmp_path, _connected(api, terraform)) as program:
        await api.until(lambda: api.connected)
        made = api.offer()
        await exists(ready)
        program.process.send_signal(signal.SIGQUIT)
        await api.until_heard(Heartbeat, status="draining")
        program.process.send_signal(signal.SIGTERM)
        assert await program.exit_code() == 0
        assert made.result is None or made.result.status in ("cancelled", "failed")
        assert [path.name for path in (tmp_path / "data" / "tasks").glob("*.json")] == ["1-101.json"]
    [start] = [each for each in ledger_of(ledger) if (each["event"], each["command"]) == ("start", "plan")]
    os.kill(start["pid"], signal.SIGKILL)


async def test_two_agents_in_one_directory(tmp_path: Path) -> None:
    async with serving() as api, a_program(tmp_path, _connected(api, tmp_path / "terraform")) as first:
        await api.until(lambda: api.connected)
        other = tmp_path / "other"
        other.mkdir()
        async with a_program(other, {**_connected(api, other), "IAC_DATA_DIR": str(tmp_path / "data")}) as program:
            assert await program.exit_code() == 6
            assert "IAC_DATA_DIR" in program.said
        first.process.terminate()
        assert await first.exit_code() == 0


def test_an_agent_needs_none_of_the_servers_parts() -> None:
    script = (
        "import sys, iac.agent\n"
        "parts = ('quart', 'quart_trio', 'hypercorn', 'databases', 'asyncpg', 'sqlalchemy', 'trio_asyncio')\n"
        "ours = ('iac.store', 'iac.web', 'iac.server')\n"
        "print([m for m in sys.modules if m.split('.')[0] in parts or m.startswith(ours)])\n"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def _connected(api: AgentApi, terraform: Path) -> dict[str, str]:
    return {
        "PATH": f"{terraform.parent}{os.pathsep}{os.environ['PATH']}",
        "IAC_API_ENDPOINT": api.url,
        "IAC_AGENT_NAME": "agent-01",
        "IAC_AGENT_TOKEN": api.pool_token,
    }
